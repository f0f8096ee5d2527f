//! One attempt at one server: over UDP, and over TCP if the answer is too long for a datagram.
//!
//! Each attempt has a socket of its own, so the kernel picks a source port at random and delivers nothing but what the server
//! sends there; with the random id that leaves a spoofer who sees nothing one chance in billions per datagram (RFC 5452). What
//! does not answer the question is ignored and counted, and the wait goes on; after [`MISMATCHED_MAX`] of those somebody
//! is guessing, and the question is asked over TCP, where guessing does not help.

use super::counters::Counters;
use super::ids::Ids;
use super::question::{DATAGRAM_BYTES_MAX, Key};
use super::stored::{NoAnswer, Stored, ask};
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Instant as Clock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout_at};

/// Datagrams that answer something else before the question is asked over TCP.
const MISMATCHED_MAX: usize = 16;

/// Why an attempt gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoResult;

/// What an attempt needs.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) server: SocketAddr,
    pub(super) question: &'a [u8],
    pub(super) key: &'a Key,
    pub(super) deadline: Instant,
    pub(super) ids: &'a Ids,
    pub(super) counters: &'a Counters,
}

/// What a datagram socket gave.
enum Heard {
    Answer(Stored),
    /// To be asked over TCP.
    Truncated,
    /// To be asked without EDNS.
    NoEdns,
}

impl Attempt<'_> {
    /// Asks the server.
    pub(super) async fn run(&self) -> Result<Stored, NoResult> {
        for edns in [true, false] {
            match self.over_udp(edns).await? {
                Heard::Answer(stored) => return Ok(stored),
                Heard::NoEdns => {}
                Heard::Truncated => match self.over_tcp(edns).await? {
                    Heard::Answer(stored) => return Ok(stored),
                    Heard::NoEdns => {}
                    Heard::Truncated => break,
                },
            }
        }
        self.counters.malformed.add();
        Err(NoResult)
    }

    async fn over_udp(&self, edns: bool) -> Result<Heard, NoResult> {
        let asked = ask(self.question, self.ids.next(), self.key, edns);
        self.counters.attempts_udp.add();
        let socket = self.in_time(connect(self.server)).await?;
        self.in_time(socket.send(&asked)).await?;
        // One byte more shows that a datagram was longer.
        let mut datagram = [0; DATAGRAM_BYTES_MAX as usize + 1];
        let mut mismatched = 0;
        while mismatched < MISMATCHED_MAX {
            let received = self.in_time(socket.recv(&mut datagram)).await?;
            if received == datagram.len() {
                self.counters.oversized.add();
                mismatched += 1;
                continue;
            }
            match Stored::check(&datagram[..received], &asked, Clock::now()) {
                Ok(stored) => return Ok(Heard::Answer(stored)),
                Err(NoAnswer::Truncated) => return Ok(Heard::Truncated),
                Err(NoAnswer::NoEdns) => return Ok(Heard::NoEdns),
                Err(NoAnswer::Malformed) => {
                    self.counters.malformed.add();
                    return Err(NoResult);
                }
                Err(NoAnswer::Other) => {
                    self.counters.mismatched.add();
                    mismatched += 1;
                }
            }
        }
        Ok(Heard::Truncated)
    }

    async fn over_tcp(&self, edns: bool) -> Result<Heard, NoResult> {
        let asked = ask(self.question, self.ids.next(), self.key, edns);
        self.counters.attempts_tcp.add();
        let answer = self.in_time(converse(self.server, &asked)).await?;
        match Stored::check(&answer, &asked, Clock::now()) {
            Ok(stored) => Ok(Heard::Answer(stored)),
            Err(NoAnswer::NoEdns) => Ok(Heard::NoEdns),
            Err(_) => {
                self.counters.malformed.add();
                Err(NoResult)
            }
        }
    }

    /// What `action` gives before the deadline.
    async fn in_time<T>(&self, action: impl Future<Output = io::Result<T>>) -> Result<T, NoResult> {
        match timeout_at(self.deadline, action).await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(_)) => {
                self.counters.unreachable.add();
                Err(NoResult)
            }
            Err(_) => {
                self.counters.timeouts.add();
                Err(NoResult)
            }
        }
    }
}

async fn connect(server: SocketAddr) -> io::Result<UdpSocket> {
    let any = if server.is_ipv4() { (Ipv4Addr::UNSPECIFIED, 0).into() } else { (Ipv6Addr::UNSPECIFIED, 0).into() };
    let socket = UdpSocket::bind::<SocketAddr>(any).await?;
    socket.connect(server).await?;
    Ok(socket)
}

/// One question and its answer over TCP (RFC 1035 §4.2.2).
async fn converse(server: SocketAddr, asked: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    let mut message = (asked.len() as u16).to_be_bytes().to_vec();
    message.extend_from_slice(asked);
    stream.write_all(&message).await?;
    let mut answer = vec![0; usize::from(stream.read_u16().await?)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
