//! What the stages of a frame's way share: what they may look at, who sent a packet, and how a way ends.

use crate::counters::AnswerKind;
use crate::later::Stage;
use crate::path_mtu::PathMtus;
use crate::{DropReason, Exit, Origin, Query, SwitchConfig, Tables};
use overlay::peers::PeerId;
use std::net::IpAddr;
use wire::{FlowKey, Instant, Malformed, Protocol};

/// What every stage may look at.
pub(crate) struct Context<'a> {
    pub(crate) config: &'a SwitchConfig,
    pub(crate) tables: &'a Tables,
    /// Number of the table swap; a flow of another one is judged again.
    pub(crate) epoch: u32,
    pub(crate) now: Instant,
    /// Ways to peers that take less than the tunnel's MTU.
    pub(crate) path_mtus: &'a PathMtus,
}

impl Context<'_> {
    /// Whether `addr` is this node's own: reached through the host port, and only the host port sends from it.
    #[inline]
    pub(crate) fn is_host_address(&self, addr: IpAddr) -> bool {
        self.config.gateways.contains(&addr) || self.tables.is_own_address(addr)
    }
}

/// The end of a frame's way other than an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Discarded.
    Drop(DropReason),
    /// The frame is an answer to its sender.
    Answer(AnswerKind, Exit),
    /// It is for the cluster DNS.
    Ask(Query),
    /// A later fragment waits at this stage for its first.
    Wait(Stage),
}

impl From<DropReason> for Stop {
    fn from(reason: DropReason) -> Stop {
        Stop::Drop(reason)
    }
}

impl From<Malformed> for Stop {
    fn from(malformed: Malformed) -> Stop {
        Stop::Drop(malformed.into())
    }
}

pub(crate) type Step<T> = Result<T, Stop>;

/// Who sent a packet that goes into a port: an [`Origin`], in the numbers of these tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A pod of this node, or the node itself, asked at admission.
    Port,
    /// Somebody outside.
    Uplink,
    /// Another node, from this underlay address.
    Peer(PeerId, IpAddr),
}

impl Sender {
    pub(super) fn at(cx: &Context<'_>, origin: Origin) -> Result<Sender, DropReason> {
        Ok(match origin {
            Origin::Port => Sender::Port,
            Origin::Uplink => Sender::Uplink,
            Origin::Peer(addr) => {
                Sender::Peer(cx.tables.peers.find_by_underlay(addr).ok_or(DropReason::UnknownPeer)?, addr)
            }
        })
    }

    pub(super) fn origin(self) -> Origin {
        match self {
            Sender::Port => Origin::Port,
            Sender::Uplink => Origin::Uplink,
            Sender::Peer(_, addr) => Origin::Peer(addr),
        }
    }

    /// The zone of a flow that is told from another one only by how its packets reach this node.
    pub(super) fn zone(self) -> u16 {
        match self {
            Sender::Port => 0,
            Sender::Uplink => 1,
            // The same zone for two peers is harmless: it only matters if one client's packets come through both at once.
            Sender::Peer(_, addr) => (FlowKey::new(Protocol(0), addr, 0, addr, 0).hash_with(0) as u16).max(2),
        }
    }
}
