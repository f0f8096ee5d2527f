//! Policies in the tables: what is asked about a flow, what is answered, and what people may want to know beside it.
//!
//! Policies are evaluated tier by tier: rules of the Admin tier, NetworkPolicies, rules of the Baseline tier. What no tier decides
//! is allowed. Each end of a conversation is judged for itself.

use super::{Owner, PodIndex, Tables};
use crate::objects::{ClusterNetworkPolicy, Kind};
use crate::rules::{Flow, Selection, TierSets, View};
use crate::selector::Labels;
use crate::stable_hash::StableHasher;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use std::fmt;
use std::hash::Hasher;
use std::net::IpAddr;
use std::sync::Arc;
use wire::Protocol;

/// Position of a policy in [`Tables::policies`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyIndex(pub u32);

/// A policy's number that outlives tables: a stable hash of its kind, namespace and name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PolicyId(pub u64);

impl PolicyId {
    /// The number of a policy; `namespace` is empty for kinds without one.
    pub fn of(kind: Kind, namespace: &str, name: &str) -> PolicyId {
        let mut hasher = StableHasher::default();
        for part in [kind.as_str(), namespace, name] {
            hasher.write(part.as_bytes());
            hasher.write(&[0]);
        }
        PolicyId(hasher.finish())
    }
}

/// A level of evaluation, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tier {
    /// ClusterNetworkPolicies that nothing below overrides.
    Admin,
    /// NetworkPolicies: final for the pods that they select.
    NetworkPolicy,
    /// ClusterNetworkPolicies for what NetworkPolicies leave open.
    Baseline,
}

impl Tier {
    /// `Admin`, `NetworkPolicy` or `Baseline`.
    pub fn as_str(self) -> &'static str {
        match self {
            Tier::Admin => "Admin",
            Tier::NetworkPolicy => "NetworkPolicy",
            Tier::Baseline => "Baseline",
        }
    }
}

/// The object that a policy was compiled from.
#[derive(Clone, Debug, PartialEq)]
pub enum PolicyObject {
    /// `networking.k8s.io/v1`.
    NetworkPolicy(Arc<NetworkPolicy>),
    /// `policy.networking.k8s.io/v1alpha2`.
    ClusterNetworkPolicy(Arc<ClusterNetworkPolicy>),
}

/// A policy, as verdicts name it. Displayed as `NAMESPACE/NAME`, without a namespace as `NAME`.
#[derive(Clone, Debug, PartialEq)]
pub struct PolicyEntry {
    /// Its number, the same in all tables.
    pub id: PolicyId,
    /// Where it is evaluated.
    pub tier: Tier,
    /// Within its tier: the lower, the earlier. 0 for NetworkPolicies.
    pub priority: u16,
    /// metadata.namespace; empty for kinds without one.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    /// It is judged but decides nothing.
    pub dry_run: bool,
    /// It leaves alone flows that were allowed before it came into force.
    pub keeps_established: bool,
    /// What it says.
    pub object: PolicyObject,
}

impl fmt::Display for PolicyEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// What a rule does with what it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// The flow is allowed, whatever follows. All rules of NetworkPolicies do this.
    Accept,
    /// The flow is denied, whatever follows.
    Deny,
    /// The rest of the tier is left out.
    Pass,
}

impl Action {
    /// As written in a manifest.
    pub fn as_str(self) -> &'static str {
        match self {
            Action::Accept => "Accept",
            Action::Deny => "Deny",
            Action::Pass => "Pass",
        }
    }
}

/// One rule of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RuleRef {
    /// The policy.
    pub policy: PolicyIndex,
    /// Position in spec.ingress or spec.egress.
    pub index: u32,
}

/// Policy direction, seen from the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Direction {
    /// Traffic that the pod sends (Kubernetes egress).
    FromPod,
    /// Traffic that the pod receives (Kubernetes ingress).
    ToPod,
}

/// A flow at the end that is judged.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Whether the subject sends or receives it.
    pub direction: Direction,
    /// The pod whose policies are asked.
    pub subject: PodIndex,
    /// The address at the other end, after translation.
    pub peer: IpAddr,
    /// Its protocol.
    pub protocol: Protocol,
    /// The receiver's port; 0 for protocols without ports.
    pub port: u16,
    /// DNS names that the subject has resolved to `peer`, in lower case and without the final dot; mostly none.
    pub names: &'a [Arc<str>],
}

/// Policy's answer for one flow in one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the flow may open.
    pub allowed: bool,
    /// What decided.
    pub reason: VerdictReason,
    /// The flow is denied, but not if it was open before: without the policies that keep established flows it would be allowed.
    pub spares_established: bool,
}

impl Verdict {
    fn allow(reason: VerdictReason) -> Verdict {
        Verdict { allowed: true, reason, spares_established: false }
    }

    fn deny(reason: VerdictReason) -> Verdict {
        Verdict { allowed: false, reason, spares_established: false }
    }
}

/// What gave a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VerdictReason {
    /// No policy selects the pod in this direction, or those that do leave it open: nothing decided.
    NotIsolated,
    /// The peer is the node that the pod runs on (N10), or the pod itself (N12).
    Exempt,
    /// This rule accepts or denies it.
    Rule(RuleRef),
    /// NetworkPolicies select the pod and none of their rules accepts it.
    Isolated,
}

/// How a verdict came about, tier by tier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The tiers that were looked at, in order.
    pub tiers: Vec<TierStep>,
    /// What came of it.
    pub verdict: Verdict,
}

/// What a tier had to say about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TierStep {
    /// The tier.
    pub tier: Tier,
    /// The first rule that matched and what it does.
    pub matched: Option<(RuleRef, Action)>,
}

impl Tables {
    /// Judges a flow by the policies in force. Both ends of a conversation are judged separately. A pod of the host network is
    /// never isolated, and to others it is its node (N11).
    #[inline]
    pub fn check(&self, question: &Question<'_>) -> Verdict {
        self.judge(question, View::ENFORCED, |_| {})
    }

    /// Judges a flow as if the policies in dry run were in force too; `None` where none of them selects the subject in that
    /// direction.
    #[inline]
    pub fn rehearse(&self, question: &Question<'_>) -> Option<Verdict> {
        let selection = self.selection(question.direction, question.subject)?;
        if selection.in_view(View::REHEARSED) == selection.in_view(View::ENFORCED) {
            return None;
        }
        Some(self.judge(question, View::REHEARSED, |_| {}))
    }

    /// Judges a flow and says what each tier had to say, for people; `with_dry_run` as if the policies in dry run were in force.
    /// Tiers without a policy that selects the subject are left out, and all of them where the flow is exempt.
    pub fn trace(&self, question: &Question<'_>, with_dry_run: bool) -> Trace {
        let mut tiers = Vec::new();
        let view = if with_dry_run { View::REHEARSED } else { View::ENFORCED };
        let verdict = self.judge(question, view, |step| tiers.push(step));
        Trace { tiers, verdict }
    }

    fn judge(&self, question: &Question<'_>, view: View, seen: impl FnMut(TierStep)) -> Verdict {
        let &Question { direction, subject, peer, .. } = question;
        let Some(selection) = self.selection(direction, subject) else {
            return Verdict::allow(VerdictReason::NotIsolated);
        };
        let sets = selection.in_view(view);
        if sets == TierSets::default() {
            return Verdict::allow(VerdictReason::NotIsolated);
        }
        let owner = self.owner(peer);
        if self.is_exempt(direction, subject, owner) {
            return Verdict::allow(VerdictReason::Exempt);
        }
        let flow = self.flow(question, owner);
        let verdict = self.evaluate(sets, &flow, seen);
        let spared = selection.in_view(View { without_keep: true, ..view });
        let spares_established = !verdict.allowed && spared != sets && self.evaluate(spared, &flow, |_| {}).allowed;
        Verdict { spares_established, ..verdict }
    }

    /// What the tiers say, each at the cost of one lookup.
    #[inline]
    fn evaluate(&self, sets: TierSets, flow: &Flow<'_>, mut seen: impl FnMut(TierStep)) -> Verdict {
        for (tier, set) in sets.iter() {
            let matched = self.rules.find(set, flow);
            seen(TierStep { tier, matched });
            match (matched, tier) {
                (Some((rule, Action::Accept)), _) => return Verdict::allow(VerdictReason::Rule(rule)),
                (Some((rule, Action::Deny)), _) => return Verdict::deny(VerdictReason::Rule(rule)),
                (_, Tier::NetworkPolicy) => return Verdict::deny(VerdictReason::Isolated),
                (Some((_, Action::Pass)) | None, Tier::Admin | Tier::Baseline) => {}
            }
        }
        Verdict::allow(VerdictReason::NotIsolated)
    }

    #[inline]
    fn flow<'a>(&'a self, question: &Question<'a>, owner: Option<Owner>) -> Flow<'a> {
        let &Question { direction, subject, peer, protocol, port, names } = question;
        let peer_pod = match owner {
            Some(Owner::Pod(pod)) => Some(pod),
            _ => None,
        };
        let receiver = match direction {
            Direction::ToPod => Some(subject),
            Direction::FromPod => peer_pod,
        };
        let class = peer_pod.map(|pod| self.rules.class(pod));
        Flow { peer, class, names, protocol, port, receiver_ports: receiver.map_or(&[], |pod| &self.pod(pod).ports) }
    }

    /// What selects a pod; pods of the host network are no subjects.
    #[inline]
    fn selection(&self, direction: Direction, pod: PodIndex) -> Option<&Selection> {
        self.rules.of_pod(direction, pod).filter(|_| !self.pod(pod).host_network)
    }

    /// The NetworkPolicies in force that select `pod` in `direction`; it is isolated if there is one.
    pub fn isolating(&self, direction: Direction, pod: PodIndex) -> &[PolicyIndex] {
        let selection = self.selection(direction, pod);
        let set = selection.and_then(|selection| selection.in_view(View::ENFORCED).of(Tier::NetworkPolicy));
        set.map_or(&[], |set| &self.rules.set(set).policies)
    }

    /// The policies that select `pod` in `direction`, those in dry run too, in order of evaluation.
    pub fn selecting(&self, direction: Direction, pod: PodIndex) -> Vec<PolicyIndex> {
        let selection = self.selection(direction, pod);
        let sets = selection.map(|selection| selection.in_view(View::REHEARSED)).unwrap_or_default();
        sets.iter().flat_map(|(_, set)| self.rules.set(set).policies.iter().copied()).collect()
    }

    /// Whether a rule that may concern what `pod` sends names DNS names, a rule in dry run too.
    #[inline]
    pub fn reads_names(&self, pod: PodIndex) -> bool {
        let selection = self.selection(Direction::FromPod, pod);
        let sets = selection.map(|selection| selection.in_view(View::REHEARSED)).unwrap_or_default();
        sets.iter().any(|(_, set)| !self.rules.set(set).by_name.is_empty())
    }

    /// Whether one of those rules matches `name`, which is in lower case and without a final dot.
    pub fn reads_name(&self, pod: PodIndex, name: &Arc<str>) -> bool {
        let selection = self.selection(Direction::FromPod, pod);
        let sets = selection.map(|selection| selection.in_view(View::REHEARSED)).unwrap_or_default();
        let names = std::slice::from_ref(name);
        sets.iter().any(|(_, set)| self.rules.set(set).by_name.find(names).next().is_some())
    }

    /// Equal numbers for pods that no policy in force tells apart by namespace and labels, neither as subjects nor as peers.
    /// Node, addresses and named ports may still differ.
    pub fn alike(&self, pod: PodIndex) -> u32 {
        self.rules.alike[self.rules.identity(pod).0 as usize]
    }

    /// The policy with the number `id`.
    pub fn find_policy(&self, id: PolicyId) -> Option<PolicyIndex> {
        let found = self.policy_ids.binary_search_by_key(&id, |(id, _)| *id);
        found.ok().map(|position| self.policy_ids[position].1)
    }

    /// The policy at `index`.
    ///
    /// # Panics
    /// If `index` is of other tables.
    pub fn policy(&self, index: PolicyIndex) -> &PolicyEntry {
        &self.policies[index.0 as usize]
    }

    /// The labels of a namespace that has an object or pods, the one that the API server sets included.
    pub fn namespace_labels(&self, namespace: &str) -> Option<&Labels> {
        let found = self.namespaces.binary_search_by(|(name, _)| (**name).cmp(namespace));
        found.ok().map(|position| &self.namespaces[position].1)
    }

    /// A pod reaches itself (N12), and the node that a pod runs on reaches the pod (N10), whatever policies say.
    #[inline]
    fn is_exempt(&self, direction: Direction, subject: PodIndex, owner: Option<Owner>) -> bool {
        match owner {
            Some(Owner::Pod(pod)) => pod == subject,
            Some(Owner::Node(node)) => direction == Direction::ToPod && self.pod(subject).node == Some(node),
            None => false,
        }
    }
}
