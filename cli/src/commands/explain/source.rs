//! The cluster that `explain` is about: manifests that are completed, or the objects of a running lab or node as they are.

use super::super::service_flags::ServiceFlags;
use crate::intent;
use crate::output::{self, Failure};
use clap::Args;
use control::api::Client;
use control::controller::LabNetwork;
use lab::{Lab, NodeOptions};
use policy::objects::{Object, Sourced};
use std::path::{Path, PathBuf};

/// Exactly one of them is given.
#[derive(Args)]
#[group(required = true, multiple = false)]
pub(super) struct SourceArgs {
    /// Kubernetes YAML or JSON: a file, a folder, or - for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The objects of this running lab, and the flags of its nodes where none are given here
    #[arg(long, value_name = "L")]
    lab: Option<String>,
    /// The objects that a running node reads, and its flags where none are given here: the unix socket of its API
    #[arg(long, value_name = "PATH")]
    socket: Option<PathBuf>,
}

/// What a question is about.
pub(super) struct Cluster {
    pub(super) objects: Vec<Sourced<Object>>,
    pub(super) network: LabNetwork,
    pub(super) options: NodeOptions,
}

impl SourceArgs {
    /// Whether pods may have been left out: what runs is complete.
    pub(super) fn leaves_pods_out(&self) -> bool {
        !self.paths.is_empty()
    }

    /// Reads the cluster; `flags` go before those of what runs.
    pub(super) fn read(&self, flags: &ServiceFlags) -> Result<Cluster, Failure> {
        match (&self.lab, &self.socket) {
            (Some(name), _) => of_lab(name, flags),
            (_, Some(socket)) => of_node(socket, flags),
            _ => of_manifests(&self.paths, flags),
        }
    }
}

fn of_manifests(paths: &[PathBuf], flags: &ServiceFlags) -> Result<Cluster, Failure> {
    let mut filled = intent::fill_to_answer(paths)?;
    intent::warn_of(&lab::publish(&mut filled));
    Ok(Cluster { objects: filled, network: LabNetwork::default(), options: flags.node_options() })
}

fn of_lab(name: &str, flags: &ServiceFlags) -> Result<Cluster, Failure> {
    let lab = Lab::open(name).map_err(super::super::lab::failure)?;
    let (objects, network, running) = lab.blueprint().map_err(super::super::lab::failure)?;
    Ok(Cluster { objects, network, options: chosen(flags, running) })
}

/// No answer here is exit code 2: 1 would say that the connection fails.
fn of_node(socket: &Path, flags: &ServiceFlags) -> Result<Cluster, Failure> {
    let status = Client::new(socket.to_owned()).status().map_err(|error| Failure::BadInput(error.to_string()))?;
    let source = status.source;
    let Some(cluster_dir) = &source.cluster_dir else {
        return Err(Failure::BadInput(format!(
            "--socket {}: node {} does not read its objects from a cluster directory: save them to a file and use -f",
            socket.display(),
            status.node
        )));
    };
    if let Some(what) = &status.waiting_for {
        output::warn(&format!("node {} does not forward yet: {what}", status.node));
    }
    let objects = intent::as_they_are(cluster_dir)?;
    let running = NodeOptions {
        nodeport_addresses: source.nodeport_addresses,
        external_ips: source.external_ips,
        masquerade_all: source.masquerade_all,
        non_masquerade_cidrs: source.non_masquerade_cidrs,
        cluster_dns: Some(source.cluster_dns),
        cluster_domain: None,
        others: Vec::new(),
    };
    let network = LabNetwork { services: source.service_cidrs, ..LabNetwork::default() };
    Ok(Cluster { objects, network, options: chosen(flags, running) })
}

fn chosen(flags: &ServiceFlags, running: NodeOptions) -> NodeOptions {
    if *flags == ServiceFlags::default() { running } else { flags.node_options() }
}
