//! One client connection: which protocol it speaks, its requests under way, its limits of time, its end.

use super::answer::AnswerBody;
use super::clock::{Clock, Tick};
use super::config::Times;
use super::fields::Client;
use super::guard::Guard;
use super::log::Record;
use super::prefixed::Prefixed;
use super::requests;
use super::watch::Watch;
use super::worker::Worker;
use bytes::BytesMut;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::ops::ControlFlow;
use std::pin::{Pin, pin};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// What an HTTP/2 connection begins with (RFC 9113 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Room for the first read of a connection, of which only the preface is looked for: a usual request whole.
const FIRST_READ_BYTES: usize = 4 * 1024;

/// What is known of a connection when it has been accepted.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// The client, as a PROXY protocol header names it if there was one.
    pub peer: SocketAddr,
    /// The port that it was accepted on, as routes know it.
    pub local_port: u16,
    /// What the TLS handshake gave; `None` on a plain port.
    pub tls: Option<TlsInfo>,
}

/// What a TLS handshake gave.
#[derive(Clone, Debug)]
pub struct TlsInfo {
    /// Server name that the client asked for, in lower case.
    pub sni: Option<Arc<str>>,
    /// Whether ALPN settled on `h2`.
    pub h2: bool,
    /// `TLSv1.2` or `TLSv1.3`.
    pub version: &'static str,
}

/// Serves `io` until it is closed, by either side or by [`Worker::drain`].
pub async fn serve_connection<IO>(io: IO, info: ConnectionInfo, worker: Rc<Worker>)
where
    IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = ClientConnection::new(info, worker);
    match &connection.info.tls {
        Some(tls) if tls.h2 => connection.serve_http2(io).await,
        Some(_) => connection.serve_http1(io).await,
        None => connection.serve_plain(io).await,
    }
}

/// A client connection that is served.
#[derive(Debug)]
pub(super) struct ClientConnection {
    pub(super) info: ConnectionInfo,
    pub(super) worker: Rc<Worker>,
    pub(super) client: Client,
    pub(super) watch: Arc<Watch>,
    number: usize,
    waker: RefCell<Option<Waker>>,
    /// Set when a limit of time is over.
    expired: Cell<bool>,
    under_way: Cell<u32>,
    /// When something last happened, and what the watch said then.
    quiet_since: Cell<Tick>,
    progress: Cell<u32>,
    was_in_head: Cell<bool>,
}

impl ClientConnection {
    fn new(info: ConnectionInfo, worker: Rc<Worker>) -> Rc<ClientConnection> {
        let address = info.peer.ip().to_canonical();
        let is_trusted = worker.config().trusted_proxies.iter().any(|network| network.contains(&address));
        let scheme = if info.tls.is_some() { "https" } else { "http" };
        Rc::new_cyclic(|connection: &Weak<ClientConnection>| ClientConnection {
            number: worker.add_connection(connection.clone()),
            client: Client::new(address, is_trusted, scheme, info.local_port),
            info,
            watch: Arc::default(),
            waker: RefCell::default(),
            expired: Cell::new(false),
            under_way: Cell::new(0),
            quiet_since: Cell::new(worker.clock.now()),
            progress: Cell::new(0),
            was_in_head: Cell::new(false),
            worker,
        })
    }

    /// A plain connection speaks HTTP/2 if it begins like that (prior knowledge), else HTTP/1.
    async fn serve_plain<IO>(self: &Rc<Self>, mut io: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut first = BytesMut::with_capacity(FIRST_READ_BYTES);
        let is_http2 = {
            let look = pin!(look_for_preface(&mut io, &mut first));
            match self.attended(look, |_| ControlFlow::Break(())).await {
                Some(Ok(is_http2)) => is_http2,
                Some(Err(_)) | None => return,
            }
        };
        let io = Prefixed::new(first.freeze(), io);
        if is_http2 { self.serve_http2(io).await } else { self.serve_http1(io).await }
    }

    async fn serve_http1<IO>(self: &Rc<Self>, io: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let io = Guard::new(io, self.worker.config().limits.head_bytes_max, self.watch.clone());
        let connection = self.clone();
        let service = service_fn(move |request| answer(connection.clone(), request));
        let serving = pin!(self.worker.http1.serve_connection(TokioIo::new(io), service).with_upgrades());
        let result = self
            .attended(serving, |serving| {
                serving.graceful_shutdown();
                ControlFlow::Continue(())
            })
            .await;
        let counters = self.worker.counters();
        let too_large = matches!(&result, Some(Err(error)) if error.is_parse_too_large());
        if self.watch.is_refused() || matches!(&result, Some(Err(error)) if error.is_parse() && !too_large) {
            counters.requests.count();
            counters.refused_malformed.count();
            counters.answers_4xx.count();
        } else if too_large {
            counters.requests.count();
            counters.refused_large.count();
            counters.answers_4xx.count();
        }
    }

    async fn serve_http2<IO>(self: &Rc<Self>, io: IO)
    where
        IO: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let connection = self.clone();
        let service = service_fn(move |request| answer(connection.clone(), request));
        let serving = pin!(self.worker.http2.serve_connection(TokioIo::new(io), service));
        self.attended(serving, |serving| {
            serving.graceful_shutdown();
            ControlFlow::Continue(())
        })
        .await;
    }

    /// The output of `serving`, unless a limit of time is over first. Calls `drain` once when connections are to end; it breaks if there
    /// is nothing to wait for.
    async fn attended<F: Future>(
        &self,
        mut serving: Pin<&mut F>,
        drain: impl Fn(Pin<&mut F>) -> ControlFlow<()>,
    ) -> Option<F::Output> {
        let mut drained = false;
        poll_fn(|context| {
            self.remember_waker(context);
            if self.expired.get() {
                return Poll::Ready(None);
            }
            if self.worker.is_draining() && !drained {
                drained = true;
                if drain(serving.as_mut()).is_break() {
                    return Poll::Ready(None);
                }
            }
            serving.as_mut().poll(context).map(Some)
        })
        .await
    }

    fn remember_waker(&self, context: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        match &mut *waker {
            Some(waker) => waker.clone_from(context.waker()),
            None => *waker = Some(context.waker().clone()),
        }
    }

    /// Has the connection look after itself.
    pub(super) fn wake(&self) {
        if let Some(waker) = &*self.waker.borrow() {
            waker.wake_by_ref();
        }
    }

    /// A request begins.
    pub(super) fn begin_request(&self) {
        self.under_way.set(self.under_way.get() + 1);
    }

    /// A request is over.
    pub(super) fn end_request(&self, record: Option<Box<Record>>) {
        self.under_way.set(self.under_way.get() - 1);
        self.quiet_since.set(self.worker.clock.now());
        if let Some(record) = record {
            self.worker.log(&record);
        }
    }

    /// Ends the connection if a limit of time is over. Called every second.
    pub(super) fn check_times(&self, clock: &Clock, times: &Times) {
        let now = clock.now();
        let progress = self.watch.progress();
        let is_in_head = self.watch.is_in_head();
        // Bytes are progress, but not those that make a head longer: it has a limit as a whole.
        let goes_on_with_head = self.was_in_head.replace(is_in_head) && is_in_head;
        if self.progress.replace(progress) != progress && !goes_on_with_head {
            self.quiet_since.set(now);
        }
        if self.under_way.get() > 0 || self.watch.is_tunnel() {
            return;
        }
        let limit = if is_in_head { times.head } else { times.client_idle };
        if now.saturating_sub(self.quiet_since.get()) >= clock.after(limit) - now {
            if is_in_head {
                self.worker.counters().slow_heads.count();
            }
            self.expired.set(true);
            self.wake();
        }
    }
}

impl Drop for ClientConnection {
    fn drop(&mut self) {
        self.worker.remove_connection(self.number);
    }
}

async fn answer(
    connection: Rc<ClientConnection>,
    request: Request<Incoming>,
) -> Result<Response<AnswerBody>, Infallible> {
    Ok(requests::answer(connection, request).await)
}

/// Reads into `first` until that is, or is not, the beginning of HTTP/2.
async fn look_for_preface(io: &mut (impl AsyncRead + Unpin), first: &mut BytesMut) -> io::Result<bool> {
    loop {
        if io.read_buf(first).await? == 0 {
            return Ok(false);
        }
        let compared = first.len().min(PREFACE.len());
        if first[..compared] != PREFACE[..compared] {
            return Ok(false);
        }
        if compared == PREFACE.len() {
            return Ok(true);
        }
    }
}

/// Runs what HTTP/2 connections spawn on this thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct LocalTasks;

impl<F> Executor<F> for LocalTasks
where
    F: Future + 'static,
    F::Output: 'static,
{
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}
