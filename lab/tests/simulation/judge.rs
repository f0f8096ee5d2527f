//! Holds every delivery of a simulation against the reference model.

use crate::model::{Model, Protocol};
use lab::sim::{Delivery, Place};
use std::net::IpAddr;
use std::time::Duration;
use wire::{IcmpKind, Instant, L4, Packet};

/// Servers listen below, clients send from here up.
pub(crate) const CLIENT_PORTS_START: u16 = 32_768;

/// The models that were in force, each with the time from which on.
pub(crate) struct Judge {
    history: Vec<(Instant, Model)>,
    /// How long a packet may be under way between the two ends that judge it.
    flight_max: Duration,
    /// Deliveries that were judged.
    pub(crate) judged: u64,
}

/// One direction of a conversation, as its opener sent it.
struct Opening {
    from: IpAddr,
    to: IpAddr,
    protocol: Protocol,
    port: u16,
    is_reply: bool,
}

impl Judge {
    pub(crate) fn new(flight_max: Duration) -> Judge {
        Judge { history: Vec::new(), flight_max, judged: 0 }
    }

    /// `model` is in force from `at` on.
    pub(crate) fn change(&mut self, at: Instant, model: Model) {
        self.history.push((at, model));
    }

    /// Whether `addr` was another pod's before.
    fn has_new_owner(&self, addr: IpAddr) -> bool {
        let owner = self.current().pod_at(addr).map(|pod| &pod.name);
        self.history.iter().filter_map(|(_, model)| model.pod_at(addr)).any(|pod| Some(&pod.name) != owner)
    }

    /// The model in force.
    pub(crate) fn current(&self) -> &Model {
        &self.history.last().expect("a model is in force").1
    }

    /// Whether the same two pods had the two addresses and the flow was allowed in every model from `at` on.
    pub(crate) fn allowed_since(
        &self,
        at: Instant,
        (from, to, protocol, port): (IpAddr, IpAddr, Protocol, u16),
    ) -> bool {
        let begin = self.history.iter().rposition(|(start, _)| *start <= at).unwrap_or(0);
        let ends = |model: &Model| {
            [from, to].map(|addr| model.pod_at(addr).map(|pod| (pod.namespace.clone(), pod.name.clone())))
        };
        let first = ends(&self.history[begin].1);
        first.iter().all(Option::is_some)
            && self.history[begin..]
                .iter()
                .all(|(_, model)| ends(model) == first && model.allows(from, to, protocol, port))
    }

    /// Objects if a pod got a packet that the model forbids.
    pub(crate) fn check(&mut self, delivery: &Delivery<'_>) -> Result<(), String> {
        if delivery.is_answer || matches!(delivery.to, Place::Node(_)) {
            return Ok(());
        }
        let Ok(packet) = Packet::check(delivery.frame.bytes()) else { return Ok(()) };
        let Some(opening) = opening(&packet) else { return Ok(()) };
        let is_cluster = |model: &Model| model.pod_at(packet.src).is_some() || model.is_virtual(packet.src);
        if !self.history.iter().any(|(_, model)| is_cluster(model)) {
            // From a node or its gateway address (a pod that reaches itself through its Service): not the model's matter.
            return Ok(());
        }
        self.judged += 1;
        // The end that delivers judges now; the other end has judged at most one flight ago.
        let current = self.current();
        let recent = || {
            let begin = self.history.iter().rposition(|(from, _)| *from + self.flight_max < delivery.at).unwrap_or(0);
            self.history[begin..].iter().map(|(_, model)| model)
        };
        let Opening { from, to, protocol, port, is_reply } = opening;
        let allowed = if is_reply {
            // What a backend that is no longer listed still says is let through, until the client speaks and learns of it.
            let listed = self.history.iter().filter_map(|(_, model)| model.backends(to, protocol, port)).flatten();
            let targets: Vec<_> = if current.is_virtual(to) { listed.collect() } else { vec![(to, port)] };
            targets.iter().any(|(to, port)| {
                current.egress(from, *to, protocol, *port)
                    && recent().any(|model| model.ingress(from, *to, protocol, *port))
            })
        } else {
            current.ingress(from, to, protocol, port) && recent().any(|model| model.egress(from, to, protocol, port))
        };
        // What is left of a connection that one end gave up (its Service's backend went, its flow expired) is nobody's
        // conversation any more, and each end may take it for one that the other opens. Without payload it does no more than to
        // end the connection on both sides; with payload it is what peers of a pod that is gone still send to its address.
        let client_port = client_port(&packet);
        let server_lets =
            |model: &Model| model.ingress(from, to, protocol, port) || model.egress(to, from, protocol, client_port);
        let client_lets =
            |model: &Model| model.egress(from, to, protocol, port) || model.ingress(to, from, protocol, client_port);
        let harmless = packet.payload_len_bytes() == 0 || self.has_new_owner(from) || self.has_new_owner(to);
        let is_leftover = harmless && recent().any(server_lets) && recent().any(client_lets);
        if allowed || is_leftover {
            return Ok(());
        }
        Err(format!("{:?}: {} got a packet that the model forbids: {packet:?}", delivery.at, delivery.to))
    }
}

fn client_port(packet: &Packet) -> u16 {
    match packet.l4 {
        L4::Tcp { src_port, dst_port, .. } | L4::Udp { src_port, dst_port } => src_port.max(dst_port),
        _ => 0,
    }
}

/// What the model is asked about a packet; `None` for what is no conversation (errors, neighbor discovery) and for later
/// fragments, whose first one was judged.
fn opening(packet: &Packet) -> Option<Opening> {
    let icmp = |is_reply| (Protocol::Icmp, 0, 0, is_reply);
    let ports = |protocol, src: u16, dst: u16| (protocol, src, dst, dst >= CLIENT_PORTS_START);
    let (protocol, src_port, dst_port, is_reply) = match packet.l4 {
        L4::Tcp { src_port, dst_port, .. } => ports(Protocol::Tcp, src_port, dst_port),
        L4::Udp { src_port, dst_port } => ports(Protocol::Udp, src_port, dst_port),
        L4::Icmp { meaning: IcmpKind::EchoRequest { .. }, .. } => icmp(false),
        L4::Icmp { meaning: IcmpKind::EchoReply { .. }, .. } => icmp(true),
        _ => return None,
    };
    Some(match is_reply {
        true => Opening { from: packet.dst, to: packet.src, protocol, port: src_port, is_reply },
        false => Opening { from: packet.src, to: packet.dst, protocol, port: dst_port, is_reply },
    })
}
