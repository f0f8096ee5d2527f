//! What an event does: the stacks' turns, the frames' ways through switches and links.

use super::envelope::{self, Envelope};
use super::{AttachedId, CapturePoint, Delivery, NodeId, Place, Sending, Sim};
use overlay::tunnel::{Outgoing, SOURCE_PORTS, source_port};
use overlay::vxlan::VXLAN_PORT;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use switch::{DropReason, Exit, Fate, Origin, PortId, ShardId};
use wire::{Checksum, FRAME_MAX_BYTES, Frame, Instant, Packet, checksum};

/// From a switch to the stack behind a port.
const DELIVERY: Duration = Duration::from_micros(1);
/// From one shard to another.
const HANDOVER: Duration = Duration::from_micros(2);
/// A node looks at its tunnel socket this often while something arrives, so that datagrams which arrive close together are
/// received together.
const TUNNEL_TURN: Duration = Duration::from_micros(20);
/// A stack that has more to do takes its next turn after this time.
const TURN: Duration = Duration::from_micros(1);
/// Flows looked at per expiry.
const EXPIRE_BUDGET: usize = 1_024;
/// How often a shard without flows looks for expired ones.
const EXPIRE_IDLE: Duration = Duration::from_secs(1);

/// Something that happens.
pub(super) enum Event {
    /// A stack's turn.
    Turn(AttachedId),
    /// A frame reaches a node over the underlay.
    Arrival(NodeId, Vec<u8>),
    /// A node looks at what arrived.
    Tunnel(NodeId),
    /// A frame reaches another shard of a node.
    Handover(NodeId, ShardId, PortId, Origin, Frame),
    /// A shard removes expired flows.
    Expire(NodeId, ShardId),
    /// A shard lets go of what it held for too long.
    Due(NodeId, ShardId),
}

impl Sim {
    /// Lets the next event happen if it is due at `until` at the latest; false if there is none.
    pub(super) fn step(&mut self, until: Instant) -> bool {
        let Some((at, event)) = self.events.pop_until(until) else { return false };
        self.now = at;
        match event {
            Event::Turn(id) => self.turn(id),
            Event::Arrival(node, frame) => self.arrive(node, frame),
            Event::Tunnel(node) => self.tunnel_turn(node),
            Event::Handover(node, shard, port, origin, mut frame) => {
                let fate = self.nodes[node.0].switch(shard).to_port(at, port, origin, &mut frame);
                self.settle(node, shard, fate, frame);
            }
            Event::Expire(node, shard) => {
                let next = self.nodes[node.0].switch(shard).expire(at, EXPIRE_BUDGET);
                self.events.push(next.unwrap_or(at + EXPIRE_IDLE).max(at + TURN), Event::Expire(node, shard));
                self.release(node, shard);
            }
            Event::Due(node, shard) => {
                self.nodes[node.0].due[usize::from(shard.0)] = None;
                self.nodes[node.0].switch(shard).expire(at, EXPIRE_BUDGET);
                self.release(node, shard);
            }
        }
        true
    }

    /// The stack takes a turn at `at`, or earlier if it was to.
    pub(super) fn wake(&mut self, id: AttachedId, at: Instant) {
        let Some(attached) = &mut self.attached[id.0] else { return };
        if attached.wake_at.is_none_or(|planned| planned > at) {
            attached.wake_at = Some(at);
            self.events.push(at, Event::Turn(id));
        }
    }

    fn turn(&mut self, id: AttachedId) {
        let now = self.now;
        // Another turn may have been planned before this one, and one of a detached stack may be left.
        let Some(attached) = self.attached[id.0].as_mut().filter(|attached| attached.wake_at == Some(now)) else {
            return;
        };
        attached.wake_at = None;
        let sent = attached.turn(now, &mut self.tasks);
        let next = attached.next_turn(now);
        let (node, shard, port, place) = (attached.node, attached.shard, attached.port, attached.place.clone());
        for mut frame in sent {
            self.record(&CapturePoint::Place(place.clone()), frame.bytes());
            let (node, shard, port) = match place {
                Place::World => match self.enters_at(&frame) {
                    Some(entry) => entry,
                    None => continue,
                },
                _ => (node, shard, port),
            };
            if let Some(observer) = &mut self.send_observer {
                observer(&Sending { at: now, from: &place, node: &self.nodes[node.0].name, frame: &frame });
            }
            let switch = self.nodes[node.0].switch(shard);
            let fate = match place {
                Place::Pod { .. } => switch.from_pod(now, port, &mut frame),
                Place::Node(_) => switch.from_host(now, port, &mut frame),
                Place::World => switch.from_uplink(now, port, &mut frame),
            };
            self.settle(node, shard, fate, frame);
        }
        if let Some(next) = next {
            self.wake(id, next.max(now + TURN));
        }
    }

    /// The uplink of the node that a frame of the world is for.
    fn enters_at(&self, frame: &Frame) -> Option<(NodeId, ShardId, PortId)> {
        let dst = Packet::check(frame.bytes()).ok()?.dst;
        let node = self.nodes.iter().position(|node| node.underlay.contains(&dst))?;
        self.nodes[node].uplink.map(|(shard, port)| (NodeId(node), shard, port))
    }

    fn record(&mut self, point: &CapturePoint, frame: &[u8]) {
        if let Some(capture) = self.captures.get_mut(point) {
            capture.push(self.now, frame);
        }
    }

    /// Sends a frame where its fate says, and whatever the switch lets go because of it.
    fn settle(&mut self, node: NodeId, shard: ShardId, fate: Fate, frame: Frame) {
        self.carry_out(node, shard, fate, frame);
        self.release(node, shard);
    }

    /// Sends what the switch held until now, and has it looked at again when the next held frame is due.
    fn release(&mut self, node: NodeId, shard: ShardId) {
        while self.nodes[node.0].switch(shard).has_pending() {
            let mut frame = Frame::with_capacity(FRAME_MAX_BYTES);
            if let Some(fate) = self.nodes[node.0].switch(shard).release(self.now, &mut frame) {
                self.carry_out(node, shard, fate, frame);
            }
        }
        let node_state = &mut self.nodes[node.0];
        if let Some(at) = node_state.switch(shard).deadline()
            && node_state.due[usize::from(shard.0)].is_none_or(|planned| planned > at)
        {
            node_state.due[usize::from(shard.0)] = Some(at);
            self.events.push(at.max(self.now), Event::Due(node, shard));
        }
    }

    fn carry_out(&mut self, node: NodeId, shard: ShardId, fate: Fate, frame: Frame) {
        let (exit, is_answer) = match fate {
            Fate::Forward(exit) => (exit, false),
            Fate::Answer(exit) => (exit, true),
            // No name server is simulated.
            Fate::Ask(_) | Fate::Held | Fate::Drop(_) => return,
        };
        match exit {
            Exit::Port(port) => self.deliver(node, shard, port, frame, is_answer),
            Exit::Shard(other, port, origin) => {
                self.events.push(self.now + HANDOVER, Event::Handover(node, other, port, origin, frame));
            }
            Exit::Peer(peer) => {
                let peer = self.nodes[node.0].tables.as_ref().and_then(|tables| tables.peers.get(peer));
                let addr = peer.and_then(|peer| peer.underlay.first()).copied();
                let ends = addr.and_then(|dst| Some((self.nodes[node.0].underlay_of_family(dst.is_ipv4())?, dst)));
                let sent = ends.is_some_and(|(src, dst)| self.send(node, src, dst, frame));
                if !sent {
                    self.nodes[node.0].switch(shard).count_drop(DropReason::TunnelSendFailed);
                }
            }
        }
    }

    fn deliver(&mut self, node: NodeId, shard: ShardId, port: PortId, frame: Frame, is_answer: bool) {
        let Some(id) = self.nodes[node.0].ports.get(&port).copied() else {
            return self.nodes[node.0].switch(shard).count_drop(DropReason::DeviceGone);
        };
        let Some(attached) = &mut self.attached[id.0] else { return };
        let place = attached.place.clone();
        self.inspect(&place, &frame, is_answer);
        self.record(&CapturePoint::Place(place), frame.bytes());
        if let Some(attached) = &mut self.attached[id.0] {
            attached.stack.receive(frame);
        }
        self.wake(id, self.now + DELIVERY);
    }

    /// Checks what holds for every delivery, and asks the observer.
    fn inspect(&mut self, place: &Place, frame: &Frame, is_answer: bool) {
        let at = self.now;
        let packet = Packet::check(frame.bytes());
        if let Ok(packet) = packet
            && frame.offload.checksum == Checksum::Verified
            && !checksum::verify_l4(frame.bytes(), &packet)
        {
            self.violations.push(format!("{at:?}: {place} got a corrupt packet that was marked good: {packet:?}"));
        }
        if let Some(observer) = &mut self.observer
            && let Err(violation) = observer(&Delivery { at, to: place, frame, is_answer })
        {
            self.violations.push(violation);
        }
    }

    /// Cuts and wraps a frame, and gives its datagrams to the link; false if that is not possible.
    fn send(&mut self, node: NodeId, src: IpAddr, dst: IpAddr, mut frame: Frame) -> bool {
        let Some(to) = self.nodes.iter().position(|other| other.underlay.contains(&dst)).map(NodeId) else {
            return false;
        };
        let Ok(outgoing) = Outgoing::new(&mut frame, self.nodes[node.0].vni) else { return false };
        let src_port = source_port(outgoing.flow_hash(), &SOURCE_PORTS);
        let envelope = Envelope { src: SocketAddr::new(src, src_port), dst: SocketAddr::new(dst, VXLAN_PORT) };
        for index in 0..outgoing.count() {
            let mut datagram = vec![0; outgoing.prefix_len()];
            outgoing.write_prefix(index, &mut datagram);
            datagram.extend_from_slice(outgoing.payload(index));
            let bytes = envelope::wrap(&envelope, &datagram);
            self.record(&CapturePoint::Underlay, &bytes);
            let arrivals = self.link(node, to).carry(bytes.len() - 14);
            for arrival in arrivals {
                let mut copy = bytes.clone();
                if let Some(number) = arrival.corrupt {
                    envelope::corrupt(&mut copy, number);
                }
                self.events.push(self.now + arrival.after, Event::Arrival(to, copy));
            }
        }
        true
    }

    fn arrive(&mut self, node: NodeId, frame: Vec<u8>) {
        let inbox = &mut self.nodes[node.0].inbox;
        inbox.push(frame);
        if inbox.len() == 1 {
            self.events.push(self.now + TUNNEL_TURN, Event::Tunnel(node));
        }
    }

    fn tunnel_turn(&mut self, node: NodeId) {
        for (shard, sender, mut frame) in self.nodes[node.0].receive() {
            let fate = self.nodes[node.0].switch(shard).from_peer(self.now, sender, &mut frame);
            self.settle(node, shard, fate, frame);
        }
    }
}
