//! TCP connections of node processes, relayed to a backend.
//!
//! # How it works
//! A connection is two streams and, per direction, what was read from one and not yet taken by the other. A direction reads
//! only when nothing waits, so that a slow receiver slows its sender down. The end of one stream is passed on as the end of the
//! other (half-close); when both directions have ended the connection is forgotten. A stream that fails resets the other.
//! Connecting needs no state of its own: until it is done, reads and writes say that they would block, and then why it failed.

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use socket2::SockRef;
use std::io::{self, Read, Write};
use std::mem;
use std::net::{Shutdown, SocketAddr};
use std::time::Duration;

/// Connections that are relayed at the same time; more are reset at once. Two descriptors each.
pub(crate) const CONNECTIONS_MAX: usize = 1_024;

/// Bytes read at a time, and what may wait per direction.
const CHUNK_BYTES: usize = 64 * 1024;

/// Chunks that one direction moves before others have their turn.
const CHUNKS_PER_TURN: usize = 16;

/// A peer that says nothing for so long is asked whether it still lives (SO_KEEPALIVE).
const KEEPALIVE: Duration = Duration::from_secs(60);

/// One end of a connection.
struct End {
    stream: TcpStream,
    /// What the other end said and this one has not taken, from `taken` on.
    waiting: Vec<u8>,
    taken: usize,
    /// It says nothing more.
    ended: bool,
    /// It was told that nothing more comes.
    told: bool,
}

impl End {
    fn new(stream: TcpStream) -> End {
        End { stream, waiting: Vec::new(), taken: 0, ended: false, told: false }
    }

    /// Gives it what waits; `true` if nothing is left.
    fn flush(&mut self) -> io::Result<bool> {
        while self.taken < self.waiting.len() {
            match self.stream.write(&self.waiting[self.taken..]) {
                Ok(len) => self.taken += len,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.waiting.clear();
        self.taken = 0;
        Ok(true)
    }

    /// Has the peer see a reset when the stream is closed.
    fn abort(&self) {
        let _ = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }
}

struct Connection {
    /// The node process, and the backend.
    ends: [End; 2],
    /// It is in the list of those that have more to do.
    is_ready: bool,
}

/// All relayed connections.
pub(crate) struct Connections {
    /// First of the tokens; each connection has two.
    base: usize,
    slots: Vec<Option<Connection>>,
    free: Vec<usize>,
    ready: Vec<usize>,
    chunk: Vec<u8>,
}

impl Connections {
    /// None yet; tokens are given from `base` on.
    pub(crate) fn new(base: usize) -> Connections {
        Connections { base, slots: Vec::new(), free: Vec::new(), ready: Vec::new(), chunk: vec![0; CHUNK_BYTES] }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// Whether one of them has more to do than its turn allowed.
    pub(crate) fn is_busy(&self) -> bool {
        !self.ready.is_empty()
    }

    /// Connects an accepted client to its backend; without one, or beyond the limit, it is reset.
    pub(crate) fn open(&mut self, registry: &Registry, client: TcpStream, backend: Option<SocketAddr>) {
        let mut client = End::new(client);
        let server = backend.filter(|_| self.len() < CONNECTIONS_MAX).map(TcpStream::connect);
        let Some(Ok(server)) = server else { return client.abort() };
        let mut server = End::new(server);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        let keepalive = socket2::TcpKeepalive::new().with_time(KEEPALIVE);
        let both = Interest::READABLE | Interest::WRITABLE;
        for (number, end) in [&mut client, &mut server].into_iter().enumerate() {
            let _ = SockRef::from(&end.stream).set_tcp_keepalive(&keepalive);
            let _ = end.stream.set_nodelay(true);
            let token = Token(self.base + 2 * slot + number);
            if registry.register(&mut end.stream, token, both).is_err() {
                end.abort();
                self.free.push(slot);
                return;
            }
        }
        self.slots[slot] = Some(Connection { ends: [client, server], is_ready: false });
    }

    /// Something happened to the connection of `token`.
    pub(crate) fn handle(&mut self, token: Token) {
        let slot = (token.0 - self.base) / 2;
        if let Some(Some(connection)) = self.slots.get_mut(slot)
            && !mem::replace(&mut connection.is_ready, true)
        {
            self.ready.push(slot);
        }
    }

    /// Gives every ready connection its share of the turn.
    pub(crate) fn serve(&mut self) {
        for slot in mem::take(&mut self.ready) {
            let Some(connection) = &mut self.slots[slot] else { continue };
            connection.is_ready = false;
            match connection.serve(&mut self.chunk) {
                Ok(Progress::Waiting) => {}
                Ok(Progress::More) => {
                    connection.is_ready = true;
                    self.ready.push(slot);
                }
                Ok(Progress::Over) => self.close(slot),
                Err(_) => {
                    connection.ends.iter().for_each(End::abort);
                    self.close(slot);
                }
            }
        }
    }

    fn close(&mut self, slot: usize) {
        // Closing the descriptors also takes them out of the poll.
        self.slots[slot] = None;
        self.free.push(slot);
    }
}

enum Progress {
    /// An event will tell when there is more to do.
    Waiting,
    /// The turn was over first.
    More,
    /// Both ends have ended.
    Over,
}

impl Connection {
    fn serve(&mut self, chunk: &mut [u8]) -> io::Result<Progress> {
        let [client, server] = &mut self.ends;
        let more = [pass(client, server, chunk)?, pass(server, client, chunk)?];
        Ok(match () {
            () if client.told && server.told => Progress::Over,
            () if more.contains(&true) => Progress::More,
            () => Progress::Waiting,
        })
    }
}

/// Passes on what `from` says; `true` if it may have more to say.
fn pass(from: &mut End, to: &mut End, chunk: &mut [u8]) -> io::Result<bool> {
    for _ in 0..CHUNKS_PER_TURN {
        if !to.flush()? {
            return Ok(false);
        }
        if from.ended {
            if !mem::replace(&mut to.told, true) {
                // Not connected: the peer has closed already, which its own reads tell.
                let _ = to.stream.shutdown(Shutdown::Write);
            }
            return Ok(false);
        }
        match from.stream.read(chunk) {
            Ok(0) => from.ended = true,
            Ok(len) => to.waiting.extend_from_slice(&chunk[..len]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}
