//! Pods that may connect somewhere but may not ask for names: the rule that everybody forgets once.

use super::atoms::{Atom, Atoms};
use super::policies::{Policies, Written};
use super::{Check, Finding};
use crate::diff::survey::{Spot, Survey};
use crate::objects::{Object, Source, Sourced};
use crate::partition::TRANSPORTS;
use crate::selector::Labels;
use crate::tables::{Direction, PodEntry, PodIndex, PolicyIndex, Question, VerdictReason};
use k8s_openapi::api::core::v1::{Container, ContainerPort, Pod, PodIP, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, BTreeSet};
use wire::Protocol;

/// The port of DNS (RFC 1035, section 4.2).
const DNS_PORT: u16 = 53;

/// Namespace and label of the cluster's DNS, whatever serves it.
const DNS_NAMESPACE: &str = "kube-system";
const DNS_LABEL: (&str, &str) = ("k8s-app", "kube-dns");

/// Addresses of the assumed DNS pod: of the ranges for documentation (RFC 5737, RFC 3849), so that nobody has them.
const ASSUMED_ADDRESSES: [&str; 2] = ["192.0.2.53", "2001:db8::53"];

/// Whether a pod answers DNS: it is labelled as the cluster's DNS, or has UDP port 53.
fn is_server(pod: &PodEntry) -> bool {
    let label = |key: &str, value: &str| pod.labels.get(key) == Some(value);
    is_labelled(&pod.labels)
        || label("k8s-app", "coredns")
        || label("app.kubernetes.io/name", "coredns")
        || pod.ports.iter().any(|port| port.protocol == Protocol::UDP && port.port == DNS_PORT)
}

fn is_labelled(labels: &Labels) -> bool {
    labels.get(DNS_LABEL.0) == Some(DNS_LABEL.1)
}

/// A pod as the cluster's DNS, unless there is one, or there is no pod at all.
pub(super) fn assumed(objects: &[Sourced<Object>]) -> Option<Sourced<Object>> {
    let mut pods = objects.iter().filter_map(|sourced| match &sourced.object {
        Object::Pod(pod) => Some(pod),
        _ => None,
    });
    let has_label = |pod: &Pod| {
        let value = pod.metadata.labels.as_ref().and_then(|labels| labels.get(DNS_LABEL.0));
        value.is_some_and(|value| value == DNS_LABEL.1)
    };
    if pods.clone().next().is_none() || pods.any(|pod| has_label(pod)) {
        return None;
    }
    let port = |protocol: &str| ContainerPort {
        container_port: DNS_PORT.into(),
        name: Some(if protocol == "UDP" { "dns" } else { "dns-tcp" }.to_owned()),
        protocol: Some(protocol.to_owned()),
        ..ContainerPort::default()
    };
    let container =
        Container { name: "dns".to_owned(), ports: Some(vec![port("UDP"), port("TCP")]), ..Container::default() };
    let pod = Pod {
        metadata: ObjectMeta {
            namespace: Some(DNS_NAMESPACE.to_owned()),
            name: Some("assumed-dns".to_owned()),
            labels: Some(BTreeMap::from([(DNS_LABEL.0.to_owned(), DNS_LABEL.1.to_owned())])),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }),
        status: Some(PodStatus {
            pod_ips: Some(ASSUMED_ADDRESSES.iter().map(|ip| PodIP { ip: (*ip).to_owned() }).collect()),
            ..PodStatus::default()
        }),
    };
    Some(Sourced { source: Source { file: "assumed".into(), document: 0 }, object: pod.into() })
}

pub(super) fn check(policies: &Policies<'_>, survey: &Survey<'_>, atoms: &Atoms, findings: &mut Vec<Finding>) {
    let groups: Vec<PodIndex> = survey.groups().map(|pods| pods[0]).collect();
    let mut cut_off: BTreeMap<Vec<PolicyIndex>, BTreeSet<usize>> = BTreeMap::new();
    for (group, &pod) in groups.iter().enumerate() {
        let selecting = survey.tables.selecting(Direction::FromPod, pod);
        if selecting.is_empty() || is_server(survey.tables.pod(pod)) {
            continue;
        }
        let ask = |atom: &Atom, protocol, port| {
            let question = Question {
                direction: Direction::FromPod,
                subject: pod,
                peer: atom.addr,
                protocol,
                port,
                names: &atom.names,
            };
            survey.tables.check(&question)
        };
        let may_serve = |atom: &&Atom| match atom.spot {
            Spot::Pods(group) => is_server(survey.tables.pod(groups[group])),
            Spot::Nodes | Spot::Outside(..) => true,
        };
        let mut servers = atoms.all.iter().filter(|atom| atom.names.is_empty()).filter(may_serve);
        if servers.any(|atom| ask(atom, Protocol::UDP, DNS_PORT).allowed) {
            continue;
        }
        // A pod that may connect nowhere needs no names.
        let connects = atoms.all.iter().any(|atom| {
            let named = match atom.spot {
                Spot::Pods(group) => survey.tables.pod(groups[group]).ports.as_slice(),
                _ => &[],
            };
            TRANSPORTS.into_iter().any(|protocol| {
                let mut pieces = survey.cuts.port_pieces(protocol, named.iter()).into_iter();
                pieces.any(|piece| {
                    let verdict = ask(atom, protocol, *piece.start());
                    verdict.allowed && verdict.reason != VerdictReason::Exempt
                })
            })
        });
        if connects {
            cut_off.entry(selecting).or_default().insert(group);
        }
    }
    for (selecting, groups) in cut_off {
        let has_rules = |policy: &Written<'_>| match policy {
            Written::NetworkPolicy(policy) => {
                policy.spec.iter().flat_map(|spec| spec.egress.iter().flatten()).next().is_some()
            }
            Written::ClusterNetworkPolicy(_) => false,
        };
        let views = || policies.all.iter().filter(|policy| selecting.contains(&policy.index));
        let Some(policy) = views().find(|policy| has_rules(&policy.object)).or_else(|| views().next()) else {
            continue;
        };
        let message = format!(
            "{} may connect elsewhere but ask no DNS server, so names do not resolve: allow UDP and TCP 53 to pods with \
             {}={} in namespace {DNS_NAMESPACE}",
            survey.party(groups).text,
            DNS_LABEL.0,
            DNS_LABEL.1
        );
        findings.push(policy.finding(Check::EgressWithoutDns, "spec.egress", message));
    }
}
