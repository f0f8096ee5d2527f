//! Answers that the proxy gives itself, and the bodies of all answers.

use super::backend::{Download, Lease, Truncated};
use super::connection::ClientConnection;
use super::log::Record;
use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, LOCATION};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::time::Sleep;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// What an answer has for a body.
#[derive(Debug)]
pub(super) enum Content {
    Empty,
    Bytes(Bytes),
    Http1(Box<Download>),
    /// With the share of the backend that it takes.
    Http2(Incoming, #[allow(dead_code)] Lease),
}

/// The body of an answer. Dropped when it has been sent, or cannot be: then the request is over.
#[derive(Debug)]
pub(super) struct AnswerBody {
    content: Content,
    /// When the rule's time for the whole answer is over.
    deadline: Option<Pin<Box<Sleep>>>,
    attendance: Option<Attendance>,
}

/// A request from its beginning to the end of its answer; dropped then, or when the client is gone before.
#[derive(Debug)]
pub(super) struct Attendance {
    /// The connection that it is on.
    connection: Rc<ClientConnection>,
    /// What the access log is to say of it.
    pub(super) record: Option<Box<Record>>,
}

impl Attendance {
    /// A request on `connection` begins.
    pub(super) fn new(connection: Rc<ClientConnection>, record: Option<Box<Record>>) -> Attendance {
        connection.begin_request();
        Attendance { connection, record }
    }
}

impl Drop for Attendance {
    fn drop(&mut self) {
        self.connection.end_request(self.record.take());
    }
}

/// Why an answer's body breaks off.
#[derive(Debug)]
pub(super) enum Broken {
    /// The backend did not send it to the end.
    Backend,
    /// The rule's time is over.
    Late,
}

impl fmt::Display for Broken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Broken::Backend => "the backend did not send its answer to the end",
            Broken::Late => "the answer took longer than its rule allows",
        })
    }
}

impl std::error::Error for Broken {}

impl From<Truncated> for Broken {
    fn from(_: Truncated) -> Broken {
        Broken::Backend
    }
}

impl AnswerBody {
    /// A body with this content.
    pub(super) fn new(content: Content) -> AnswerBody {
        AnswerBody { content, deadline: None, attendance: None }
    }

    /// Breaks it off at `deadline`.
    pub(super) fn set_deadline(&mut self, deadline: Option<Pin<Box<Sleep>>>) {
        if !self.is_end_stream() {
            self.deadline = deadline;
        }
    }

    /// Ties the end of the request to the end of the body.
    pub(super) fn attend(&mut self, attendance: Attendance) {
        self.attendance = Some(attendance);
    }

    /// Leaves the content out, as an answer to HEAD does.
    pub(super) fn clear(&mut self) {
        self.content = Content::Empty;
    }

    fn record(&mut self) -> Option<&mut Record> {
        self.attendance.as_mut()?.record.as_deref_mut()
    }

    fn poll_content(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        match &mut self.content {
            Content::Empty => Poll::Ready(None),
            Content::Bytes(bytes) => {
                let bytes = std::mem::take(bytes);
                self.content = Content::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Content::Http1(download) => download.poll_frame(context).map_err(Broken::from),
            Content::Http2(incoming, _) => Pin::new(incoming).poll_frame(context).map_err(|_| Broken::Backend),
        }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = Broken;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(context).is_ready()
        {
            self.deadline = None;
            self.content = Content::Empty;
            return Poll::Ready(Some(Err(Broken::Late)));
        }
        let frame = ready!(self.poll_content(context));
        if let Some(record) = self.record() {
            match &frame {
                Some(Ok(frame)) => record.bytes_out += frame.data_ref().map_or(0, |data| data.len() as u64),
                Some(Err(_)) => record.broken = true,
                None => {}
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Empty => true,
            Content::Bytes(bytes) => bytes.is_empty(),
            Content::Http1(download) => download.is_over(),
            Content::Http2(incoming, _) => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Empty => SizeHint::with_exact(0),
            Content::Bytes(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Http1(download) => download.length().map_or_else(SizeHint::default, SizeHint::with_exact),
            Content::Http2(incoming, _) => incoming.size_hint(),
        }
    }
}

/// Why the proxy answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// Status of the answer.
    pub(super) status: StatusCode,
    /// A short sentence for whoever sent the request; says nothing of what is behind the proxy.
    pub(super) text: &'static str,
    /// Whether the connection ends with it.
    pub(super) closes: bool,
}

impl Refusal {
    /// A refusal after which the connection goes on.
    pub(super) const fn new(status: StatusCode, text: &'static str) -> Refusal {
        Refusal { status, text, closes: false }
    }

    /// A refusal after which the connection ends: what follows on it may be no request.
    pub(super) const fn closing(status: StatusCode, text: &'static str) -> Refusal {
        Refusal { status, text, closes: true }
    }

    /// The answer; `is_grpc` puts it in gRPC's words, in which every answer is 200 (gRPC over HTTP/2, "Trailers-Only").
    pub(super) fn answer(self, is_grpc: bool) -> Response<AnswerBody> {
        if is_grpc {
            return self.grpc_answer();
        }
        let mut answer = Response::new(AnswerBody::new(Content::Bytes(Bytes::from_static(self.text.as_bytes()))));
        *answer.status_mut() = self.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if self.status == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    fn grpc_answer(self) -> Response<AnswerBody> {
        // The table of gRPC's http-grpc-status-mapping, which clients apply to answers that are not gRPC.
        let code = match self.status {
            StatusCode::BAD_REQUEST => "13",
            StatusCode::UNAUTHORIZED => "16",
            StatusCode::FORBIDDEN => "7",
            StatusCode::NOT_FOUND => "12",
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => "14",
            _ => "2",
        };
        let mut answer = Response::new(AnswerBody::new(Content::Empty));
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(GRPC_STATUS, HeaderValue::from_static(code));
        headers.insert(GRPC_MESSAGE, HeaderValue::from_static(self.text.trim_ascii_end()));
        answer
    }
}

/// A redirect to `location`.
pub(super) fn redirect(status: u16, location: &str) -> Option<Response<AnswerBody>> {
    let mut answer = Response::new(AnswerBody::new(Content::Empty));
    *answer.status_mut() = StatusCode::from_u16(status).ok()?;
    answer.headers_mut().insert(LOCATION, HeaderValue::from_str(location).ok()?);
    Some(answer)
}
