//! One socket that asks at a steady pace who answers, and says a line of JSON for everything that happens: an endpoint, a
//! Service or a node that goes away meanwhile shows here as another server, a refusal, a reset or silence.

use super::{connected, is_timeout, say};
use crate::server::{ServerProtocol, Sighting};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, BufRead, BufReader, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Time to connect.
const CONNECT: Duration = Duration::from_secs(3);

/// A conversation over one socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    /// Who is asked.
    pub target: SocketAddr,
    /// TCP or UDP.
    pub protocol: ServerProtocol,
    /// Address and port to ask from; an address or port of 0 is the kernel's choice.
    pub source: Option<SocketAddr>,
    /// Time between two questions in milliseconds.
    pub interval_ms: u64,
}

/// What happened, `at_ms` after the start. Over TCP everything but an answer is the last event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// The socket is there; over TCP the connection stands.
    Open {
        /// Milliseconds since the start.
        at_ms: u64,
    },
    /// Somebody answered.
    Answer {
        /// Milliseconds since the start.
        at_ms: u64,
        /// Who, as NAMESPACE/POD.
        server: String,
        /// The client's address as the server saw it.
        client: SocketAddr,
    },
    /// Nobody listens: the network, or the other side, said so.
    Refused {
        /// Milliseconds since the start.
        at_ms: u64,
    },
    /// The connection was reset.
    Reset {
        /// Milliseconds since the start.
        at_ms: u64,
    },
    /// The other side has closed the connection.
    Closed {
        /// Milliseconds since the start.
        at_ms: u64,
    },
    /// Any other error of the socket.
    Failed {
        /// Milliseconds since the start.
        at_ms: u64,
        /// What the kernel says.
        error: String,
    },
}

impl Conversation {
    /// Asks until it is killed or the connection ends.
    pub(super) fn run(&self) -> io::Result<i32> {
        let started = Instant::now();
        match self.protocol {
            ServerProtocol::Udp => self.run_udp(started),
            _ => self.run_tcp(started),
        }
    }

    fn run_udp(&self, started: Instant) -> io::Result<i32> {
        let socket = connected(self.target, self.source)?;
        tell(Event::Open { at_ms: since(started) })?;
        let mut next = Instant::now();
        let mut answer = [0; 2048];
        loop {
            match next.saturating_duration_since(Instant::now()) {
                Duration::ZERO => {
                    next += Duration::from_millis(self.interval_ms.max(1));
                    if let Err(e) = socket.send(b"podplane-traffic\n") {
                        tell(event_of(&e, started))?;
                    }
                }
                patience => {
                    socket.set_read_timeout(Some(patience))?;
                    match socket.recv(&mut answer) {
                        Ok(len) => tell_answer(&answer[..len], started)?,
                        Err(e) if is_timeout(&e) => {}
                        Err(e) => tell(event_of(&e, started))?,
                    }
                }
            }
        }
    }

    fn run_tcp(&self, started: Instant) -> io::Result<i32> {
        let last = match self.converse(started) {
            Ok(()) => Event::Closed { at_ms: since(started) },
            Err(e) => event_of(&e, started),
        };
        tell(last)?;
        Ok(0)
    }

    fn converse(&self, started: Instant) -> io::Result<()> {
        let socket = Socket::new(Domain::for_address(self.target), Type::STREAM, Some(Protocol::TCP))?;
        if let Some(source) = self.source {
            socket.set_reuse_address(true)?;
            socket.bind(&source.into())?;
        }
        socket.connect_timeout(&self.target.into(), CONNECT)?;
        tell(Event::Open { at_ms: since(started) })?;
        let mut stream: TcpStream = socket.into();
        let mut answers = BufReader::new(stream.try_clone()?);
        let mut next = Instant::now();
        let mut line = Vec::new();
        loop {
            match next.saturating_duration_since(Instant::now()) {
                Duration::ZERO => {
                    next += Duration::from_millis(self.interval_ms.max(1));
                    stream.write_all(b"podplane-traffic\n")?;
                }
                patience => {
                    stream.set_read_timeout(Some(patience))?;
                    match answers.read_until(b'\n', &mut line) {
                        Ok(0) => return Ok(()),
                        Ok(_) if line.ends_with(b"\n") => {
                            tell_answer(&line, started)?;
                            line.clear();
                        }
                        Ok(_) => {}
                        Err(e) if is_timeout(&e) => {}
                        Err(e) => return Err(e),
                    }
                }
            }
        }
    }
}

fn since(started: Instant) -> u64 {
    started.elapsed().as_millis() as u64
}

fn event_of(error: &io::Error, started: Instant) -> Event {
    let at_ms = since(started);
    match error.kind() {
        io::ErrorKind::ConnectionRefused => Event::Refused { at_ms },
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Event::Reset { at_ms },
        _ => Event::Failed { at_ms, error: error.to_string() },
    }
}

fn tell_answer(answer: &[u8], started: Instant) -> io::Result<()> {
    let unknown: IpAddr = [0; 4].into();
    let (server, client) = match serde_json::from_slice::<Sighting>(answer) {
        Ok(sighting) => (sighting.server, SocketAddr::new(sighting.client_ip, sighting.client_port)),
        Err(_) => (format!("not a test server: {}", String::from_utf8_lossy(answer)), SocketAddr::new(unknown, 0)),
    };
    tell(Event::Answer { at_ms: since(started), server, client })
}

fn tell(event: Event) -> io::Result<()> {
    say(&event).map(drop).map_err(|e| io::Error::other(e.to_string()))
}
