//! What a load balancer, a kubelet or Prometheus asks a server over HTTP, on an address of its own: whether it serves (`/healthz`), and
//! what it has counted (`/metrics`).

use crate::metrics;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};

/// Connections at once; more wait in the backlog. Few ask, every few seconds.
const CONNECTIONS_MAX: usize = 64;

/// A client that connects and says nothing is dropped after this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How long accepting rests when descriptors have run out.
const PAUSE: Duration = Duration::from_millis(100);

/// What makes a page of metrics.
pub(crate) type MakePage = Arc<dyn Fn() -> String + Send + Sync>;

/// A server that answers how another one is. It ends when it is dropped.
pub struct HealthServer {
    address: SocketAddr,
    is_ready: Arc<AtomicBool>,
    _stop: oneshot::Sender<()>,
}

impl HealthServer {
    /// Listens on `address`; what it speaks for is not ready so far.
    pub(crate) fn start(address: SocketAddr, page: MakePage) -> io::Result<HealthServer> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let is_ready = Arc::new(AtomicBool::new(false));
        let accepting = accept(listener, page, is_ready.clone());
        let run = move || {
            runtime.block_on(async {
                tokio::select! {
                    _ = accepting => {}
                    _ = stopped => {}
                }
            });
        };
        std::thread::Builder::new().name("health".to_owned()).spawn(run)?;
        Ok(HealthServer { address, is_ready, _stop: stop })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Whether it serves, from here on.
    pub fn set_ready(&self, is_ready: bool) {
        self.is_ready.store(is_ready, Ordering::Relaxed);
    }
}

async fn accept(listener: TcpListener, page: MakePage, is_ready: Arc<AtomicBool>) -> io::Result<()> {
    let listener = tokio::net::TcpListener::from_std(listener)?;
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        let (page, is_ready) = (page.clone(), is_ready.clone());
        tokio::spawn(async move {
            let service = service_fn(|request: Request<Incoming>| {
                let answer = answer(request.uri().path(), &page, is_ready.load(Ordering::Relaxed));
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

fn answer(path: &str, page: &MakePage, is_ready: bool) -> Response<Full<Bytes>> {
    const TEXT: &str = "text/plain; charset=utf-8";
    let (status, content_type, text) = match path {
        "/healthz" if is_ready => (StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/healthz" => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n".to_owned()),
        "/metrics" => (StatusCode::OK, metrics::CONTENT_TYPE, page()),
        _ => (StatusCode::NOT_FOUND, TEXT, "404 page not found\n".to_owned()),
    };
    let answer = Response::builder().status(status).header(header::CONTENT_TYPE, content_type);
    answer.body(Full::new(Bytes::from(text))).expect("a status and a literal header")
}
