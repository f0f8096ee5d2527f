//! Connection attempts that may be led to another backend (S29, W21), for Services that ask for it.
//!
//! A SYN to such a Service is kept for as long as its backend has not answered. If that takes longer than the Service's annotation
//! `podplane.io/connect-retry-ms` says, or the backend refuses (RST, ICMP unreachable), the flow is forgotten, another backend is
//! chosen, and the SYN goes there as if it had come again. An answered connection is never retried, and a client never hears more
//! than one backend: what a backend refuses is passed on when there is no other to try.
//!
//! ```text
//! SYN kept ── SYN-ACK, or the opener gives up ──> let go
//!    │ ├───── RST, unreachable ─┐
//!    │ └───── time is up ───────┴──> another backend: SYN sent there, kept with the time begun anew
//!    │                               none left: let go
//!    └─ no room, frame too long: not kept, an ordinary connection attempt
//! ```
//! **Limit.** At most [`ATTEMPTS_MAX`] at once, each with at most [`TRIES_MAX`] backends; others are ordinary attempts.

use crate::later::{Held, Stage, WayIn};
use crate::path::Context;
use crate::ports::{Port, Shared};
use crate::service::{self, Target};
use crate::{PortId, state};
use hashbrown::HashMap;
use std::net::IpAddr;
use std::time::Duration;
use wire::icmp::{v4, v6};
use wire::{FlowKey, Fragment, Frame, Instant, L4, Packet};

/// Connection attempts of a shard that are watched at once.
const ATTEMPTS_MAX: usize = 4_096;

/// Backends that one attempt goes to at most. A client repeats its SYN after a second; four tries at 250 ms are over by then.
const TRIES_MAX: usize = 4;

/// By then a SYN that is to be sent again has been: the shell does that in the same turn.
const RESEND_MAX: Duration = Duration::from_secs(1);

/// The longest SYN that is kept, as a frame: one with data (RFC 7413) that fits an Ethernet frame.
const FRAME_MAX_BYTES: usize = 1_514;

/// TCP's RST bit (RFC 9293 §3.1).
const RST: u8 = 0x04;
/// Code of "fragmentation needed" (RFC 1191), which is no refusal.
const TOO_BIG: u8 = 4;

/// A connection attempt: at which port it is, and the key of its SYN there.
pub(crate) type AttemptKey = (PortId, FlowKey);

/// Backends that a connection attempt has been at.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tried([Option<IpAddr>; TRIES_MAX]);

impl Tried {
    pub(crate) fn has(&self, backend: IpAddr) -> bool {
        self.0.contains(&Some(backend))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.iter().flatten().count()
    }

    /// Adds a backend; false if there was no room left.
    pub(crate) fn add(&mut self, backend: IpAddr) -> bool {
        let free = self.0.iter_mut().find(|tried| tried.is_none());
        free.is_some_and(|free| free.replace(backend).is_none())
    }

    fn is_full(&self) -> bool {
        !self.0.contains(&None)
    }
}

/// What is kept of a connection attempt.
#[derive(Debug)]
struct Attempt {
    syn: Held,
    deadline: Instant,
    tried: Tried,
}

impl Attempt {
    /// The opener's latest SYN is the one to send again: it may have begun anew with another sequence number.
    fn keep(&mut self, now: Instant, port: PortId, frame: &Frame) {
        if *self.syn.bytes != *frame.bytes() && frame.len() <= FRAME_MAX_BYTES {
            self.syn = held(now, port, frame);
        }
    }
}

/// The connection attempts that are watched.
#[derive(Debug, Default)]
pub(crate) struct Retries {
    attempts: HashMap<AttemptKey, Attempt>,
}

impl Retries {
    /// Backends that the attempt has been at; none if it is not known.
    pub(crate) fn tried(&self, key: &AttemptKey) -> Tried {
        if self.attempts.is_empty() {
            return Tried::default();
        }
        self.attempts.get(key).map_or(Tried::default(), |attempt| attempt.tried)
    }

    /// The opener repeats its SYN.
    pub(crate) fn repeat(&mut self, now: Instant, key: &AttemptKey, frame: &Frame) {
        if let Some(attempt) = self.attempts.get_mut(key) {
            attempt.keep(now, key.0, frame);
        }
    }

    /// The attempt is over.
    pub(crate) fn let_go(&mut self, key: &AttemptKey) {
        self.attempts.remove(key);
    }

    /// The attempt begins its time anew; the next backend's own patience follows when the SYN is sent.
    pub(crate) fn wait_anew(&mut self, now: Instant, key: &AttemptKey) {
        if let Some(attempt) = self.attempts.get_mut(key) {
            attempt.deadline = now + RESEND_MAX;
        }
    }

    /// The SYN to send again.
    pub(crate) fn syn(&self, key: &AttemptKey) -> Option<&Held> {
        self.attempts.get(key).map(|attempt| &attempt.syn)
    }

    /// The attempts whose time is up, longest overdue first.
    pub(crate) fn overdue(&self, now: Instant) -> Vec<AttemptKey> {
        let due = self.attempts.iter().filter(|(_, attempt)| attempt.deadline <= now);
        let mut due: Vec<_> = due.map(|(key, attempt)| (attempt.deadline, *key)).collect();
        due.sort_unstable_by_key(|(at, (port, key))| (*at, *port, key.hash_with(0)));
        due.into_iter().map(|(_, key)| key).collect()
    }

    /// When the first attempt's time is up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.attempts.values().map(|attempt| attempt.deadline).min()
    }
}

/// How long `packet`, which opens a flow to `target`, waits for its answer: `None` if it is no connection attempt, or its Service
/// asks for nothing.
fn patience(cx: &Context<'_>, target: &Target, packet: &Packet) -> Option<Duration> {
    let patience = cx.tables.policy.service_entry(target.service?).connect_retry?;
    let is_syn = matches!(packet.l4, L4::Tcp { .. }) && state::begins_connection(packet);
    (is_syn && packet.fragment == Fragment::Whole).then_some(patience)
}

/// Whether the attempt passes over `target`, which is nowhere, because there is another backend.
pub(crate) fn skips(cx: &Context<'_>, port: &Port, target: &Target, packet: &Packet, tried: &mut Tried) -> bool {
    patience(cx, target, packet).is_some()
        && tried.add(target.addr)
        && !tried.is_full()
        && service::has_untried(cx, port, &packet.flow(), tried)
}

/// Keeps the SYN in `frame`, which opens a flow to `target`, if its Service asks for that and there is room. `tried` are the
/// backends before this one.
pub(crate) fn watch(
    cx: &Context<'_>,
    port: &Port,
    shared: &mut Shared,
    target: &Target,
    packet: &Packet,
    frame: &Frame,
    mut tried: Tried,
) -> bool {
    let Some(patience) = patience(cx, target, packet).filter(|_| tried.add(target.addr)) else { return false };
    let attempts = &mut shared.retries.attempts;
    let attempt = (port.config.id, packet.flow());
    let deadline = cx.now + patience;
    if let Some(known) = attempts.get_mut(&attempt) {
        (known.deadline, known.tried) = (deadline, tried);
        known.keep(cx.now, attempt.0, frame);
    } else if attempts.len() < ATTEMPTS_MAX && frame.len() <= FRAME_MAX_BYTES {
        let syn = held(cx.now, attempt.0, frame);
        attempts.insert(attempt, Attempt { syn, deadline, tried });
    } else {
        return false;
    }
    shared.later.add_deadline(deadline);
    true
}

fn held(now: Instant, port: PortId, frame: &Frame) -> Held {
    Held::new(now, WayIn::Port(port, 0), Stage::From(port), frame.len(), frame)
}

/// What a packet means to the attempt whose flow it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
    /// Nothing: something about the way.
    None,
    /// The opener repeats its SYN.
    Repeated,
    /// The backend does not want the connection, or cannot be reached.
    Refused,
    /// It is answered, or its opener has given up.
    Over,
}

/// Reads a packet of an attempt's flow that travels from the opener, or to it.
pub(crate) fn read(packet: &Packet, from_opener: bool) -> Sign {
    match packet.l4 {
        L4::Tcp { .. } if from_opener && state::begins_connection(packet) => Sign::Repeated,
        L4::Tcp { flags, .. } if !from_opener && flags & RST != 0 => Sign::Refused,
        L4::Tcp { .. } => Sign::Over,
        L4::Icmp { kind, code, .. } if !from_opener => match packet.src.is_ipv4() {
            true if kind == v4::UNREACHABLE && code != TOO_BIG => Sign::Refused,
            false if kind == v6::UNREACHABLE => Sign::Refused,
            _ => Sign::None,
        },
        _ => Sign::None,
    }
}

/// Whether the attempt may go to another backend, and there is one.
pub(crate) fn may_go_on(cx: &Context<'_>, port: &Port, retries: &Retries, key: &AttemptKey) -> bool {
    retries
        .attempts
        .get(key)
        .is_some_and(|attempt| !attempt.tried.is_full() && service::has_untried(cx, port, &key.1, &attempt.tried))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn an_attempt_goes_to_four_backends_at_most() {
        let addr = |n| IpAddr::V4(Ipv4Addr::new(10, 0, 0, n));
        let mut tried = Tried::default();
        for n in 1..=4 {
            assert!(!tried.is_full() && tried.add(addr(n)));
        }
        assert!(tried.is_full() && !tried.add(addr(5)) && tried.has(addr(4)) && !tried.has(addr(5)));
        assert_eq!(tried.len(), 4);
    }

    #[test]
    fn the_patience_of_an_attempt_is_bounded_by_the_opener_s_own() {
        assert!(TRIES_MAX as u32 * Duration::from_millis(250) <= Duration::from_secs(1));
    }
}
