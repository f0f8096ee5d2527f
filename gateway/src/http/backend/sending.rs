//! A request on its way to an HTTP/1.1 backend.

use super::super::fields::{self, Description};
use super::super::upload::{Upload, UploadError};
use bytes::{Buf, Bytes};
use http::header::{CONTENT_LENGTH, HOST};
use http::{HeaderMap, HeaderValue, Method};
use http_body::{Body, Frame};
use std::io::{self, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// Pieces of a body up to this size are copied behind the head or each other; larger ones are written from where they are.
const COPIED_PIECE_BYTES_MAX: usize = 4 * 1024;
/// Bytes that may be gathered before they are written.
const GATHERED_BYTES_MAX: usize = 16 * 1024;

/// How the length of a request's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::http) enum Length {
    /// There is no body.
    None,
    /// Content-Length.
    Known(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
}

/// A request's head.
#[derive(Debug)]
pub(in crate::http) struct Head<'a> {
    pub(in crate::http) method: &'a Method,
    pub(in crate::http) path: &'a str,
    pub(in crate::http) host: &'a HeaderValue,
    /// Without hop-by-hop fields.
    pub(in crate::http) headers: &'a HeaderMap,
    /// What is said of the client in place of what `headers` say.
    pub(in crate::http) description: Option<Description>,
    pub(in crate::http) length: Length,
}

impl Head<'_> {
    /// The head's bytes; `upgrade` is the protocol that the client asks to change to.
    pub(in crate::http) fn write(self, upgrade: Option<&HeaderValue>) -> Vec<u8> {
        let Head { method, path, host, headers, description, length } = self;
        let fields: usize = headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
        let described = description.as_ref().map_or(0, Description::bytes);
        let mut head = Vec::with_capacity(method.as_str().len() + path.len() + host.len() + fields + described + 96);
        for part in
            [method.as_str().as_bytes(), b" ", path.as_bytes(), b" HTTP/1.1\r\nhost: ", host.as_bytes(), b"\r\n"]
        {
            head.extend_from_slice(part);
        }
        for (name, value) in headers {
            let is_replaced = description.is_some() && fields::is_description(name);
            if *name == HOST || *name == CONTENT_LENGTH || is_replaced {
                continue;
            }
            for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        if let Some(description) = &description {
            description.write(&mut head);
        }
        match length {
            // Servers take the absence for 0 with these methods; some ask for the field with others (RFC 9110 8.6).
            Length::None if matches!(*method, Method::POST | Method::PUT | Method::PATCH) => {
                head.extend_from_slice(b"content-length: 0\r\n");
            }
            Length::None => {}
            Length::Known(bytes) => write!(head, "content-length: {bytes}\r\n").expect("a Vec takes all bytes"),
            Length::Chunked => head.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        }
        if let Some(protocol) = upgrade {
            for part in [b"connection: upgrade\r\nupgrade: ".as_slice(), protocol.as_bytes(), b"\r\n"] {
                head.extend_from_slice(part);
            }
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// A head and the body behind it, partly written.
#[derive(Debug)]
pub(in crate::http) struct Sending {
    /// What is written next: the head, then the frames of chunks and small pieces.
    front: Vec<u8>,
    front_written: usize,
    /// What is written after that.
    piece: Bytes,
    /// Whether a chunk's line end comes after the piece.
    owes_line_end: bool,
    length: Length,
    body: Upload,
    body_touched: bool,
    body_over: bool,
    written: bool,
    bytes_written: u64,
}

/// Why a request could not be sent to its end.
#[derive(Debug)]
pub(in crate::http) enum SendError {
    /// The connection to the backend broke.
    Io,
    /// The client's body broke off.
    Body(UploadError),
}

impl From<io::Error> for SendError {
    fn from(_: io::Error) -> SendError {
        SendError::Io
    }
}

impl Sending {
    /// A request that has not begun.
    pub(in crate::http) fn new(head: Vec<u8>, length: Length, body: Upload) -> Sending {
        Sending {
            front: head,
            front_written: 0,
            piece: Bytes::new(),
            owes_line_end: false,
            body_over: length == Length::None,
            length,
            body,
            body_touched: false,
            written: false,
            bytes_written: 0,
        }
    }

    /// Whether all has been written.
    pub(in crate::http) fn is_complete(&self) -> bool {
        self.body_over && self.front_written == self.front.len() && self.piece.is_empty()
    }

    /// Whether any of it has been written since the last [`Sending::rewind`].
    pub(in crate::http) fn has_begun(&self) -> bool {
        self.written
    }

    /// Whether it waits for the client to send more of the body.
    pub(in crate::http) fn waits_for_client(&self) -> bool {
        let is_drained = self.front_written == self.front.len() && self.piece.is_empty();
        !self.body_over && (is_drained || self.is_held_back())
    }

    /// Whether nothing of it may be written yet: it is said to have no body, but its stream goes on. Written at once, it
    /// would be a whole request to the backend, also where the client goes on to send a body that it must not have.
    fn is_held_back(&self) -> bool {
        self.length == Length::Known(0) && !self.body_over
    }

    /// Bytes that have been written, for comparison.
    pub(in crate::http) fn bytes_written(&self) -> u64 {
        self.bytes_written
    }

    /// Goes back to the beginning, for another connection; `false` if that is gone because the body has been read from.
    pub(in crate::http) fn rewind(&mut self) -> bool {
        if self.body_touched {
            return false;
        }
        self.front_written = 0;
        self.written = false;
        true
    }

    /// Writes until all is written, or neither the connection nor the body gives way.
    pub(in crate::http) fn poll_send<IO: AsyncWrite + Unpin>(
        &mut self,
        io: &mut IO,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), SendError>> {
        loop {
            let body = self.gather(context)?;
            if self.is_held_back() {
                debug_assert!(body.is_pending());
                return Poll::Pending;
            }
            let left = self.front.len() - self.front_written;
            if left == 0 && self.piece.is_empty() {
                if self.body_over {
                    return Pin::new(io).poll_flush(context).map_err(SendError::from);
                }
                ready!(Pin::new(&mut *io).poll_flush(context))?;
                debug_assert!(body.is_pending());
                return Poll::Pending;
            }
            let front = &self.front[self.front_written..];
            let written = if self.piece.is_empty() {
                ready!(Pin::new(&mut *io).poll_write(context, front))?
            } else {
                let parts = [IoSlice::new(front), IoSlice::new(&self.piece)];
                ready!(Pin::new(&mut *io).poll_write_vectored(context, &parts))?
            };
            if written == 0 {
                return Poll::Ready(Err(SendError::Io));
            }
            self.written = true;
            self.bytes_written += written as u64;
            let of_front = written.min(left);
            self.front_written += of_front;
            self.piece.advance(written - of_front);
        }
    }

    /// Takes from the body what is there and fits.
    fn gather(&mut self, context: &mut Context<'_>) -> Result<Poll<()>, SendError> {
        while !self.body_over && self.piece.is_empty() {
            if self.body_touched && self.front_written == self.front.len() {
                self.front.clear();
                self.front_written = 0;
            }
            if std::mem::take(&mut self.owes_line_end) {
                self.front.extend_from_slice(b"\r\n");
            }
            if self.front.len() - self.front_written >= GATHERED_BYTES_MAX {
                break;
            }
            match Pin::new(&mut self.body).poll_frame(context) {
                Poll::Pending => return Ok(Poll::Pending),
                Poll::Ready(frame) => {
                    self.body_touched = true;
                    self.take_frame(frame.transpose().map_err(SendError::Body)?);
                }
            }
        }
        Ok(Poll::Ready(()))
    }

    fn take_frame(&mut self, frame: Option<Frame<Bytes>>) {
        let is_chunked = self.length == Length::Chunked;
        let frame = match frame {
            None => {
                self.body_over = true;
                if is_chunked {
                    self.front.extend_from_slice(b"0\r\n\r\n");
                }
                return;
            }
            Some(frame) => frame,
        };
        match frame.into_data() {
            Ok(data) if data.is_empty() => {}
            Ok(data) => {
                if is_chunked {
                    write!(self.front, "{:x}\r\n", data.len()).expect("a Vec takes all bytes");
                }
                if data.len() <= COPIED_PIECE_BYTES_MAX {
                    self.front.extend_from_slice(&data);
                    if is_chunked {
                        self.front.extend_from_slice(b"\r\n");
                    }
                } else {
                    self.piece = data;
                    self.owes_line_end = is_chunked;
                }
                self.body_over = !is_chunked && self.body.is_end_stream();
            }
            Err(frame) => {
                let Ok(trailers) = frame.into_trailers() else { return };
                self.body_over = true;
                if is_chunked {
                    self.front.extend_from_slice(b"0\r\n");
                    for (name, value) in trailers.iter().filter(|(name, _)| fields::may_trail(name)) {
                        for part in [name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"] {
                            self.front.extend_from_slice(part);
                        }
                    }
                    self.front.extend_from_slice(b"\r\n");
                }
            }
        }
    }
}
