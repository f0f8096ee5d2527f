//! Where the rules of policies cut ports, addresses and names: between two cuts every rule gives the same answer, so whoever
//! asks once in every piece has asked about everything.
//!
//! In: policies as they are written. Out: the pieces. More cuts than necessary cost time and change no answer; one too few
//! would be a wrong answer, so nothing is taken from how policies are compiled.

use crate::objects::cluster_network_policy::{Protocol as PolicyProtocol, Transport};
use crate::tables::{ContainerPort, Direction, PolicyEntry, PolicyObject, Tables};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use wire::Protocol;

/// Protocols that have ports.
pub(crate) const TRANSPORTS: [Protocol; 3] = [Protocol::TCP, Protocol::UDP, Protocol::SCTP];

/// Cuts through ports, addresses and names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cuts {
    /// First ports of pieces.
    ports: BTreeSet<(u8, u16)>,
    /// Names of ports; their numbers are the receiver's.
    pub(crate) port_names: BTreeSet<String>,
    v4: BTreeSet<u128>,
    v6: BTreeSet<u128>,
    /// DNS names and `*.` patterns.
    pub(crate) domain_names: BTreeSet<String>,
}

impl Cuts {
    /// The cuts of all policies of `tables`.
    pub(crate) fn of(tables: &Tables) -> Cuts {
        let mut cuts = Cuts::default();
        for policy in tables.policies.iter() {
            cuts.add_policy(policy, Direction::FromPod);
            cuts.add_policy(policy, Direction::ToPod);
        }
        cuts
    }

    /// Adds the cuts of the rules of `policy` for one direction.
    pub(crate) fn add_policy(&mut self, policy: &PolicyEntry, direction: Direction) {
        match (&policy.object, direction) {
            (PolicyObject::NetworkPolicy(policy), Direction::ToPod) => {
                for rule in policy.spec.iter().flat_map(|spec| spec.ingress.iter().flatten()) {
                    self.add_rule(rule.from.as_deref(), rule.ports.as_deref());
                }
            }
            (PolicyObject::NetworkPolicy(policy), Direction::FromPod) => {
                for rule in policy.spec.iter().flat_map(|spec| spec.egress.iter().flatten()) {
                    self.add_rule(rule.to.as_deref(), rule.ports.as_deref());
                }
            }
            (PolicyObject::ClusterNetworkPolicy(policy), Direction::ToPod) => {
                for rule in policy.spec.ingress.iter().flatten() {
                    rule.protocols.iter().flatten().for_each(|protocol| self.add_protocol(protocol));
                }
            }
            (PolicyObject::ClusterNetworkPolicy(policy), Direction::FromPod) => {
                for rule in policy.spec.egress.iter().flatten() {
                    rule.protocols.iter().flatten().for_each(|protocol| self.add_protocol(protocol));
                    for peer in &rule.to {
                        peer.networks.iter().flatten().for_each(|network| self.add_block(network));
                        self.domain_names.extend(peer.domain_names.iter().flatten().map(|name| name.to_lowercase()));
                    }
                }
            }
        }
    }

    fn add_rule(&mut self, peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>) {
        for block in peers.into_iter().flatten().filter_map(|peer| peer.ip_block.as_ref()) {
            self.add_block(&block.cidr);
            block.except.iter().flatten().for_each(|except| self.add_block(except));
        }
        for port in ports.into_iter().flatten() {
            let protocol = port.protocol.as_deref().unwrap_or("TCP");
            match &port.port {
                Some(IntOrString::Int(first)) => {
                    let protocol = TRANSPORTS.into_iter().find(|known| known.to_string() == protocol);
                    self.add_ports(protocol.as_ref(), *first, port.end_port.unwrap_or(*first));
                }
                Some(IntOrString::String(name)) => {
                    self.port_names.insert(name.clone());
                }
                None => {}
            }
        }
    }

    fn add_protocol(&mut self, protocol: &PolicyProtocol) {
        let transports =
            [(&protocol.tcp, Protocol::TCP), (&protocol.udp, Protocol::UDP), (&protocol.sctp, Protocol::SCTP)];
        for (transport, protocol) in transports {
            let Some(Transport { destination_port: Some(port) }) = transport else { continue };
            if let Some(number) = port.number {
                self.add_ports(Some(&protocol), number, number);
            }
            if let Some(range) = port.range {
                self.add_ports(Some(&protocol), range.start, range.end);
            }
        }
        self.port_names.extend(protocol.destination_named_port.clone());
    }

    fn add_ports(&mut self, protocol: Option<&Protocol>, first: i32, last: i32) {
        let Some(protocol) = protocol else { return };
        let starts = [first, last.saturating_add(1)].into_iter().filter_map(|start| u16::try_from(start).ok());
        self.ports.extend(starts.map(|start| (protocol.0, start)));
    }

    fn add_block(&mut self, text: &str) {
        if let Ok(net) = text.parse::<IpNet>() {
            self.add_net(net);
        }
    }

    /// Adds the borders of a network.
    pub(crate) fn add_net(&mut self, net: IpNet) {
        let cuts = if net.addr().is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        cuts.insert(number(net.network()));
        cuts.extend(number(net.broadcast()).checked_add(1));
    }

    /// Adds the cuts of `other`.
    pub(crate) fn add(&mut self, other: &Cuts) {
        self.ports.extend(&other.ports);
        self.port_names.extend(other.port_names.iter().cloned());
        self.v4.extend(&other.v4);
        self.v6.extend(&other.v6);
        self.domain_names.extend(other.domain_names.iter().cloned());
    }

    /// Ports 1 to 65535 of `protocol` in pieces. `named` are container ports of the receiver: where rules name ports, each is
    /// a piece of its own. Protocols without ports have one piece, port 0.
    pub(crate) fn port_pieces<'a>(
        &self,
        protocol: Protocol,
        named: impl Iterator<Item = &'a ContainerPort>,
    ) -> Vec<RangeInclusive<u16>> {
        if !protocol.has_ports() {
            return vec![0..=0];
        }
        let range = (protocol.0, 0)..=(protocol.0, u16::MAX);
        let mut starts: BTreeSet<u16> = self.ports.range(range).map(|(_, start)| *start).collect();
        starts.insert(1);
        starts.remove(&0);
        if !self.port_names.is_empty() {
            for port in named.filter(|port| self.port_names.contains(&*port.name)) {
                starts.insert(port.port);
                starts.extend(port.port.checked_add(1));
            }
        }
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([u16::MAX]);
        starts.iter().copied().zip(ends).map(|(start, end)| start..=end).collect()
    }

    /// Whether there is a cut through addresses.
    pub(crate) fn cuts_addresses(&self) -> bool {
        !self.v4.is_empty() || !self.v6.is_empty()
    }

    /// All addresses of a family in pieces, first and last of each.
    pub(crate) fn address_pieces(&self, ipv4: bool) -> Vec<(IpAddr, IpAddr)> {
        let (cuts, max) = if ipv4 { (&self.v4, u128::from(u32::MAX)) } else { (&self.v6, u128::MAX) };
        let mut starts: BTreeSet<u128> = cuts.iter().copied().filter(|start| *start <= max).collect();
        starts.insert(0);
        let ends = starts.iter().skip(1).map(|next| next - 1).chain([max]);
        starts.iter().copied().zip(ends).map(|(start, end)| (address(start, ipv4), address(end, ipv4))).collect()
    }

    /// The piece that `addr` lies in, as a number within its family.
    pub(crate) fn address_piece(&self, addr: IpAddr) -> usize {
        let cuts = if addr.is_ipv4() { &self.v4 } else { &self.v6 };
        cuts.range(..=number(addr)).count()
    }
}

/// An address as a number.
pub(crate) fn number(addr: IpAddr) -> u128 {
    match addr {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

/// The address with that number; the low 32 bits of it for IPv4.
pub(crate) fn address(number: u128, ipv4: bool) -> IpAddr {
    if ipv4 { IpAddr::from(Ipv4Addr::from(number as u32)) } else { IpAddr::from(Ipv6Addr::from(number)) }
}
