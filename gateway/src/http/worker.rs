//! One thread's part of the proxy.

use super::backend::{Backends, Connector};
use super::choice::Held;
use super::clock::{Clock, TICK};
use super::config::Config;
use super::connection::{ClientConnection, LocalTasks};
use super::counters::Counters;
use super::log::{LogQueue, Record};
use super::proxy::Proxy;
use http::HeaderValue;
use hyper::server::conn::{http1, http2};
use policy::routes::Routes;
use slab::Slab;
use std::cell::{Cell, RefCell};
use std::hash::{BuildHasher, RandomState};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::SystemTime;
use tokio::time::MissedTickBehavior;

/// Ticks between two looks at all connections, kept and served: limits that are looked after this way are of many seconds.
const SWEEP_TICKS: u32 = 10;
/// Bytes that a client connection buffers in each direction. Two heads of the largest size; more only delays backpressure.
const CLIENT_BUFFER_BYTES: usize = 64 * 1024;
/// What a client may send of one HTTP/2 stream, and of all, before it is told to go on. A long fat path needs more than the
/// protocol's 64 KiB; this is 20 ms at 100 Mbit/s for one, and bounds what a connection can make the proxy hold.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;
/// Mirrored requests that one worker has under way.
const MIRRORS_MAX: u32 = 256;

/// A worker: everything that requests on one thread share. Never sent to another thread, so nothing is locked.
pub struct Worker {
    proxy: Arc<Proxy>,
    counters: Arc<Counters>,
    log: Option<LogQueue>,
    index: usize,
    held: RefCell<Rc<Held>>,
    pub(super) clock: Rc<Clock>,
    pub(super) backends: Backends,
    pub(super) connector: Connector,
    pub(super) http1: http1::Builder,
    pub(super) http2: http2::Builder<LocalTasks>,
    connections: RefCell<Slab<Weak<ClientConnection>>>,
    draining: Cell<bool>,
    mirrors: Cell<u32>,
    ids: Cell<u64>,
    id_prefix: u64,
    id_key: u64,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Worker").field("index", &self.index).finish_non_exhaustive()
    }
}

impl Worker {
    /// A worker of `proxy` for this thread, which must run a tokio `LocalRuntime` (or a `LocalSet`): it spawns its clock there.
    pub fn start(proxy: &Arc<Proxy>) -> Rc<Worker> {
        let (index, counters) = proxy.add_counters();
        let clock = Rc::new(Clock::default());
        let limits = &proxy.config().limits;
        let mut http1 = http1::Builder::new();
        // Pipelined answers are written one by one: to gather them, hyper leaves an answer unwritten as long as input is left over,
        // and a refused request is.
        http1.pipeline_flush(false).max_header_size(limits.head_bytes_max);
        http1.max_buf_size(CLIENT_BUFFER_BYTES.max(2 * limits.head_bytes_max));
        if limits.fields_max != super::config::FIELDS_MAX {
            http1.max_headers(limits.fields_max);
        }
        let mut http2 = http2::Builder::new(LocalTasks);
        http2
            .max_concurrent_streams(limits.streams_max)
            .max_header_list_size(u32::try_from(limits.head_bytes_max).unwrap_or(u32::MAX))
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
        let worker = Rc::new(Worker {
            counters,
            log: proxy.log().cloned(),
            index,
            held: RefCell::new(Rc::new(Held::new(proxy.generation(), proxy.routes(), index))),
            backends: Backends::new(clock.clone(), limits.idle_per_backend_max),
            clock,
            connector: Connector::new(),
            http1,
            http2,
            connections: RefCell::default(),
            draining: Cell::new(false),
            mirrors: Cell::new(0),
            ids: Cell::new(0),
            id_prefix: RandomState::new().hash_one(index),
            id_key: RandomState::new().hash_one(index),
            proxy: proxy.clone(),
        });
        tokio::task::spawn_local(run_clock(Rc::downgrade(&worker)));
        worker
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        self.proxy.config()
    }

    /// This worker's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The routes in force.
    pub fn routes(&self) -> Arc<Routes> {
        self.held().routes.clone()
    }

    /// Ends every connection when its requests under way are answered (HTTP/2: GOAWAY). Whoever accepts connections stops first.
    pub fn drain(&self) {
        self.draining.set(true);
        for connection in self.each_connection() {
            connection.wake();
        }
    }

    /// Connections that are served, upgraded ones among them.
    pub fn open_connections(&self) -> usize {
        self.connections.borrow().len()
    }

    /// HTTP/1.1 connections to backends that are kept for requests to come.
    pub fn kept_connections(&self) -> usize {
        self.backends.idle_connections()
    }

    /// The routes in force, with whose turn it is.
    pub(super) fn held(&self) -> Rc<Held> {
        let generation = self.proxy.generation();
        let mut held = self.held.borrow_mut();
        if held.generation != generation {
            *held = Rc::new(Held::new(generation, self.proxy.routes(), self.index));
        }
        held.clone()
    }

    /// Whether connections are to end.
    pub(super) fn is_draining(&self) -> bool {
        self.draining.get()
    }

    /// Whether requests are logged.
    pub(super) fn is_logging(&self) -> bool {
        self.log.is_some()
    }

    /// Logs a request.
    pub(super) fn log(&self, record: &Record) {
        let Some(log) = &self.log else { return };
        if !log.add(record.line(SystemTime::now(), record.began.elapsed())) {
            self.counters.log_lines_dropped.count();
        }
    }

    /// Remembers a connection; the number is for [`Worker::remove_connection`].
    pub(super) fn add_connection(&self, connection: Weak<ClientConnection>) -> usize {
        self.counters.connections.count();
        self.connections.borrow_mut().insert(connection)
    }

    /// Forgets a connection.
    pub(super) fn remove_connection(&self, number: usize) {
        self.connections.borrow_mut().remove(number);
    }

    /// An id that no other request has: a number of this worker, and a permutation of a counter under a key, so that ids do not tell how
    /// many requests there are.
    pub(super) fn request_id(&self) -> HeaderValue {
        let count = self.ids.get();
        self.ids.set(count.wrapping_add(1));
        let mut text = [0; 32];
        write_hex(&mut text[..16], self.id_prefix);
        write_hex(&mut text[16..], mix(count ^ self.id_key));
        HeaderValue::from_bytes(&text).expect("hexadecimal digits are visible ASCII")
    }

    /// Runs `mirror` beside everything else, unless too many run.
    pub(super) fn spawn_mirror(self: &Rc<Worker>, mirror: impl Future<Output = ()> + 'static) {
        if self.mirrors.get() == MIRRORS_MAX {
            self.counters.mirrors_dropped.count();
            return;
        }
        self.mirrors.set(self.mirrors.get() + 1);
        let worker = self.clone();
        tokio::task::spawn_local(async move {
            mirror.await;
            worker.mirrors.set(worker.mirrors.get() - 1);
        });
    }

    fn each_connection(&self) -> Vec<Rc<ClientConnection>> {
        self.connections.borrow().iter().filter_map(|(_, connection)| connection.upgrade()).collect()
    }

    fn sweep(&self) {
        let times = &self.config().times;
        // Lets routes go that are no longer in force, and with them the backends that only they led to.
        self.held();
        self.backends.sweep(times.backend_idle);
        for connection in self.each_connection() {
            connection.check_times(&self.clock, times);
        }
    }
}

/// The finalizer of splitmix64: one to one, and every bit depends on all.
fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

fn write_hex(text: &mut [u8], mut bits: u64) {
    for digit in text.iter_mut().rev() {
        *digit = b"0123456789abcdef"[(bits & 15) as usize];
        bits >>= 4;
    }
}

async fn run_clock(worker: Weak<Worker>) {
    let mut ticks = tokio::time::interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        let Some(worker) = worker.upgrade() else { return };
        worker.clock.advance();
        if worker.clock.now().is_multiple_of(SWEEP_TICKS) {
            worker.sweep();
        }
    }
}
