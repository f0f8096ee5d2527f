//! Many flows from here to one destination, all open at once: what source ports are needed for.
//!
//! How it works: threads open sockets, each its share, and ask once on each who it is; no socket is closed before all have been
//! asked in every round. What the server saw of each flow must be the same in every round, and different for every flow.

use super::{connected, is_timeout, say};
use crate::error::{LabError, Result};
use crate::server::{ServerProtocol, Sighting};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, Socket, Type};
use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket};
use std::ops::Range;
use std::sync::Barrier;
use std::time::{Duration, Instant};

/// Threads that ask at once.
const THREADS: u32 = 8;

/// Flows that a thread has asked and not heard from: less than what a socket buffer of the server holds.
const WINDOW: usize = 16;

/// A datagram without an answer is sent again after this time.
const RESEND: Duration = Duration::from_millis(300);

/// Descriptors for everything that is not a flow.
const SPARE_DESCRIPTORS: u64 = 64;

/// Many flows to one destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flows {
    /// The one destination.
    pub target: SocketAddr,
    /// TCP or UDP.
    #[serde(default = "udp")]
    pub protocol: ServerProtocol,
    /// Number of flows.
    pub count: u32,
    /// How often each is asked.
    #[serde(default = "two")]
    pub rounds: u32,
    /// Time for one flow to be answered in one round, in milliseconds.
    #[serde(default = "ten_seconds")]
    pub timeout_ms: u64,
    /// Whether to say `{"open": N}` after the first round and to wait for a line on standard input before the next, so that flows
    /// of several places are open at the same time.
    #[serde(default)]
    pub pause: bool,
    /// Source port of the first flow; the others have the next ones. Without it the kernel chooses, of its 28,232 by default.
    #[serde(default)]
    pub first_port: Option<u16>,
}

fn udp() -> ServerProtocol {
    ServerProtocol::Udp
}

fn two() -> u32 {
    2
}

fn ten_seconds() -> u64 {
    10_000
}

/// What came of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Flows that were answered in every round.
    pub answered: u32,
    /// Flows that were refused in a round: reset, or unreachable.
    pub refused: u32,
    /// Flows without an answer in a round.
    pub lost: u32,
    /// Flows that the server saw with another address or port in a later round.
    pub moved: u32,
    /// Datagrams that were sent again because no answer came in time.
    pub resent: u32,
    /// The addresses and ports that the server saw, one per flow that was answered, in no order.
    pub clients: Vec<SocketAddr>,
    /// Names of the servers that answered, each once.
    pub servers: Vec<String>,
    /// Time for everything in milliseconds.
    pub elapsed_ms: u64,
}

impl Flows {
    pub(super) fn run(&self) -> Result<Report> {
        allow_descriptors(u64::from(self.count) + SPARE_DESCRIPTORS)?;
        let started = Instant::now();
        let barrier = Barrier::new(THREADS as usize);
        let mut report = Report::default();
        std::thread::scope(|scope| {
            let bounds = |number| self.count * number / THREADS;
            let shares = (0..THREADS).map(|number| bounds(number)..bounds(number + 1));
            let barrier = &barrier;
            let threads: Vec<_> = shares.map(|share| scope.spawn(move || self.run_share(share, barrier))).collect();
            for thread in threads {
                report.add(thread.join().expect("a thread that panics has said why"));
            }
        });
        report.elapsed_ms = started.elapsed().as_millis() as u64;
        Ok(report)
    }

    fn run_share(&self, share: Range<u32>, barrier: &Barrier) -> Report {
        let timeout = Duration::from_millis(self.timeout_ms);
        let mut report = Report::default();
        let mut flows: Vec<Flow> =
            share.map(|number| Flow { source: self.source(number), ..Flow::default() }).collect();
        for round in 0..self.rounds {
            for window in flows.chunks_mut(WINDOW) {
                for flow in window.iter_mut() {
                    if round == 0 {
                        flow.open(self.target, self.protocol, timeout);
                    }
                    flow.ask();
                }
                for flow in window.iter_mut() {
                    flow.hear(timeout, &mut report);
                }
            }
            // Every flow of every thread is open before any goes on, and none is closed before all are done.
            if barrier.wait().is_leader() && round == 0 && self.pause {
                let _ = say(&serde_json::json!({ "open": self.count }));
                let _ = io::stdin().read_line(&mut String::new());
            }
            barrier.wait();
        }
        for flow in &flows {
            match &flow.state {
                State::Refused => report.refused += 1,
                State::Lost => report.lost += 1,
                State::Open(_) => {
                    report.answered += 1;
                    report.clients.extend(flow.seen);
                }
            }
        }
        report
    }

    /// Address of flow `number`, if the kernel is not to choose it.
    fn source(&self, number: u32) -> Option<SocketAddr> {
        let any: IpAddr =
            if self.target.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        self.first_port.map(|first| SocketAddr::new(any, first.wrapping_add(number as u16)))
    }
}

impl Report {
    fn add(&mut self, other: Report) {
        self.answered += other.answered;
        self.refused += other.refused;
        self.lost += other.lost;
        self.moved += other.moved;
        self.resent += other.resent;
        self.clients.extend(other.clients);
        self.servers.extend(other.servers);
        self.servers.sort();
        self.servers.dedup();
    }
}

enum Connection {
    Tcp(TcpStream),
    Udp(UdpSocket),
}

#[derive(Default)]
enum State {
    Open(Connection),
    Refused,
    /// Also what has not been opened.
    #[default]
    Lost,
}

/// One flow.
#[derive(Default)]
struct Flow {
    state: State,
    /// Where it is opened from, if that is given.
    source: Option<SocketAddr>,
    /// The client as the server saw it first.
    seen: Option<SocketAddr>,
}

impl Flow {
    fn open(&mut self, target: SocketAddr, protocol: ServerProtocol, timeout: Duration) {
        let opened = match protocol {
            ServerProtocol::Udp => connected(target, self.source).map(Connection::Udp),
            _ => connect(target, self.source, timeout).map(Connection::Tcp),
        };
        self.state = match opened {
            Ok(connection) => State::Open(connection),
            Err(e) => State::of(&e),
        };
    }

    fn ask(&mut self) {
        let State::Open(connection) = &mut self.state else { return };
        if let Err(e) = connection.send() {
            self.state = State::of(&e);
        }
    }

    fn hear(&mut self, timeout: Duration, report: &mut Report) {
        let State::Open(connection) = &mut self.state else { return };
        match connection.receive(timeout, &mut report.resent) {
            Ok(sighting) => {
                let client = SocketAddr::new(sighting.client_ip, sighting.client_port);
                report.moved += u32::from(*self.seen.get_or_insert(client) != client);
                if !report.servers.contains(&sighting.server) {
                    report.servers.push(sighting.server);
                }
            }
            Err(e) => self.state = State::of(&e),
        }
    }
}

impl State {
    fn of(error: &io::Error) -> State {
        if is_timeout(error) { State::Lost } else { State::Refused }
    }
}

impl Connection {
    fn send(&mut self) -> io::Result<()> {
        match self {
            Connection::Tcp(stream) => stream.write_all(b"podplane-traffic\n"),
            Connection::Udp(socket) => socket.send(b"podplane-traffic\n").map(drop),
        }
    }

    fn receive(&mut self, timeout: Duration, resent: &mut u32) -> io::Result<Sighting> {
        let deadline = Instant::now() + timeout;
        let mut answer = [0; 1024];
        loop {
            let len = match self {
                Connection::Tcp(stream) => {
                    stream.set_read_timeout(Some(timeout))?;
                    stream.read(&mut answer)?
                }
                Connection::Udp(socket) => {
                    socket.set_read_timeout(Some(RESEND))?;
                    match socket.recv(&mut answer) {
                        Err(e) if is_timeout(&e) && Instant::now() < deadline => {
                            *resent += 1;
                            socket.send(b"podplane-traffic\n")?;
                            continue;
                        }
                        received => received?,
                    }
                }
            };
            return serde_json::from_slice(&answer[..len]).map_err(io::Error::other);
        }
    }
}

fn connect(target: SocketAddr, source: Option<SocketAddr>, timeout: Duration) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(target), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(source) = source {
        socket.bind(&source.into())?;
    }
    socket.connect_timeout(&target.into(), timeout)?;
    Ok(socket.into())
}

/// Raises the number of descriptors that this process may have to `count`.
fn allow_descriptors(count: u64) -> Result<()> {
    let limit = Resource::RLIMIT_NOFILE;
    let (soft, hard) = getrlimit(limit).map_err(|e| LabError::io("the limit of descriptors", e))?;
    if soft >= count {
        return Ok(());
    }
    setrlimit(limit, count, hard.max(count)).map_err(|e| {
        LabError::Failed(format!("{count} flows need as many descriptors, and {hard} are allowed (ulimit -n): {e}"))
    })
}
