//! The address plan of a lab: where nodes, pods and Services get their addresses from when the manifests do not say.

use crate::ipam::{address_at, subrange};
use crate::pools::AddressPool;
use ipnet::IpNet;
use std::net::IpAddr;

/// Address of the outside host on the underlay.
const WORLD_HOST: u128 = 100;

/// Host number of the first node on the underlay is one more than this.
const NODE_HOST_BASE: u128 = 10;

/// Host number of the cluster DNS Service in every Service range; where kubeadm puts it as well.
const DNS_HOST: u128 = 10;

/// First and last host number on the underlay of the addresses for LoadBalancer Services: above the outside host, and written
/// alike in both families (172.30.0.200, fd00:172:30::200).
const LOAD_BALANCER_HOSTS: [(u128, u128); 2] = [(200, 250), (0x200, 0x250)];

/// The address plan of a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabNetwork {
    /// How many nodes to make when the manifests have none; 1 to [`LabNetwork::NODES_MAX`].
    pub nodes: u16,
    /// Networks that join the nodes, one per family.
    pub underlay: Vec<IpNet>,
    /// Pod ranges of the cluster, one per family, and the prefix length of each node's share.
    pub pods: Vec<(IpNet, u8)>,
    /// Service ranges, one per family; the first is the default family.
    pub services: Vec<IpNet>,
    /// First and last address for LoadBalancer Services where the manifests have no pool, one range per family.
    pub load_balancers: Vec<(IpAddr, IpAddr)>,
}

impl LabNetwork {
    /// Most nodes of a lab: their underlay addresses stay below the outside host's.
    pub const NODES_MAX: u16 = 64;

    /// The default plan with `nodes` nodes.
    pub fn with_nodes(nodes: u16) -> LabNetwork {
        LabNetwork { nodes, ..LabNetwork::default() }
    }

    /// The same plan on another underlay, which has one network per family: an IPv4 one of at most 24 bits, an IPv6 one of at
    /// most 112.
    pub fn on(self, underlay: Vec<IpNet>) -> LabNetwork {
        let range = |net: &IpNet| {
            let (first, last) = LOAD_BALANCER_HOSTS[usize::from(net.addr().is_ipv6())];
            (address_at(net, first), address_at(net, last))
        };
        LabNetwork { load_balancers: underlay.iter().map(range).collect(), underlay, ..self }
    }

    /// Underlay addresses of node number `index` (from 1).
    pub fn node_addresses(&self, index: u16) -> Vec<IpAddr> {
        self.underlay.iter().map(|net| address_at(net, NODE_HOST_BASE + u128::from(index))).collect()
    }

    /// Underlay addresses of the outside host.
    pub fn world_addresses(&self) -> Vec<IpAddr> {
        self.underlay.iter().map(|net| address_at(net, WORLD_HOST)).collect()
    }

    /// Pod ranges of node number `index` (from 1).
    pub fn pod_cidrs(&self, index: u16) -> Vec<IpNet> {
        self.pods.iter().filter_map(|(net, len)| subrange(net, *len, index.into())).collect()
    }

    /// The pool of LoadBalancer addresses where the manifests have none.
    pub fn load_balancer_pool(&self) -> AddressPool {
        AddressPool {
            name: "of the lab".to_owned(),
            ranges: self.load_balancers.clone(),
            auto_assign: true,
            avoid_buggy_ips: false,
            only_for: None,
        }
    }

    /// Addresses of the cluster DNS Service, one per family.
    pub fn dns_addresses(&self) -> Vec<IpAddr> {
        self.services.iter().map(|net| address_at(net, DNS_HOST)).collect()
    }
}

impl Default for LabNetwork {
    fn default() -> LabNetwork {
        let net = |text: &str| text.parse::<IpNet>().expect("a literal network");
        let network = LabNetwork {
            nodes: 2,
            load_balancers: Vec::new(),
            underlay: Vec::new(),
            pods: vec![(net("10.244.0.0/16"), 24), (net("fd00:10:244::/48"), 64)],
            services: vec![net("10.96.0.0/16"), net("fd00:10:96::/112")],
        };
        network.on(vec![net("172.30.0.0/24"), net("fd00:172:30::/64")])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_one_has_the_first_share() {
        let network = LabNetwork::default();
        assert_eq!(network.node_addresses(1)[0].to_string(), "172.30.0.11");
        assert_eq!(network.pod_cidrs(1)[0].to_string(), "10.244.1.0/24");
        assert_eq!(network.pod_cidrs(1)[1].to_string(), "fd00:10:244:1::/64");
        assert_eq!(network.world_addresses()[0].to_string(), "172.30.0.100");
        assert_eq!(network.dns_addresses()[0].to_string(), "10.96.0.10");
        let pool = network.load_balancer_pool().to_string();
        assert_eq!(pool, "of the lab (172.30.0.200-172.30.0.250, fd00:172:30::200-fd00:172:30::250)");
    }

    #[test]
    fn another_underlay_has_the_same_host_numbers() {
        let network = LabNetwork::with_nodes(3).on(vec!["10.213.0.0/24".parse().unwrap()]);
        assert_eq!(network.node_addresses(3), ["10.213.0.13".parse::<IpAddr>().unwrap()]);
        assert_eq!(network.world_addresses()[0].to_string(), "10.213.0.100");
        assert_eq!(network.load_balancer_pool().to_string(), "of the lab (10.213.0.200-10.213.0.250)");
        assert_eq!(network.pod_cidrs(1).len(), 2);
    }

    #[test]
    fn no_node_has_an_address_of_the_outside_host_or_of_load_balancers() {
        let network = LabNetwork::default();
        assert_eq!(network.load_balancers[0].0.to_string(), "172.30.0.200");
        assert_eq!(network.load_balancers[1].1.to_string(), "fd00:172:30::250");
        for index in 1..=LabNetwork::NODES_MAX {
            assert_ne!(network.node_addresses(index), network.world_addresses());
            for address in network.node_addresses(index).into_iter().chain(network.world_addresses()) {
                assert!(network.load_balancers.iter().all(|(first, last)| !(first..=last).contains(&&address)));
            }
            assert_eq!(network.pod_cidrs(index).len(), 2);
        }
    }
}
