//! The body of a request on its way to a backend.

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::sync::mpsc;

/// A request's body.
#[derive(Debug)]
pub(super) enum Upload {
    /// There is none.
    Empty,
    /// It comes from the client.
    Client(Box<ClientBody>),
    /// It is a copy of what another backend gets: pieces, then `None` at its end.
    Copy(mpsc::Receiver<Option<Bytes>>),
}

/// A body that comes from the client.
#[derive(Debug)]
pub(super) struct ClientBody {
    incoming: Incoming,
    progress: Rc<UploadProgress>,
    bytes_max: u64,
    copies: Vec<mpsc::Sender<Option<Bytes>>>,
}

/// What became of a request's body; outlives it.
#[derive(Debug, Default)]
pub(super) struct UploadProgress {
    bytes: Cell<u64>,
    over: Cell<bool>,
    failure: Cell<Option<UploadError>>,
}

impl UploadProgress {
    /// Bytes that came from the client.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes.get()
    }

    /// Whether the client has sent all of it.
    pub(super) fn is_over(&self) -> bool {
        self.over.get()
    }

    /// Why it ended early.
    pub(super) fn failure(&self) -> Option<UploadError> {
        self.failure.get()
    }
}

/// Why a body cannot be sent to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UploadError {
    /// The client closed, or sent what is no body.
    Client,
    /// It is larger than allowed.
    TooLarge,
}

impl std::fmt::Display for UploadError {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            UploadError::Client => "the client did not send its body to the end",
            UploadError::TooLarge => "the request's body is larger than allowed",
        })
    }
}

impl std::error::Error for UploadError {}

impl Upload {
    /// The body `incoming`, of at most `bytes_max` bytes; `copies` get what it has.
    pub(super) fn new(
        incoming: Incoming,
        bytes_max: u64,
        progress: &Rc<UploadProgress>,
        copies: Vec<mpsc::Sender<Option<Bytes>>>,
    ) -> Upload {
        if incoming.is_end_stream() {
            progress.over.set(true);
            return Upload::Empty;
        }
        Upload::Client(Box::new(ClientBody { incoming, progress: progress.clone(), bytes_max, copies }))
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = UploadError;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        match self.get_mut() {
            Upload::Empty => Poll::Ready(None),
            Upload::Client(body) => body.poll_frame(context),
            Upload::Copy(pieces) => Poll::Ready(match ready!(pieces.poll_recv(context)) {
                Some(Some(piece)) => Some(Ok(Frame::data(piece))),
                Some(None) => None,
                None => Some(Err(UploadError::Client)),
            }),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Upload::Empty => true,
            Upload::Client(body) => body.incoming.is_end_stream(),
            Upload::Copy(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Upload::Empty => SizeHint::with_exact(0),
            Upload::Client(body) => body.incoming.size_hint(),
            Upload::Copy(_) => SizeHint::default(),
        }
    }
}

impl ClientBody {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, UploadError>>> {
        let frame = ready!(Pin::new(&mut self.incoming).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    let bytes = self.progress.bytes.get() + data.len() as u64;
                    self.progress.bytes.set(bytes);
                    if bytes > self.bytes_max {
                        return Poll::Ready(Some(Err(self.fail(UploadError::TooLarge))));
                    }
                    self.copy(Some(data));
                }
                if self.incoming.is_end_stream() {
                    self.end();
                }
                Some(Ok(frame))
            }
            Some(Err(_)) => Some(Err(self.fail(UploadError::Client))),
            None => {
                self.end();
                None
            }
        })
    }

    fn fail(&mut self, error: UploadError) -> UploadError {
        self.progress.failure.set(Some(error));
        self.progress.over.set(true);
        self.copies.clear();
        error
    }

    fn end(&mut self) {
        self.progress.over.set(true);
        self.copy(None);
    }

    /// Gives a piece, or the end, to the copies. One that cannot keep up is cut off: the request itself never waits for it.
    fn copy(&mut self, piece: Option<&Bytes>) {
        self.copies.retain(|copy| copy.try_send(piece.cloned()).is_ok());
    }
}
