//! The backends of a target, tried until one answers.
//!
//! A backend that cannot be connected to costs nothing, so the next is tried, whatever the request. On a connection that was used
//! before, a close before any byte of an answer means that the backend had given the connection up: the request is sent again on a
//! fresh one, if none of it was written or its method is idempotent (RFC 9110 9.2.2), and its body has not been read from. Everything
//! else that fails is answered: 502 for a backend that refuses, breaks off or does not speak HTTP, 504 for one that is late, also to
//! take a connection, 503 if there is none.

use super::answer::{AnswerBody, Content, Refusal};
use super::backend::{Answer, Backend, BackendKey, Download, Failure, Head, Http1, Lease, Length, Sending, Shared};
use super::choice::Group;
use super::connection::{ClientConnection, LocalTasks};
use super::fields;
use super::forward::Outgoing;
use super::requests::{BODY_TOO_LARGE, UNROUTABLE};
use super::tunnel::Tunnel;
use super::upload::{Upload, UploadError, UploadProgress};
use super::worker::Worker;
use http::header::{CONNECTION, CONTENT_LENGTH, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::client::conn::http2;
use hyper_util::rt::TokioIo;
use policy::routes::{BackendProtocol, Rule};
use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;
use tokio::time::{Instant, Sleep, sleep_until};
const NO_ENDPOINT: Refusal =
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "503: the Service has no endpoint that is ready\n");
const UNREACHABLE: Refusal =
    Refusal::new(StatusCode::BAD_GATEWAY, "502: no endpoint of the Service could be reached\n");
const BAD_ANSWER: Refusal =
    Refusal::new(StatusCode::BAD_GATEWAY, "502: the backend broke off or did not answer in HTTP\n");
const SILENT: Refusal =
    Refusal::new(StatusCode::GATEWAY_TIMEOUT, "504: no endpoint of the Service took the connection in time\n");
const LATE: Refusal = Refusal::new(StatusCode::GATEWAY_TIMEOUT, "504: the backend did not answer in time\n");
const BAD_BODY: Refusal =
    Refusal::closing(StatusCode::BAD_REQUEST, "400: the request's body broke off or is malformed\n");

/// Limits of time of a rule.
#[derive(Clone, Copy)]
pub(super) struct AttemptLimits {
    /// When the whole request must be over.
    request: Option<Instant>,
    /// What one attempt may take.
    attempt: Option<Duration>,
    /// Whether the rule says how long an attempt may take, even if that is as long as it likes.
    is_attempt_set: bool,
}

impl AttemptLimits {
    pub(super) fn new(rule: &Rule) -> AttemptLimits {
        let set = |limit: Option<Duration>| limit.filter(|limit| !limit.is_zero());
        AttemptLimits {
            request: set(rule.timeouts.request).map(|limit| Instant::now() + limit),
            attempt: set(rule.timeouts.backend_request),
            is_attempt_set: rule.timeouts.backend_request.is_some() || rule.timeouts.request.is_some(),
        }
    }

    /// Those of a mirrored request: the proxy's own.
    pub(super) fn none() -> AttemptLimits {
        AttemptLimits { request: None, attempt: None, is_attempt_set: false }
    }

    /// When an attempt that begins now must be over.
    fn deadline(&self) -> Option<Instant> {
        let attempt = self.attempt.map(|limit| Instant::now() + limit);
        [self.request, attempt].into_iter().flatten().min()
    }
}

/// The attempts at the backends of one target.
pub(super) struct Attempts<'a> {
    worker: &'a Rc<Worker>,
    group: Rc<Group>,
    connection: Option<&'a Rc<ClientConnection>>,
    limits: AttemptLimits,
    /// Whether the last endpoint that could not be reached said nothing, as one does that a policy keeps away.
    silent: Cell<bool>,
}

/// What was attempted.
#[derive(Default)]
pub(super) struct Attempted {
    pub(super) last: Option<BackendKey>,
    pub(super) retries: u32,
}

/// How an attempt failed.
enum Failed {
    /// No connection: the request is as it was.
    Unreachable,
    /// The request may be sent again, on a fresh connection to the same backend.
    Stale,
    /// It is answered so.
    Answered(Refusal),
}

/// A request between attempts: its head in the form that the target's protocol wants.
enum Prepared {
    Http1(Sending),
    Http2(Box<Request<Upload>>),
    /// It is with a connection that has not given it back.
    Gone,
}

impl<'a> Attempts<'a> {
    /// None yet. `connection` is the client's; a mirrored request has none.
    pub(super) fn new(
        worker: &'a Rc<Worker>,
        group: Rc<Group>,
        connection: Option<&'a Rc<ClientConnection>>,
        limits: AttemptLimits,
    ) -> Attempts<'a> {
        Attempts { worker, group, connection, limits, silent: Cell::new(false) }
    }

    /// The first answer.
    pub(super) async fn run(
        &self,
        outgoing: Outgoing,
        attempted: &mut Attempted,
    ) -> Result<Response<AnswerBody>, Refusal> {
        let counters = self.worker.counters();
        let mut tried = Vec::new();
        let mut prepared: Option<(Prepared, Fixed)> = None;
        let mut outgoing = Some(outgoing);
        let mut stale = None;
        for _ in 0..self.worker.config().limits.attempts_max.max(1) {
            let is_fresh = stale.is_some();
            let Some(backend) = stale.take().or_else(|| self.group.choose(&tried)) else { break };
            if attempted.last.replace(backend.key()).is_some() {
                attempted.retries += 1;
                counters.retries.count();
            }
            let protocol = backend.key().protocol;
            if let Some(outgoing) = outgoing.take() {
                prepared = Some(prepare(outgoing, protocol)?);
            }
            let Some((prepared, fixed)) = &mut prepared else { break };
            let deadline = self.limits.deadline();
            let attempted = match protocol {
                // What an attempt by HTTP/2 holds is as large as the rest of a request, which would carry it along unused.
                BackendProtocol::H2c => within(deadline, Box::pin(self.attempt_http2(&backend, prepared, fixed))).await,
                BackendProtocol::Http1 | BackendProtocol::Https => {
                    let attempt = pin!(self.attempt_http1(&backend, prepared, fixed, is_fresh));
                    within(deadline, attempt).await
                }
            };
            match attempted {
                Some(Ok(mut answer)) => {
                    answer.body_mut().set_deadline(deadline.map(sleep));
                    return Ok(answer);
                }
                Some(Err(Failed::Unreachable)) => {
                    backend.skip(self.worker.config().times.skip_unreachable);
                    tried.push(backend.key());
                }
                Some(Err(Failed::Stale)) => stale = Some(backend),
                Some(Err(Failed::Answered(refusal))) => return Err(refusal),
                None => {
                    counters.timeouts.count();
                    return Err(LATE);
                }
            }
        }
        if attempted.last.is_none() {
            counters.no_endpoint.count();
            return Err(NO_ENDPOINT);
        }
        counters.unreachable.count();
        Err(if self.silent.get() { SILENT } else { UNREACHABLE })
    }

    async fn attempt_http1(
        &self,
        backend: &Rc<Backend>,
        prepared: &mut Prepared,
        fixed: &mut Fixed,
        is_fresh: bool,
    ) -> Result<Response<AnswerBody>, Failed> {
        let Prepared::Http1(sending) = prepared else { return Err(self.bad_answer()) };
        let lease = backend.lease();
        let kept = if is_fresh { None } else { backend.take_idle() };
        let mut http1 = match kept {
            Some(http1) => http1,
            // Rare, and large: it is not carried along by requests that find a connection.
            None => Http1::new(Box::pin(self.connect(backend, &fixed.host)).await?),
        };
        let was_used = http1.is_used();
        let alarm = self.worker.clock.alarm(self.answer_limit());
        let spare = std::mem::take(&mut fixed.spare);
        match http1.exchange(sending, fixed.method == Method::HEAD, alarm, spare).await {
            Ok(answer) if answer.upgrade.is_some() => self.switch(answer, http1, lease, fixed),
            Ok(answer) => {
                let sending = std::mem::replace(prepared, Prepared::Gone);
                let Prepared::Http1(sending) = sending else { return Err(self.bad_answer()) };
                let sending = Some(sending).filter(|sending| !sending.is_complete());
                Ok(http1_answer(answer, http1, lease, sending))
            }
            Err(Failure::Closed { sent }) => {
                let may_repeat = was_used && (!sent || fixed.method.is_idempotent());
                if may_repeat && sending.rewind() { Err(Failed::Stale) } else { Err(self.bad_answer()) }
            }
            Err(Failure::BadAnswer) => Err(self.bad_answer()),
            Err(Failure::Upload(error)) => Err(self.bad_upload(error)),
            Err(Failure::Late) => Err(self.late()),
        }
    }

    async fn attempt_http2(
        &self,
        backend: &Rc<Backend>,
        prepared: &mut Prepared,
        fixed: &Fixed,
    ) -> Result<Response<AnswerBody>, Failed> {
        let mut shared = self.shared(backend, &fixed.host).await?;
        let lease = backend.lease().on(&shared);
        let Prepared::Http2(request) = std::mem::replace(prepared, Prepared::Gone) else {
            return Err(self.bad_answer());
        };
        let mut answering = pin!(shared.requests.try_send_request(*request));
        let mut alarm = self.worker.clock.alarm(self.answer_limit());
        let answered = poll_fn(|context| {
            if let Poll::Ready(answered) = answering.as_mut().poll(context) {
                return Poll::Ready(Some(answered));
            }
            if !fixed.progress.is_over() {
                alarm.restart();
            }
            alarm.poll(context).map(|_| None)
        });
        match answered.await {
            Some(Ok(answer)) => {
                let (mut parts, incoming) = answer.into_parts();
                fields::strip_answer(&mut parts.headers);
                parts.version = Version::HTTP_11;
                parts.extensions = http::Extensions::new();
                Ok(Response::from_parts(parts, AnswerBody::new(Content::Http2(incoming, lease))))
            }
            Some(Err(mut error)) => match error.take_message() {
                Some(request) => {
                    *prepared = Prepared::Http2(Box::new(request));
                    Err(Failed::Stale)
                }
                None => match fixed.progress.failure() {
                    Some(failure) => Err(self.bad_upload(failure)),
                    None => Err(self.bad_answer()),
                },
            },
            None => Err(self.late()),
        }
    }

    /// An HTTP/2 connection to `backend`, opened if there is none with room.
    async fn shared(&self, backend: &Rc<Backend>, host: &str) -> Result<Shared, Failed> {
        loop {
            if let Some(shared) = backend.shared() {
                return Ok(shared);
            }
            if !backend.begin_dialing() {
                backend.dialed().await;
                if backend.is_skipped() {
                    return Err(Failed::Unreachable);
                }
                continue;
            }
            let mut dialing = Dialing { backend, opened: None };
            let io = self.connect(backend, host).await?;
            let handshake = http2::Builder::new(LocalTasks).handshake(TokioIo::new(io));
            let (requests, connection) = handshake.await.map_err(|_| Failed::Unreachable)?;
            tokio::task::spawn_local(connection);
            dialing.opened = Some(requests);
        }
    }

    async fn connect(&self, backend: &Backend, host: &str) -> Result<super::backend::BackendIo, Failed> {
        let BackendKey { address, protocol } = backend.key();
        let counters = self.worker.counters();
        counters.backend_connections.count();
        let connecting = self.worker.connector.connect(address, protocol, host);
        match self.worker.clock.within(self.worker.config().times.connect, connecting).await {
            Ok(Ok(io)) => Ok(io),
            failed @ (Ok(Err(_)) | Err(_)) => {
                self.silent.set(failed.is_err());
                counters.backend_connect_failures.count();
                backend.skip(self.worker.config().times.skip_unreachable);
                Err(Failed::Unreachable)
            }
        }
    }

    /// Joins the two sides of a connection that changes its protocol.
    fn switch(
        &self,
        answer: Answer,
        http1: Http1,
        lease: Lease,
        fixed: &mut Fixed,
    ) -> Result<Response<AnswerBody>, Failed> {
        let (Some((_, client)), Some(connection), Some(protocol)) =
            (fixed.upgrade.take(), self.connection, answer.upgrade)
        else {
            // Nobody asked for it.
            return Err(self.bad_answer());
        };
        connection.watch.begin_tunnel();
        Tunnel::new(client, http1, lease, connection.clone()).spawn();
        let mut switch = Response::new(AnswerBody::new(Content::Empty));
        *switch.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *switch.headers_mut() = answer.headers;
        switch.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        switch.headers_mut().insert(UPGRADE, protocol);
        Ok(switch)
    }

    /// How long the head of an answer may take where the rule does not say.
    fn answer_limit(&self) -> Duration {
        // A rule's own limits are watched by a timer around the attempt.
        if self.limits.is_attempt_set { Duration::MAX } else { self.worker.config().times.answer_head }
    }

    fn bad_answer(&self) -> Failed {
        self.worker.counters().bad_answers.count();
        Failed::Answered(BAD_ANSWER)
    }

    fn late(&self) -> Failed {
        self.worker.counters().timeouts.count();
        Failed::Answered(LATE)
    }

    fn bad_upload(&self, error: UploadError) -> Failed {
        match error {
            UploadError::TooLarge => {
                self.worker.counters().refused_large.count();
                Failed::Answered(BODY_TOO_LARGE)
            }
            UploadError::Client => {
                self.worker.counters().refused_malformed.count();
                Failed::Answered(BAD_BODY)
            }
        }
    }
}

/// What attempts need of a request besides what is sent.
struct Fixed {
    method: Method,
    /// Host without port, for the name in TLS.
    host: String,
    progress: Rc<UploadProgress>,
    upgrade: Option<(HeaderValue, hyper::upgrade::OnUpgrade)>,
    /// A map for the answer's fields: the request's, which is written by then.
    spare: HeaderMap,
}

fn prepare(outgoing: Outgoing, protocol: BackendProtocol) -> Result<(Prepared, Fixed), Refusal> {
    let Outgoing { method, path, host, mut headers, description, length, upload, progress, upgrade } = outgoing;
    let host_text = host.to_str().unwrap_or_default();
    let name = match protocol {
        BackendProtocol::Https => host_text.rsplit_once(':').map_or(host_text, |(name, _)| name).to_owned(),
        BackendProtocol::Http1 | BackendProtocol::H2c => String::new(),
    };
    let prepared = match protocol {
        BackendProtocol::H2c => {
            let uri = Uri::builder().scheme("http").authority(host.as_bytes()).path_and_query(path).build();
            let mut request = Request::new(upload);
            *request.method_mut() = method.clone();
            *request.uri_mut() = uri.map_err(|_| UNROUTABLE)?;
            *request.version_mut() = Version::HTTP_2;
            *request.headers_mut() = std::mem::take(&mut headers);
            if length == Length::Chunked {
                request.headers_mut().remove(CONTENT_LENGTH);
            }
            Prepared::Http2(Box::new(request))
        }
        BackendProtocol::Http1 | BackendProtocol::Https => {
            let protocol = upgrade.as_ref().map(|(protocol, _)| protocol);
            let head =
                Head { method: &method, path: path.as_str(), host: &host, headers: &headers, description, length };
            let head = head.write(protocol);
            Prepared::Http1(Sending::new(head, length, upload))
        }
    };
    headers.clear();
    Ok((prepared, Fixed { method, host: name, progress, upgrade, spare: headers }))
}

fn http1_answer(answer: Answer, http1: Http1, lease: Lease, sending: Option<Sending>) -> Response<AnswerBody> {
    let mut download = Download::new(http1, lease, sending, answer.framing, answer.keeps_alive);
    let content = match download.take_whole() {
        Some(bytes) if bytes.is_empty() => Content::Empty,
        Some(bytes) => Content::Bytes(bytes),
        None => Content::Http1(Box::new(download)),
    };
    let mut response = Response::new(AnswerBody::new(content));
    *response.status_mut() = answer.status;
    *response.headers_mut() = answer.headers;
    response
}

/// The output of `future`, unless `deadline` comes first.
async fn within<F: Future + Unpin>(deadline: Option<Instant>, mut future: F) -> Option<F::Output> {
    let mut deadline = deadline.map(sleep);
    poll_fn(|context| match Pin::new(&mut future).poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => match &mut deadline {
            Some(deadline) => deadline.as_mut().poll(context).map(|()| None),
            None => Poll::Pending,
        },
    })
    .await
}

fn sleep(deadline: Instant) -> Pin<Box<Sleep>> {
    Box::pin(sleep_until(deadline))
}

/// The opening of an HTTP/2 connection; those who wait for it go on when it has succeeded, failed or been given up.
struct Dialing<'a> {
    backend: &'a Backend,
    opened: Option<http2::SendRequest<Upload>>,
}

impl Drop for Dialing<'_> {
    fn drop(&mut self) {
        self.backend.end_dialing(self.opened.take());
    }
}
