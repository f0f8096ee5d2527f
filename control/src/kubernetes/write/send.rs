//! One request to the API server, and what its answer means for whoever asked.

use http_body_util::{BodyExt, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, header};
use kube::Client;
use kube::client::Body;
use serde_json::Value;
use std::time::Duration;

/// How long a request may take: the API server itself gives up after a minute, and what is written here can wait for the next try.
const TIMEOUT: Duration = Duration::from_secs(15);

/// Largest answer that is read: an object has at most 1.5 MiB in etcd, and JSON is longer.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// Longest text of a server that goes into a message.
const MESSAGE_CHARS_MAX: usize = 300;

/// Why a request did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The object is another one than it was when it was read (409).
    Conflict,
    /// There is no such object, or no such kind (404).
    Gone,
    /// Whoever this process is may not do that (401, 403).
    Forbidden(String),
    /// The request itself is refused, and will be (400, 405, 422 and the like).
    Invalid(String),
    /// The server has no time, and may have said when it has (429, 5xx).
    Busy {
        /// Retry-After.
        after: Option<Duration>,
        /// What it said.
        why: String,
    },
    /// There was no answer.
    Unreachable(String),
}

/// Reads an object.
pub(super) async fn get(client: &Client, path: &str) -> Result<Value, Refusal> {
    send(client, Method::GET, path, None).await
}

/// Reads an object's metadata alone.
pub(super) async fn get_metadata(client: &Client, path: &str) -> Result<Value, Refusal> {
    let accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";
    let request = Request::builder().method(Method::GET).uri(path).header(header::ACCEPT, accept);
    answered(client, request.body(Body::empty()).map_err(wrong)?).await
}

/// Changes fields of an object.
pub(super) async fn patch(client: &Client, path: &str, manager: &str, patch: &Value) -> Result<Value, Refusal> {
    let path = format!("{path}?fieldManager={manager}");
    send(client, Method::PATCH, &path, Some(("application/merge-patch+json", patch))).await
}

/// Makes an object.
pub(super) async fn create(client: &Client, path: &str, manager: &str, object: &Value) -> Result<Value, Refusal> {
    let path = format!("{path}?fieldManager={manager}");
    send(client, Method::POST, &path, Some(("application/json", object))).await
}

/// Replaces an object, if it is what it was when its resourceVersion was read.
pub(super) async fn update(client: &Client, path: &str, manager: &str, object: &Value) -> Result<Value, Refusal> {
    let path = format!("{path}?fieldManager={manager}");
    send(client, Method::PUT, &path, Some(("application/json", object))).await
}

async fn send(client: &Client, method: Method, path: &str, body: Option<(&str, &Value)>) -> Result<Value, Refusal> {
    let request = Request::builder().method(method).uri(path).header(header::ACCEPT, "application/json");
    let request = match body {
        None => request.body(Body::empty()),
        Some((content_type, value)) => {
            request.header(header::CONTENT_TYPE, content_type).body(Body::from(value.to_string().into_bytes()))
        }
    };
    answered(client, request.map_err(wrong)?).await
}

fn wrong(error: hyper::http::Error) -> Refusal {
    Refusal::Invalid(error.to_string())
}

async fn answered(client: &Client, request: Request<Body>) -> Result<Value, Refusal> {
    let exchange = async {
        let unreachable = |error: kube::Error| Refusal::Unreachable(super::super::connect::text(&error));
        let response = client.send(request).await.map_err(unreachable)?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await;
        let body = body.map_err(|error| Refusal::Unreachable(error.to_string()))?.to_bytes();
        let after = head.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
        judge(head.status.as_u16(), after.map(Duration::from_secs), &body)
    };
    let late = || Refusal::Unreachable(format!("no answer within {} s", TIMEOUT.as_secs()));
    tokio::time::timeout(TIMEOUT, exchange).await.unwrap_or_else(|_| Err(late()))
}

/// What an answer means.
fn judge(status: u16, after: Option<Duration>, body: &Bytes) -> Result<Value, Refusal> {
    let parsed: Option<Value> = serde_json::from_slice(body).ok();
    if (200..300).contains(&status) {
        let unreadable = || Refusal::Busy { after: None, why: format!("an answer {status} that is not JSON") };
        return parsed.ok_or_else(unreadable);
    }
    let message = parsed.as_ref().and_then(|status| status["message"].as_str()).filter(|message| !message.is_empty());
    let why = message.map_or_else(|| format!("HTTP status {status}"), short);
    Err(match status {
        401 | 403 => Refusal::Forbidden(why),
        404 => Refusal::Gone,
        409 => Refusal::Conflict,
        408 | 429 | 500..=599 => Refusal::Busy { after, why },
        _ => Refusal::Invalid(why),
    })
}

/// A stranger's text in the length that a message has room for, on one line.
fn short(text: &str) -> String {
    let mut short: String = text.trim().chars().take(MESSAGE_CHARS_MAX).collect();
    short = short.replace(|c: char| c.is_control(), " ");
    if short.len() < text.trim().len() {
        short.push('…');
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn judged(status: u16, body: &str) -> Result<Value, Refusal> {
        judge(status, None, &Bytes::from(body.to_owned()))
    }

    #[test]
    fn an_answer_says_whether_to_try_again_and_why_not() {
        assert_eq!(judged(200, "{}"), Ok(json!({})));
        let status = r#"{"kind":"Status","message":"nodes \"a\" is forbidden"}"#;
        assert_eq!(judged(403, status), Err(Refusal::Forbidden("nodes \"a\" is forbidden".to_owned())));
        assert_eq!(judged(404, status), Err(Refusal::Gone));
        assert_eq!(judged(409, ""), Err(Refusal::Conflict));
        assert_eq!(judged(422, ""), Err(Refusal::Invalid("HTTP status 422".to_owned())));
        assert_eq!(judged(503, "<html>"), Err(Refusal::Busy { after: None, why: "HTTP status 503".to_owned() }));
        assert!(matches!(judged(200, "not JSON"), Err(Refusal::Busy { .. })));
    }

    #[test]
    fn a_long_message_is_cut_and_stays_on_its_line() {
        let long = format!("line\n{}", "ä".repeat(1000));
        assert_eq!(short(&long).chars().count(), MESSAGE_CHARS_MAX + 1);
        assert!(!short(&long).contains('\n'));
        assert_eq!(short(" x "), "x");
    }
}
