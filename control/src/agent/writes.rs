//! What the agent gives back: to the API server what objects should say, to the container runtime the configuration by which the
//! kubelet takes the node for ready.
//!
//! None of it can keep tables from coming in force. Every agent writes about its own Node, and Events about what it could not have of
//! its node's ports. What is written once for the cluster (LoadBalancer addresses, pod ranges, Events about objects that all
//! agents refuse) is written by the agent that holds the lease; only [`CANDIDATES`] of them ask for it, the same ones by everybody's
//! reckoning, so that a large cluster does not ask the server for one object hundreds of times a second.

use super::intent::Intent;
use super::{Agent, AgentConfig};
use crate::hash::fnv1a;
use crate::installation::{Change, Done, install_conflist, rivals};
use crate::kubernetes::write::{Balancers, ClusterCidrs, LeaseName, Wanted, Writer, WriterConfig, annotations_of_node};
use crate::log::{Level, event};
use crate::source::Origin;
use node::Dataplane;
use policy::objects::Problem;
use policy::tables::Tables;
use std::io;
use std::sync::{Mutex, MutexGuard};

/// Agents that may lead. More than one may be gone at a time; all three seldom are.
const CANDIDATES: usize = 3;

/// Namespace and name of the lease, and what the manifests call the agent.
const NAMESPACE: &str = "podplane-system";
const LEASE: &str = "podplane-controller";
const MANAGER: &str = "podplane-agent";
const CONTROLLER: &str = "podplane.io/agent";

/// What the agent gives back.
#[derive(Default)]
pub(super) struct Writes {
    toward_api: Option<TowardApi>,
    /// The configuration is there, or what was told about why not.
    configured: bool,
    told: Option<String>,
}

struct TowardApi {
    writer: Writer,
    balancers: Balancers,
    cidrs: ClusterCidrs,
    /// What was wanted last.
    wanted: Wanted,
}

impl Writes {
    /// Starts the writer, if the objects come from an API server.
    pub(super) fn start(config: &AgentConfig) -> io::Result<Writes> {
        let Origin::Kubernetes(access) = &config.origin else { return Ok(Writes::default()) };
        let writer = Writer::start(WriterConfig {
            access: access.clone(),
            lease: LeaseName { namespace: NAMESPACE.to_owned(), name: LEASE.to_owned() },
            instance: config.node_name.clone(),
            manager: MANAGER,
            controller: CONTROLLER,
        })?;
        let toward_api = TowardApi {
            writer,
            balancers: Balancers::new(config.load_balancer_pools.clone()),
            cidrs: ClusterCidrs::new(config.cluster_cidrs.clone()),
            wanted: Wanted::default(),
        };
        Ok(Writes { toward_api: Some(toward_api), ..Writes::default() })
    }
}

impl Agent {
    pub(super) fn writes(&self) -> MutexGuard<'_, Writes> {
        // Whoever panics with the lock held leaves at worst wishes of before.
        let writes: &Mutex<Writes> = &self.writes;
        writes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Wishes what follows from the latest objects. `problems` are those of objects, as every agent sees them.
    pub(super) fn write_of_cluster(
        &self,
        intent: &Intent,
        tables: &Tables,
        dataplane: Option<&Dataplane>,
        problems: &[Problem],
    ) {
        let mut writes = self.writes();
        let Some(toward_api) = &mut writes.toward_api else { return };
        let wanted = &mut toward_api.wanted;
        wanted.own = dataplane
            .map(|dataplane| dataplane.config())
            .map(|config| annotations_of_node(&self.config.node_name, config.vtep_mac, &config.underlay))
            .unwrap_or_default();
        wanted.is_candidate = is_candidate(tables, &self.config.node_name);
        wanted.led.clear();
        wanted.led_problems.clear();
        if wanted.is_candidate {
            let (addresses, lacking) = toward_api.balancers.wishes(intent.cluster());
            let (cidrs, exhausted) = toward_api.cidrs.wishes(intent.cluster());
            wanted.led = addresses.into_iter().chain(cidrs).collect();
            let refused = problems.iter().filter(|problem| problem.severity.is_error() && problem.object.is_some());
            wanted.led_problems = refused.cloned().chain(lacking).chain(exhausted).collect();
        }
        toward_api.writer.set(wanted.clone());
    }

    /// Wishes Events about what this node could not have for Services and pods.
    pub(super) fn write_of_node(&self, problems: &[Problem]) {
        let mut writes = self.writes();
        let Some(toward_api) = &mut writes.toward_api else { return };
        let own = problems.iter().filter(|problem| problem.object.is_some());
        toward_api.wanted.own_problems = own.cloned().collect();
        toward_api.writer.set(toward_api.wanted.clone());
    }

    /// Puts the network configuration where the runtime looks for it, when the node forwards. What does not work is told once and
    /// tried again.
    pub(super) fn configure_runtime(&self) {
        let Some(folder) = &self.config.cni_conf_dir else { return };
        let mut writes = self.writes();
        if writes.configured {
            return;
        }
        match install_conflist(&self.config.socket, folder) {
            Ok(Done { path, change }) => {
                writes.configured = true;
                if change == Change::Written {
                    event(Level::Info, "network configuration written", &[("path", &path.display())]);
                }
                if let Some(first) = rivals(folder).first() {
                    let path = folder.join(first);
                    let what = "another network configuration comes before podplane's";
                    event(Level::Warn, what, &[("path", &path.display())]);
                }
            }
            Err(error) => {
                let error = error.to_string();
                if writes.told.as_ref() != Some(&error) {
                    event(Level::Error, "the node does not become ready", &[("reason", &error)]);
                }
                writes.told = Some(error);
            }
        }
    }
}

/// Whether the node `name` is one of those that may lead: ready nodes before others, and among them an order that everybody has alike.
fn is_candidate(tables: &Tables, name: &str) -> bool {
    let Some(own) = tables.find_node(name) else { return false };
    let order = |index| {
        let node = tables.node(index);
        (!node.ready || node.being_deleted, fnv1a(&["lead", &node.name]))
    };
    let own = order(own);
    let before = (0..tables.nodes.len() as u32).map(policy::tables::NodeIndex).filter(|other| order(*other) < own);
    before.take(CANDIDATES).count() < CANDIDATES
}

#[cfg(test)]
mod tests {
    use super::*;
    use policy::cluster::Cluster;
    use policy::compile::compile;
    use policy::objects::parse;

    fn candidates(ready: impl Fn(usize) -> bool, nodes: usize) -> Vec<usize> {
        let node = |number: usize| {
            let ready = if ready(number) { "True" } else { "False" };
            format!(
                "---\napiVersion: v1\nkind: Node\nmetadata: {{name: n{number}}}\nspec: {{podCIDRs: [10.1.{number}.0/24]}}\nstatus: \
                 {{conditions: [{{type: Ready, status: '{ready}'}}]}}\n"
            )
        };
        let parsed = parse("test", &(0..nodes).map(node).collect::<String>());
        let (tables, _) = compile(&Cluster::from_objects(parsed.objects).0, 1);
        (0..nodes).filter(|number| is_candidate(&tables, &format!("n{number}"))).collect()
    }

    #[test]
    fn three_nodes_may_lead_ready_ones_first() {
        let all = candidates(|_| true, 20);
        assert_eq!(all.len(), CANDIDATES);
        assert_eq!(
            candidates(|number| number == 7, 20).len(),
            CANDIDATES,
            "a cluster that is not ready yet has some too"
        );
        assert!(candidates(|number| number == 7, 20).contains(&7));
        assert_eq!(candidates(|_| false, 20), all);
        assert_eq!(candidates(|_| true, 2), [0, 1]);
        // A node that goes is followed by one other.
        let without_first = candidates(|number| number != all[0], 20);
        assert_eq!(without_first.iter().filter(|number| all.contains(number)).count(), CANDIDATES - 1);
        assert!(!without_first.contains(&all[0]));
    }

    #[test]
    fn a_node_that_has_no_object_leads_nothing() {
        assert!(!is_candidate(&Tables::default(), "n1"));
    }
}
