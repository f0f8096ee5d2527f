//! Connections to backends that are kept between requests, and what is known of each backend. One worker's own.

use super::super::clock::{Clock, Tick};
use super::super::upload::Upload;
use super::http1::Http1;
use hashbrown::HashMap;
use hyper::client::conn::http2::SendRequest;
use policy::routes::BackendProtocol;
use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::sync::Notify;

/// Time that connections to a backend are kept when no route in force was seen to lead there. Routes that have changed are met by
/// their first request, so this is also how rare requests may be without losing their connection at each change.
const UNUSED_KEPT: Duration = Duration::from_secs(2);
/// Requests that one HTTP/2 connection carries before another is opened: what common servers allow (RFC 9113 6.5.2 advises 100).
const SHARED_REQUESTS_MAX: u32 = 100;
/// HTTP/2 connections to one backend.
const SHARED_MAX: usize = 8;

/// What tells backends apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::http) struct BackendKey {
    pub(in crate::http) address: SocketAddr,
    pub(in crate::http) protocol: BackendProtocol,
}

/// All backends that a worker has met.
#[derive(Debug)]
pub(in crate::http) struct Backends {
    clock: Rc<Clock>,
    idle_max: usize,
    backends: RefCell<HashMap<BackendKey, Rc<Backend>>>,
}

/// One backend address.
#[derive(Debug)]
pub(in crate::http) struct Backend {
    key: BackendKey,
    clock: Rc<Clock>,
    idle_max: usize,
    /// Unused connections, the last used one last.
    idle: RefCell<Vec<(Tick, Http1)>>,
    shared: RefCell<Vec<Shared>>,
    /// Whether an HTTP/2 connection is being opened; those who want one wait for it.
    dialing: Cell<bool>,
    dialed: Notify,
    outstanding: Cell<u32>,
    skipped_until: Cell<Tick>,
    last_wanted: Cell<Tick>,
}

/// An HTTP/2 connection.
#[derive(Clone, Debug)]
pub(in crate::http) struct Shared {
    pub(in crate::http) requests: SendRequest<Upload>,
    carried: Rc<Cell<u32>>,
}

/// A request's share of a backend; ends when dropped.
#[derive(Debug)]
pub(in crate::http) struct Lease {
    backend: Rc<Backend>,
    carried: Option<Rc<Cell<u32>>>,
}

impl Backends {
    /// No backends yet; of each, `idle_max` unused connections are kept.
    pub(in crate::http) fn new(clock: Rc<Clock>, idle_max: usize) -> Backends {
        Backends { clock, idle_max, backends: RefCell::default() }
    }

    /// The backend with this key.
    pub(in crate::http) fn get(&self, key: BackendKey) -> Rc<Backend> {
        let mut backends = self.backends.borrow_mut();
        let backend = backends.entry(key).or_insert_with(|| {
            Rc::new(Backend {
                key,
                clock: self.clock.clone(),
                idle_max: self.idle_max,
                idle: RefCell::default(),
                shared: RefCell::default(),
                dialing: Cell::default(),
                dialed: Notify::new(),
                outstanding: Cell::default(),
                skipped_until: Cell::default(),
                last_wanted: Cell::new(self.clock.now()),
            })
        });
        backend.clone()
    }

    /// Closes connections that have been unused for `idle`, that their backend has closed, or whose backend no route leads to.
    pub(in crate::http) fn sweep(&self, idle: Duration) {
        let now = self.clock.now();
        let idle_ticks = self.clock.after(idle) - now;
        let unused_ticks = self.clock.after(UNUSED_KEPT) - now;
        self.backends.borrow_mut().retain(|_, backend| {
            // Routes' groups and requests under way hold it too.
            let is_wanted = Rc::strong_count(backend) > 1;
            if is_wanted {
                backend.last_wanted.set(now);
            }
            backend.shared.borrow_mut().retain(|shared| !shared.requests.is_closed());
            let mut idle = backend.idle.borrow_mut();
            idle.retain_mut(|(since, connection)| now - *since < idle_ticks && connection.io.is_quiet());
            is_wanted || now - backend.last_wanted.get() < unused_ticks
        });
    }

    /// Unused connections that are kept.
    pub(in crate::http) fn idle_connections(&self) -> usize {
        self.backends.borrow().values().map(|backend| backend.idle.borrow().len()).sum()
    }
}

impl Backend {
    /// Its key.
    pub(in crate::http) fn key(&self) -> BackendKey {
        self.key
    }

    /// Requests that it has and has not answered.
    pub(in crate::http) fn outstanding(&self) -> u32 {
        self.outstanding.get()
    }

    /// Passes it over for `time`.
    pub(in crate::http) fn skip(&self, time: Duration) {
        self.skipped_until.set(self.clock.after(time));
    }

    /// Whether it is passed over.
    pub(in crate::http) fn is_skipped(&self) -> bool {
        self.skipped_until.get() > self.clock.now()
    }

    /// An unused connection that is still open.
    pub(in crate::http) fn take_idle(&self) -> Option<Http1> {
        let mut idle = self.idle.borrow_mut();
        while let Some((_, mut connection)) = idle.pop() {
            if connection.io.is_quiet() {
                return Some(connection);
            }
        }
        None
    }

    /// A share of it for one request.
    pub(in crate::http) fn lease(self: &Rc<Backend>) -> Lease {
        self.outstanding.set(self.outstanding.get() + 1);
        Lease { backend: self.clone(), carried: None }
    }

    /// An HTTP/2 connection with room; the least laden if none has and no further one may be opened. `None`: one must be opened.
    pub(in crate::http) fn shared(&self) -> Option<Shared> {
        let mut shared = self.shared.borrow_mut();
        shared.retain(|shared| !shared.requests.is_closed());
        let least = shared.iter().min_by_key(|shared| shared.carried.get())?;
        let has_room = least.carried.get() < SHARED_REQUESTS_MAX;
        (has_room || shared.len() == SHARED_MAX).then(|| least.clone())
    }

    /// Whether the caller is to open an HTTP/2 connection; otherwise somebody is at it.
    pub(in crate::http) fn begin_dialing(&self) -> bool {
        !self.dialing.replace(true)
    }

    /// Ends what [`Backend::begin_dialing`] began, with or without a connection.
    pub(in crate::http) fn end_dialing(&self, requests: Option<SendRequest<Upload>>) {
        if let Some(requests) = requests {
            self.shared.borrow_mut().push(Shared { requests, carried: Rc::default() });
        }
        self.dialing.set(false);
        self.dialed.notify_waiters();
    }

    /// Waits for whoever is opening an HTTP/2 connection.
    pub(in crate::http) async fn dialed(&self) {
        if self.dialing.get() {
            self.dialed.notified().await;
        }
    }
}

impl Lease {
    /// Says which HTTP/2 connection it is on.
    pub(in crate::http) fn on(mut self, shared: &Shared) -> Lease {
        shared.carried.set(shared.carried.get() + 1);
        self.carried = Some(shared.carried.clone());
        self
    }

    /// Gives an HTTP/1.1 connection back for the next request.
    pub(in crate::http) fn give_back(&self, connection: Http1) {
        let mut idle = self.backend.idle.borrow_mut();
        if idle.len() < self.backend.idle_max {
            idle.push((self.backend.clock.now(), connection));
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.outstanding.set(self.backend.outstanding.get() - 1);
        if let Some(carried) = &self.carried {
            carried.set(carried.get() - 1);
        }
    }
}
