//! Where a flow to a Service is led, and whether it may stay there. A node's port that leads to a pod
//! (hostPort) is a Service of one backend here.
//!
//! The tables say which backends a flow may reach by the address it used, where it comes from and the Service's policies. Here one
//! of them is chosen: the one that the client had last if the Service has session affinity, else by the flow's hash; a connection
//! attempt that is made again goes to one that it has not been at. A flow that was opened stays with its backend while that is
//! listed; whatever else changes about its Service is asked again under every new tables (S13, S14, B01, B02).

use crate::DropReason;
use crate::path::Context;
use crate::place;
use crate::ports::{Port, Shared};
use crate::retry::Tried;
use policy::tables::{Backend, Candidates, Choice, Client, FlowHash, Frontend, FrontendKind, ServicePortIndex};
use std::net::IpAddr;
use wire::FlowKey;

/// Where the packets of a flow to open are sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pub(crate) addr: IpAddr,
    pub(crate) port: u16,
    /// The Service port that led there.
    pub(crate) service: Option<ServicePortIndex>,
}

impl Target {
    /// The destination itself.
    pub(crate) fn plain(key: &FlowKey) -> Target {
        Target { addr: key.dst(), port: key.dst_port, service: None }
    }
}

/// Whose flows a port opens.
pub(crate) fn client_of(port: &Port) -> Client {
    if port.is_uplink() { Client::Outside } else { Client::Inside }
}

/// Finds out where packets with `key`, which open a flow at `port`, are sent: not to the backends that were `tried`. The error says
/// why a Service does not take them.
pub(crate) fn find_target(
    cx: &Context<'_>,
    port: &Port,
    shared: &mut Shared,
    key: &FlowKey,
    tried: &Tried,
) -> Result<Target, DropReason> {
    let policy = &cx.tables.policy;
    let dst = key.dst();
    let Some(frontend) = policy.find_service(dst, key.protocol, key.dst_port) else {
        return if policy.is_virtual(dst) { Err(DropReason::NoSuchServicePort) } else { Ok(Target::plain(key)) };
    };
    let client = client_of(port);
    let candidates = policy.admit(frontend, dst, cx.tables.own(), client, key.src()).map_err(reason);
    match candidates.and_then(|candidates| choose(cx, shared, frontend, client, key, &candidates, tried)) {
        Ok(Backend { addr, port, .. }) => Ok(Target { addr, port, service: Some(frontend.service) }),
        Err(reason) => {
            shared.hits.of(policy.service(frontend.service).id).refused += 1;
            Err(reason)
        }
    }
}

fn reason(refusal: Choice) -> DropReason {
    match refusal {
        Choice::NoLocalEndpoint => DropReason::NoLocalEndpoint,
        Choice::SourceNotAllowed => DropReason::SourceNotAllowed,
        Choice::NoEndpoint | Choice::Backend(_) => DropReason::NoBackend,
    }
}

/// Chooses among the candidates and remembers the choice where the Service has session affinity.
fn choose(
    cx: &Context<'_>,
    shared: &mut Shared,
    frontend: Frontend,
    client: Client,
    key: &FlowKey,
    candidates: &Candidates<'_>,
    tried: &Tried,
) -> Result<Backend, DropReason> {
    let service = cx.tables.policy.service_entry(frontend.service);
    let affinity = &mut shared.affinity;
    let remembered = service.affinity.and_then(|timeout| {
        let addr = affinity.find(cx.now, service.id, key.src(), timeout)?;
        candidates.find(addr).filter(|backend| !tried.has(backend.addr))
    });
    let chosen = remembered.or_else(|| {
        let hash = FlowHash::new(key, cx.config.seed);
        let first = match client {
            Client::Inside => candidates.pick(hash.seeded),
            Client::Outside => candidates.pick_consistently(hash.cluster_wide),
        };
        first.filter(|backend| !tried.has(backend.addr)).or_else(|| untried(candidates, tried, hash.seeded))
    });
    let chosen = chosen.ok_or(DropReason::NoBackend)?;
    if service.affinity.is_some() {
        affinity.remember(cx.now, service.id, key.src(), chosen.addr);
    }
    Ok(chosen)
}

/// A candidate that was not tried: there are few that were, so one is found after as many looks at most.
fn untried(candidates: &Candidates<'_>, tried: &Tried, hash: u64) -> Option<Backend> {
    let count = candidates.len();
    let start = ((u128::from(hash.rotate_left(32)) * count as u128) >> 64) as usize;
    let looks = count.min(tried.len() + 1);
    (0..looks).filter_map(|look| candidates.get((start + look) % count)).find(|backend| !tried.has(backend.addr))
}

/// Whether a flow that opens with `key` at `port` could go to a backend that was not `tried`.
pub(crate) fn has_untried(cx: &Context<'_>, port: &Port, key: &FlowKey, tried: &Tried) -> bool {
    let policy = &cx.tables.policy;
    let Some(frontend) = policy.find_service(key.dst(), key.protocol, key.dst_port) else { return false };
    let candidates = policy.admit(frontend, key.dst(), cx.tables.own(), client_of(port), key.src());
    candidates.is_ok_and(|candidates| untried(&candidates, tried, 0).is_some())
}

/// Whether packets with key `original`, which opened a flow at `port`, may still be sent to where `reply` comes from; `service`
/// says whether they were sent there by a Service.
pub(crate) fn is_still_target(
    cx: &Context<'_>,
    port: &Port,
    original: &FlowKey,
    reply: &FlowKey,
    service: bool,
) -> bool {
    let policy = &cx.tables.policy;
    match policy.find_service(original.dst(), original.protocol, original.dst_port) {
        Some(frontend) => {
            let at = (reply.src(), reply.src_port);
            service && policy.may_stay(frontend, original.dst(), cx.tables.own(), client_of(port), original.src(), at)
        }
        None => !service && !policy.is_virtual(original.dst()),
    }
}

/// Whether a flow that opens now with key `original` at `port` could go to where `reply` comes from: a connection that begins
/// again on the 5-tuple of another one has no right to that one's backend (B19).
pub(crate) fn is_candidate(cx: &Context<'_>, port: &Port, original: &FlowKey, reply: &FlowKey) -> bool {
    let policy = &cx.tables.policy;
    let dst = original.dst();
    policy.find_service(dst, original.protocol, original.dst_port).is_some_and(|frontend| {
        let candidates = policy.candidates(frontend, dst, cx.tables.own(), client_of(port));
        candidates.find(reply.src()).is_some()
    })
}

/// Whether packets with `key`, which belong to no flow, are for a Service that is reached from outside: at an address of this node
/// whose port is claimed, or at a virtual address that is not the cluster's own business.
pub(crate) fn is_served_outside(cx: &Context<'_>, key: &FlowKey) -> bool {
    let dst = key.dst();
    let frontend = cx.tables.policy.find_service(dst, key.protocol, key.dst_port);
    match frontend.map(|frontend| frontend.kind) {
        Some(FrontendKind::ClusterIp) => false,
        Some(_) if cx.tables.is_own_address(dst) => {
            !cx.tables.attached.unclaimed.contains(&(key.protocol, key.dst_port))
        }
        // Another node's own address.
        Some(FrontendKind::NodePort | FrontendKind::HostPort) => false,
        Some(FrontendKind::LoadBalancer | FrontendKind::ExternalIp) => true,
        // Another port of an address that nobody else will refuse.
        None => is_virtual_outside(cx, dst),
    }
}

/// Whether `addr` is a Service's address that is reached from outside and that no node has for its own. Names are not answered
/// to the outside.
pub(crate) fn is_virtual_outside(cx: &Context<'_>, addr: IpAddr) -> bool {
    let policy = &cx.tables.policy;
    let is_reached = policy.is_virtual(addr) && !policy.is_cluster_dns(addr);
    is_reached && !cx.tables.is_own_address(addr) && !place::is_service_range(cx, addr)
}

/// The cluster address of the Service that packets with `key` are for.
pub(crate) fn cluster_ip(cx: &Context<'_>, key: &FlowKey) -> Option<IpAddr> {
    let dst = key.dst();
    let frontend = cx.tables.policy.find_service(dst, key.protocol, key.dst_port)?;
    let cluster_ips = &cx.tables.policy.service_entry(frontend.service).cluster_ips;
    cluster_ips.iter().copied().find(|addr| addr.is_ipv4() == dst.is_ipv4())
}
