//! The stream of a connection that was let in: with its permit, and closed so that the client gets the last answer.
//!
//! A socket that is closed with bytes unread is reset, and the reset takes away what the client has not read yet: the answer
//! to a request that was refused half-way, most of all. So the write side is shut down first, and what still comes is read
//! and thrown away until the client closes its side, or for [`LINGER`] (RFC 9112 9.6).

use super::admission::Permit;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

/// How long a client has to close its side. An answer is on its way for less than that, a client that goes on sending is cut.
const LINGER: Duration = Duration::from_secs(2);

/// A stream with its permit.
#[derive(Debug)]
pub(super) struct Admitted {
    stream: TcpStream,
    _permit: Permit,
    /// Runs once the write side is shut down.
    linger: Option<Pin<Box<Sleep>>>,
}

impl Admitted {
    pub(super) fn new(stream: TcpStream, permit: Permit) -> Admitted {
        Admitted { stream, _permit: permit, linger: None }
    }
}

impl AsyncRead for Admitted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Admitted {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Admitted { stream, linger, .. } = self.get_mut();
        if linger.is_none() {
            ready!(Pin::new(&mut *stream).poll_shutdown(context))?;
        }
        let linger = linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut unwanted = [0; 4096];
        loop {
            // Looked at each time: whoever sends without a pause would keep the loop from its end.
            if linger.as_mut().poll(context).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buffer = ReadBuf::new(&mut unwanted);
            match ready!(Pin::new(&mut *stream).poll_read(context, &mut buffer)) {
                Ok(()) if !buffer.filled().is_empty() => {}
                // Closed, or broken: either way there is nobody to wait for.
                Ok(()) | Err(_) => return Poll::Ready(Ok(())),
            }
        }
    }
}
