//! Which node announces an address: a pure rule that every node evaluates for itself.
//!
//! Rendezvous hashing: address and node together give a rank, and of the candidates that live the one of the highest rank
//! announces. Nodes that see the same others agree without a word about it; an address moves only when its node goes, or one
//! of a higher rank comes; and the addresses of a node that goes are spread over all that stay.

use crate::hash::fnv1a;
use policy::tables::{NodeEntry, NodeIndex, ServiceIndex, Tables, TrafficPolicy};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// The loadBalancerClass that podplane announces, beside none at all.
const CLASS: &str = "podplane.io/l2";

/// An address and the nodes that may announce it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ballot {
    /// The address.
    pub(crate) address: IpAddr,
    /// Names of nodes.
    pub(crate) candidates: Arc<[Arc<str>]>,
}

impl Ballot {
    /// The candidate that announces the address, of those that `lives` takes.
    pub(crate) fn winner(&self, lives: impl Fn(&str) -> bool) -> Option<&Arc<str>> {
        let alive = self.candidates.iter().filter(|name| lives(name));
        alive.max_by_key(|name| (rank(self.address, name), (*name).clone()))
    }
}

/// The node that announces `address` while every candidate lives; `None` if it is no address that is announced.
pub fn announcer(tables: &Tables, address: IpAddr) -> Option<Arc<str>> {
    let ballots = ballots(tables);
    let ballot = ballots.iter().find(|ballot| ballot.address == address)?;
    ballot.winner(|_| true).cloned()
}

/// Every address that a node has to announce, in order.
///
/// Candidates are the nodes that are ready, take load balancer traffic and are not going away; for a Service with
/// externalTrafficPolicy Local only those with an endpoint of it, as any other would drop the traffic. With no endpoint anywhere
/// all are candidates, so that a client is refused instead of left waiting.
pub(crate) fn ballots(tables: &Tables) -> Vec<Ballot> {
    let eligible = |node: &NodeEntry| node.ready && !node.excluded_from_load_balancers && !node.being_deleted;
    let nodes: Vec<NodeIndex> =
        (0..tables.nodes.len() as u32).map(NodeIndex).filter(|node| eligible(tables.node(*node))).collect();
    let names =
        |nodes: &[NodeIndex]| -> Arc<[Arc<str>]> { nodes.iter().map(|n| tables.node(*n).name.clone()).collect() };
    let all = names(&nodes);
    let mut services: BTreeMap<IpAddr, Vec<ServiceIndex>> = BTreeMap::new();
    for (address, service) in tables.load_balancer_addresses() {
        let class = tables.services[service.0 as usize].entry.load_balancer_class.as_deref();
        if class.is_none_or(|class| class == CLASS) {
            services.entry(address).or_default().push(service);
        }
    }
    let ballot = |(address, services): (IpAddr, Vec<ServiceIndex>)| {
        // Services that share an address and are Local have the same pods.
        let is_local =
            |service: &&ServiceIndex| tables.services[service.0 as usize].entry.external_policy == TrafficPolicy::Local;
        let candidates = match services.iter().find(is_local) {
            None => all.clone(),
            Some(service) => {
                let with = |node: &NodeIndex| tables.has_local_endpoint(*service, *node);
                let local: Vec<NodeIndex> = nodes.iter().copied().filter(with).collect();
                if local.is_empty() { all.clone() } else { names(&local) }
            }
        };
        Ballot { address, candidates }
    };
    services.into_iter().map(ballot).collect()
}

/// How well a node is suited for an address; the same on every node and in every release, or two would announce while some are
/// updated.
fn rank(address: IpAddr, node: &str) -> u64 {
    let hash = fnv1a(&["announce", &address.to_string(), node]);
    // FNV moves the last bytes, in which node names differ, little into the bits that compare first: one round of mixing
    // (the finalizer of splitmix64) spreads them.
    let mut mixed = (hash as u64) ^ ((hash >> 64) as u64);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::cluster::Cluster;
    use policy::compile::compile;
    use policy::objects::parse;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn ballot(address: u8, nodes: usize) -> Ballot {
        let candidates = (1..=nodes).map(|number| format!("node{number}").into()).collect();
        Ballot { address: IpAddr::from([172, 30, 0, address]), candidates }
    }

    proptest! {
        #[test]
        fn nodes_that_see_the_same_others_agree_on_exactly_one(
            address in any::<u8>(), nodes in 1usize..20, seen in prop::collection::btree_set(1usize..20, 1..20)
        ) {
            let ballot = ballot(address, nodes);
            let alive: BTreeSet<String> = seen.iter().filter(|n| **n <= nodes).map(|n| format!("node{n}")).collect();
            let announcing = |me: &String| ballot.winner(|name| alive.contains(name)).is_some_and(|name| **name == **me);
            let owners = alive.iter().filter(|me| announcing(me)).count();
            prop_assert_eq!(owners, usize::from(!alive.is_empty()));
        }

        #[test]
        fn only_the_addresses_of_the_node_that_goes_move_and_come_back_with_it(nodes in 2usize..12, gone in 1usize..12) {
            let gone = format!("node{}", gone.min(nodes));
            for address in 0..=255 {
                let ballot = ballot(address, nodes);
                let before = ballot.winner(|_| true).unwrap();
                let after = ballot.winner(|name| name != gone).unwrap();
                prop_assert_ne!(&**after, gone.as_str());
                if **before != *gone {
                    prop_assert_eq!(before, after);
                }
            }
        }
    }

    #[test]
    fn addresses_are_spread_over_the_nodes_and_those_of_a_dead_one_over_the_rest() {
        let share = |dead: Option<&str>| {
            let mut shares: BTreeMap<String, usize> = BTreeMap::new();
            for address in 0..=255 {
                let ballot = ballot(address, 4);
                let winner = ballot.winner(|name| Some(name) != dead).unwrap();
                *shares.entry(winner.to_string()).or_default() += 1;
            }
            shares
        };
        let all = share(None);
        assert!(all.len() == 4 && all.values().all(|count| (40..90).contains(count)), "{all:?}");
        let rest = share(Some("node2"));
        assert!(rest.len() == 3 && rest.values().all(|count| (60..115).contains(count)), "{rest:?}");
    }

    const CLUSTER: &str = "
apiVersion: v1
kind: Node
metadata: {name: n1}
spec: {podCIDRs: [10.1.1.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.11}]}
---
apiVersion: v1
kind: Node
metadata: {name: n2}
spec: {podCIDRs: [10.1.2.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.12}], conditions: [{type: Ready, status: 'STATE'}]}
---
apiVersion: v1
kind: Node
metadata: {name: n3, labels: {LABEL: ''}}
spec: {podCIDRs: [10.1.3.0/24]}
status: {addresses: [{type: InternalIP, address: 172.30.0.13}]}
---
apiVersion: v1
kind: Service
metadata: {name: any}
spec: {type: LoadBalancer, clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1], ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 172.30.0.201, ipMode: VIP}]}}
---
apiVersion: v1
kind: Service
metadata: {name: local}
spec: {type: LoadBalancer, clusterIP: 10.96.0.2, clusterIPs: [10.96.0.2], externalTrafficPolicy: Local, ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 172.30.0.202}, {ip: 172.30.0.203, ipMode: Proxy}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: local-1, labels: {kubernetes.io/service-name: local}}
addressType: IPv4
ports: [{port: 8080}]
endpoints: [{addresses: [10.1.2.9], nodeName: n2, conditions: {ready: READY}}]
---
apiVersion: v1
kind: Service
metadata: {name: foreign}
spec: {type: LoadBalancer, loadBalancerClass: example.com/other, clusterIP: 10.96.0.3, clusterIPs: [10.96.0.3], ports: [{port: 80}]}
status: {loadBalancer: {ingress: [{ip: 172.30.0.204}]}}
";

    /// Address and candidates, one per line.
    fn ballots_of(state: &str, label: &str, ready: &str) -> Vec<String> {
        let yaml = CLUSTER.replace("STATE", state).replace("LABEL", label).replace("READY", ready);
        let parsed = parse("test.yaml", &yaml);
        assert!(parsed.problems.is_empty(), "{:?}", parsed.problems);
        let (cluster, problems) = Cluster::from_objects(parsed.objects);
        let (tables, refused) = compile(&cluster, 1);
        assert!(problems.is_empty() && refused.is_empty(), "{problems:?} {refused:?}");
        ballots(&tables).iter().map(|ballot| format!("{} {}", ballot.address, ballot.candidates.join(" "))).collect()
    }

    #[test]
    fn candidates_are_ready_take_balancer_traffic_and_have_an_endpoint_where_only_local_ones_count() {
        assert_eq!(ballots_of("True", "x", "true"), ["172.30.0.201 n1 n2 n3", "172.30.0.202 n2"]);
        let excluded = "node.kubernetes.io/exclude-from-external-load-balancers";
        assert_eq!(ballots_of("True", excluded, "true"), ["172.30.0.201 n1 n2", "172.30.0.202 n2"]);
        assert_eq!(ballots_of("False", "x", "true"), ["172.30.0.201 n1 n3", "172.30.0.202 n1 n3"]);
        assert_eq!(ballots_of("True", "x", "false"), ["172.30.0.201 n1 n2 n3", "172.30.0.202 n1 n2 n3"]);
    }
}
