//! The answer's shape: a contract for scripts. Fields are added, never renamed.

use crate::probe::ProbeProtocol;
use policy::explain::{Reasoned, TierReason};
use policy::tables::Direction;
use serde::Serialize;
use std::fmt;
use std::net::IpAddr;

/// What becomes of a connection, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// The place that asks.
    pub from: String,
    /// HOST:PORT or URL as asked for.
    pub to: String,
    /// Protocol.
    pub protocol: ProbeProtocol,
    /// Port; 0 for ICMP.
    pub port: u16,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub reason: String,
    /// The Service that it goes through, if it is one with an address.
    pub service: Option<ServiceView>,
    /// The candidate that `egress`, `ingress` and `steps` are about.
    pub backend: Option<Candidate>,
    /// What the client's egress policies say.
    pub egress: Side,
    /// What the server's ingress policies say.
    pub ingress: Side,
    /// The rule of an Ingress or HTTPRoute that the request of a URL meets.
    pub ingress_route: Option<IngressRoute>,
    /// What happens, in order.
    pub steps: Vec<Step>,
    /// Every candidate, if asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub each: Option<Vec<Each>>,
}

/// The rule that takes a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IngressRoute {
    /// `Ingress` or `HTTPRoute`.
    pub kind: String,
    /// NAMESPACE/NAME of the Ingress or HTTPRoute.
    pub ingress: String,
    /// The field of the rule there.
    pub field: String,
    /// Its host as written, `*` for any.
    pub host: String,
    /// Its path as written; empty for a default backend.
    pub path: String,
    /// `Exact`, `Prefix`, `ImplementationSpecific`, `PathPrefix` or `RegularExpression`; empty for a default backend.
    pub path_type: String,
    /// NAMESPACE/NAME of the Service that it leads to, the first of several.
    pub service: Option<String>,
    /// The Service's port.
    pub port: Option<u16>,
    /// NAMESPACE/NAME of the Secret with the certificate; `None` without TLS.
    pub tls_secret: Option<String>,
}

/// What becomes of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The destination gets it. Whether somebody listens there is not judged.
    Delivered,
    /// Policy forbids it; it is dropped without a word.
    Denied,
    /// It is refused at once, with a reset or an ICMP error.
    Rejected,
    /// It is discarded without a word.
    Dropped,
    /// The name has no address.
    Unresolved,
    /// It leaves the cluster, whoever may answer there.
    External,
}

impl Outcome {
    /// Whether the connection gets where it is meant to go.
    pub fn is_yes(self) -> bool {
        matches!(self, Outcome::Delivered | Outcome::External)
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Outcome::Delivered => "delivered",
            Outcome::Denied => "denied",
            Outcome::Rejected => "rejected",
            Outcome::Dropped => "dropped",
            Outcome::Unresolved => "unresolved",
            Outcome::External => "external",
        })
    }
}

/// A Service port.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ServiceView {
    /// metadata.namespace.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
    /// spec.ports[].port.
    pub port: u16,
    /// The address that was asked; of a Service behind an Ingress its cluster address, if it has one.
    pub vip: Option<IpAddr>,
    /// `ClusterIP`, `NodePort`, `LoadBalancer` or `ExternalIP`.
    pub kind: String,
    /// Exactly the backends that the connection may reach.
    pub candidates: Vec<Candidate>,
    /// Whether the backend sees another source address than the client has.
    pub source_nat: bool,
    /// spec.sessionAffinity: `None` or `ClientIP`.
    pub affinity: String,
    /// Its timeout in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub affinity_timeout_seconds: Option<u64>,
}

/// A backend.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Candidate {
    /// NAMESPACE/NAME of the pod; `None` if no object describes one.
    pub pod: Option<String>,
    /// Its address.
    pub ip: IpAddr,
    /// The targetPort there.
    pub port: u16,
    /// Its node, as the EndpointSlice or the pod says.
    pub node: Option<String>,
    /// Whether it is ready; one that is not is terminating, still serves, and there is no better one.
    pub ready: bool,
    /// Whether it is on the node where the connection enters.
    pub local: bool,
}

/// What the policies of one end say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Side {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// Whether NetworkPolicies select that end in this direction.
    pub isolated: bool,
    /// The policies in force that select it, in order of evaluation: NAMESPACE/NAME, or NAME of a ClusterNetworkPolicy.
    pub policies: Vec<String>,
    /// The rule that decides, or the nearest rule with the field that failed.
    pub rule: Option<String>,
    /// What each tier decided that has policies for it, up to the one that decided.
    pub tiers: Vec<TierView>,
    /// Of a denial: for each policy that isolates it the nearest rule and the field that failed, and rules by which a DNS name
    /// would have done; the nearest first, and not without end.
    pub unmatched: Vec<String>,
    /// What would be with the dry-run policies in force; `None` where none selects it.
    pub dry_run: Option<DryRun>,
    /// The sentence about a denial, the same for every command.
    #[serde(skip)]
    pub(super) denial: String,
    /// The sentence about a denial by dry-run policies.
    #[serde(skip)]
    pub(super) would_be_denial: Option<String>,
}

/// What a tier decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TierView {
    /// `Admin`, `NetworkPolicy` or `Baseline`.
    pub tier: &'static str,
    /// `accept`, `deny`, `pass`, or `none` where no rule matches.
    pub decision: &'static str,
    /// The rule that decided; where none did the nearest with the field that failed.
    pub rule: Option<String>,
}

/// What would be with the dry-run policies in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DryRun {
    /// `allow` or `deny`.
    pub verdict: &'static str,
    /// By which rule, as of [`Side`].
    pub rule: Option<String>,
}

impl Side {
    /// No pod of ours, or nothing that it was judged for.
    pub(super) fn open() -> Side {
        Side { verdict: "allow", ..Side::default() }
    }

    /// What was judged, for the pod called `name`.
    pub(super) fn of(reasoned: Reasoned, direction: Direction, name: &str) -> Side {
        Side {
            verdict: verdict(reasoned.allowed),
            denial: reasoned.denial(direction, name),
            would_be_denial: reasoned.would_be_denial(direction, name),
            isolated: reasoned.isolated,
            policies: reasoned.policies,
            rule: reasoned.rule,
            tiers: reasoned.tiers.into_iter().map(TierView::from).collect(),
            unmatched: reasoned.unmatched,
            dry_run: reasoned.dry_run.map(|dry| DryRun { verdict: verdict(dry.allowed), rule: dry.rule }),
        }
    }

    pub(super) fn is_denied(&self) -> bool {
        self.verdict == "deny"
    }
}

fn verdict(allowed: bool) -> &'static str {
    if allowed { "allow" } else { "deny" }
}

impl From<TierReason> for TierView {
    fn from(reason: TierReason) -> TierView {
        TierView { tier: reason.tier.as_str(), decision: reason.decision.as_str(), rule: reason.rule }
    }
}

/// Something that happens on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// The node, the pod of the proxy, or `dns`.
    #[serde(rename = "where")]
    pub place: String,
    /// What is decided: `name`, `certificate`, `http-rule`, `enter`, `service`, `source-nat`, `egress-policy`, `route`, `tunnel`, `ingress-policy`,
    /// `deliver`, `answer` or `drop`.
    pub stage: &'static str,
    /// How.
    pub decision: String,
    /// Because of what.
    pub why: String,
}

/// One candidate's connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Each {
    /// The candidate; `None` for an address without a Service.
    pub backend: Option<Candidate>,
    /// The address that was asked.
    pub address: IpAddr,
    /// As above.
    pub outcome: Outcome,
    /// As above.
    pub reason: String,
    /// Whether the backend sees another source address than the client has.
    pub source_nat: bool,
    /// As above.
    pub egress: Side,
    /// As above.
    pub ingress: Side,
    /// As above.
    pub steps: Vec<Step>,
}
