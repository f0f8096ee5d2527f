//! `podplane agent`: the node process on a Kubernetes API server.

use super::node_flags::{ClusterFlags, NodeFlags};
use crate::output::{Answer, Context, Failure};
use clap::Args;
use control::kubernetes::connect::Access;
use control::source::Origin;
use std::path::PathBuf;

/// Variable in which a pod is told its node by the downward API.
const NODE_NAME_VARIABLE: &str = "NODE_NAME";

/// Arguments of `podplane agent`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane agent --node-name node1 --kubeconfig /etc/kubernetes/kubelet.conf --socket /run/podplane/node.sock
  podplane agent --socket /run/podplane/node.sock --state-dir /var/lib/podplane      in a pod, with $NODE_NAME
  podplane status --socket /run/podplane/node.sock

The agent waits until the API server has listed everything and its Node object has an InternalIP and pod ranges
(spec.podCIDRs). When the server goes away, what it last said stays in force; with --state-dir it also does when the agent is
started again meanwhile. When it ends with a --state-dir,
interfaces, routes and flows stay for the process that is started next: connections go on. Without, or with `podplane cleanup`,
nothing stays.

In a pod the server's address is that of the Service `kubernetes`, which podplane itself serves: name a server's own address
with --api-server, or set KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT in the pod.

Exit codes: 0 it was told to stop, 1 it could not start or broke, 2 the configuration cannot be used.")]
pub(crate) struct AgentArgs {
    /// metadata.name of this Node [default: $NODE_NAME]
    #[arg(long, value_name = "N")]
    node_name: Option<String>,
    #[command(flatten)]
    access: AccessFlags,
    /// Unix socket of the node's API
    #[arg(long, value_name = "PATH")]
    socket: PathBuf,
    #[command(flatten)]
    flags: NodeFlags,
    #[command(flatten)]
    cluster: ClusterFlags,
}

/// Where the API server is, and as whom it is spoken to.
#[derive(Args, Clone)]
pub(crate) struct AccessFlags {
    /// How to reach the API server [default: the service account of the pod, else $KUBECONFIG, else ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// URL of the API server, in place of the one that the kubeconfig or the pod's environment says
    #[arg(long, value_name = "URL")]
    api_server: Option<String>,
}

impl AccessFlags {
    /// The same for whoever connects.
    pub(crate) fn access(self) -> Access {
        Access { kubeconfig: self.kubeconfig, in_cluster: false, server: self.api_server }
    }
}

/// Runs the node process.
pub(crate) fn run(args: AgentArgs, _context: &Context) -> Result<Answer, Failure> {
    let of_environment = || std::env::var(NODE_NAME_VARIABLE).ok().filter(|name| !name.is_empty());
    let Some(node_name) = args.node_name.or_else(of_environment) else {
        let advice = "name this node with --node-name, or in the variable NODE_NAME";
        return Err(Failure::BadInput(advice.to_owned()));
    };
    args.flags.run(&node_name, Origin::Kubernetes(args.access.access()), &args.socket, args.cluster)
}
