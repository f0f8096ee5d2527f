//! Serves the API on its own thread: accepts, reads a request, asks the [`Agent`], writes the answer. Metrics are served over TCP beside
//! it, with nothing else: who reaches that port may read and change nothing.
//!
//! The socket's file is made under a hidden name with mode 0600 and renamed, so nobody else can ever connect. A file that a
//! dead process left is replaced; one that is served is not.

use super::{ApiError, ErrorCode};
use crate::agent::Agent;
use crate::metrics;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::convert::Infallible;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, oneshot};

/// Connections at once; more wait in the backlog. A CNI plugin asks once per pod.
const CONNECTIONS_MAX: usize = 256;

/// Requests at once; each has a thread while it is worked on, because an attach waits: for its pod, and a kubelet starts a
/// hundred at a time.
const REQUESTS_MAX: usize = 128;

/// Largest request body: GC lists every sandbox of the node.
const REQUEST_BYTES_MAX: usize = 1 << 20;

const JSON: &str = "application/json";

/// A client that connects and says nothing is dropped after this.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// A running server. Stops when it is dropped.
pub(crate) struct Server {
    socket: PathBuf,
    inode: u64,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Binds `socket` and serves `agent` on it, and its metrics on `metrics`.
    pub(crate) fn start(socket: &Path, metrics: Option<TcpListener>, agent: Arc<Agent>) -> io::Result<Server> {
        let listener = bind(socket)?;
        metrics.iter().try_for_each(|metrics| metrics.set_nonblocking(true))?;
        let inode = fs::metadata(socket)?.ino();
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(REQUESTS_MAX).build()?;
        let (stop, stopped) = oneshot::channel();
        let serve = move || {
            runtime.block_on(async {
                tokio::select! {
                    () = serve_api(listener, agent.clone()) => {}
                    () = serve_metrics(metrics, agent) => {}
                    _ = stopped => {}
                }
            });
        };
        let thread = std::thread::Builder::new().name("api".to_owned()).spawn(serve)?;
        Ok(Server { socket: socket.to_owned(), inode, stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // The receiver is gone only if the thread is.
        let _ = self.stop.take().map(|stop| stop.send(()));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if fs::metadata(&self.socket).is_ok_and(|metadata| metadata.ino() == self.inode) {
            let _ = fs::remove_file(&self.socket);
        }
    }
}

/// Makes the socket's file, replacing one that nobody serves.
fn bind(socket: &Path) -> io::Result<UnixListener> {
    let folder = socket.parent().filter(|folder| !folder.as_os_str().is_empty());
    if let Some(folder) = folder {
        fs::create_dir_all(folder)?;
    }
    if let Ok(metadata) = fs::symlink_metadata(socket) {
        if !metadata.file_type().is_socket() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "it exists and is not a socket"));
        }
        if UnixStream::connect(socket).is_ok() {
            return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process serves it"));
        }
    }
    let mut hidden = OsString::from(".");
    hidden.push(socket.file_name().ok_or_else(|| io::Error::other("it names no file"))?);
    let hidden = socket.with_file_name(hidden);
    let _ = fs::remove_file(&hidden);
    let listener = UnixListener::bind(&hidden)?;
    fs::set_permissions(&hidden, fs::Permissions::from_mode(0o600))?;
    fs::rename(&hidden, socket)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

async fn serve_api(listener: UnixListener, agent: Arc<Agent>) {
    let listener = tokio::net::UnixListener::from_std(listener).expect("the runtime has its driver enabled");
    accept(async || listener.accept().await.map(|(stream, _)| stream), agent, |_| true).await;
}

async fn serve_metrics(listener: Option<TcpListener>, agent: Arc<Agent>) {
    let Some(listener) = listener else { return std::future::pending().await };
    let listener = tokio::net::TcpListener::from_std(listener).expect("the runtime has its driver enabled");
    accept(async || listener.accept().await.map(|(stream, _)| stream), agent, |path| path == "/metrics").await;
}

/// Serves connection after connection; a path that is not `served` is not found.
async fn accept<S>(next: impl AsyncFn() -> io::Result<S>, agent: Arc<Agent>, served: fn(&str) -> bool)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let permit = room.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Ok(stream) = next().await else {
            // Out of file descriptors: some come back when connections end.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let agent = agent.clone();
        tokio::spawn(async move {
            let service = service_fn(|request| answer(agent.clone(), request, served));
            let mut connection = hyper::server::conn::http1::Builder::new();
            connection.timer(TokioTimer::new()).header_read_timeout(HEADER_TIMEOUT);
            // A connection that breaks is the client's affair.
            let _ = connection.serve_connection(TokioIo::new(stream), service).await;
            drop(permit);
        });
    }
}

async fn answer(
    agent: Arc<Agent>,
    request: Request<Incoming>,
    served: fn(&str) -> bool,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    if !served(head.uri.path()) {
        return Ok(failure(&not_found(head.uri.path())));
    }
    let body = match Limited::new(body, REQUEST_BYTES_MAX).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) => {
            return Ok(failure(&ApiError::new(ErrorCode::BadRequest, format!("the request's body: {error}"))));
        }
    };
    let work = move || route(&agent, &head.method, (head.uri.path(), head.uri.query()), &body);
    let response = match tokio::task::spawn_blocking(work).await {
        Ok(Ok(response)) => response,
        Ok(Err(error)) => failure(&error),
        Err(error) => failure(&ApiError::new(ErrorCode::Failed, format!("the request ended early: {error}"))),
    };
    Ok(response)
}

type Answer = Result<Response<Full<Bytes>>, ApiError>;

fn route(agent: &Agent, method: &Method, (path, query): (&str, Option<&str>), body: &[u8]) -> Answer {
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    match (method, segments.as_slice()) {
        (&Method::GET, ["healthz"]) => success(&"ok"),
        (&Method::GET, ["readyz"]) => success(&agent.check_ready().map(|()| "ok")?),
        (&Method::GET, ["metrics"]) => {
            Ok(response(200, metrics::CONTENT_TYPE, metrics::page(agent.scrape()).into_bytes()))
        }
        (&Method::GET, ["v1", "status"]) => success(&agent.status()),
        (&Method::GET, ["v1", "ports"]) => success(&agent.ports()?),
        (&Method::GET, ["v1", "services"]) => success(&agent.services()?),
        (&Method::GET, ["v1", "flows"]) => success(&agent.flows()?),
        (&Method::GET, ["v1", "drops"]) => success(&agent.drops(since(query)?)?),
        (&Method::GET, ["v1", "policies"]) => success(&agent.policies()?),
        (&Method::POST, ["v1", "ports"]) => success(&agent.attach(read(body, "an attach request")?)?),
        (&Method::POST, ["v1", "cni", "add"]) => success(&agent.cni_add(&read(body, "an add")?)?),
        (&Method::POST, ["v1", "cni", "del"]) => {
            let cni::api::Del { container_id, ifname } = read(body, "a del")?;
            success(&agent.cni_del(&container_id, &ifname)?)
        }
        (&Method::POST, ["v1", "cni", "check"]) => success(&agent.cni_check(&read(body, "a check")?)?),
        (&Method::POST, ["v1", "cni", "gc"]) => success(&agent.cni_gc(&read(body, "a gc")?)),
        (&Method::GET, ["v1", "cni", "status"]) => success(&agent.cni_status()?),
        (&Method::DELETE, ["v1", "ports", container_id, ifname]) => {
            success(&agent.detach(&unescape(container_id)?, &unescape(ifname)?)?)
        }
        (
            _,
            ["healthz" | "readyz" | "metrics"]
            | ["v1", "status" | "ports" | "services" | "flows" | "drops" | "policies"]
            | ["v1", "ports", _, _]
            | ["v1", "cni", "add" | "del" | "check" | "gc" | "status"],
        ) => Err(ApiError::new(ErrorCode::MethodNotAllowed, format!("{path} does not take {method}"))),
        _ => Err(not_found(path)),
    }
}

/// The body as `what` it should be.
fn read<T: DeserializeOwned>(body: &[u8], what: &str) -> Result<T, ApiError> {
    serde_json::from_slice(body)
        .map_err(|error| ApiError::new(ErrorCode::BadRequest, format!("the body is not {what}: {error}")))
}

/// What `?since=UNIX_MS` says.
fn since(query: Option<&str>) -> Result<Option<u64>, ApiError> {
    let Some(query) = query.filter(|query| !query.is_empty()) else { return Ok(None) };
    let since = query.strip_prefix("since=").and_then(|number| number.parse().ok());
    let bad =
        || ApiError::new(ErrorCode::BadRequest, format!("?{query} is not ?since=UNIX_MS, milliseconds since 1970"));
    since.map(Some).ok_or_else(bad)
}

/// A path segment with `%XX` undone.
fn unescape(segment: &str) -> Result<String, ApiError> {
    let bad = || ApiError::new(ErrorCode::BadRequest, format!("{segment:?} is not a path segment"));
    let mut bytes = Vec::new();
    let mut rest = segment.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let (digits, tail) = rest.split_at_checked(2).ok_or_else(bad)?;
        let digits = std::str::from_utf8(digits).map_err(|_| bad())?;
        bytes.push(u8::from_str_radix(digits, 16).map_err(|_| bad())?);
        rest = tail;
    }
    String::from_utf8(bytes).map_err(|_| bad())
}

fn success<T: Serialize>(value: &T) -> Answer {
    let body = serde_json::to_vec(value).map_err(|error| ApiError::new(ErrorCode::Failed, error.to_string()))?;
    Ok(response(200, JSON, body))
}

fn failure(error: &ApiError) -> Response<Full<Bytes>> {
    response(error.code.status(), JSON, serde_json::to_vec(error).expect("an error is two strings"))
}

fn not_found(path: &str) -> ApiError {
    ApiError::new(ErrorCode::NotFound, format!("there is no {path}"))
}

fn response(status: u16, content_type: &str, body: Vec<u8>) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, content_type)
        .body(Full::new(Bytes::from(body)))
        .expect("a status and a literal header")
}
