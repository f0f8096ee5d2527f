//! What the API shows: the state of the node process in the shapes of [`crate::api`].

mod drops;
mod policies;
mod services;

use super::{Agent, AgentConfig};
use crate::announce::Announcements;
use crate::api::{
    ApiError, ConfigStatus, DataplaneStatus, DnsStatus, Endpoint, Flow, NamesLearned, Port, Problem, SourceStatus,
    Status, Traffic, Transfers, UplinkInterface, UplinkStatus,
};
use crate::kubernetes::Monitor;
use crate::metrics::{Process, Scrape};
use crate::source::Origin;
use node::{ClusterDns, Dataplane, PortInfo, TapKind, UplinkState};
use policy::tables::{Direction, Owner, Tables};
use std::net::IpAddr;
use std::sync::Arc;
use switch::{Counters, DropReason, FlowInfo, PortKind};
use wire::FlowKey;

/// Flows that one answer holds at most; a listing is for people and scripts, not for accounting.
const FLOWS_MAX: usize = 100_000;

impl Agent {
    /// What the node is and has in force.
    pub(crate) fn status(&self) -> Status {
        let state = self.lock();
        let problems = state.problems.iter().map(Problem::from).collect();
        let config = match &state.in_force {
            None => ConfigStatus { problems, ..ConfigStatus::default() },
            Some(in_force) => ConfigStatus {
                generation: in_force.generation,
                epoch: in_force.tables.epoch,
                digest: in_force.digest.to_string(),
                age_ms: in_force.since.elapsed().as_millis() as u64,
                took_us: in_force.took.as_micros() as u64,
                compile_us: in_force.compile_took.as_micros() as u64,
                nodes: in_force.tables.nodes.len(),
                pods: in_force.tables.pod_count(),
                service_ports: in_force.tables.service_ports.len(),
                policies: in_force.tables.policies.len(),
                problems,
            },
        };
        let ready = state.in_force.is_some() && !state.stopping;
        let waiting_for = (!ready).then(|| self.waiting_for(&state));
        let running = state.dataplane.clone();
        drop(state);
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: self.config.node_name.clone(),
            pid: std::process::id(),
            uptime_ms: self.started.elapsed().as_millis() as u64,
            resident_bytes: resident_bytes(),
            ready,
            waiting_for,
            source: self.source(),
            config,
            dataplane: running.map(|running| dataplane(&running, self.announcements())),
        }
    }

    fn source(&self) -> SourceStatus {
        let AgentConfig { origin, service_cidrs, nodeport_addresses, external_ips, .. } = &self.config;
        SourceStatus {
            cluster_dir: match origin {
                // Whoever asks may stand in another folder than the node.
                Origin::Directory(folder) => Some(std::path::absolute(folder).unwrap_or_else(|_| folder.clone())),
                Origin::Kubernetes(_) => None,
            },
            kubernetes: self.monitor.get().map(Monitor::status),
            service_cidrs: service_cidrs.clone(),
            nodeport_addresses: nodeport_addresses.clone(),
            external_ips: external_ips.clone(),
            masquerade_all: self.config.masquerade_all,
            non_masquerade_cidrs: self.config.non_masquerade_cidrs.clone(),
            cluster_dns: self.config.cluster_dns.as_ref().map(|dns| dns.addresses.clone()).unwrap_or_default(),
        }
    }

    /// What Prometheus is told.
    pub(crate) fn scrape(&self) -> Scrape {
        Scrape {
            status: self.status(),
            // There is nothing to tell before there is a dataplane.
            ports: self.ports().unwrap_or_default(),
            drops: self.drop_counts().unwrap_or_default(),
            process: Process::read(),
        }
    }

    /// Flows of all ports.
    pub(crate) fn flows(&self) -> Result<Vec<Flow>, ApiError> {
        let (running, tables) = self.running()?;
        Ok(running.flows(FLOWS_MAX).iter().map(|info| flow(info, &tables)).collect())
    }

    fn running(&self) -> Result<(Arc<Dataplane>, Arc<Tables>), ApiError> {
        let state = self.lock();
        match (&state.dataplane, &state.in_force) {
            (Some(running), Some(in_force)) => Ok((running.clone(), in_force.tables.clone())),
            _ => Err(self.not_ready(&state)),
        }
    }
}

/// VmRSS of this process.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

fn dataplane(running: &Dataplane, announcements: Announcements) -> DataplaneStatus {
    let config = running.config();
    let counters = running.counters();
    let total = counters.switch.total();
    DataplaneStatus {
        addresses: config.underlay.clone(),
        gateways: config.gateways.clone(),
        host_interface: config.host_tap.clone(),
        pod_mtu: running.pod_mtu(),
        shards: config.shards,
        vni: config.vni.get(),
        vxlan_port: config.vxlan_port,
        ports: running.ports().len(),
        flows: counters.switch.flows,
        received: total.received.frames,
        forwarded: total.forwarded.frames,
        answered: total.answered.frames,
        asked: total.asked.frames,
        held: total.held.frames,
        dropped: total.dropped.frames,
        names: NamesLearned {
            held: counters.switch.names.held,
            learned: counters.switch.names.learned,
            forgotten: counters.switch.names.forgotten,
            unreadable: counters.switch.names.unreadable,
        },
        dns: config.cluster_dns.as_ref().map(|dns| dns_status(dns, &counters)),
        drops_forgotten: running.drops_seen().forgotten,
        tunnel_received: Transfers { datagrams: counters.io.tunnel_rx_datagrams, calls: counters.io.tunnel_rx_calls },
        tunnel_sent: Transfers { datagrams: counters.io.tunnel_tx_datagrams, calls: counters.io.tunnel_tx_calls },
        uplink: uplink(running.uplink_status(), announcements),
    }
}

fn dns_status(dns: &ClusterDns, counters: &node::Counters) -> DnsStatus {
    let desk = &counters.dns.desk;
    let mut sum = desk.responder;
    sum.add(&counters.dns.shards);
    let queue_full = counters.switch.shell.iter().filter(|(reason, _)| *reason == DropReason::DnsQueueFull);
    DnsStatus {
        addresses: dns.addresses.clone(),
        zone: dns.responder.zone.to_string(),
        udp: sum.udp,
        tcp: sum.tcp,
        no_error: sum.no_error,
        no_data: sum.no_data,
        nx_domain: sum.nx_domain,
        serv_fail: sum.serv_fail,
        refused: sum.form_err + sum.not_imp + sum.refused + sum.bad_vers,
        silent: sum.silent,
        truncated: sum.truncated,
        forwarded: sum.forwarded + sum.chased,
        cached: desk.forward.cached,
        upstream_failed: desk.forward.failed,
        connections: desk.connections.open,
        connections_accepted: desk.connections.accepted,
        overloaded: queue_full.map(|(_, count)| count).sum::<u64>()
            + desk.connections.refused
            + desk.lookups_refused
            + desk.replies_dropped,
    }
}

/// A port with its counters.
pub(super) fn port(info: &PortInfo, container_id: &str, counters: Option<&Counters>) -> Port {
    let (kind, namespace, name) = match &info.kind {
        PortKind::Pod { namespace, name } => ("pod", namespace.clone(), name.clone()),
        PortKind::Host => ("host", String::new(), String::new()),
        PortKind::Uplink => ("uplink", String::new(), String::new()),
    };
    let none = Counters::default();
    let counters = counters.unwrap_or(&none);
    Port {
        id: info.id.0,
        kind: kind.to_owned(),
        namespace,
        name,
        container_id: container_id.to_owned(),
        addresses: info.addresses.clone(),
        gateways: info.gateways.clone(),
        mac: info.mac.to_string(),
        netns: info.netns.clone(),
        ifname: info.ifname.clone(),
        mtu: info.mtu,
        mode: match info.tap {
            TapKind::Offload => "offload",
            TapKind::Plain => "plain",
        }
        .to_owned(),
        shard: info.shard.0,
        rx_packets: counters.received.frames,
        rx_bytes: counters.received.bytes,
        rx_dropped: counters.dropped.frames,
        tx_packets: counters.delivered.frames,
        tx_bytes: counters.delivered.bytes,
    }
}

fn flow(info: &FlowInfo, tables: &Tables) -> Flow {
    let FlowKey { src_port, dst_port, protocol, .. } = info.original;
    let translated = (info.reply.src(), info.reply.src_port) != (info.original.dst(), dst_port);
    Flow {
        port: info.port.0,
        protocol: protocol.to_string(),
        from: endpoint(info.original.src(), src_port, tables),
        to: endpoint(info.original.dst(), dst_port, tables),
        service: info.service.clone(),
        backend: translated.then(|| endpoint(info.reply.src(), info.reply.src_port, tables)),
        state: info.state.to_owned(),
        sent: Traffic { packets: info.original_count.0, bytes: info.original_count.1 },
        answered: Traffic { packets: info.reply_count.0, bytes: info.reply_count.1 },
        idle_ms: info.idle.as_millis() as u64,
    }
}

fn endpoint(address: IpAddr, port: u16, tables: &Tables) -> Endpoint {
    Endpoint { address, port, owner: owner_text(address, tables) }
}

/// Who has an address: `NAMESPACE/POD` or `node:NAME`.
fn owner_text(address: IpAddr, tables: &Tables) -> Option<String> {
    tables.owner(address).map(|owner| match owner {
        Owner::Pod(pod) => format!("{}/{}", tables.pod(pod).namespace, tables.pod(pod).name),
        Owner::Node(node) => format!("node:{}", tables.node(node).name),
    })
}

/// A direction as Kubernetes calls it.
fn direction_text(direction: Direction) -> &'static str {
    match direction {
        Direction::FromPod => "egress",
        Direction::ToPod => "ingress",
    }
}

fn uplink(status: node::UplinkStatus, announcements: Announcements) -> UplinkStatus {
    let (state, reason) = match status.state {
        UplinkState::Off => ("off", None),
        UplinkState::Up => ("up", None),
        UplinkState::Missing(reason) => ("missing", Some(reason)),
    };
    let interface = |interface: node::UplinkInterface| UplinkInterface {
        name: interface.name,
        mac: interface.mac.to_string(),
        mtu: interface.mtu,
        addresses: interface.addresses,
    };
    UplinkStatus {
        state: state.to_owned(),
        reason,
        interfaces: status.interfaces.into_iter().map(interface).collect(),
        claimed_ports: status.claimed_ports,
        source_ports_tcp: status.source_ports[0],
        source_ports_udp: status.source_ports[1],
        announced: status.announced,
        relayed: status.relayed,
        alive: announcements.alive,
        hindrance: announcements.hindrance,
    }
}
