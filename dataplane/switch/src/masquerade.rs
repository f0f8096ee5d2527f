//! Flows of pods to Services that have the node's gateway address for a source (`--masquerade-all`), and the way of their answers.
//!
//! What kube-proxy does with that flag: whatever goes to a Service comes from the node, so that a network that would not bring
//! answers to pods back through this node has no say. All pods of a node then share one source, so a source port is given out
//! node-wide: one of the range below that no other flow to the same backend has. The answers come to the gateway's address, which
//! is the host port's; there it is asked for which port they are meant.
//!
//! **Shards.** A shard gives out only ports whose number says which shard it is (modulo the number of shards). So every shard knows
//! which one to ask about an answer, and nothing is shared between threads. A packet that is no answer after all, because it is
//! for a process of the node, goes from there to the host port's shard and is not asked about again.
//!
//! **Range.** 1024 to 29999: below what a kernel gives to the node's own connections (net.ipv4.ip_local_port_range begins at 32768) and
//! below nodePorts. 28,976 flows per backend and node. Full: the flow is refused and counted.
//!
//! A flow to a process of this node itself keeps its source: a kernel believes no packet from outside that has its own address.

use crate::fragments::Fragments;
use crate::nat::Role;
use crate::path::Context;
use crate::place::Place;
use crate::{DropReason, PortId, ShardId, SwitchConfig};
use hashbrown::HashMap;
use wire::{FlowKey, Fragment, Packet};

/// Source ports that are given out.
const PORTS: std::ops::Range<u16> = 1_024..30_000;

/// Ports tried before a flow is refused. With nine of ten in use, that fails once in 800 flows.
const TRIES_MAX: u32 = 64;

/// Which port of this shard the answers are for.
#[derive(Debug)]
pub(crate) struct Masquerades {
    answers: HashMap<FlowKey, PortId>,
    /// Which flow the later fragments of an answer belong to.
    fragments: Fragments,
}

/// Where an answer to the gateway's address goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answered {
    /// To this port of this shard.
    Here(PortId),
    /// Another shard knows.
    At(ShardId),
}

/// Whether a pod's flow to a Service has the gateway's address for a source where it goes to `far`.
pub(crate) fn applies(cx: &Context<'_>, far: Place) -> bool {
    let attached = &cx.tables.attached;
    cx.config.masquerade_all
        && match far {
            Place::Peer(_) => true,
            // The uplink gives the node's own address itself.
            Place::Port(shard, id) => attached.host != Some((shard, id)) && attached.uplink != Some((shard, id)),
            Place::Nowhere(_) => false,
        }
}

/// Notes that a flow at `port` has answers `reply` from before; `false` if another shard would be asked about them, or they are
/// another flow's.
pub(crate) fn restore(masquerades: &mut Masquerades, config: &SwitchConfig, port: PortId, reply: &FlowKey) -> bool {
    let is_ours = PORTS.contains(&reply.dst_port) && reply.dst_port % config.shards.max(1) == config.shard.0;
    is_ours && masquerades.answers.insert(*reply, port).is_none()
}

impl Masquerades {
    pub(crate) fn new(seed: u64) -> Masquerades {
        Masquerades { answers: HashMap::new(), fragments: Fragments::new(seed) }
    }

    /// The key of the answers of a flow that opens with `original` at `port`; `answers` says all but the source port that is
    /// given out.
    pub(crate) fn lease(
        &mut self,
        cx: &Context<'_>,
        port: PortId,
        original: &FlowKey,
        mut answers: FlowKey,
    ) -> Result<FlowKey, DropReason> {
        let (shards, shard) = (u32::from(cx.config.shards.max(1)), u32::from(cx.config.shard.0));
        let (from, to) = (u32::from(PORTS.start), u32::from(PORTS.end));
        let first = from + (shard + shards - from % shards) % shards;
        let count = (to - first).div_ceil(shards);
        let start = original.hash_with(cx.config.seed) as u32 % count;
        for n in 0..TRIES_MAX.min(count) {
            answers.dst_port = (first + (start + n * 7_919) % count * shards) as u16;
            if !self.answers.contains_key(&answers) {
                self.answers.insert(answers, port);
                return Ok(answers);
            }
        }
        Err(DropReason::SourcePortsExhausted)
    }

    /// A flow with these answers is over.
    pub(crate) fn release(&mut self, answers: &FlowKey) {
        self.answers.remove(answers);
    }

    /// A port is gone, and its flows with it.
    pub(crate) fn release_all_of(&mut self, port: PortId) {
        self.answers.retain(|_, of| *of != port);
    }

    /// Where a packet for the gateway's address goes if it answers one of these flows. A first fragment is remembered for the
    /// others of its datagram.
    pub(crate) fn find(&mut self, cx: &Context<'_>, packet: &Packet, role: &Role) -> Option<Answered> {
        if !cx.config.masquerade_all || !cx.config.gateways.contains(&packet.dst) {
            return None;
        }
        let key = match role {
            Role::Own(key) => *key,
            Role::Error(keys) => *keys.iter().flatten().find(|key| self.is_answer(cx, key))?,
            Role::Fragment => self.fragments.noted_flow(cx.now, packet)?,
        };
        let found = self.find_key(cx, &key)?;
        if let Fragment::First { .. } = packet.fragment {
            self.fragments.note(cx.now, packet, key);
        }
        Some(found)
    }

    fn is_answer(&self, cx: &Context<'_>, key: &FlowKey) -> bool {
        self.find_key(cx, key).is_some()
    }

    fn find_key(&self, cx: &Context<'_>, key: &FlowKey) -> Option<Answered> {
        if !key.protocol.has_ports() || !PORTS.contains(&key.dst_port) {
            return None;
        }
        let shard = ShardId(key.dst_port % cx.config.shards.max(1));
        if shard == cx.config.shard {
            self.answers.get(key).map(|port| Answered::Here(*port))
        } else {
            Some(Answered::At(shard))
        }
    }
}
