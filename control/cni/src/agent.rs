//! Asks the node process: one HTTP/1.1 request over its unix socket, and its whole answer.

use crate::failure::{Code, Failure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longest wait for an answer: an add waits some seconds for its pod, and for others before it.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Largest answer: what GC could not do.
const ANSWER_BYTES_MAX: u64 = 16 << 20;

/// Why there is no answer.
#[derive(Debug)]
pub(crate) enum Unanswered {
    /// No node process is there.
    Down(io::Error),
    /// It is there, and something broke.
    Broken(String),
    /// It answered that it did not do it.
    Refused(Refusal),
}

/// An error as the node process says it.
#[derive(Debug, Deserialize)]
pub(crate) struct Refusal {
    pub(crate) code: String,
    pub(crate) message: String,
}

impl Unanswered {
    /// The same as the runtime is told.
    pub(crate) fn failure(self, socket: &Path) -> Failure {
        let socket = socket.display();
        match self {
            Unanswered::Down(error) => Failure::new(
                Code::TryAgain,
                "try again later",
                format!(
                    "no podplane node process answers on {socket} ({error}): start it (podplane agent or podplane node \
                     --socket {socket}), or set \"socket\" in the network configuration to its --socket"
                ),
            ),
            Unanswered::Broken(what) => {
                Failure::new(Code::TryAgain, "try again later", format!("the node process on {socket}: {what}"))
            }
            Unanswered::Refused(Refusal { code, message }) => {
                let (code, short) = match code.as_str() {
                    "not-ready" | "pod-not-in-force" | "range-exhausted" => (Code::TryAgain, "try again later"),
                    "bad-request" | "address-refused" => (Code::InvalidConfiguration, "invalid request"),
                    "already-attached" => (Code::InvalidEnvironment, "CNI_IFNAME is in use"),
                    "no-such-namespace" | "not-attached" => (Code::UnknownContainer, "no such container"),
                    "not-written" => (Code::Io, "input or output failed"),
                    "not-as-added" => (Code::NotAsAdded, "the attachment is not as it was added"),
                    _ => (Code::Failed, "not done"),
                };
                Failure::new(code, short, message)
            }
        }
    }
}

/// Sends `body` as JSON.
pub(crate) fn post<T: DeserializeOwned>(socket: &Path, path: &str, body: &impl Serialize) -> Result<T, Unanswered> {
    let body = serde_json::to_vec(body).map_err(|error| Unanswered::Broken(error.to_string()))?;
    ask(socket, "POST", path, &body)
}

/// Asks without a body.
pub(crate) fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, Unanswered> {
    ask(socket, "GET", path, &[])
}

fn ask<T: DeserializeOwned>(socket: &Path, method: &str, path: &str, body: &[u8]) -> Result<T, Unanswered> {
    let mut stream = UnixStream::connect(socket).map_err(Unanswered::Down)?;
    let broken = |error: io::Error| Unanswered::Broken(error.to_string());
    stream.set_read_timeout(Some(TIMEOUT)).map_err(broken)?;
    stream.set_write_timeout(Some(TIMEOUT)).map_err(broken)?;
    let length = body.len();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: podplane\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(body);
    stream.write_all(&request).map_err(broken)?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Unanswered::Broken(format!("no answer within {} s", TIMEOUT.as_secs())),
        _ => broken(error),
    })?;
    let (status, body) = split(&answer).ok_or_else(|| Unanswered::Broken("it closed without an answer".to_owned()))?;
    let unexpected = |error| Unanswered::Broken(format!("unexpected answer with status {status}: {error}"));
    if (200..300).contains(&status) {
        return serde_json::from_slice(body).map_err(unexpected);
    }
    Err(serde_json::from_slice(body).map(Unanswered::Refused).unwrap_or_else(unexpected))
}

/// Status and body of an answer whose length is that of the connection.
fn split(answer: &[u8]) -> Option<(u16, &[u8])> {
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = std::str::from_utf8(&answer[..end]).ok()?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    Some((status, &answer[end + 4..]))
}
