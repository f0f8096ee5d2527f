//! A request to a backend and its answer back.
//!
//! The head is prepared once: hop-by-hop fields go, what is known of the client is added, the rule's filters are applied. Then
//! backends are tried (`attempts`), and the filters for the answer are applied to what one of them said.

use super::answer::{AnswerBody, Attendance, Refusal};
use super::attempts::{AttemptLimits, Attempted, Attempts};
use super::backend::Length;
use super::choice::Held;
use super::connection::ClientConnection;
use super::fields::{self, Description};
use super::mirror;
use super::requests::{UNROUTABLE, unresolved};
use super::rewrite;
use super::upload::{Upload, UploadProgress};
use http::header::HOST;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, Version};
use http_body::Body;
use hyper::body::Incoming;
use policy::routes::{BackendProtocol, Filter, Forward, Rule, Target as RouteTarget};
use std::rc::Rc;

/// Where a request goes, as the routes say.
pub(super) struct Routed<'a> {
    pub(super) held: &'a Held,
    pub(super) rule: &'a Rule,
    pub(super) forward: &'a Forward,
    pub(super) matched_prefix_bytes: usize,
    /// Host and port that the request names.
    pub(super) authority: HeaderValue,
}

/// A request as backends are to have it.
pub(super) struct Outgoing {
    pub(super) method: Method,
    pub(super) path: PathAndQuery,
    pub(super) host: HeaderValue,
    pub(super) headers: HeaderMap,
    /// What is said of the client, where that is not among `headers`.
    pub(super) description: Option<Description>,
    pub(super) length: Length,
    pub(super) upload: Upload,
    pub(super) progress: Rc<UploadProgress>,
    /// The protocol to change to, and the client's side of the connection then.
    pub(super) upgrade: Option<(HeaderValue, hyper::upgrade::OnUpgrade)>,
}

/// The answer of a backend to `request`.
pub(super) async fn forward(
    connection: &Rc<ClientConnection>,
    mut request: Request<Incoming>,
    routed: Routed<'_>,
    attendance: &mut Attendance,
    progress: &Rc<UploadProgress>,
) -> Result<Response<AnswerBody>, Refusal> {
    let worker = &connection.worker;
    let Routed { held, rule, forward, matched_prefix_bytes, authority } = routed;
    let weighted = held.target(forward).ok_or(UNROUTABLE)?;
    let endpoints = match &weighted.target {
        RouteTarget::Endpoints(endpoints) => endpoints,
        RouteTarget::Unresolved { status, .. } => return Err(unresolved(worker.counters(), *status)),
    };
    let upgrade = (request.version() == Version::HTTP_11).then(|| fields::upgrade(request.headers())).flatten();
    let upgrade = upgrade.map(|protocol| (protocol, hyper::upgrade::on(&mut request)));
    let (parts, incoming) = request.into_parts();
    let mut outgoing = Outgoing {
        length: length(&incoming),
        method: parts.method,
        path: parts.uri.into_parts().path_and_query.ok_or(UNROUTABLE)?,
        host: authority,
        headers: parts.headers,
        description: None,
        upload: Upload::Empty,
        progress: progress.clone(),
        upgrade,
    };
    fields::strip_request(&mut outgoing.headers);
    outgoing.headers.remove(HOST);
    let filters = || rule.filters.iter().chain(&weighted.filters);
    let is_as_it_came = endpoints.protocol != BackendProtocol::H2c
        && !filters().any(|filter| matches!(filter, Filter::RequestHeaders(_) | Filter::Mirror { .. }));
    let description = connection.client.description(&outgoing.headers, outgoing.host.clone(), || worker.request_id());
    if is_as_it_came && description.is_complete() {
        // The head is written once, so that the fields need not become part of the map first.
        outgoing.description = Some(description);
    } else {
        description.insert(&mut outgoing.headers);
    }
    let mut mirrors = Vec::new();
    for filter in filters() {
        match filter {
            Filter::RequestHeaders(changes) => fields::change(&mut outgoing.headers, changes),
            Filter::Rewrite { host, path } => {
                if let Some(host) = host {
                    outgoing.host = host.0.clone();
                }
                if let Some(path) = path {
                    let rewritten = rewrite::path(&outgoing.path, path, matched_prefix_bytes);
                    outgoing.path = rewritten.ok_or(UNROUTABLE)?;
                }
            }
            Filter::Mirror { target, numerator, denominator } => {
                let is_due = held.is_due(std::ptr::from_ref(filter).addr(), *numerator, *denominator);
                match target {
                    RouteTarget::Endpoints(endpoints) if is_due => {
                        mirrors.push(held.group(endpoints, &worker.backends))
                    }
                    RouteTarget::Unresolved { .. } if is_due => worker.counters().mirrors_dropped.count(),
                    _ => {}
                }
            }
            Filter::ResponseHeaders(_) => {}
        }
    }
    if let Some(host) = outgoing.headers.remove(HOST) {
        outgoing.host = host;
    }
    let copies = mirror::start(worker, &outgoing, mirrors);
    let bytes_max = worker.config().limits.body_bytes_max.unwrap_or(u64::MAX);
    outgoing.upload = Upload::new(incoming, bytes_max, progress, copies);

    let group = held.group(endpoints, &worker.backends);
    let attempts = Attempts::new(worker, group, Some(connection), AttemptLimits::new(rule));
    let mut attempted = Attempted::default();
    let result = attempts.run(outgoing, &mut attempted).await;
    if let Some(record) = &mut attendance.record {
        record.upstream = attempted.last.map(|key| key.address);
        record.retries = attempted.retries;
    }
    let mut answer = result?;
    for filter in filters() {
        if let Filter::ResponseHeaders(changes) = filter {
            fields::change(answer.headers_mut(), changes);
        }
    }
    Ok(answer)
}

/// How the length of a body that comes from a client is told to a backend.
fn length(incoming: &Incoming) -> Length {
    if incoming.is_end_stream() {
        return Length::None;
    }
    incoming.size_hint().exact().map_or(Length::Chunked, Length::Known)
}
