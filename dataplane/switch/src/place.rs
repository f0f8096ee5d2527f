//! Where an address lives, as seen from this node.

use crate::path::Context;
use crate::{DropReason, PortId, ShardId};
use overlay::peers::PeerId;
use policy::tables::Owner;
use std::net::IpAddr;

/// Where packets for an address go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// To a port of this node: a pod's, the host port, or the uplink for all that is outside the cluster.
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
        return match cx.tables.attached.host {
            Some((shard, port)) => Place::Port(shard, port),
            None => Place::Nowhere(DropReason::PortGone),
        };
    }
    if let Some(peer) = peer_of(cx, addr) {
        return Place::Peer(peer);
    }
    match is_outside(cx, addr) {
        true if cx.tables.own_address(addr.is_ipv4()).is_some() => uplink(cx),
        false if cx.tables.is_own_pod_range(addr) => Place::Nowhere(DropReason::UnknownPod),
        _ => Place::Nowhere(DropReason::NoRoute),
    }
}

/// The way out of the cluster.
pub(crate) fn uplink(cx: &Context<'_>) -> Place {
    match cx.tables.attached.uplink {
        Some((shard, port)) => Place::Port(shard, port),
        None => Place::Nowhere(DropReason::NoRoute),
    }
}

/// Whether `addr` is nobody's in the cluster: no pod's, node's or Service's, in no range that they get addresses from.
pub(crate) fn is_outside(cx: &Context<'_>, addr: IpAddr) -> bool {
    !is_inside_this_node(cx, addr)
        && cx.tables.policy.owner(addr).is_none()
        && cx.tables.peers.route(addr).is_none()
        && !is_service_range(cx, addr)
        && !cx.tables.policy.is_virtual(addr)
}

/// Whether `addr` is in a range that Services get their cluster addresses from.
pub(crate) fn is_service_range(cx: &Context<'_>, addr: IpAddr) -> bool {
    cx.config.service_cidrs.iter().any(|cidr| cidr.contains(&addr))
}

/// Whether `addr` is an address of another node on the underlay.
pub(crate) fn is_other_node(cx: &Context<'_>, addr: IpAddr) -> bool {
    !cx.is_host_address(addr) && cx.tables.peers.find_by_underlay(addr).is_some()
}

fn is_inside_this_node(cx: &Context<'_>, addr: IpAddr) -> bool {
    cx.tables.port_of(addr).is_some() || cx.is_host_address(addr) || cx.tables.is_own_pod_range(addr)
}

/// The node that has `addr`, as the objects say, or the pod ranges.
fn peer_of(cx: &Context<'_>, addr: IpAddr) -> Option<PeerId> {
    let node = match cx.tables.policy.owner(addr) {
        Some(Owner::Pod(pod)) => cx.tables.policy.node_of_pod(pod),
        Some(Owner::Node(node)) => Some(node),
        None => None,
    };
    node.and_then(|node| cx.tables.peer_of_node(node)).or_else(|| cx.tables.peers.route(addr))
}

/// Whether `addr` may be the source of a packet that `peer` sends: an address of that node, or of a pod there.
pub(crate) fn belongs_to(cx: &Context<'_>, peer: PeerId, addr: IpAddr) -> bool {
    if cx.tables.port_of(addr).is_some() || cx.is_host_address(addr) {
        return false;
    }
    let owner_node = match cx.tables.policy.owner(addr) {
        Some(Owner::Pod(pod)) => cx.tables.policy.node_of_pod(pod),
        Some(Owner::Node(node)) => Some(node),
        None => None,
    };
    let owner = owner_node.and_then(|node| cx.tables.peer_of_node(node));
    owner == Some(peer) || cx.tables.peers.route(addr) == Some(peer)
}
