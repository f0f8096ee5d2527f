//! Queries on connections (RFC 7766): pipelined, and answered in the order in which answers are there.
//!
//! States of a connection: *open* (waiting for the next query), *reading* one, *writing* an answer. Whoever is silent for [`IDLE`], or does
//! not bring a query to its end or take an answer within [`STALLED`], is closed. At most [`PIPELINE_MAX`] queries are under way, answers
//! that are not taken included; until one of them ends no further query is read, so that is what a client that does not read can hold.

use super::asking::Desk;
use std::cell::Cell;
use std::io;
use std::net::TcpListener;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex, Semaphore};
use tokio::time::{sleep, timeout};

/// Open connections: with the sockets of questions in flight they fit into 1,024 descriptors.
pub const CONNECTIONS_MAX: usize = 384;

/// Queries of one connection that are under way at once.
pub const PIPELINE_MAX: usize = 16;

/// How long a connection without queries stays; RFC 7766 §6.2.3 wants seconds.
pub const IDLE: Duration = Duration::from_secs(10);

/// The same while more than half of [`CONNECTIONS_MAX`] are open.
const IDLE_CROWDED: Duration = Duration::from_secs(1);

/// How long a client may take to send a query that it began, or to take an answer.
pub const STALLED: Duration = Duration::from_secs(3);

/// Pause when the kernel has no descriptor left.
const SHORTAGE: Duration = Duration::from_millis(50);

/// Accepts connections for good.
pub(super) async fn accept(listener: TcpListener, desk: Rc<Desk>, open: Rc<Cell<usize>>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            sleep(SHORTAGE).await;
            continue;
        };
        desk.shared.counters.connections.add();
        if open.get() >= CONNECTIONS_MAX {
            desk.shared.counters.connections_refused.add();
            continue;
        }
        open.set(open.get() + 1);
        let (desk, open) = (desk.clone(), open.clone());
        tokio::task::spawn_local(async move {
            if converse(stream, &desk, &open).await.is_err_and(|error| error.kind() == io::ErrorKind::TimedOut) {
                desk.shared.counters.connections_timed_out.add();
            }
            open.set(open.get() - 1);
        });
    }
}

/// Answers the queries of one connection until it ends.
async fn converse(stream: TcpStream, desk: &Rc<Desk>, open: &Cell<usize>) -> io::Result<()> {
    // Without it the kernel holds a short answer back for the acknowledgment of the one before.
    stream.set_nodelay(true)?;
    let (mut reader, writer) = stream.into_split();
    let writer = Rc::new(Mutex::new(Some(writer)));
    let pipeline = Arc::new(Semaphore::new(PIPELINE_MAX));
    loop {
        let idle = if open.get() > CONNECTIONS_MAX / 2 { IDLE_CROWDED } else { IDLE };
        let query = match timeout(idle, reader.read_u8()).await? {
            Ok(first) => timeout(STALLED, read(&mut reader, first)).await??,
            // The client has said all: what is under way is still answered.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) => return Err(error),
        };
        // Closed when an answer could not be written.
        let Ok(permit) = pipeline.clone().acquire_owned().await else { return Err(io::ErrorKind::TimedOut.into()) };
        let (desk, writer, pipeline) = (desk.clone(), writer.clone(), pipeline.clone());
        let mut answering = Box::pin(async move {
            let answer = desk.answer(&query).await;
            if write(&writer, answer).await.is_err() {
                pipeline.close();
            }
            drop(permit);
        });
        // What waits for nobody is answered here; the rest goes on beside the next query.
        tokio::select! {
            biased;
            () = &mut answering => {}
            () = std::future::ready(()) => drop(tokio::task::spawn_local(answering)),
        }
    }
    let _ = timeout(super::super::forward::WHOLE, pipeline.acquire_many(PIPELINE_MAX as u32)).await;
    Ok(())
}

/// The query whose length begins with `first`.
async fn read(reader: &mut OwnedReadHalf, first: u8) -> io::Result<Vec<u8>> {
    let len = u16::from_be_bytes([first, reader.read_u8().await?]);
    let mut query = vec![0; usize::from(len)];
    reader.read_exact(&mut query).await?;
    Ok(query)
}

/// Writes an answer, if there is one, with its length in front. What could not be written to its end is the last.
async fn write(writer: &Mutex<Option<OwnedWriteHalf>>, answer: Vec<u8>) -> io::Result<()> {
    let Ok(len) = u16::try_from(answer.len()) else { return Ok(()) };
    if len == 0 {
        return Ok(());
    }
    let message = [&len.to_be_bytes()[..], &answer].concat();
    let mut open = writer.lock().await;
    let Some(writer) = open.as_mut() else { return Err(io::ErrorKind::BrokenPipe.into()) };
    let written = timeout(STALLED, writer.write_all(&message)).await.map_err(io::Error::from).flatten();
    if written.is_err() {
        *open = None;
    }
    written
}
