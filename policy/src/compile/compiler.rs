//! Compiling generation after generation: what a change does not concern is shared with the tables before.
//!
//! The tables have sections, each compiled from some of the objects: nodes; pods and who owns an address; Services; policies.
//! A section is compiled again only if something that it is made of changed. A pod costs its own entry and nothing of the
//! Services, unless one of them claims the pod's address too or the pod asks for a port of its node. Within the Services each one is compiled by itself and kept; what changes all the time, its endpoints, then costs that Service and a list of pointers to all, and the
//! maps by which addresses are found stay as they are. The result is always that of compiling everything at once.

use super::pods::{PodChange, PodChanges};
use super::policies::{Followed, Policies};
use super::services::{CompiledService, HostPorts, NodeNames, ask_alike, assemble, compile_service};
use super::{CompileOptions, names, nodes, pods};
use crate::cluster::{Cluster, Delta, Key, Slice};
use crate::objects::{Kind, Problem};
use crate::tables::{NodeEntry, Tables};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Kinds that the policies are compiled from, besides Nodes, Pods and Namespaces.
const POLICY_KINDS: [Kind; 2] = [Kind::NetworkPolicy, Kind::ClusterNetworkPolicy];

/// Changes of so many pods, beside an eighth of all, are followed pod by pod; from there on it takes longer than compiling all.
const PODS_ONE_BY_ONE: usize = 64;

/// Compiles one generation of objects after another.
#[derive(Debug, Default)]
pub struct Compiler {
    options: CompileOptions,
    /// Of the last generation; `None` before the first.
    tables: Option<Tables>,
    names: NodeNames,
    services: BTreeMap<Key, CompiledService>,
    host_ports: HostPorts,
    policies: Policies,
    problems: Problems,
    work: Work,
}

/// By section.
#[derive(Debug, Default)]
struct Problems {
    nodes: Vec<Problem>,
    services: Vec<Problem>,
    policies: Vec<Problem>,
}

/// What the last compilation had to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Whether the nodes were compiled.
    pub nodes: bool,
    /// Pods that were compiled or taken out.
    pub pods: usize,
    /// Services that were compiled.
    pub services: usize,
    /// Whether all Services were put together again.
    pub assembled: bool,
    /// Whether all policies were compiled.
    pub policies: bool,
    /// Without that: identities of pods that were matched against all selectors, and rule sets that were built.
    pub identities: usize,
    /// See `identities`.
    pub rule_sets: usize,
}

impl Compiler {
    /// A compiler that has not seen any objects.
    pub fn new(options: CompileOptions) -> Compiler {
        Compiler { options, ..Compiler::default() }
    }

    /// Compiles `cluster`, which differs by `delta` from the one compiled last (for the first one, `delta` does not matter);
    /// the tables carry `epoch`. Gives the problems of the whole cluster.
    pub fn compile(&mut self, cluster: &Cluster, delta: &Delta, epoch: u64) -> (Tables, Vec<Problem>) {
        let last = self.tables.take();
        let is_first = last.is_none();
        let mut tables = Tables { epoch, ..last.unwrap_or_default() };
        self.work = Work::default();
        let nodes_before = tables.nodes.clone();
        let pods = delta.of(Kind::Pod).count();
        let all_pods = is_first || pods > PODS_ONE_BY_ONE + tables.pod_count() / 8;
        let all_pods = (all_pods || delta.touches(Kind::Node)) && self.compile_nodes(cluster, all_pods, &mut tables);
        let changed = if all_pods {
            pods::compile(cluster, &self.options.cluster_dns, &mut tables);
            self.work.pods = tables.pod_count();
            PodChanges::default()
        } else {
            pods::change(cluster, delta.of(Kind::Pod), &mut tables)
        };
        self.work.pods += changed.changes.len();
        let asks = self.follow_host_ports(cluster, is_first, delta);
        let assembles = all_pods || asks || self.are_of_services(&changed.addresses);
        self.compile_services(cluster, delta, (is_first, assembles), &mut tables);
        match is_first {
            true => names::compile(cluster, cluster.services.keys(), &mut tables.names),
            false => names::compile(cluster, &delta.services, &mut tables.names),
        }
        let labels = |node: &NodeEntry| node.labels.clone();
        let relabelled = !nodes_before.iter().map(labels).eq(tables.nodes.iter().map(labels));
        let all_policies = all_pods || relabelled || POLICY_KINDS.iter().any(|kind| delta.touches(*kind));
        let follows = delta.touches(Kind::Pod) || delta.touches(Kind::Namespace);
        if all_policies || (follows && !self.follow(cluster, delta, &changed.changes, &mut tables)) {
            self.problems.policies.clear();
            self.policies = Policies::compile(cluster, &mut tables, &mut self.problems.policies);
            self.work = Work { policies: true, identities: 0, rule_sets: 0, ..self.work };
        }
        self.tables = Some(tables.clone());
        let Problems { nodes, services, policies } = &self.problems;
        (tables, [nodes, services, policies].into_iter().flatten().cloned().collect())
    }

    /// What the last call of [`Compiler::compile`] had to do.
    pub fn work(&self) -> Work {
        self.work
    }

    /// Has the policies follow pods and namespaces; `false` if they are to be compiled instead.
    fn follow(&mut self, cluster: &Cluster, delta: &Delta, pods: &[PodChange], tables: &mut Tables) -> bool {
        let followed = self.policies.follow(cluster, delta, pods, tables);
        let Followed { identities, sets } = followed.unwrap_or_default();
        (self.work.identities, self.work.rule_sets) = (identities, sets);
        followed.is_some()
    }

    /// Compiles the nodes. Whether all pods are to be compiled, because of `all_pods` or because nodes came, went or have other
    /// addresses: then the tables hold no owners but nodes.
    fn compile_nodes(&mut self, cluster: &Cluster, all_pods: bool, tables: &mut Tables) -> bool {
        let mut fresh = Tables::default();
        self.problems.nodes.clear();
        nodes::compile(cluster, &mut fresh, &mut self.problems.nodes);
        self.work.nodes = true;
        let place = |node: &NodeEntry| (node.name.clone(), node.addresses.clone(), node.pod_cidrs.clone());
        let moved = all_pods || !fresh.nodes.iter().map(place).eq(tables.nodes.iter().map(place));
        if moved {
            tables.owners = fresh.owners;
        }
        if fresh.nodes != tables.nodes {
            (tables.nodes, tables.zones) = (fresh.nodes, fresh.zones);
        }
        moved
    }

    /// Notes which pods ask for a port of their node; whether that is something else than before.
    fn follow_host_ports(&mut self, cluster: &Cluster, is_first: bool, delta: &Delta) -> bool {
        if is_first {
            let asking = cluster.pods.iter().filter(|(_, pod)| !pod.object.host_ports.is_empty());
            self.host_ports = asking.map(|(key, pod)| (key.clone(), pod.clone())).collect();
            return true;
        }
        let mut changed = false;
        for key in delta.of(Kind::Pod) {
            let asking = cluster.pods.get(key).filter(|pod| !pod.object.host_ports.is_empty());
            let before = match asking {
                Some(pod) => self.host_ports.insert(key.clone(), pod.clone()),
                None => self.host_ports.remove(key),
            };
            changed |= match (&before, asking) {
                (Some(before), Some(pod)) => !ask_alike(before, pod),
                (None, None) => false,
                _ => true,
            };
        }
        changed
    }

    /// Whether a Service claims one of `addresses`, whether it has it or not.
    fn are_of_services(&self, addresses: &[IpAddr]) -> bool {
        let entries = self.services.values().filter_map(|service| service.entry.as_ref());
        !addresses.is_empty()
            && entries
                .flat_map(|entry| [&entry.cluster_ips, &entry.load_balancer_ips, &entry.external_ips])
                .flatten()
                .any(|claimed| addresses.contains(claimed))
    }

    /// Services that changed; all of them the first time, or if nodes and zones are called otherwise. `assembles`: what they
    /// claim is to be judged again in any case.
    fn compile_services(
        &mut self,
        cluster: &Cluster,
        delta: &Delta,
        (is_first, mut assembles): (bool, bool),
        tables: &mut Tables,
    ) {
        let names = NodeNames::of(&tables.nodes);
        if is_first || names != self.names {
            self.names = names;
            self.services.clear();
            for key in cluster.services.keys() {
                self.compile_service(cluster, key);
            }
            assembles = true;
        } else {
            for key in &delta.services {
                let last = self.compile_service(cluster, key);
                assembles |= match (last, self.services.get(key)) {
                    (None, None) => false,
                    (Some(last), Some(next)) => !last.is_alike(next),
                    _ => true,
                };
            }
            if !assembles && self.work.services > 0 {
                let compiled = delta.services.iter().filter_map(|key| self.services.get(key));
                replace_ports(compiled, tables);
            }
        }
        if assembles {
            self.problems.services.clear();
            assemble(self.services.values(), &self.host_ports, &self.options, tables, &mut self.problems.services);
            self.work.assembled = true;
        }
    }

    /// Compiles one Service, or forgets it if it is gone; gives what it was.
    fn compile_service(&mut self, cluster: &Cluster, key: &Key) -> Option<CompiledService> {
        let Some(sourced) = cluster.services.get(key) else { return self.services.remove(key) };
        let slices: Vec<&Slice> = cluster.slices_of(key).map(|slice| &*slice.object).collect();
        let compiled = compile_service(sourced, &slices, &self.names, &self.options);
        self.work.services += 1;
        self.services.insert(key.clone(), compiled)
    }
}

/// Has `tables` lead to the endpoints of `services`, of which nothing else changed.
fn replace_ports<'a>(services: impl Iterator<Item = &'a CompiledService>, tables: &mut Tables) {
    let mut service_ports = Vec::clone(&tables.service_ports);
    for service in services {
        let Some(entry) = &service.entry else { continue };
        let slot = tables
            .services
            .binary_search_by(|slot| (&slot.entry.namespace, &slot.entry.name).cmp(&(&entry.namespace, &entry.name)));
        let slot = &tables.services[slot.expect("a Service that has an entry is in the tables")];
        for (index, (_, port)) in slot.ports.clone().zip(&service.ports) {
            service_ports[index as usize] = port.clone();
        }
    }
    tables.service_ports = Arc::new(service_ports);
}

#[cfg(test)]
mod tests;
