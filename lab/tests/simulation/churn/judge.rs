//! Holds every delivery to a server against the reference model.
//!
//! The node where a flow enters decides where its packets go, when they enter. They may be under way for a while after that, so
//! a delivery is right if one of the models says so that were in force within the longest flight before it.

use super::model::{Asked, Entry, Model};
use super::world::SERVER_PORTS;
use crate::judge::CLIENT_PORTS_START;
use lab::sim::{Delivery, Place, Sending};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use wire::{Instant, L4, Packet};

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// A flow, as its opener began it.
#[derive(Clone, Debug)]
struct Flow {
    opener: Place,
    entry: Entry,
    asked: Asked,
    began: Instant,
    /// Whether a server got something of it.
    arrived: bool,
}

/// Where a client was last led by a Service with session affinity.
#[derive(Clone, Debug)]
struct Led {
    opener: Place,
    backend: IpAddr,
    /// When the flow began that led there, and when its first packet arrived.
    began: Instant,
    at: Instant,
}

pub(super) struct Judge {
    /// The models that were in force, each with the time from which on.
    history: Vec<(Instant, Model)>,
    /// The longest time between the decision at the opener's node and the delivery.
    flight_max: Duration,
    /// By protocol and the opener's address and port.
    /// The last one is the latest: a pod that has an address now may use a port that the one before it used.
    flows: BTreeMap<(bool, SocketAddr), Vec<Flow>>,
    /// By Service, node of entry and client.
    led: BTreeMap<(String, Entry, IpAddr), Led>,
    /// Packets that opened flows, that went on with flows, flows that affinity led, packets of the world.
    pub(super) opened: u64,
    pub(super) continued: u64,
    pub(super) sticky: u64,
    pub(super) from_outside: u64,
}

impl Judge {
    pub(super) fn new(flight_max: Duration) -> Judge {
        let (history, flows, led) = (Vec::new(), BTreeMap::new(), BTreeMap::new());
        Judge { history, flight_max, flows, led, opened: 0, continued: 0, sticky: 0, from_outside: 0 }
    }

    /// `model` is in force from `at` on.
    pub(super) fn change(&mut self, at: Instant, model: Model) {
        self.history.push((at, model));
    }

    /// The model in force.
    pub(super) fn current(&self) -> &Model {
        &self.history.last().expect("a model is in force").1
    }

    /// The models in force at `from` and later.
    fn since(&self, from: Instant) -> impl Iterator<Item = &Model> {
        let begin = self.history.iter().rposition(|(start, _)| *start <= from).unwrap_or(0);
        self.history[begin..].iter().map(|(_, model)| model)
    }

    /// Remembers who opens what.
    pub(super) fn sent(&mut self, sending: &Sending<'_>) {
        let Ok(packet) = Packet::check(sending.frame.bytes()) else { return };
        let Some((is_tcp, src_port, dst_port, _)) = ports(&packet) else { return };
        if src_port < CLIENT_PORTS_START || SERVER_PORTS.contains(&dst_port) {
            return;
        }
        let flow = Flow {
            opener: sending.from.clone(),
            entry: Entry { node: sending.node.to_owned(), outside: *sending.from == Place::World },
            asked: Asked { is_tcp, to: SocketAddr::new(packet.dst, dst_port) },
            began: sending.at,
            arrived: false,
        };
        let key = (is_tcp, SocketAddr::new(packet.src, src_port));
        let flows = self.flows.entry(key).or_default();
        if !flows.iter().any(|known| known.opener == flow.opener && known.asked == flow.asked) {
            flows.push(flow);
        }
    }

    /// Objects if a server got a packet that the model forbids.
    pub(super) fn check(&mut self, delivery: &Delivery<'_>) -> Result<(), String> {
        if delivery.is_answer || !matches!(delivery.to, Place::Pod { .. }) {
            return Ok(());
        }
        let Ok(packet) = Packet::check(delivery.frame.bytes()) else { return Ok(()) };
        let Some((is_tcp, src_port, dst_port, flags)) = ports(&packet) else { return Ok(()) };
        if !SERVER_PORTS.contains(&dst_port) || flags & RST != 0 {
            // An answer, or what a client says to a server's last words after it gave up.
            return Ok(());
        }
        let at = SocketAddr::new(packet.dst, dst_port);
        let begins = is_tcp && flags & (SYN | ACK) == SYN;
        let key = (is_tcp, SocketAddr::new(packet.src, src_port));
        let asked_by: Vec<&Flow> = match self.flows.get(&key) {
            Some(flows) => flows.iter().collect(),
            None => self.flows_seen_otherwise(is_tcp, packet.src, delivery.to).collect(),
        };
        if !asked_by.iter().any(|flow| self.allows(flow, at, begins, delivery.at)) {
            let to = delivery.to;
            return Err(format!(
                "{:?}: {to} got a packet that the model forbids: {packet:?} of {asked_by:#?}",
                delivery.at
            ));
        }
        let Some(flow) = self.flows.get_mut(&key).and_then(|flows| flows.last_mut()) else { return Ok(()) };
        match begins || !is_tcp && !flow.arrived {
            true => self.opened += 1,
            false => self.continued += 1,
        }
        self.from_outside += u64::from(flow.entry.outside);
        if std::mem::replace(&mut flow.arrived, true) {
            return Ok(());
        }
        let flow = flow.clone();
        self.check_affinity(&flow, packet.src, at.ip(), delivery.at)
    }

    /// The flows that a server may see under an address and port that are not their opener's. Each of them may be meant.
    fn flows_seen_otherwise<'a>(&'a self, is_tcp: bool, src: IpAddr, to: &'a Place) -> impl Iterator<Item = &'a Flow> {
        // A second flow with the source port of another one, to the same server, gets another source port. A pod that reaches itself
        // sees its gateway.
        let may_be = move |(key, flow): &(&(bool, SocketAddr), &Flow)| {
            key.0 == is_tcp && (key.1.ip() == src || self.current().pod_at(src).is_none() && flow.opener == *to)
        };
        let all = self.flows.iter().flat_map(|(key, flows)| flows.iter().map(move |flow| (key, flow)));
        all.filter(may_be).map(|(_, flow)| flow)
    }

    fn allows(&self, flow: &Flow, at: SocketAddr, begins: bool, now: Instant) -> bool {
        let recent = || self.since(earlier(now, self.flight_max));
        let opens = |model: &Model| model.eligible(&flow.entry, &flow.asked).contains(&at);
        let stays = |model: &Model| model.may_stay(&flow.entry, &flow.asked, at);
        let is_new_datagram = !flow.asked.is_tcp && recent().any(opens);
        match begins {
            true => recent().any(opens),
            false => is_new_datagram || recent().any(stays) && self.since(flow.began).any(opens),
        }
    }

    /// A client comes back to the backend it had, as long as that is ready and time is not up (S07).
    fn check_affinity(&mut self, flow: &Flow, client: IpAddr, backend: IpAddr, now: Instant) -> Result<(), String> {
        let Some((service, _)) = self.current().find(&flow.entry, &flow.asked) else { return Ok(()) };
        let Some(seconds) = service.affinity else { return Ok(()) };
        let name = service.name.clone();
        let key = (name.clone(), flow.entry.clone(), client);
        let led = Led { opener: flow.opener.clone(), backend, began: flow.began, at: now };
        let Some(before) = self.led.insert(key, led).filter(|before| before.opener == flow.opener) else {
            return Ok(());
        };
        let then = earlier(before.began, self.flight_max);
        let in_time = flow.began > before.at && now - then < Duration::from_secs(seconds);
        let is_steady = |model: &Model| {
            let service = model.service(&name);
            let same_client = flow.entry.outside || model.pod_at(client) == self.current().pod_at(client);
            same_client && service.is_some_and(|s| s.affinity == Some(seconds) && s.is_steady(before.backend))
        };
        if !in_time || !self.since(then).all(is_steady) {
            return Ok(());
        }
        self.sticky += 1;
        match backend == before.backend {
            true => Ok(()),
            false => Err(format!("{now:?}: {client} was led to {backend}, not back to {}: {flow:#?}", before.backend)),
        }
    }
}

/// `at` less `duration`.
fn earlier(at: Instant, duration: Duration) -> Instant {
    Instant::from_nanos(at.as_nanos().saturating_sub(duration.as_nanos() as u64))
}

/// TCP or not, source port, destination port, TCP flags.
fn ports(packet: &Packet) -> Option<(bool, u16, u16, u8)> {
    match packet.l4 {
        L4::Tcp { src_port, dst_port, flags } => Some((true, src_port, dst_port, flags)),
        L4::Udp { src_port, dst_port } => Some((false, src_port, dst_port, 0)),
        _ => None,
    }
}
