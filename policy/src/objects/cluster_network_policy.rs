//! ClusterNetworkPolicy, `policy.networking.k8s.io/v1alpha2`: a policy of the whole cluster that comes before
//! (tier Admin) or after (tier Baseline) NetworkPolicies.
//!
//! The types follow the API's field by field, so that an object is written back as it was read. Their meaning is decided
//! where they are compiled, their limits where they are validated.

use super::words::words;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};

/// A policy of the whole cluster. It has no namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterNetworkPolicy {
    /// `policy.networking.k8s.io/v1alpha2`.
    pub api_version: String,
    /// `ClusterNetworkPolicy`.
    pub kind: String,
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it asks for.
    pub spec: Spec,
    /// What an implementation notes about it; kept and not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<serde_json::Value>,
}

/// What a ClusterNetworkPolicy asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// When it is judged.
    pub tier: Tier,
    /// Its turn among the policies of its tier: 0 to 1000, lower comes first.
    pub priority: i32,
    /// The pods that it applies to.
    pub subject: Subject,
    /// Rules for what comes in, at most 25; the first one that matches counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Vec<IngressRule>>,
    /// Rules for what goes out, at most 25; the first one that matches counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Vec<EgressRule>>,
}

impl Spec {
    /// Place (`ingress[0]`) and action of every rule.
    pub(super) fn actions(&self) -> impl Iterator<Item = (String, Action)> {
        let ingress = self.ingress.iter().flatten().map(|rule| rule.action).enumerate();
        let egress = self.egress.iter().flatten().map(|rule| rule.action).enumerate();
        let ingress = ingress.map(|(index, action)| (format!("ingress[{index}]"), action));
        ingress.chain(egress.map(|(index, action)| (format!("egress[{index}]"), action)))
    }
}

/// When a ClusterNetworkPolicy is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Tier {
    /// Before all NetworkPolicies.
    Admin,
    /// After them, for pods that none of them isolates.
    Baseline,
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum Action {
    /// Lets it through; nothing later is asked.
    Accept,
    /// Drops it; nothing later is asked.
    Deny,
    /// Leaves it to the next tier.
    Pass,
}

words!(Tier: Admin, Baseline);
words!(Action: Accept, Deny, Pass);

/// The pods that a policy applies to; exactly one field is set. Pods of the host network are never among them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Subject {
    /// All pods of the namespaces that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Pods that match in namespaces that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
}

/// Pods that match in namespaces that match; an empty selector matches all.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NamespacedPods {
    /// The namespaces; absent as good as empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// The pods.
    pub pod_selector: LabelSelector,
}

/// A rule for what comes in to the subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IngressRule {
    /// For people, at most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happens with what it matches.
    pub action: Action,
    /// Who sends it: 1 to 25 peers, any of them.
    pub from: Vec<IngressPeer>,
    /// What it is: 1 to 25 protocols, any of them; everything if absent, ICMP included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<Protocol>>,
}

/// A rule for what goes out from the subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct EgressRule {
    /// For people, at most 100 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What happens with what it matches.
    pub action: Action,
    /// Who it is for: 1 to 25 peers, any of them.
    pub to: Vec<EgressPeer>,
    /// What it is: 1 to 25 protocols, any of them; everything if absent, ICMP included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocols: Option<Vec<Protocol>>,
}

/// Who sends; exactly one field is set, or none in a closed rule ([`super::CLOSED_ANNOTATION`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IngressPeer {
    /// All pods of the namespaces that match, but those of the host network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Pods that match in namespaces that match, but those of the host network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
}

/// Who receives; exactly one field is set, or none in a closed rule ([`super::CLOSED_ANNOTATION`]).
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EgressPeer {
    /// All pods of the namespaces that match, but those of the host network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<LabelSelector>,
    /// Pods that match in namespaces that match, but those of the host network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pods: Option<NamespacedPods>,
    /// The addresses (status.addresses) of the nodes that match.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<LabelSelector>,
    /// 1 to 25 CIDRs, whoever has the addresses: pods and nodes too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub networks: Option<Vec<String>>,
    /// 1 to 25 names of the DNS, or `*.` and a name for all below it. Only in rules that accept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain_names: Option<Vec<String>>,
}

/// What a rule is about; exactly one field is set, or none in a closed rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Protocol {
    /// TCP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tcp: Option<Transport>,
    /// UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub udp: Option<Transport>,
    /// SCTP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sctp: Option<Transport>,
    /// The port that a container of the receiver has under this name, whatever its protocol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_named_port: Option<String>,
}

/// What is asked of a transport protocol.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Transport {
    /// The receiver's port; absent only in a closed rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination_port: Option<Port>,
}

/// Port numbers; exactly one field is set, or none in a closed rule.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Port {
    /// 1 to 65535.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub number: Option<i32>,
    /// Several in a row.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub range: Option<PortRange>,
}

/// Ports from `start` to `end`, both included and from 1 to 65535.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// The first port; less than `end`.
    pub start: i32,
    /// The last port.
    pub end: i32,
}
