//! Where an address lives, as seen from this node.

use crate::path::Context;
use crate::{DropReason, PortId, ShardId};
use overlay::peers::PeerId;
use policy::tables::Owner;
use std::net::IpAddr;

/// Where packets for an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To a port of this node: a pod's, or the host port.
    Port(ShardId, PortId),
    /// To another node.
    Peer(PeerId),
    /// Nowhere, for this reason.
    Nowhere(DropReason),
}

/// The place of `addr`. An attached port wins over what the objects say, the objects over the pod ranges: a pod that is not
/// compiled yet is still found on its node.
pub(crate) fn find(cx: &Context<'_>, addr: IpAddr) -> Place {
    if let Some((shard, port)) = cx.tables.port_of(addr) {
        return Place::Port(shard, port);
    }
    if cx.is_host_address(addr) {
        return match cx.tables.host {
            Some((shard, port)) => Place::Port(shard, port),
            None => Place::Nowhere(DropReason::PortGone),
        };
    }
    let node = match cx.tables.policy.owner(addr) {
        Some(Owner::Pod(pod)) => cx.tables.policy.pods[pod.0 as usize].node,
        Some(Owner::Node(node)) => Some(node),
        None => None,
    };
    if let Some(peer) = node.and_then(|node| cx.tables.peer_of_node(node)) {
        return Place::Peer(peer);
    }
    match cx.tables.peers.route(addr) {
        Some(peer) => Place::Peer(peer),
        None if cx.tables.is_own_pod_range(addr) => Place::Nowhere(DropReason::UnknownPod),
        None => Place::Nowhere(DropReason::NoRoute),
    }
}

/// Whether `addr` may be the source of a packet that `peer` sends: an address of that node, or of a pod there.
pub(crate) fn belongs_to(cx: &Context<'_>, peer: PeerId, addr: IpAddr) -> bool {
    if cx.tables.port_of(addr).is_some() || cx.is_host_address(addr) {
        return false;
    }
    let owner_node = match cx.tables.policy.owner(addr) {
        Some(Owner::Pod(pod)) => cx.tables.policy.pods[pod.0 as usize].node,
        Some(Owner::Node(node)) => Some(node),
        None => None,
    };
    let owner = owner_node.and_then(|node| cx.tables.peer_of_node(node));
    owner == Some(peer) || cx.tables.peers.route(addr) == Some(peer)
}
