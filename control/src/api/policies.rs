//! Policies as the API shows them: whom they select on this node, and how often each rule decided there.

use serde::{Deserialize, Serialize};

/// A NetworkPolicy or ClusterNetworkPolicy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// `NetworkPolicy` or `ClusterNetworkPolicy`.
    pub kind: String,
    /// metadata.namespace; empty for a ClusterNetworkPolicy.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
    /// `Admin`, `NetworkPolicy` or `Baseline`, in order of evaluation.
    pub tier: String,
    /// Of a ClusterNetworkPolicy: lower ones come first in their tier.
    pub priority: Option<u16>,
    /// It judges and decides nothing (annotation `podplane.io/dry-run`).
    pub dry_run: bool,
    /// What becomes of live flows that it denies when it comes into force: `cut` or `keep` (annotation `podplane.io/established`).
    pub established: String,
    /// Pods of this node that it selects.
    pub pods: usize,
    /// Packets and cut flows that a NetworkPolicy denied on this node because none of its rules accepts them.
    pub default_denied: u64,
    /// Flows that a NetworkPolicy in dry run would have denied so.
    pub default_would_deny: u64,
    /// Its rules, ingress first, in their order.
    pub rules: Vec<PolicyRule>,
}

/// A rule and what it decided on this node since the node process started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRule {
    /// `ingress` or `egress`.
    pub direction: String,
    /// Its position in `spec.ingress` or `spec.egress`.
    pub index: u32,
    /// Its name; empty if unnamed, as rules of a NetworkPolicy are.
    pub name: String,
    /// `Accept`, `Deny` or `Pass`.
    pub action: String,
    /// Flows that it let through; in dry run, flows that it would have accepted.
    pub accepted: u64,
    /// Packets that were to open a flow and flows that were cut.
    pub denied: u64,
    /// Flows that it would have denied with the policies in dry run in force.
    pub would_deny: u64,
}
