//! Where a command that runs by itself has its objects from: `-f PATH...`, or the API server of a cluster.

use crate::follow;
use crate::output::Failure;
use clap::Args;
use control::Stop;
use control::controller::LabNetwork;
use control::following::Following;
use control::kubernetes::connect::Access;
use control::kubernetes::{KubernetesSource, OpenError, SourceConfig};
use policy::objects::Kind;
use std::path::PathBuf;

/// The source, and what there is to say about it.
#[derive(Args, Clone, Debug)]
pub(crate) struct SourceArgs {
    #[command(flatten)]
    place: Place,
    /// URL of the API server, in place of the one that the kubeconfig or the pod's environment says
    #[arg(long, value_name = "URL", conflicts_with = "paths")]
    api_server: Option<String>,
}

/// One of these.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
struct Place {
    /// Kubernetes YAML or JSON: a file, a folder, or - for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "PATH", conflicts_with_all = ["kubeconfig", "in_cluster"])]
    paths: Vec<PathBuf>,
    /// Take the objects from the API server that this kubeconfig names
    #[arg(long, value_name = "FILE", conflicts_with = "in_cluster")]
    kubeconfig: Option<PathBuf>,
    /// Take the objects from the API server of the cluster that this pod runs in, by its service account
    #[arg(long)]
    in_cluster: bool,
}

impl SourceArgs {
    /// Opens the source; of an API server, objects of `kinds` are needed, and the Secrets `secrets` whoever names them. To be
    /// called before there are threads: SIGTERM and SIGINT are blocked for all that come later.
    pub(crate) fn open(&self, kinds: &[Kind], secrets: Vec<(String, String)>) -> Result<(Following, Stop), Failure> {
        let paths = &self.place.paths;
        if !paths.is_empty() {
            let source = follow::open(paths, LabNetwork::default())?;
            // Not before: a signal ends whoever still waits for standard input.
            return Ok((source.into(), follow::stop()?));
        }
        let stop = follow::stop()?;
        let source = KubernetesSource::open(SourceConfig { secrets, ..SourceConfig::new(self.access(), kinds) });
        let source = source.map_err(|error| match error {
            OpenError::Access(error) => Failure::BadInput(error.to_string()),
            OpenError::System(_) => Failure::Failed(error.to_string()),
        })?;
        Ok((source.into(), stop))
    }

    /// The way to the API server, if the objects come from one.
    pub(crate) fn access(&self) -> Access {
        let Place { kubeconfig, in_cluster, .. } = &self.place;
        Access { kubeconfig: kubeconfig.clone(), in_cluster: *in_cluster, server: self.api_server.clone() }
    }
}
