//! The body of an answer from an HTTP/1.1 backend.

use super::super::chunks::{Chunks, Step};
use super::http1::{Framing, Http1};
use super::pool::Lease;
use super::sending::Sending;
use bytes::{Buf, Bytes};
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body::Frame;
use std::task::{Context, Poll, ready};

/// Trailer fields of an answer.
const TRAILER_FIELDS_MAX: usize = 32;

/// An answer's body while it is read; it carries the connection, which goes back to its pool at the end.
#[derive(Debug)]
pub(in crate::http) struct Download {
    connection: Option<Http1>,
    lease: Lease,
    /// What is still to be sent of the request.
    sending: Option<Sending>,
    reading: Reading,
    keeps_alive: bool,
}

#[derive(Debug)]
enum Reading {
    Length(u64),
    Chunked(Chunks),
    Close,
    Over,
}

/// The body broke off, or is not what its coding says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) struct Truncated;

impl std::fmt::Display for Truncated {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("the backend did not send its answer to the end")
    }
}

impl std::error::Error for Truncated {}

impl Download {
    /// The body that follows an answer's head on `connection`; `sending` if the request is not all sent.
    pub(in crate::http) fn new(
        connection: Http1,
        lease: Lease,
        sending: Option<Sending>,
        framing: Framing,
        keeps_alive: bool,
    ) -> Download {
        let reading = match framing {
            Framing::Length(length) => Reading::Length(length),
            Framing::Chunked => Reading::Chunked(Chunks::default()),
            Framing::Close => Reading::Close,
        };
        Download { connection: Some(connection), lease, sending, reading, keeps_alive }
    }

    /// The whole body, if it has come with the head: then the connection is free at once.
    pub(in crate::http) fn take_whole(&mut self) -> Option<Bytes> {
        let (Reading::Length(length), Some(connection), None) = (&self.reading, &mut self.connection, &self.sending)
        else {
            return None;
        };
        if connection.input.len() as u64 != *length {
            return None;
        }
        // A copy, so that the connection keeps its buffer.
        let body = Bytes::copy_from_slice(&connection.input);
        connection.input.clear();
        self.finish();
        Some(body)
    }

    /// Bytes that are left, where that is known.
    pub(in crate::http) fn length(&self) -> Option<u64> {
        match self.reading {
            Reading::Length(length) => Some(length),
            Reading::Over => Some(0),
            Reading::Chunked(_) | Reading::Close => None,
        }
    }

    /// Whether the body is over.
    pub(in crate::http) fn is_over(&self) -> bool {
        matches!(self.reading, Reading::Over)
    }

    /// The next piece, or the trailers. The request is sent on meanwhile.
    pub(in crate::http) fn poll_frame(
        &mut self,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Truncated>>> {
        self.send(context);
        loop {
            let Some(connection) = &mut self.connection else { return Poll::Ready(None) };
            match self.reading.take(&mut connection.input) {
                Ok(Taken::Data(data)) => {
                    if matches!(self.reading, Reading::Length(0)) {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                Ok(Taken::End(trailers)) => {
                    self.finish();
                    return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
                }
                Ok(Taken::Nothing) => {}
                Err(Truncated) => return self.fail(),
            }
            match ready!(connection.poll_fill(context)) {
                Ok(1..) => {}
                Ok(0) if matches!(self.reading, Reading::Close) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(0) | Err(_) => return self.fail(),
            }
        }
    }

    fn send(&mut self, context: &mut Context<'_>) {
        let (Some(sending), Some(connection)) = (&mut self.sending, &mut self.connection) else { return };
        match sending.poll_send(&mut connection.io, context) {
            Poll::Pending => {}
            Poll::Ready(Ok(())) => self.sending = None,
            // The answer goes on; only this connection is no good for another request.
            Poll::Ready(Err(_)) => {
                self.sending = None;
                self.keeps_alive = false;
            }
        }
    }

    fn fail(&mut self) -> Poll<Option<Result<Frame<Bytes>, Truncated>>> {
        self.reading = Reading::Over;
        self.connection = None;
        Poll::Ready(Some(Err(Truncated)))
    }

    /// The body is over: the connection is free, unless something is left over on it.
    fn finish(&mut self) {
        self.reading = Reading::Over;
        if let Some(connection) = self.connection.take()
            && self.keeps_alive
            && self.sending.is_none()
            && connection.input.is_empty()
        {
            self.lease.give_back(connection);
        }
    }
}

enum Taken {
    Nothing,
    Data(Bytes),
    End(Option<HeaderMap>),
}

impl Reading {
    /// Takes what is next out of `input`.
    fn take(&mut self, input: &mut bytes::BytesMut) -> Result<Taken, Truncated> {
        match self {
            Reading::Over | Reading::Length(0) => Ok(Taken::End(None)),
            _ if input.is_empty() => Ok(Taken::Nothing),
            Reading::Length(left) => {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(input.len());
                *left -= taken as u64;
                Ok(Taken::Data(input.split_to(taken).freeze()))
            }
            Reading::Close => Ok(Taken::Data(input.split().freeze())),
            Reading::Chunked(chunks) => {
                let (skip, step) = chunks.step(input).map_err(|_| Truncated)?;
                input.advance(skip);
                match step {
                    Step::More => Ok(Taken::Nothing),
                    Step::Data(data) => Ok(Taken::Data(input.split_to(data).freeze())),
                    Step::End => Ok(Taken::End(trailers(chunks.trailer())?)),
                }
            }
        }
    }
}

/// The trailer fields that may be passed on.
fn trailers(section: &[u8]) -> Result<Option<HeaderMap>, Truncated> {
    if section.is_empty() {
        return Ok(None);
    }
    let mut fields = [httparse::EMPTY_HEADER; TRAILER_FIELDS_MAX];
    let Ok(httparse::Status::Complete((_, fields))) = httparse::parse_headers(section, &mut fields) else {
        return Err(Truncated);
    };
    let mut trailers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| Truncated)?;
        let value = HeaderValue::from_bytes(field.value).map_err(|_| Truncated)?;
        if super::super::fields::may_trail(&name) {
            trailers.append(name, value);
        }
    }
    Ok(Some(trailers))
}
