//! Why policy allows or denies a flow, in words: the rule that allows it, or of those that do not the nearest one and the
//! field in which it failed (W03).
//!
//! In: one flow in one direction and the tables that judge it. Out: the verdict of the tables with its reason. The objects in
//! the tables only give words: they are read as they were written, rule by rule, which is far
//! too slow for traffic. Nearest is the rule whose peers match and whose ports do not, then the one whose ports match and
//! whose peers do not, then any other, then a policy without rules; of equals the first.

mod words;

use crate::selector::{Labels, Selector};
use crate::tables::{ContainerPort, Direction, Owner, PolicyEntry, PolicyObject, Question, Tables, VerdictReason};
use ipnet::IpNet;
use k8s_openapi::api::networking::v1::{NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// What policy says about one end of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reasoned {
    /// Whether the flow may open.
    pub allowed: bool,
    /// Whether policies select the pod in this direction.
    pub isolated: bool,
    /// Those policies, `NAMESPACE/NAME`.
    pub policies: Vec<String>,
    /// The rule that allows it, the nearest one that does not with the field that failed, or the exemption; `None` where no
    /// policy applies.
    pub rule: Option<String>,
}

/// Judges a flow as [`Tables::check`] does, and says why.
pub fn judge(tables: &Tables, question: &Question<'_>) -> Reasoned {
    let verdict = tables.check(question);
    let isolating = tables.isolating(question.direction, question.subject);
    let policies: Vec<&PolicyEntry> = isolating.iter().map(|index| tables.policy(*index)).collect();
    let flow = Flow { tables, question };
    let rule = match verdict.reason {
        VerdictReason::NotIsolated => None,
        VerdictReason::Rule(rule) => {
            Some(format!("{} spec.{}[{}]", tables.policy(rule.policy), flow.list(), rule.index))
        }
        VerdictReason::Exempt if matches!(tables.owner(question.peer), Some(Owner::Pod(_))) => {
            Some("a pod always reaches itself".to_owned())
        }
        VerdictReason::Exempt => Some("a node always reaches its own pods".to_owned()),
        VerdictReason::Isolated => flow.nearest(&policies),
    };
    let names = policies.iter().map(ToString::to_string);
    Reasoned { allowed: verdict.allowed, isolated: !policies.is_empty(), policies: names.collect(), rule }
}

/// How near a rule came to allow a flow.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    NoRule,
    Neither,
    Ports,
    Peers,
    /// Both match, so the rule is closed for a field that is not understood.
    Closed,
}

/// A flow at the end that is judged.
struct Flow<'a> {
    tables: &'a Tables,
    question: &'a Question<'a>,
}

type Rule<'a> = (&'a [NetworkPolicyPeer], &'a [NetworkPolicyPort]);

impl Flow<'_> {
    /// The field of the rules.
    fn list(&self) -> &'static str {
        match self.question.direction {
            Direction::ToPod => "ingress",
            Direction::FromPod => "egress",
        }
    }

    /// The nearest rule of `policies`, none of which allows the flow.
    fn nearest(&self, policies: &[&PolicyEntry]) -> Option<String> {
        let mut nearest: Option<(Nearness, String)> = None;
        for policy in policies {
            let PolicyObject::NetworkPolicy(object) = &policy.object else { continue };
            for found in self.failures(&policy.namespace, &policy.name, object) {
                if nearest.as_ref().is_none_or(|(nearness, _)| found.0 > *nearness) {
                    nearest = Some(found);
                }
            }
        }
        nearest.map(|(_, text)| text)
    }

    /// Why each rule of a policy does not allow the flow; one sentence if there is no rule.
    fn failures(&self, namespace: &str, name: &str, policy: &NetworkPolicy) -> Vec<(Nearness, String)> {
        let list = self.list();
        let rules = rules(policy, self.question.direction);
        if rules.is_empty() {
            let text = format!("{namespace}/{name} spec.{list}: there is no rule, so nothing is allowed");
            return vec![(Nearness::NoRule, text)];
        }
        let peers_field = if self.question.direction == Direction::ToPod { "from" } else { "to" };
        let failure = |(index, (peers, ports)): (usize, &Rule<'_>)| {
            let field = format!("{namespace}/{name} spec.{list}[{index}]");
            let wrong_peer = || format!("{} is not in [{}]", words::peer(self), words::peers(peers, namespace));
            let wrong_port = || format!("{} is not in [{}]", words::port(self), words::ports(ports, self));
            match (self.peers_match(namespace, peers), self.ports_match(ports)) {
                (true, true) => {
                    let why = "is closed because of a field that is not understood: podplane check names it";
                    (Nearness::Closed, format!("{field}: {why}"))
                }
                (true, false) => (Nearness::Peers, format!("{field}.ports: {}", wrong_port())),
                (false, true) => (Nearness::Ports, format!("{field}.{peers_field}: {}", wrong_peer())),
                (false, false) => {
                    (Nearness::Neither, format!("{field}.{peers_field}: {}; .ports: {}", wrong_peer(), wrong_port()))
                }
            }
        };
        rules.iter().enumerate().map(failure).collect()
    }

    fn peers_match(&self, namespace: &str, peers: &[NetworkPolicyPeer]) -> bool {
        peers.is_empty() || peers.iter().any(|peer| self.peer_matches(namespace, peer))
    }

    fn peer_matches(&self, namespace: &str, peer: &NetworkPolicyPeer) -> bool {
        if let Some(block) = &peer.ip_block {
            let holds = |text: &String| text.parse::<IpNet>().is_ok_and(|net| net.contains(&self.question.peer));
            return holds(&block.cidr) && !block.except.iter().flatten().any(holds);
        }
        let Some((own_namespace, labels)) = self.peer_labels() else { return false };
        let in_namespace = match &peer.namespace_selector {
            Some(selector) => {
                let labels = self.tables.namespace_labels(own_namespace);
                labels.is_some_and(|labels| Selector::compile(selector).selects(labels))
            }
            None => own_namespace == namespace,
        };
        in_namespace && peer.pod_selector.as_ref().is_none_or(|selector| Selector::compile(selector).selects(labels))
    }

    /// Namespace and labels of the peer, if it is a pod.
    fn peer_labels(&self) -> Option<(&str, &Labels)> {
        let Some(Owner::Pod(pod)) = self.tables.owner(self.question.peer) else { return None };
        let pod = self.tables.pod(pod);
        Some((&pod.namespace, &pod.labels))
    }

    fn ports_match(&self, ports: &[NetworkPolicyPort]) -> bool {
        ports.is_empty() || ports.iter().any(|port| self.port_matches(port))
    }

    fn port_matches(&self, port: &NetworkPolicyPort) -> bool {
        if port.protocol.as_deref().unwrap_or("TCP") != self.question.protocol.to_string() {
            return false;
        }
        let asked = i32::from(self.question.port);
        match &port.port {
            None => true,
            Some(IntOrString::Int(first)) => (*first..=port.end_port.unwrap_or(*first)).contains(&asked),
            Some(IntOrString::String(name)) => self.named(name).any(|number| number == self.question.port),
        }
    }

    /// The numbers that the receiver gives the port name `name`.
    fn named<'n>(&'n self, name: &'n str) -> impl Iterator<Item = u16> + 'n {
        let ports: &[ContainerPort] = match (self.question.direction, self.tables.owner(self.question.peer)) {
            (Direction::ToPod, _) => &self.tables.pod(self.question.subject).ports,
            (Direction::FromPod, Some(Owner::Pod(receiver))) => &self.tables.pod(receiver).ports,
            (Direction::FromPod, _) => &[],
        };
        let of_name = ports.iter().filter(move |port| *port.name == *name && port.protocol == self.question.protocol);
        of_name.map(|port| port.port)
    }
}

fn rules(policy: &NetworkPolicy, direction: Direction) -> Vec<Rule<'_>> {
    let Some(spec) = &policy.spec else { return Vec::new() };
    match direction {
        Direction::ToPod => {
            let rules = spec.ingress.iter().flatten();
            rules.map(|r| (r.from.as_deref().unwrap_or_default(), r.ports.as_deref().unwrap_or_default())).collect()
        }
        Direction::FromPod => {
            let rules = spec.egress.iter().flatten();
            rules.map(|r| (r.to.as_deref().unwrap_or_default(), r.ports.as_deref().unwrap_or_default())).collect()
        }
    }
}

#[cfg(test)]
mod tests;
