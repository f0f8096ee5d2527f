//! Two datagrams in one breath, as a resolver asks for A and AAAA: the pattern that loses packets where two packets of one new
//! flow race each other.
//!
//! From one socket for all pairs, or from a new one for each: every pair is then the first of a flow.

use super::{connected, is_timeout};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

/// An answer that has not come by then is lost. Nothing is sent again.
const PATIENCE: Duration = Duration::from_secs(3);

/// Pairs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairs {
    /// Who is asked.
    pub target: SocketAddr,
    /// Number of pairs at most.
    pub count: u64,
    /// Time after which no further pair is sent, in milliseconds.
    #[serde(default = "forever")]
    pub limit_ms: u64,
    /// Pairs without their answers at any time; for `fresh` there is one.
    #[serde(default = "sixteen")]
    pub window: u64,
    /// Whether every pair has a socket of its own.
    #[serde(default)]
    pub fresh: bool,
}

fn forever() -> u64 {
    u64::MAX
}

fn sixteen() -> u64 {
    16
}

/// What came of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Pairs that were sent.
    pub pairs: u64,
    /// Datagrams that were answered; without loss twice the pairs.
    pub answered: u64,
    /// Datagrams that were not.
    pub lost: u64,
    /// Answers too many, or to nothing that was asked.
    pub strange: u64,
    /// Time for everything in milliseconds.
    pub elapsed_ms: u64,
}

/// Which of the two datagrams of a pair were answered.
type Answered = [bool; 2];

impl Pairs {
    pub(super) fn run(&self) -> io::Result<Report> {
        let started = Instant::now();
        let mut report = Report::default();
        let goes_on = |pairs: u64| pairs < self.count && started.elapsed().as_millis() < u128::from(self.limit_ms);
        if self.fresh {
            while goes_on(report.pairs) {
                let mut one = Window::new(self.target, 1)?;
                one.first = report.pairs;
                one.send(&mut report)?;
                one.drain(0, &mut report)?;
            }
        } else {
            let mut window = Window::new(self.target, self.window)?;
            while goes_on(report.pairs) {
                window.send(&mut report)?;
                window.drain(self.window - 1, &mut report)?;
            }
            window.drain(0, &mut report)?;
        }
        report.elapsed_ms = started.elapsed().as_millis() as u64;
        Ok(report)
    }
}

/// A socket and the pairs that it waits for.
struct Window {
    socket: UdpSocket,
    /// Number of the first pair that is not complete.
    first: u64,
    open: std::collections::VecDeque<Answered>,
}

impl Window {
    fn new(target: SocketAddr, len: u64) -> io::Result<Window> {
        let socket = connected(target, None)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        Ok(Window { socket, first: 0, open: std::collections::VecDeque::with_capacity(len as usize) })
    }

    fn send(&mut self, report: &mut Report) -> io::Result<()> {
        let number = self.first + self.open.len() as u64;
        for question in ["A", "AAAA"] {
            // A port that is closed for a moment says so at the next call; the datagram is then lost, and counted so.
            let datagram = format!("podplane-echo {number} {question}\n");
            if self.socket.send(datagram.as_bytes()).is_err() {
                self.socket.send(datagram.as_bytes())?;
            }
        }
        self.open.push_back([false; 2]);
        report.pairs += 1;
        Ok(())
    }

    /// Waits until at most `len` pairs are without their answers; what does not come is lost.
    fn drain(&mut self, len: u64, report: &mut Report) -> io::Result<()> {
        let mut bytes = [0; 256];
        while self.open.len() as u64 > len {
            match self.socket.recv(&mut bytes) {
                Ok(size) => self.hear(&bytes[..size], report),
                Err(e) if is_timeout(&e) => {
                    let missing = self.open.iter().flatten().filter(|answered| !**answered).count() as u64;
                    report.lost += missing;
                    self.first += self.open.len() as u64;
                    self.open.clear();
                }
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    fn hear(&mut self, answer: &[u8], report: &mut Report) {
        let text = String::from_utf8_lossy(answer);
        let mut words = text.split_ascii_whitespace().skip(1);
        let number = words.next().and_then(|word| word.parse::<u64>().ok());
        let question = words.next().and_then(|word| ["A", "AAAA"].iter().position(|other| *other == word));
        let slot =
            number.and_then(|number| number.checked_sub(self.first)).and_then(|at| self.open.get_mut(at as usize));
        match (slot, question) {
            (Some(pair), Some(question)) if !pair[question] => {
                pair[question] = true;
                report.answered += 1;
            }
            _ => report.strange += 1,
        }
        while self.open.front() == Some(&[true, true]) {
            self.open.pop_front();
            self.first += 1;
        }
    }
}
