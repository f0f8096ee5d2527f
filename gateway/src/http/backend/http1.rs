//! HTTP/1.1 with a backend: one exchange at a time on one connection.
//!
//! How it works. The task of the client's connection drives this one too: it writes the request, reads the head of the answer, and
//! then [reads the body](super::Download) as the client takes it. There is no task for a backend connection and no channel to it, so
//! an exchange wakes nobody else, and what the client does not take is not read. An idle connection is watched by nobody; whoever
//! takes it looks first whether the backend has closed it.
//!
//! Answers are read by RFC 9112 6.3; what it forbids (both lengths, other codings than chunked, two lengths) is a bad answer.

use super::connect::BackendIo;
use super::sending::{SendError, Sending};
use crate::http::clock::Alarm;
use crate::http::fields;
use crate::http::upload::UploadError;
use bytes::{Buf, Bytes, BytesMut};
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use httparse::ParserConfig;
use std::future::poll_fn;
use std::io;
use std::mem::MaybeUninit;
use std::pin::pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Header fields of an answer.
const FIELDS_MAX: usize = 100;
/// Bytes of an answer's head. Cookies of single sign-on make heads of 16 KiB; nginx' default of one page is a known nuisance.
const HEAD_BYTES_MAX: usize = 64 * 1024;
/// What is asked of a connection in one read: most answers whole, and the usual piece of a large one.
pub(super) const READ_BYTES: usize = 16 * 1024;

/// A connection that speaks HTTP/1.1.
#[derive(Debug)]
pub(in crate::http) struct Http1 {
    pub(super) io: BackendIo,
    /// What was read and not taken.
    pub(super) input: BytesMut,
    /// Exchanges that it has had.
    uses: u32,
}

/// How the end of an answer's body is known.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::http) enum Framing {
    /// After so many bytes.
    Length(u64),
    /// By its coding.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// The head of an answer.
#[derive(Debug)]
pub(in crate::http) struct Answer {
    pub(in crate::http) status: StatusCode,
    /// Without hop-by-hop fields.
    pub(in crate::http) headers: HeaderMap,
    /// How its body ends.
    pub(in crate::http) framing: Framing,
    /// Whether the connection can be used again.
    pub(in crate::http) keeps_alive: bool,
    /// Of a 101: the protocol that the connection changes to.
    pub(in crate::http) upgrade: Option<HeaderValue>,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Failure {
    /// The connection was closed before a byte of an answer; `sent` if any of the request may have arrived.
    Closed { sent: bool },
    /// It was closed or broke within the answer's head, or that is not HTTP.
    BadAnswer,
    /// The client's body broke off.
    Upload(UploadError),
    /// The time for it is over.
    Late,
}

impl Http1 {
    /// A fresh connection.
    pub(in crate::http) fn new(io: BackendIo) -> Http1 {
        Http1 { io, input: BytesMut::new(), uses: 0 }
    }

    /// Whether it has carried an exchange before: then the backend may be about to close it.
    pub(in crate::http) fn is_used(&self) -> bool {
        self.uses > 0
    }

    /// The connection itself and what has been read of it, once it changes its protocol.
    pub(in crate::http) fn into_parts(self) -> (BackendIo, Bytes) {
        (self.io, self.input.freeze())
    }

    /// Sends a request and reads the head of its answer. The rest of the request may still have to be sent then.
    ///
    /// `alarm` rings when the backend has the whole request, or does not take more of it, and does not answer. `spare` is an empty map
    /// for the answer's fields.
    pub(in crate::http) async fn exchange(
        &mut self,
        sending: &mut Sending,
        is_head_request: bool,
        mut alarm: Alarm<'_>,
        mut spare: HeaderMap,
    ) -> Result<Answer, Failure> {
        self.uses = self.uses.saturating_add(1);
        let mut written = 0;
        let mut broken = false;
        let mut answered = false;
        poll_fn(|context| {
            // A backend may answer before it has the whole request, even break the connection then: its answer counts.
            if !broken && !sending.is_complete() {
                match sending.poll_send(&mut self.io, context) {
                    Poll::Ready(Err(SendError::Body(error))) => return Poll::Ready(Err(Failure::Upload(error))),
                    Poll::Ready(Err(SendError::Io)) => broken = true,
                    Poll::Ready(Ok(())) | Poll::Pending => {}
                }
            }
            loop {
                if !self.input.is_empty() {
                    match self.take_answer(is_head_request, &mut spare) {
                        Ok(Some(answer)) if answer.status.is_informational() && answer.upgrade.is_none() => {
                            answered = true;
                            continue;
                        }
                        Ok(Some(answer)) => return Poll::Ready(Ok(answer)),
                        Ok(None) => answered = true,
                        Err(BadAnswer) => return Poll::Ready(Err(Failure::BadAnswer)),
                    }
                }
                let Poll::Ready(filled) = self.poll_fill(context) else {
                    if sending.waits_for_client() || sending.bytes_written() != written {
                        written = sending.bytes_written();
                        alarm.restart();
                    }
                    return alarm.poll(context).map(|_| Err(Failure::Late));
                };
                match filled {
                    Ok(1..) => {}
                    Ok(0) | Err(_) if answered => return Poll::Ready(Err(Failure::BadAnswer)),
                    Ok(0) | Err(_) => return Poll::Ready(Err(Failure::Closed { sent: sending.has_begun() })),
                }
            }
        })
        .await
    }

    /// Reads more; 0 bytes are the end of the connection.
    pub(super) fn poll_fill(&mut self, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        poll_fill(&mut self.io, &mut self.input, context)
    }

    /// The head at the beginning of the input, if it is all there.
    fn take_answer(&mut self, is_head_request: bool, spare: &mut HeaderMap) -> Result<Option<Answer>, BadAnswer> {
        let mut fields = [const { MaybeUninit::uninit() }; FIELDS_MAX];
        let mut response = httparse::Response::new(&mut []);
        let parsed =
            ParserConfig::default().parse_response_with_uninit_headers(&mut response, &self.input, &mut fields);
        let head_bytes = match parsed.map_err(|_| BadAnswer)? {
            httparse::Status::Complete(bytes) => bytes,
            httparse::Status::Partial if self.input.len() > HEAD_BYTES_MAX => return Err(BadAnswer),
            httparse::Status::Partial => return Ok(None),
        };
        let status = StatusCode::from_u16(response.code.unwrap_or_default()).map_err(|_| BadAnswer)?;
        // The head's own copy, so that the buffer stays one and is used again.
        let head = Bytes::copy_from_slice(&self.input[..head_bytes]);
        let start = self.input.as_ptr().addr();
        let mut reading = HeadReading::new(status, response.version == Some(1), std::mem::take(spare));
        for field in response.headers.iter() {
            let value_at = field.value.as_ptr().addr() - start;
            // An empty value points anywhere.
            let value =
                if field.value.is_empty() { Bytes::new() } else { head.slice(value_at..value_at + field.value.len()) };
            reading.field(field.name.as_bytes(), value)?;
        }
        self.input.advance(head_bytes);
        reading.finish(is_head_request).map(Some)
    }
}

/// Reads from `io` into `input`.
pub(super) fn poll_fill<IO: AsyncRead + Unpin>(
    io: &mut IO,
    input: &mut BytesMut,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    if input.capacity() - input.len() < READ_BYTES / 4 {
        input.reserve(READ_BYTES);
    }
    // The future holds nothing between polls.
    std::future::Future::poll(pin!(io.read_buf(input)), context)
}

/// The answer is not HTTP/1.
#[derive(Debug)]
struct BadAnswer;

/// A head while its fields are read.
struct HeadReading {
    status: StatusCode,
    is_http_11: bool,
    headers: HeaderMap,
    length: Option<u64>,
    chunked: bool,
    says_close: bool,
    says_keep_alive: bool,
    nominated: Vec<HeaderName>,
    upgrade: Option<HeaderValue>,
}

impl HeadReading {
    fn new(status: StatusCode, is_http_11: bool, headers: HeaderMap) -> HeadReading {
        HeadReading {
            status,
            is_http_11,
            headers,
            length: None,
            chunked: false,
            says_close: false,
            says_keep_alive: false,
            nominated: Vec::new(),
            upgrade: None,
        }
    }

    fn field(&mut self, name: &[u8], value: Bytes) -> Result<(), BadAnswer> {
        let name = HeaderName::from_bytes(name).map_err(|_| BadAnswer)?;
        let value = HeaderValue::from_maybe_shared(value).map_err(|_| BadAnswer)?;
        match name {
            CONTENT_LENGTH => {
                let length = parse_length(&value).ok_or(BadAnswer)?;
                match self.length.replace(length) {
                    Some(before) if before != length => return Err(BadAnswer),
                    Some(_) => return Ok(()),
                    None => {}
                }
            }
            TRANSFER_ENCODING => {
                if self.chunked || !value.as_bytes().eq_ignore_ascii_case(b"chunked") {
                    return Err(BadAnswer);
                }
                self.chunked = true;
                return Ok(());
            }
            CONNECTION => {
                for token in value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii) {
                    if token.eq_ignore_ascii_case(b"close") {
                        self.says_close = true;
                    } else if token.eq_ignore_ascii_case(b"keep-alive") {
                        self.says_keep_alive = true;
                    } else if let Ok(name) = HeaderName::from_bytes(token) {
                        self.nominated.push(name);
                    }
                }
                return Ok(());
            }
            http::header::UPGRADE => {
                self.upgrade = Some(value);
                return Ok(());
            }
            _ if fields::is_hop_by_hop(&name) => return Ok(()),
            _ => {}
        }
        self.headers.append(name, value);
        Ok(())
    }

    fn finish(mut self, is_head_request: bool) -> Result<Answer, BadAnswer> {
        if self.chunked && self.length.is_some() {
            return Err(BadAnswer);
        }
        for name in self.nominated.iter().filter(|name| **name != CONTENT_LENGTH) {
            self.headers.remove(name);
        }
        let has_no_body = is_head_request
            || self.status.is_informational()
            || matches!(self.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let framing = match self.length {
            _ if has_no_body => Framing::Length(0),
            _ if self.chunked => Framing::Chunked,
            Some(length) => Framing::Length(length),
            None => Framing::Close,
        };
        let is_switch = self.status == StatusCode::SWITCHING_PROTOCOLS;
        if is_switch && self.upgrade.is_none() {
            return Err(BadAnswer);
        }
        let keeps_alive = if self.is_http_11 { !self.says_close } else { self.says_keep_alive && !self.says_close };
        Ok(Answer {
            status: self.status,
            headers: self.headers,
            keeps_alive: keeps_alive && framing != Framing::Close && !is_switch,
            framing,
            upgrade: self.upgrade.filter(|_| is_switch),
        })
    }
}

/// A length: digits, or the same digits several times in one list (RFC 9110 8.6).
fn parse_length(value: &HeaderValue) -> Option<u64> {
    let number = |text: &[u8]| {
        let text = text.trim_ascii();
        let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
        digits.then(|| std::str::from_utf8(text).ok()?.parse::<u64>().ok())?
    };
    let mut numbers = value.as_bytes().split(|&byte| byte == b',').map(number);
    let first = numbers.next()??;
    numbers.all(|other| other == Some(first)).then_some(first)
}
