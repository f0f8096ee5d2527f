//! Policies judged by real connections: the cluster of Kubernetes' own policy tests (namespaces x, y, z with pods a, b, c each),
//! and an expectation that the packets and `podplane policy matrix` must both meet.

use super::{Lab, podplane, stdout};
use serde_json::Value;
use std::collections::BTreeMap;

/// Namespaces of [`cluster`], and the pods in each.
pub const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const PODS: [&str; 3] = ["a", "b", "c"];

/// Nodes of the pods, by namespace and pod: some pairs of one namespace share a node, some of two namespaces do.
const NODES: [[u8; 3]; 3] = [[1, 2, 1], [2, 3, 1], [3, 3, 2]];

/// Ports that every pod of [`cluster`] serves. Each is named like `serve-80-tcp`.
pub const PORTS: [&str; 6] = ["TCP/80", "TCP/81", "UDP/80", "UDP/81", "SCTP/80", "SCTP/81"];

/// Time for one connection of a matrix. Those that should come about and do not get another chance with more time, because this
/// machine may be busy; those that should not have none.
const TIMEOUTS_MS: [&str; 3] = ["150", "1000", "5000"];

/// The nine pods, with the labels `pod: a` of the pod and `ns: x` of the namespace. For a lab with three nodes.
pub fn cluster() -> String {
    cluster_without(&[])
}

/// [`cluster`] without some pods, `NAMESPACE/NAME`: where a question is about ports, a few clients will do.
pub fn cluster_without(absent: &[&str]) -> String {
    let namespaces = NAMESPACES.map(|name| namespace(name, &format!("ns: {}", quoted(name))));
    let names = NAMESPACES.iter().flat_map(|namespace| PODS.map(|name| (namespace, name)));
    let present = names.filter(|(namespace, name)| !absent.contains(&format!("{namespace}/{name}").as_str()));
    let pods = present.map(|(namespace, name)| pod(namespace, name, &format!("pod: {name}")));
    namespaces.into_iter().chain(pods).collect()
}

/// A namespace with `labels` (of a YAML flow mapping).
pub fn namespace(name: &str, labels: &str) -> String {
    format!("---\napiVersion: v1\nkind: Namespace\nmetadata: {{name: {}, labels: {{{labels}}}}}\n", quoted(name))
}

/// A pod of [`cluster`] with other `labels` (of a YAML flow mapping).
pub fn pod(namespace: &str, name: &str, labels: &str) -> String {
    let ports: Vec<String> = PORTS
        .iter()
        .map(|port| {
            let (protocol, number) = port.split_once('/').expect("PROTO/PORT");
            let name = format!("serve-{number}-{}", protocol.to_lowercase());
            format!("{{name: {name}, containerPort: {number}, protocol: {protocol}}}")
        })
        .collect();
    pod_with_ports(namespace, name, labels, &ports.join(", "))
}

/// A pod of [`cluster`] with other `labels` and `ports` (of YAML flow collections).
pub fn pod_with_ports(namespace: &str, name: &str, labels: &str, ports: &str) -> String {
    let at = |names: &[&str], name| names.iter().position(|other| *other == name).expect("a name of the cluster");
    let node = NODES[at(&NAMESPACES, namespace)][at(&PODS, name)];
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: {}, labels: {{{labels}}}}}\nspec:\n  \
         nodeName: node{node}\n  containers: [{{name: main, image: none, ports: [{ports}]}}]\n",
        quoted(namespace)
    )
}

/// A NetworkPolicy `NAMESPACE/NAME` with `spec` (a YAML flow mapping).
pub fn policy(full_name: &str, spec: &str) -> String {
    let (namespace, name) = full_name.split_once('/').expect("NAMESPACE/NAME");
    format!(
        "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {{name: {name}, namespace: {}}}\nspec: {spec}\n",
        quoted(namespace)
    )
}

/// A ClusterNetworkPolicy with `spec` (a YAML flow mapping).
pub fn cluster_policy(name: &str, spec: &str) -> String {
    format!(
        "---\napiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\nspec: {spec}\n"
    )
}

/// YAML takes a bare `y` for true.
fn quoted(name: &str) -> String {
    format!("'{name}'")
}

/// One question to a lab: what it is about, and who shall reach whom.
///
/// Each line of `expect` is a sign (`+` connected, `-` silence), clients, servers and, if not all, ports:
/// `- */a x/* TCP/80,UDP/80`. `*` stands for every namespace or pod, and alone for all. Everything is allowed to begin with, and
/// later lines go before earlier ones. A pod reaches itself always.
pub struct Case<'a> {
    /// For the message.
    pub name: &'a str,
    /// What is applied before, and deleted again afterwards.
    pub manifests: Vec<String>,
    /// The lines.
    pub expect: &'a str,
}

/// Applies each case by itself and judges it on `ports`; all are tried before the first that fails is told.
pub fn judge_all(lab: &Lab, ports: &[&str], cases: &[Case<'_>]) {
    let mut failed = Vec::new();
    for case in cases {
        let manifests = case.manifests.concat();
        lab.apply(&manifests);
        failed.extend(judge(lab, ports, case.name, case.expect).err());
        lab.delete(&manifests);
    }
    // Nothing of a policy outlives it.
    failed.extend(judge(lab, ports, "after all of them", "").err());
    assert!(failed.is_empty(), "{}", failed.join("\n\n"));
}

/// Compares the lab as it is with `expect`, over IPv4 and IPv6: by real connections, and by the tables made of the files that the
/// lab's nodes read.
pub fn judge(lab: &Lab, ports: &[&str], name: &str, expect: &str) -> Result<(), String> {
    let expectation = Expectation::parse(expect);
    let mut problems = Vec::new();
    std::thread::scope(|scope| {
        let expectation = &expectation;
        let families =
            ["4", "6"].map(|family| scope.spawn(move || (family, patiently(lab, ports, family, expectation))));
        let files = cluster_dir(lab);
        for (family, real) in families.map(|thread| thread.join().expect("a thread that panics has said why")) {
            let tables = tables(&files, ports, family);
            for (cell, outcome) in &real {
                let expected = if expectation.allows(cell) { ["connected", "allow"] } else { ["timeout", "deny"] };
                let told = tables.get(cell).map_or("nothing", String::as_str);
                if [outcome.as_str(), told] != expected {
                    let [from, to, port] = cell;
                    problems.push(format!("IPv{family} {from} -> {to} {port}: {outcome}, policy matrix: {told}"));
                }
            }
            assert_eq!(real.len(), tables.len(), "both matrices have the same cells");
            assert!(!real.is_empty(), "{name}: nothing was tried");
        }
    });
    if problems.is_empty() { Ok(()) } else { Err(format!("{name}: expected {expect:?}\n{}", problems.join("\n"))) }
}

/// Client, server and PROTO/PORT of a connection.
type Cell = [String; 3];
type Outcomes = BTreeMap<Cell, String>;

/// The real connections; what should be connected and is not is tried again with more time.
fn patiently(lab: &Lab, ports: &[&str], family: &str, expectation: &Expectation<'_>) -> Outcomes {
    let mut outcomes = Outcomes::new();
    for timeout_ms in TIMEOUTS_MS {
        outcomes = real(lab, ports, family, timeout_ms);
        if !outcomes.iter().any(|(cell, outcome)| expectation.allows(cell) && outcome == "timeout") {
            break;
        }
    }
    outcomes
}

fn real(lab: &Lab, ports: &[&str], family: &str, timeout_ms: &str) -> Outcomes {
    let args = [&["--family", family, "--timeout", timeout_ms], &port_args(ports)[..]].concat();
    outcomes(&lab.json("matrix", &args))
}

fn tables(files: &str, ports: &[&str], family: &str) -> Outcomes {
    let args = ["policy", "matrix", "-o", "json", "-f", files, "--family", family];
    let output = stdout(podplane(&[&args, &port_args(ports)[..]].concat()));
    outcomes(&serde_json::from_str(&output).expect("JSON"))
}

fn port_args<'a>(ports: &[&'a str]) -> Vec<&'a str> {
    ports.iter().flat_map(|port| ["--port", *port]).collect()
}

fn outcomes(matrix: &Value) -> Outcomes {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let results = matrix["results"].as_array().expect("results").iter();
    results
        .map(|cell| {
            let port = format!("{}/{}", text(&cell["protocol"]), cell["port"]);
            ([text(&cell["from"]), text(&cell["to"]), port], text(&cell["outcome"]))
        })
        .collect()
}

/// The directory of the lab's files.
pub fn run_dir(lab: &Lab) -> String {
    lab.json("status", &[])["run_dir"].as_str().expect("the run directory").to_owned()
}

/// The folder of the objects that the lab's nodes read.
pub fn cluster_dir(lab: &Lab) -> String {
    format!("{}/cluster", run_dir(lab))
}

/// The API socket of a node's process.
pub fn socket(lab: &Lab, node: &str) -> String {
    format!("{}/nodes/{node}.sock", run_dir(lab))
}

struct Expectation<'a>(Vec<(bool, &'a str, &'a str, Option<&'a str>)>);

impl<'a> Expectation<'a> {
    fn parse(text: &'a str) -> Expectation<'a> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let parse = |line: &'a str| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [sign @ ("+" | "-"), from, to] => (sign == "+", from, to, None),
            [sign @ ("+" | "-"), from, to, ports] => (sign == "+", from, to, Some(ports)),
            _ => panic!("not an expectation: {line:?}"),
        };
        Expectation(lines.map(parse).collect())
    }

    fn allows(&self, [from, to, port]: &Cell) -> bool {
        let last = self.0.iter().rev().find(|(_, clients, servers, ports)| {
            matches(clients, from)
                && matches(servers, to)
                && ports.is_none_or(|ports| ports.split(',').any(|other| other == port))
        });
        from == to || last.is_none_or(|(allowed, ..)| *allowed)
    }
}

/// Whether `pattern` (`*`, `x/*`, `*/a`, `x/a`) means the pod.
fn matches(pattern: &str, pod: &str) -> bool {
    let (Some((namespace, name)), Some(pod)) = (pattern.split_once('/'), pod.split_once('/')) else {
        return pattern == "*";
    };
    [(namespace, pod.0), (name, pod.1)].iter().all(|(wanted, given)| *wanted == "*" || wanted == given)
}
