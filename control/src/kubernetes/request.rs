//! Requests to the API server: sent, bounded in time and in bytes, and failures sorted by what is to be done about them.

use super::answer::{Status, short};
use super::connect::{Access, Connection, text};
use super::lines::Lines;
use http_body_util::BodyExt;
use hyper::header::{ACCEPT, ACCEPT_ENCODING, RETRY_AFTER};
use hyper::{Request, Response, StatusCode};
use kube::client::Body;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes of one answer that is no watch: a page of the largest objects that are seen in practice. A page that is larger is
/// asked for again with fewer objects.
pub(super) const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Bytes of an answer that says what went wrong; the rest of it is not read.
const FAILURE_BYTES_MAX: usize = 64 << 10;

/// Credentials are read again after they were refused, this often at most: a server may refuse for reasons of its own.
const RENEW_EVERY: Duration = Duration::from_secs(10);

/// What is to be done about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nothing came: the server is away, or slow beyond patience.
    Unreachable,
    /// Nothing more came of an answer that had begun.
    Silent,
    /// 401: who asks is not known; credentials may have been renewed.
    Unauthorized,
    /// 403: a role is missing.
    Forbidden,
    /// 404: there is no such resource.
    NotFound,
    /// 410: the resourceVersion or the token of a page is too old.
    Gone,
    /// 429 or 503: the server has too much to do.
    Busy,
    /// Another error of the server.
    Refused,
    /// An answer that makes no sense.
    Nonsense,
    /// An answer with more bytes than an answer may have.
    TooLarge,
}

/// Why a request gave nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) cause: Cause,
    /// In words.
    pub(super) what: String,
    /// When the server wants to be asked again.
    pub(super) retry_after: Option<Duration>,
}

impl Failure {
    pub(super) fn new(cause: Cause, what: impl Into<String>) -> Failure {
        Failure { cause, what: what.into(), retry_after: None }
    }

    /// What a status that came instead of an answer means.
    pub(super) fn of_status(status: &Status) -> Failure {
        let cause = match status.code {
            401 => Cause::Unauthorized,
            403 => Cause::Forbidden,
            404 => Cause::NotFound,
            410 => Cause::Gone,
            429 | 503 => Cause::Busy,
            _ => Cause::Refused,
        };
        let what = match status.code {
            0 => status.message.clone(),
            code => format!("{code}: {}", status.message),
        };
        Failure { cause, what, retry_after: status.retry_after_seconds.map(Duration::from_secs) }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

/// The way to the server, with credentials that are read again when they are refused.
pub(super) struct Link {
    access: Access,
    connection: Mutex<Connection>,
    renewed: Mutex<Instant>,
    /// How long the server may take to begin an answer, and to go on with one.
    patience: Duration,
}

impl Link {
    pub(super) fn new(access: Access, connection: Connection, patience: Duration) -> Link {
        Link { access, connection: Mutex::new(connection), renewed: Mutex::new(Instant::now()), patience }
    }

    fn connection(&self) -> Connection {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads the configuration again, if that was not done just before. What cannot be read leaves all as it is: the
    /// failure that led here is told anyway.
    async fn renew(&self) {
        {
            let mut renewed = self.renewed.lock().unwrap_or_else(PoisonError::into_inner);
            if renewed.elapsed() < RENEW_EVERY {
                return;
            }
            *renewed = Instant::now();
        }
        if let Ok(connection) = self.access.connect().await {
            *self.connection.lock().unwrap_or_else(PoisonError::into_inner) = connection;
        }
    }

    /// Sends a GET and waits for the head of a good answer. After a failure that certificates or tokens may be the reason of, they
    /// are read again: a server that does not accept a certificate just ends the connection.
    async fn send(&self, uri: &str) -> Result<Response<Body>, Failure> {
        let answer = self.send_once(uri).await;
        if let Err(Failure { cause: Cause::Unauthorized | Cause::Unreachable, .. }) = &answer {
            self.renew().await;
        }
        answer
    }

    async fn send_once(&self, uri: &str) -> Result<Response<Body>, Failure> {
        let Connection { mut client, .. } = self.connection();
        if client.valid_until().is_some_and(|until| until <= jiff::Timestamp::now()) {
            self.renew().await;
            client = self.connection().client;
        }
        let request = Request::get(uri)
            .header(ACCEPT, "application/json")
            .header(ACCEPT_ENCODING, "identity")
            .body(Body::empty())
            .map_err(|error| Failure::new(Cause::Nonsense, format!("{}: {error}", short(uri))))?;
        let sent = tokio::time::timeout(self.patience, client.send(request)).await;
        let answer = match sent {
            Err(_) => {
                let patience = self.patience.as_secs();
                return Err(Failure::new(Cause::Unreachable, format!("no answer within {patience} s")));
            }
            Ok(Err(error)) => return Err(Failure::new(Cause::Unreachable, short(&text(&error)))),
            Ok(Ok(answer)) => answer,
        };
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        Err(self.failure(answer).await)
    }

    async fn failure(&self, answer: Response<Body>) -> Failure {
        let code = answer.status();
        let header = answer.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        let bytes = self.collect(answer.into_body(), FAILURE_BYTES_MAX).await.unwrap_or_default();
        let said = serde_json::from_slice(&bytes).ok().and_then(|value| Status::of(&value));
        let status = said.unwrap_or_else(|| {
            let words = short(&String::from_utf8_lossy(&bytes));
            let known = code.canonical_reason().unwrap_or("no reason given");
            let message = if words.is_empty() { known.to_owned() } else { words };
            Status { message, ..Status::default() }
        });
        let retry_after_seconds = header.or(status.retry_after_seconds);
        // The line that everybody on the way has understood goes before what the body says.
        Failure::of_status(&Status { code: code.as_u16(), retry_after_seconds, ..status })
    }

    /// The whole body of an answer.
    pub(super) async fn get(&self, uri: &str) -> Result<Vec<u8>, Failure> {
        let answer = self.send(uri).await?;
        self.collect(answer.into_body(), ANSWER_BYTES_MAX).await
    }

    async fn collect(&self, mut body: Body, max: usize) -> Result<Vec<u8>, Failure> {
        let mut bytes = Vec::new();
        while let Some(piece) = piece(&mut body, self.patience).await? {
            if bytes.len() + piece.len() > max {
                return Err(Failure::new(Cause::TooLarge, format!("an answer with more than {max} bytes")));
            }
            bytes.extend_from_slice(&piece);
        }
        Ok(bytes)
    }

    /// Begins a watch; a server that says nothing for `silence` is taken for gone.
    pub(super) async fn watch(&self, uri: &str, silence: Duration, line_max: usize) -> Result<Stream, Failure> {
        let answer = self.send(uri).await?;
        Ok(Stream { body: answer.into_body(), lines: Lines::new(line_max), silence })
    }
}

/// The next piece of a body; `None` at its end.
async fn piece(
    body: &mut Body,
    patience: Duration,
) -> Result<Option<impl std::ops::Deref<Target = [u8]> + use<>>, Failure> {
    loop {
        match tokio::time::timeout(patience, body.frame()).await {
            Err(_) => {
                let patience = patience.as_secs();
                return Err(Failure::new(Cause::Silent, format!("nothing was heard for {patience} s")));
            }
            Ok(None) => return Ok(None),
            Ok(Some(Err(error))) => {
                return Err(Failure::new(
                    Cause::Unreachable,
                    format!("the connection broke: {}", short(&text(&error))),
                ));
            }
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// A watch under way.
pub(super) struct Stream {
    body: Body,
    lines: Lines,
    silence: Duration,
}

impl Stream {
    /// Waits for more; `false` when the server has ended the watch between two lines.
    pub(super) async fn wait(&mut self) -> Result<bool, Failure> {
        match piece(&mut self.body, self.silence).await? {
            Some(bytes) => {
                self.lines.push(&bytes);
                Ok(true)
            }
            None if self.lines.rest_bytes() > 0 => {
                let rest = self.lines.rest_bytes();
                Err(Failure::new(
                    Cause::Unreachable,
                    format!("the watch ended within a line, after {rest} bytes of it"),
                ))
            }
            None => Ok(false),
        }
    }

    /// The next whole line of what has come.
    pub(super) fn next_line(&mut self) -> Option<Result<&[u8], Failure>> {
        let line = self.lines.next()?;
        Some(line.map_err(|_| Failure::new(Cause::Nonsense, "a line that is too long for an object")))
    }
}
