//! A request from its head to the head of its answer: checked, looked up, answered or forwarded.

use super::answer::{AnswerBody, Attendance, Refusal, redirect};
use super::connection::ClientConnection;
use super::counters::{Counter, Counters};
use super::fields::{self, X_REQUEST_ID};
use super::forward;
use super::log::Record;
use super::rewrite::{Redirected, location};
use super::target::{Target, Unacceptable};
use super::upload::UploadProgress;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use policy::routes::{Filter, Found, Outcome, Rule};
use std::rc::Rc;
use std::time::Instant;

/// The answer to `request`, whatever happens to it.
pub(super) async fn answer(connection: Rc<ClientConnection>, request: Request<Incoming>) -> Response<AnswerBody> {
    let counters = connection.worker.counters();
    counters.requests.count();
    let upload = Rc::<UploadProgress>::default();
    let record = connection.worker.is_logging().then(|| record(&connection, &request, &upload));
    let mut attendance = Attendance::new(connection.clone(), record);
    let is_head = *request.method() == Method::HEAD;
    let is_grpc = is_grpc(request.headers());
    let mut answer = match respond(&connection, request, &mut attendance, &upload).await {
        Ok(answer) => answer,
        Err(refusal) => {
            let mut answer = refusal.answer(is_grpc);
            if is_head {
                let length = answer.body().size_hint().exact().unwrap_or_default();
                answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
                answer.body_mut().clear();
            }
            answer
        }
    };
    answers(counters, answer.status()).count();
    if let Some(record) = &mut attendance.record {
        record.status = answer.status().as_u16();
    }
    answer.body_mut().attend(attendance);
    answer
}

async fn respond(
    connection: &Rc<ClientConnection>,
    mut request: Request<Incoming>,
    attendance: &mut Attendance,
    upload: &Rc<UploadProgress>,
) -> Result<Response<AnswerBody>, Refusal> {
    let worker = &connection.worker;
    let limits = &worker.config().limits;
    // The access log and the backend are to have the same id.
    if let Some(record) = &mut attendance.record {
        let id = request.headers_mut().entry(X_REQUEST_ID).or_insert_with(|| worker.request_id());
        record.request_id = String::from_utf8_lossy(id.as_bytes()).into_owned();
    }
    let target = Target::check(&request, limits.target_bytes_max).map_err(|why| refuse(worker.counters(), why))?;
    if limits.body_bytes_max.is_some_and(|max| request.body().size_hint().lower() > max) {
        worker.counters().refused_large.count();
        return Err(BODY_TOO_LARGE);
    }
    if let Some(record) = &mut attendance.record {
        record.host = target.host.clone().into_owned();
    }
    let held = worker.held();
    let found = held.routes.find(&policy::routes::Request {
        port: connection.info.local_port,
        sni: connection.info.tls.as_ref().and_then(|tls| tls.sni.as_deref()),
        host: &target.host,
        method: request.method(),
        path: target.path.path(),
        query: target.path.query(),
        headers: request.headers(),
    });
    let (rule, matched_prefix_bytes) = match found {
        Found::Rule { rule, matched_prefix_bytes } => (rule, matched_prefix_bytes),
        Found::Nothing => {
            worker.counters().no_route.count();
            return Err(Refusal::new(StatusCode::NOT_FOUND, "404: no rule takes this host and path\n"));
        }
        Found::Misdirected => {
            worker.counters().misdirected.count();
            let text = "421: this connection was opened for another host\n";
            return Err(Refusal::new(StatusCode::MISDIRECTED_REQUEST, text));
        }
    };
    if let Some(record) = &mut attendance.record {
        record.route = Some((rule.source.object.to_string(), rule.source.field.clone()));
    }
    match &rule.outcome {
        Outcome::Forward(forward) => {
            let authority = target.authority();
            let routed = forward::Routed { held: &held, rule, forward, matched_prefix_bytes, authority };
            forward::forward(connection, request, routed, attendance, upload).await
        }
        Outcome::Redirect(to) => {
            let redirected = Redirected {
                scheme: if connection.info.tls.is_some() { "https" } else { "http" },
                host: &target.host,
                port: connection.info.local_port,
                path: target.path,
                matched_prefix_bytes,
            };
            let answer = location(to, &redirected).and_then(|location| redirect(to.status, &location));
            let mut answer = answer.ok_or(UNROUTABLE)?;
            change_answer(rule, answer.headers_mut());
            Ok(answer)
        }
        Outcome::Status(status, _) => Err(unresolved(worker.counters(), *status)),
    }
}

/// Applies what a rule says of answers' fields.
fn change_answer(rule: &Rule, headers: &mut HeaderMap) {
    for filter in &rule.filters {
        if let Filter::ResponseHeaders(changes) = filter {
            fields::change(headers, changes);
        }
    }
}

/// A rule that makes no answer of a request, such as a rewrite to what is no path.
pub(super) const UNROUTABLE: Refusal =
    Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "500: the rule of this request leads to no URL\n");
/// A body over the limit. What the client still sends of it is no request.
pub(super) const BODY_TOO_LARGE: Refusal =
    Refusal::closing(StatusCode::PAYLOAD_TOO_LARGE, "413: the request's body is larger than allowed\n");

/// The answer of a rule that leads nowhere.
pub(super) fn unresolved(counters: &Counters, status: u16) -> Refusal {
    counters.no_endpoint.count();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let text = match status {
        StatusCode::SERVICE_UNAVAILABLE => "503: the Service of this rule is not there\n",
        StatusCode::NOT_FOUND => "404: nothing is served here\n",
        _ => "the rule of this request leads nowhere\n",
    };
    Refusal::new(status, text)
}

fn refuse(counters: &Counters, why: Unacceptable) -> Refusal {
    match why {
        Unacceptable::TooLong => &counters.refused_large,
        _ => &counters.refused_malformed,
    }
    .count();
    match why {
        Unacceptable::Host => {
            Refusal::closing(StatusCode::BAD_REQUEST, "400: the request does not name one valid host\n")
        }
        Unacceptable::HostMismatch => {
            Refusal::closing(StatusCode::BAD_REQUEST, "400: the request line and Host name different hosts\n")
        }
        Unacceptable::Form => {
            Refusal::closing(StatusCode::BAD_REQUEST, "400: the request's target is not a path or URL\n")
        }
        Unacceptable::DotSegment => {
            Refusal::closing(StatusCode::BAD_REQUEST, "400: the path has a segment that is . or ..\n")
        }
        Unacceptable::Connect => Refusal::closing(StatusCode::METHOD_NOT_ALLOWED, "405: this proxy opens no tunnels\n"),
        Unacceptable::TooLong => Refusal::closing(StatusCode::URI_TOO_LONG, "414: the request's target is too long\n"),
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

/// The counter of a status' class.
fn answers(counters: &Counters, status: StatusCode) -> &Counter {
    match status.as_u16() / 100 {
        1 => &counters.answers_1xx,
        2 => &counters.answers_2xx,
        3 => &counters.answers_3xx,
        4 => &counters.answers_4xx,
        _ => &counters.answers_5xx,
    }
}

fn record(connection: &ClientConnection, request: &Request<Incoming>, upload: &Rc<UploadProgress>) -> Box<Record> {
    let tls = connection.info.tls.as_ref();
    Box::new(Record {
        began: Instant::now(),
        client: connection.info.peer,
        method: request.method().to_string(),
        host: String::new(),
        path: request.uri().path_and_query().map(ToString::to_string).unwrap_or_default(),
        protocol: match request.version() {
            Version::HTTP_2 => "HTTP/2",
            Version::HTTP_10 => "HTTP/1.0",
            _ => "HTTP/1.1",
        },
        tls: tls.map(|tls| tls.version),
        sni: tls.and_then(|tls| tls.sni.as_deref().map(str::to_owned)),
        request_id: String::new(),
        // nginx' word for a client that is gone before there is an answer; overwritten by any answer.
        status: 499,
        upload: upload.clone(),
        bytes_out: 0,
        upstream: None,
        route: None,
        retries: 0,
        broken: false,
    })
}
