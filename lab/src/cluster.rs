//! What a lab is asked to be: manifests as given, and the cluster directory that the controller makes of them.
//!
//! ```text
//! RUN_DIR/desired/   objects as the user gave them, after every `apply` and `delete`
//! RUN_DIR/cluster/   the same with everything filled in: what the nodes read
//! ```
//! A change is computed whole before the first file is touched: whatever is refused, nothing is half-applied.

use crate::census::Census;
use crate::error::{LabError, Result};
use crate::nodes::cluster_dir;
use crate::place::Place;
use crate::pods::PodSpec;
use crate::settings::{Member, NodeOptions, Settings};
use crate::status::{GatewayView, IngressView};
use control::controller::{self, LabNetwork};
use gateway::http::tls::check_routed;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::Timestamp;
use policy::cluster::Cluster;
use policy::objects::{self, Object, ObjectRef, Problem, Severity, Sourced};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// A text with manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// What messages call it.
    pub name: String,
    /// YAML or JSON.
    pub text: String,
}

/// The bundled demo: namespace `shop` with frontend, backend and db, their Services and NetworkPolicies.
pub(crate) fn demo() -> Vec<Manifest> {
    let files = [
        ("demo/namespace.yaml", include_str!("../demo/namespace.yaml")),
        ("demo/workloads.yaml", include_str!("../demo/workloads.yaml")),
        ("demo/policies.yaml", include_str!("../demo/policies.yaml")),
    ];
    files.into_iter().map(|(name, text)| Manifest { name: name.into(), text: text.into() }).collect()
}

/// An object and where it was read.
pub(crate) type SourcedObject = Sourced<Object>;

/// What was asked for and what it becomes. Nothing is written yet.
#[derive(Debug)]
pub(crate) struct Plan {
    /// Objects as given.
    pub(crate) desired: Vec<Sourced<Object>>,
    /// The cluster directory.
    pub(crate) filled: Vec<Sourced<Object>>,
    /// What the user should know although it refuses nothing.
    pub(crate) warnings: Vec<String>,
}

/// Parses manifests; a text that cannot be read or an object that is refused refuses everything.
pub(crate) fn parse(manifests: &[Manifest]) -> Result<(Vec<Sourced<Object>>, Vec<String>)> {
    let (mut found, mut problems) = (Vec::new(), Vec::new());
    for manifest in manifests {
        let parsed = objects::parse(&manifest.name, &manifest.text);
        found.extend(parsed.objects);
        problems.extend(parsed.problems);
    }
    problems.extend(Cluster::from_objects(found.iter().cloned()).1);
    let warnings = sort_out(problems)?;
    Ok((found, warnings))
}

/// Parses only the names of what manifests hold, for `delete`: an object that would be refused can still be deleted.
pub(crate) fn parse_names(manifests: &[Manifest]) -> Result<Vec<ObjectRef>> {
    let mut names = Vec::new();
    for manifest in manifests {
        let parsed = objects::parse(&manifest.name, &manifest.text);
        if let Some(problem) = parsed.problems.iter().find(|problem| problem.severity == Severity::Unreadable) {
            return Err(LabError::BadInput(problem.to_string()));
        }
        names.extend(parsed.objects.iter().map(|sourced| sourced.object.reference()));
        names.extend(parsed.problems.into_iter().filter_map(|problem| problem.object));
    }
    Ok(names)
}

/// What refuses the input becomes an error with every reason; the rest are warnings.
fn sort_out(problems: Vec<Problem>) -> Result<Vec<String>> {
    // A closed rule is in force as the safe side of what was written.
    let refusing = |problem: &Problem| problem.severity > Severity::Closed;
    if problems.iter().any(refusing) {
        let texts: Vec<String> = problems.iter().filter(|p| refusing(p)).map(ToString::to_string).collect();
        return Err(LabError::BadInput(texts.join("\n")));
    }
    Ok(problems.iter().map(ToString::to_string).collect())
}

/// Merges `given` into `desired`: an object of the same kind and name replaces.
pub(crate) fn merge(desired: Vec<Sourced<Object>>, given: Vec<Sourced<Object>>) -> Vec<Sourced<Object>> {
    let mut merged: BTreeMap<ObjectRef, Sourced<Object>> = BTreeMap::new();
    for sourced in desired.into_iter().chain(given) {
        merged.insert(sourced.object.reference(), sourced);
    }
    merged.into_values().collect()
}

/// Removes the objects called `names`, and what lives in a Namespace that is among them; gives the rest and how many went.
pub(crate) fn without(desired: Vec<Sourced<Object>>, names: &[ObjectRef]) -> (Vec<Sourced<Object>>, usize) {
    let before = desired.len();
    let gone = |reference: &ObjectRef| {
        names.contains(reference)
            || names.iter().any(|name| name.kind == "Namespace" && name.name == reference.namespace)
    };
    let rest: Vec<_> = desired.into_iter().filter(|sourced| !gone(&sourced.object.reference())).collect();
    let removed = before - rest.len();
    (rest, removed)
}

/// Fills in what `desired` leaves open and checks the result as a whole.
pub(crate) fn plan(desired: Vec<Sourced<Object>>, previous: &[Sourced<Object>], settings: &Settings) -> Result<Plan> {
    let (filled, problems) = complete(&desired, previous, &settings.network(), &settings.node_options);
    let warnings = sort_out(problems)?;
    Ok(Plan { desired, filled, warnings })
}

/// Fills in what `desired` leaves open, by what there was before, and tells what is wrong with it for nodes with `options`. A
/// refused object is not in the result.
pub fn complete(
    desired: &[Sourced<Object>],
    previous: &[Sourced<Object>],
    network: &LabNetwork,
    options: &NodeOptions,
) -> (Vec<Sourced<Object>>, Vec<Problem>) {
    let mut filled = controller::fill(desired, previous, network);
    let unrouted = controller::publish(&mut filled.objects, previous, &check_routed, Timestamp::now());
    let (cluster, doubled) = Cluster::from_objects(filled.objects.iter().cloned());
    // The tables are thrown away: what compiling finds (an address that two pods have) must not reach the nodes.
    let (_, meant) = policy::compile::compile_with(&cluster, &options.compile_options(), 0);
    (filled.objects, filled.problems.into_iter().chain(doubled).chain(meant).chain(unrouted).collect())
}

/// Gives completed objects of manifests the status that a lab's would have; what is wrong with routes.
pub fn publish(objects: &mut [Sourced<Object>]) -> Vec<Problem> {
    controller::publish(objects, &[], &check_routed, Timestamp::now())
}

impl Plan {
    /// Writes it down: the nodes act on the cluster directory as soon as it changes. Gives the digest by which a node says
    /// that it has this in force.
    pub(crate) fn write(&self, run_dir: &Path) -> Result<String> {
        write(&desired_dir(run_dir), &self.desired)?;
        write(&cluster_dir(run_dir), &self.filled)
    }
}

fn write(dir: &Path, objects: &[SourcedObject]) -> Result<String> {
    control::directory::write(dir, objects.iter().map(|sourced| &sourced.object))
        .map(|written| written.digest.to_string())
        .map_err(|e| LabError::io(dir.display(), e))
}

/// Objects as given.
pub(crate) fn desired_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("desired")
}

/// Reads every object below `dir`, a cluster directory; the files are our own, so one that cannot be read is a failure.
pub fn read(dir: &Path) -> Result<Vec<Sourced<Object>>> {
    let mut files = Vec::new();
    list(dir, &mut files).map_err(|e| LabError::io(dir.display(), e))?;
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let text = match fs::read_to_string(&file) {
            // Removed by a change between listing and reading.
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            read => read.map_err(|e| LabError::io(file.display(), e))?,
        };
        let parsed = objects::parse(&file.display().to_string(), &text);
        if let Some(problem) = parsed.problems.iter().find(|problem| problem.severity > Severity::Closed) {
            return Err(LabError::Failed(problem.to_string()));
        }
        found.extend(parsed.objects);
    }
    Ok(found)
}

fn list(dir: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml")
            && !path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."))
        {
            files.push(path);
        }
    }
    Ok(())
}

/// The cluster directory as the lab's commands look at it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) nodes: Vec<Node>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) census: Census,
    pub(crate) specs: Vec<PodSpec>,
    pub(crate) ingresses: Vec<IngressView>,
    pub(crate) gateways: Vec<GatewayView>,
    /// What of it runs here; `None`: all of it.
    pub(crate) member: Option<Member>,
}

impl Snapshot {
    /// Reads the cluster directory of the lab.
    pub(crate) fn read(run_dir: &Path, settings: &Settings) -> Result<Snapshot> {
        let objects = read(&cluster_dir(run_dir))?;
        let mut snapshot = Snapshot { member: settings.member.clone(), ..Snapshot::default() };
        for sourced in &objects {
            match &sourced.object {
                Object::Node(node) => snapshot.nodes.push((**node).clone()),
                Object::Pod(pod) => snapshot.pods.push((**pod).clone()),
                Object::Ingress(ingress) => snapshot.ingresses.push(IngressView::of(ingress)),
                Object::Gateway(gateway) => snapshot.gateways.push(GatewayView::of(gateway)),
                _ => {}
            }
        }
        snapshot.census = Census::of(objects.iter().map(|sourced| &sourced.object));
        snapshot
            .pods
            .sort_by(|a, b| (&a.metadata.namespace, &a.metadata.name).cmp(&(&b.metadata.namespace, &b.metadata.name)));
        snapshot.ingresses.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        snapshot.gateways.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        snapshot.specs = snapshot.pods.iter().filter_map(PodSpec::of).collect();
        Ok(snapshot)
    }

    /// The pod `namespace`/`name` as the lab runs it.
    pub(crate) fn pod(&self, namespace: &str, name: &str) -> Option<&PodSpec> {
        self.specs.iter().find(|pod| pod.namespace == namespace && pod.name == name)
    }

    /// Whether the lab runs this pod, here or elsewhere, and not only knows of it.
    pub(crate) fn runs(&self, pod: &PodSpec) -> bool {
        self.node(&pod.node).is_some_and(crate::converge::is_managed)
    }

    /// Whether the lab runs this node, and runs it here.
    pub(crate) fn runs_here(&self, node: &Node) -> bool {
        let is_here = match &self.member {
            None => true,
            Some(Member::Node(name)) => name == node_name(node),
            Some(Member::World) => false,
        };
        is_here && crate::converge::is_managed(node)
    }

    /// The part of the lab that has this place; `None` for what is nobody's.
    pub(crate) fn home(&self, place: &Place) -> Option<Member> {
        match place {
            Place::Pod { namespace, name } => self.pod(namespace, name).map(|pod| Member::Node(pod.node.clone())),
            Place::Unlabelled { node, .. } | Place::Node(node) => Some(Member::Node(node.clone())),
            Place::World(_) => Some(Member::World),
            Place::Underlay => None,
        }
    }

    /// The node called `name`.
    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node_name(node) == name)
    }
}

/// metadata.name.
pub(crate) fn node_name(node: &Node) -> &str {
    node.metadata.name.as_deref().unwrap_or_default()
}

/// The InternalIP addresses of a node.
pub(crate) fn node_addresses(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses.filter(|a| a.type_ == "InternalIP").filter_map(|a| a.address.parse().ok()).collect()
}

/// spec.podCIDRs of a node.
pub(crate) fn node_pod_cidrs(node: &Node) -> Vec<String> {
    node.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
