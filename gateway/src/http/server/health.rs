//! What a load balancer or a kubelet asks over HTTP, on an address of its own: whether the proxy takes connections (`/healthz`), and
//! for people what it has counted (`/counters`).

use super::{Shared, StartError};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fmt::Write;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Connections at once; more wait in the backlog. Few ask, every few seconds.
const CONNECTIONS_MAX: usize = 64;

/// A client that connects and says nothing is dropped after this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long accepting rests when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// A server that answers how a proxy is. It ends when it is dropped.
pub struct HealthServer {
    address: SocketAddr,
    is_ready: Arc<AtomicBool>,
    _stop: oneshot::Sender<()>,
}

impl HealthServer {
    /// Listens on `address`; the proxy is not ready so far.
    pub(super) fn start(address: SocketAddr, shared: &Arc<Shared>) -> Result<HealthServer, StartError> {
        let bind = || {
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        };
        let (address, listener) = bind().map_err(|error| StartError::Bind(address, error))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(StartError::Thread)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let is_ready = Arc::new(AtomicBool::new(false));
        let accepting = accept(listener, Arc::downgrade(shared), is_ready.clone());
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = accepting => {}
                    _ = stopped => {}
                }
            });
        };
        std::thread::Builder::new().name("health".to_owned()).spawn(run).map_err(StartError::Thread)?;
        Ok(HealthServer { address, is_ready, _stop: stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether the proxy takes connections, from here on.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, shared: Weak<Shared>, is_ready: Arc<AtomicBool>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (shared, is_ready) = (shared.clone(), is_ready.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.uri().path(), &shared, is_ready.load(Ordering::Relaxed));
                async move { Ok::<_, Infallible>(answer) }
            });
            let mut connection = hyper::server::conn::http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // A connection that breaks is the client's affair.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

fn answer(path: &str, shared: &Weak<Shared>, is_ready: bool) -> Response<Full<Bytes>> {
    let (status, text) = match path {
        "/healthz" if is_ready => (StatusCode::OK, "ok\n".to_owned()),
        "/healthz" => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n".to_owned()),
        "/counters" => (StatusCode::OK, shared.upgrade().map(|shared| counters(&shared)).unwrap_or_default()),
        _ => (StatusCode::NOT_FOUND, "404 page not found\n".to_owned()),
    };
    let answer = Response::builder().status(status).header(header::CONTENT_TYPE, "text/plain; charset=utf-8");
    answer.body(Full::new(Bytes::from(text))).expect("a status and a literal header")
}

/// A line for each counter: its name and its value.
fn counters(shared: &Shared) -> String {
    let mut text = String::new();
    for (name, value) in shared.counts() {
        let _ = writeln!(text, "{name} {value}");
    }
    text
}
