//! Asks a node process. Each call is one connection; nothing is kept open.

use super::{ApiError, AttachRequest, Detached, Drop, Flow, Policy, Port, Service, Status};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, Uri, header};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// Longest wait for an answer. An attach may wait for its pod's policies and makes an interface; everything else is
/// answered at once.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Largest answer: a million flows.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// A node process's API socket.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// Why there is no answer.
#[derive(Debug)]
pub enum ClientError {
    /// Nothing answers on the socket.
    Unreachable(PathBuf, io::Error),
    /// The connection broke, or what came back is not an answer.
    Broken(PathBuf, String),
    /// The node answered that it did not do it.
    Refused(ApiError),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ClientError::Unreachable(socket, error) => write!(
                f,
                "no node process answers on {} ({error}): is it running, and is this its --socket?",
                socket.display()
            ),
            ClientError::Broken(socket, what) => write!(f, "the node process on {}: {what}", socket.display()),
            ClientError::Refused(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ClientError {}

impl Client {
    /// A client of the node process that serves `socket`. Nothing is opened yet.
    pub fn new(socket: impl Into<PathBuf>) -> Client {
        Client { socket: socket.into() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Whether the node has tables in force. A node that does not answer is not ready.
    pub fn is_ready(&self) -> bool {
        self.check_ready().is_ok()
    }

    /// Why the node is not ready, if so.
    pub fn check_ready(&self) -> Result<(), ClientError> {
        self.get::<serde::de::IgnoredAny>("/readyz").map(|_| ())
    }

    /// What the node is and has in force.
    pub fn status(&self) -> Result<Status, ClientError> {
        self.get("/v1/status")
    }

    /// All ports, the host port first.
    pub fn ports(&self) -> Result<Vec<Port>, ClientError> {
        self.get("/v1/ports")
    }

    /// All Services that have addresses, by namespace and name.
    pub fn services(&self) -> Result<Vec<Service>, ClientError> {
        self.get("/v1/services")
    }

    /// Flows of all ports.
    pub fn flows(&self) -> Result<Vec<Flow>, ClientError> {
        self.get("/v1/flows")
    }

    /// What was discarded, by reason, with the most recent ones.
    pub fn drops(&self) -> Result<Vec<Drop>, ClientError> {
        self.get("/v1/drops")
    }

    /// The same, with recent ones since a moment in milliseconds since 1970.
    pub fn drops_since(&self, unix_ms: u64) -> Result<Vec<Drop>, ClientError> {
        self.get(&format!("/v1/drops?since={unix_ms}"))
    }

    /// The policies in force in order of evaluation, and what they decided.
    pub fn policies(&self) -> Result<Vec<Policy>, ClientError> {
        self.get("/v1/policies")
    }

    /// Attaches a pod; returns when its port is judged by its policies.
    pub fn attach(&self, request: &AttachRequest) -> Result<Port, ClientError> {
        self.call(Method::POST, "/v1/ports", Some(request))
    }

    /// Detaches a pod; whether it was attached.
    pub fn detach(&self, container_id: &str, ifname: &str) -> Result<bool, ClientError> {
        let path = format!("/v1/ports/{}/{}", escape(container_id), escape(ifname));
        self.call::<(), Detached>(Method::DELETE, &path, None).map(|detached| detached.removed)
    }

    fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.call::<(), T>(Method::GET, path, None)
    }

    fn call<B: Serialize, T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<T, ClientError> {
        let broken = |what: String| ClientError::Broken(self.socket.clone(), what);
        let body = match body {
            Some(body) => serde_json::to_vec(body).map_err(|error| broken(error.to_string()))?,
            None => Vec::new(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClientError::Unreachable(self.socket.clone(), error))?;
        let exchange = async { tokio::time::timeout(TIMEOUT, self.exchange(method, path, body)).await };
        let (status, answer) =
            runtime.block_on(exchange).map_err(|_| broken(format!("no answer within {} s", TIMEOUT.as_secs())))??;
        if (200..300).contains(&status) {
            return serde_json::from_slice(&answer).map_err(|error| broken(format!("unexpected answer: {error}")));
        }
        match serde_json::from_slice(&answer) {
            Ok(error) => Err(ClientError::Refused(error)),
            Err(_) => Err(broken(format!("HTTP status {status}"))),
        }
    }

    async fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<(u16, Bytes), ClientError> {
        let broken = |error: &dyn fmt::Display| ClientError::Broken(self.socket.clone(), error.to_string());
        let unreachable = |error| ClientError::Unreachable(self.socket.clone(), error);
        let stream = UnixStream::connect(&self.socket).await.map_err(unreachable)?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
        // Ends with the sender; its errors come back through it.
        tokio::spawn(connection);
        let uri: Uri = path.parse().map_err(|error| broken(&error))?;
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(header::HOST, "podplane")
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| broken(&error))?;
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status().as_u16();
        let answer = Limited::new(response.into_body(), ANSWER_BYTES_MAX).collect().await;
        Ok((status, answer.map_err(|error| broken(&error))?.to_bytes()))
    }
}

/// A path segment: everything but letters, digits, `-`, `_` and `.` as `%XX`.
fn escape(segment: &str) -> String {
    let mut escaped = String::new();
    for byte in segment.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => escaped.push(char::from(byte)),
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}
