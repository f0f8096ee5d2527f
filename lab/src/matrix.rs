//! Every pod to every pod, by real connections.
//!
//! One process inside of the lab does all of them: a thread can join another network namespace, so a fixed crew of threads
//! takes one connection after the other, each from the namespace of its client.

use crate::crew;
use crate::error::{LabError, Result};
use crate::probe::{self, Outcome, ProbeProtocol};
use crate::server::{ListenPort, ServerProtocol};
use nix::sched::{CloneFlags, setns};
use policy::matrix::Family;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fs::File;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Connections tried at once. Forbidden ones wait for their timeout, so a matrix takes timeout * pairs / this.
const CREW: usize = 256;

/// How long a connection may take before it counts as a timeout, in milliseconds, if nobody says: one retransmission of a
/// SYN (after 1 s) is waited for.
pub const TIMEOUT_MS: u64 = 1500;

/// What to try.
#[derive(Clone, Debug)]
pub struct Question {
    /// Ports of every server; empty means its own containerPorts, or TCP 80 if it has none.
    pub ports: Vec<ListenPort>,
    /// Family of the connections; without it the first one that both pods have, IPv4 first.
    pub family: Option<Family>,
    /// Time for each connection in milliseconds.
    pub timeout_ms: u64,
}

/// The matrix, as the command line prints it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matrix {
    /// Every pod that the lab runs, NAMESPACE/NAME.
    pub pods: Vec<String>,
    /// One connection each.
    pub results: Vec<Cell>,
}

/// One connection of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// The client, NAMESPACE/NAME.
    pub from: String,
    /// The server, NAMESPACE/NAME.
    pub to: String,
    /// Transport protocol: TCP, UDP or SCTP.
    pub protocol: ServerProtocol,
    /// The server's port.
    pub port: u16,
    /// How it ended.
    pub outcome: Outcome,
}

/// A connection to try.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attempt {
    /// Network namespace of the client.
    pub(crate) netns: PathBuf,
    /// Address and port of the server.
    pub(crate) target: SocketAddr,
    /// Protocol.
    pub(crate) protocol: ProbeProtocol,
    /// Time for it in milliseconds.
    pub(crate) timeout_ms: u64,
}

/// Port on which a server is tried that declares none; the same as in `podplane policy matrix`.
const DEFAULT_PORT: ListenPort = ListenPort { protocol: ServerProtocol::Tcp, port: 80 };

/// The ports on which a server is tried: those asked for, else its own. By number, then protocol, each once.
pub(crate) fn ports(asked: &[ListenPort], own: &[ListenPort]) -> Vec<ListenPort> {
    let mut ports = match (asked, own) {
        ([], []) => vec![DEFAULT_PORT],
        ([], own) => own.to_vec(),
        (asked, _) => asked.to_vec(),
    };
    ports.sort_by_key(|port| (port.port, port.protocol));
    ports.dedup();
    ports
}

/// The address at which a pod tries another: of `family`, or of the first one that both have, IPv4 first.
pub(crate) fn target(from: &[IpAddr], to: &[IpAddr], family: Option<Family>) -> Option<IpAddr> {
    let of = |addresses: &[IpAddr], v4: bool| addresses.iter().copied().find(|address| address.is_ipv4() == v4);
    let mut families = [true, false].into_iter().filter(|v4| family.is_none_or(|family| (family == Family::V4) == *v4));
    families.find_map(|v4| of(from, v4).and(of(to, v4)))
}

/// Tries all of them; gives the outcomes in the same order.
pub(crate) fn run(attempts: &[Attempt]) -> Result<Vec<Outcome>> {
    let queue: Mutex<VecDeque<usize>> = Mutex::new((0..attempts.len()).collect());
    let outcomes: Mutex<Vec<Option<Result<Outcome>>>> = Mutex::new(vec![None; attempts.len()]);
    crew::run(CREW.min(attempts.len()), || {
        loop {
            let Some(index) = queue.lock().expect("no thread panics here").pop_front() else { break };
            let outcome = attempt(&attempts[index]);
            outcomes.lock().expect("no thread panics here")[index] = Some(outcome);
        }
    })?;
    let outcomes = outcomes.into_inner().expect("no thread panics here");
    outcomes.into_iter().map(|outcome| outcome.expect("the queue is empty, so all were tried")).collect()
}

fn attempt(attempt: &Attempt) -> Result<Outcome> {
    let namespace = File::open(&attempt.netns).map_err(|e| LabError::io(attempt.netns.display(), e))?;
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|e| LabError::io(attempt.netns.display(), e))?;
    let deadline = Instant::now() + Duration::from_millis(attempt.timeout_ms);
    Ok(probe::attempt(attempt.target, attempt.protocol, None, deadline)?.outcome)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_tried_on_what_is_asked_else_its_own_ports_else_port_80() {
        let list = |text: &[&str]| text.iter().map(|port| port.parse().unwrap()).collect::<Vec<ListenPort>>();
        let own = list(&["TCP/8080", "TCP/9090", "UDP/8080"]);
        assert_eq!(ports(&[], &own), list(&["TCP/8080", "UDP/8080", "TCP/9090"]));
        assert_eq!(ports(&list(&["UDP/2", "TCP/1", "UDP/2"]), &own), list(&["TCP/1", "UDP/2"]));
        assert_eq!(ports(&[], &[]), list(&["TCP/80"]));
    }

    #[test]
    fn a_pair_meets_in_the_family_asked_for_or_the_first_of_both() {
        let parse = |list: &[&str]| list.iter().map(|ip| ip.parse().unwrap()).collect::<Vec<IpAddr>>();
        let both = parse(&["fd00::1", "10.0.0.1"]);
        assert_eq!(target(&both, &both, None), Some(both[1]));
        assert_eq!(target(&both, &both, Some(Family::V4)), Some(both[1]));
        assert_eq!(target(&both, &both, Some(Family::V6)), Some(both[0]));
        assert_eq!(target(&both, &parse(&["fd00::2"]), None), Some("fd00::2".parse().unwrap()));
        assert_eq!(target(&both, &parse(&["fd00::2"]), Some(Family::V4)), None);
        assert_eq!(target(&parse(&["10.0.0.2"]), &parse(&["fd00::2"]), None), None);
    }
}
