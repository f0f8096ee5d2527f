//! Who may talk to whom: every pod to every pod, as the compiled tables judge it. No packet is sent.
//!
//! A connection is allowed when the policies at both its ends allow it, as on the wire. What is not judged: whether
//! something listens there, and whether nodes reach each other. [`expect`] compares it with what somebody expects.

pub mod expect;

use crate::conversation::{Conversation, End};
use crate::tables::{PodEntry, Tables};
use serde::{Serialize, Serializer};
use std::net::IpAddr;
use wire::Protocol;

/// Port that a pod is judged on when neither the caller nor its containers name one.
const DEFAULT_PORT: (Protocol, u16) = (Protocol::TCP, 80);

/// Address family of the judged connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Every pod to every pod, itself included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Matrix {
    /// All pods that have not ended, `NAMESPACE/NAME`, in that order.
    pub pods: Vec<String>,
    /// By client, server and port, in the order of `pods`. Pairs without addresses of one family are left out.
    pub results: Vec<Cell>,
}

/// One connection of the matrix.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cell {
    /// The client, `NAMESPACE/NAME`.
    pub from: String,
    /// The server, `NAMESPACE/NAME`.
    pub to: String,
    /// Transport protocol; serialized as Kubernetes writes it (`TCP`).
    #[serde(serialize_with = "protocol_name")]
    pub protocol: Protocol,
    /// The server's port.
    pub port: u16,
    /// The verdict of both ends.
    pub outcome: Outcome,
}

/// Verdict on one connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Both ends allow it.
    Allow,
    /// The client's egress policies or the server's ingress policies forbid it.
    Deny,
}

/// Judges every pod to every pod on `ports`, or on the ports that the server's containers declare if that is empty.
/// Without `family` it is the first one that both pods have, IPv4 first. Grows with the square of the pods.
pub fn matrix(tables: &Tables, ports: &[(Protocol, u16)], family: Option<Family>) -> Matrix {
    let pods: Vec<String> = tables.pods().map(|(_, pod)| format!("{}/{}", pod.namespace, pod.name)).collect();
    let mut results = Vec::new();
    for (client_name, (from, client)) in pods.iter().zip(tables.pods()) {
        for (server_name, (to, server)) in pods.iter().zip(tables.pods()) {
            let Some((source, target)) = common_addresses(tables, client, server, family) else { continue };
            for (protocol, port) in server_ports(server, ports) {
                let ends = [(source, from), (target, to)].map(|(addr, pod)| End { addr, pod: Some(pod) });
                let flow = Conversation { tables, from: ends[0], to: ends[1], protocol, port, names: &[] };
                let outcome = Outcome::of(&flow);
                let (from, to) = (client_name.clone(), server_name.clone());
                results.push(Cell { from, to, protocol, port, outcome });
            }
        }
    }
    Matrix { pods, results }
}

impl Outcome {
    fn of(flow: &Conversation<'_>) -> Outcome {
        if flow.is_allowed() { Outcome::Allow } else { Outcome::Deny }
    }
}

fn server_ports(server: &PodEntry, asked: &[(Protocol, u16)]) -> Vec<(Protocol, u16)> {
    let mut ports = asked.to_vec();
    if ports.is_empty() {
        ports.extend(server.ports.iter().map(|port| (port.protocol, port.port)));
    }
    if ports.is_empty() {
        ports.push(DEFAULT_PORT);
    }
    ports.sort_by_key(|(protocol, port)| (*port, *protocol));
    ports.dedup();
    ports
}

fn common_addresses(
    tables: &Tables,
    client: &PodEntry,
    server: &PodEntry,
    family: Option<Family>,
) -> Option<(IpAddr, IpAddr)> {
    let families = match family {
        Some(Family::V4) => [true].as_slice(),
        Some(Family::V6) => [false].as_slice(),
        None => [true, false].as_slice(),
    };
    families.iter().find_map(|is_ipv4| {
        let of = |pod: &PodEntry| addresses(tables, pod).iter().copied().find(|addr| addr.is_ipv4() == *is_ipv4);
        Some((of(client)?, of(server)?))
    })
}

/// A pod of the host network that does not list its addresses has those of its node.
pub(crate) fn addresses<'a>(tables: &'a Tables, pod: &'a PodEntry) -> &'a [IpAddr] {
    match pod.node {
        Some(node) if pod.host_network && pod.addresses.is_empty() => &tables.node(node).addresses,
        _ => &pod.addresses,
    }
}

fn protocol_name<S: Serializer>(protocol: &Protocol, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(protocol)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::Cluster;
    use crate::compile::compile;
    use crate::objects::parse;

    /// A web pod with a declared port, a database without, and a policy that lets only the web pod reach the database.
    const MANIFESTS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: db, labels: {app: db}}
status: {podIPs: [{ip: 10.244.1.2}, {ip: 'fd00::2'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, labels: {app: web}}
spec: {containers: [{name: c, ports: [{containerPort: 8080}, {containerPort: 53, protocol: UDP}]}]}
status: {podIPs: [{ip: 10.244.1.3}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db}
spec: {podSelector: {matchLabels: {app: db}}, policyTypes: [Ingress, Egress], ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}
";

    fn judged(ports: &[(Protocol, u16)], family: Option<Family>) -> Vec<String> {
        let (cluster, _) = Cluster::from_objects(parse("test.yaml", MANIFESTS).objects);
        let matrix = matrix(&compile(&cluster, 1).0, ports, family);
        assert_eq!(matrix.pods, ["default/db", "default/web"]);
        let lines = matrix.results.iter().map(|cell| {
            let outcome = if cell.outcome == Outcome::Allow { "allow" } else { "deny" };
            format!("{} {} {}/{} {outcome}", &cell.from[8..], &cell.to[8..], cell.protocol, cell.port)
        });
        lines.collect()
    }

    #[test]
    fn pods_are_judged_on_their_declared_ports_and_otherwise_on_tcp_80() {
        assert_eq!(
            judged(&[], None),
            [
                "db db TCP/80 allow",
                "db web UDP/53 deny",
                "db web TCP/8080 deny",
                "web db TCP/80 allow",
                "web web UDP/53 allow",
                "web web TCP/8080 allow",
            ]
        );
    }

    #[test]
    fn asked_ports_replace_the_declared_ones_and_a_pod_without_the_family_is_left_out() {
        assert_eq!(judged(&[(Protocol::TCP, 5432)], Some(Family::V6)), ["db db TCP/5432 allow"]);
    }

    #[test]
    fn the_json_is_the_contract() {
        let cell =
            Cell { from: "a/b".into(), to: "c/d".into(), protocol: Protocol::TCP, port: 80, outcome: Outcome::Deny };
        let json = serde_json::to_string(&Matrix { pods: vec!["a/b".into()], results: vec![cell] }).expect("JSON");
        assert_eq!(
            json,
            r#"{"pods":["a/b"],"results":[{"from":"a/b","to":"c/d","protocol":"TCP","port":80,"outcome":"deny"}]}"#
        );
    }
}
