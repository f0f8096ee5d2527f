//! The guard between a client's bytes and the HTTP/1 parser: what the [inspector](super::inspector) refuses never gets there.
//!
//! A refused head is replaced by one that no parser takes, so that the server behind answers it as any bad request: 400 in its
//! turn after the answers to what came before, then the end of the connection. A refused chunk is an error of reading.

use super::inspector::{Inspector, Phase};
use super::watch::Watch;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// What takes the place of a refused head: NUL stands nowhere in a head, and the empty line ends it.
const POISON: &[u8] = b"\0\r\n\r\n";

/// Answers up to this size are written in one piece: cheaper than two for the kernel, and one record instead of two in TLS.
const GATHERED_BYTES_MAX: usize = 2048;

/// A client connection whose bytes are inspected.
#[derive(Debug)]
pub(super) struct Guard<IO> {
    io: IO,
    inspector: Inspector,
    watch: Arc<Watch>,
    refused: Option<Refused>,
}

#[derive(Clone, Copy, Debug)]
enum Refused {
    Head { poison_sent: usize },
    Body,
}

impl<IO> Guard<IO> {
    /// Inspects what is read from `io`, until `watch` says that it is a tunnel.
    pub(super) fn new(io: IO, head_bytes_max: usize, watch: Arc<Watch>) -> Guard<IO> {
        Guard { io, inspector: Inspector::new(head_bytes_max), watch, refused: None }
    }

    fn poll_refused(&mut self, refused: Refused, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        match refused {
            Refused::Head { poison_sent } => {
                let rest = &POISON[poison_sent..];
                let taken = rest.len().min(buffer.remaining());
                buffer.put_slice(&rest[..taken]);
                self.refused = Some(Refused::Head { poison_sent: poison_sent + taken });
                Ok(())
            }
            Refused::Body => Err(io::Error::from(io::ErrorKind::InvalidData)),
        }
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Guard<IO> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let guard = self.get_mut();
        if let Some(refused) = guard.refused {
            return Poll::Ready(guard.poll_refused(refused, buffer));
        }
        let before = buffer.filled().len();
        ready!(Pin::new(&mut guard.io).poll_read(context, buffer))?;
        if guard.watch.is_tunnel() {
            return Poll::Ready(Ok(()));
        }
        let phase = guard.inspector.phase();
        if let Err((kept, _)) = guard.inspector.inspect(&buffer.filled()[before..]) {
            guard.watch.refuse();
            let began_before = kept == 0 && phase == Phase::Body;
            let is_body = guard.inspector.phase() == Phase::Body;
            let refused = if began_before && is_body { Refused::Body } else { Refused::Head { poison_sent: 0 } };
            guard.refused = Some(refused);
            buffer.set_filled(before + kept);
            if kept == 0 {
                return Poll::Ready(guard.poll_refused(refused, buffer));
            }
        }
        guard.watch.read(guard.inspector.phase());
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Guard<IO> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        if bytes > GATHERED_BYTES_MAX {
            return Pin::new(&mut self.io).poll_write_vectored(context, parts);
        }
        let mut gathered = [0; GATHERED_BYTES_MAX];
        let mut at = 0;
        for part in parts {
            gathered[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        Pin::new(&mut self.io).poll_write(context, &gathered[..bytes])
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
