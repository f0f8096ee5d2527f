//! `podplane explain --lab` against real connections under NetworkPolicies, tiers and dry run: what it says is what happens, and
//! what it says is denied is counted where it says (W06, G02).

mod support;

use serde_json::Value;
use std::collections::BTreeMap;
use std::time::Duration;
use support::{Lab, labs_can_run, podplane, text, wait_until};

/// Two namespaces; a server behind a NetworkPolicy, one behind the baseline tier alone, one that only a dry run concerns.
const CLUSTER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: e2e, labels: {team: a}}
---
apiVersion: v1
kind: Namespace
metadata: {name: other, labels: {team: b}}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: e2e, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: caged, namespace: e2e, labels: {app: caged}}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: stranger, namespace: other, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: agent, namespace: other, labels: {app: client}}
spec: {nodeName: node1, hostNetwork: true, containers: [{name: main, image: none, ports: [{containerPort: 7000}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: server, namespace: e2e, labels: {app: server}}
spec:
  nodeName: node2
  containers:
  - {name: main, image: none, ports: [{name: http, containerPort: 8080}, {containerPort: 8080, protocol: UDP}, {containerPort: 9090}]}
---
apiVersion: v1
kind: Pod
metadata: {name: quiet, namespace: e2e, labels: {app: quiet}}
spec: {nodeName: node2, containers: [{name: main, image: none, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: tried, namespace: e2e, labels: {app: tried}}
spec: {nodeName: node2, containers: [{name: main, image: none, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: e2e}
spec: {type: NodePort, selector: {app: server}, ports: [{port: 80, targetPort: http, nodePort: 30090}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: default, namespace: e2e}
spec: {podSelector: {matchLabels: {app: server}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: e2e}
spec:
  podSelector: {matchLabels: {app: server}}
  ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: client}}}], ports: [{port: http}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: tried, namespace: e2e, annotations: {podplane.io/dry-run: 'true'}}
spec: {podSelector: {matchLabels: {app: tried}}}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: guard}
spec:
  tier: Admin
  priority: 5
  subject: {pods: {namespaceSelector: {matchLabels: {team: a}}, podSelector: {matchLabels: {app: server}}}}
  ingress:
  - name: the team itself
    action: Accept
    from: [{pods: {namespaceSelector: {matchLabels: {team: a}}, podSelector: {}}}]
    protocols: [{tcp: {destinationPort: {number: 9090}}}]
  - name: left to the namespace
    action: Pass
    from: [{namespaces: {matchLabels: {team: b}}}]
    protocols: [{destinationNamedPort: http}]
  - {name: other teams, action: Deny, from: [{namespaces: {matchLabels: {team: b}}}]}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: cage}
spec:
  tier: Admin
  priority: 1
  subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: caged}}}}
  egress:
  - {name: agents, action: Accept, to: [{nodes: {}}], protocols: [{tcp: {destinationPort: {number: 7000}}}]}
  - {name: names, action: Accept, to: [{domainNames: ['*.example.com']}]}
  - {name: inside, action: Pass, to: [{namespaces: {matchLabels: {team: a}}}]}
  - {name: the rest, action: Deny, to: [{networks: [0.0.0.0/0, '::/0']}]}
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: base}
spec:
  tier: Baseline
  priority: 5
  subject: {namespaces: {matchLabels: {team: a}}}
  ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: b}}}]}]
";

/// From, to, protocol, the outcome, and what the reason of a denial has to name.
const CASES: &[(&str, &str, &str, &str, &str)] = &[
    ("e2e/client", "e2e/server:8080", "tcp", "delivered", ""),
    (
        "e2e/client",
        "e2e/server:8080",
        "udp",
        "denied",
        "e2e/server spec.ingress[0].ports: UDP 8080 is not in [TCP http (8080)]",
    ),
    ("e2e/client", "e2e/server", "icmp", "denied", "ICMP, which has no ports, is not in [TCP http (8080)]"),
    ("e2e/client", "e2e/server:9090", "tcp", "delivered", ""),
    ("e2e/caged", "e2e/server:9090", "tcp", "delivered", ""),
    ("e2e/caged", "e2e/server:8080", "tcp", "denied", "e2e/server spec.ingress[0].from: e2e/caged (app=caged"),
    ("e2e/client", "server:80", "tcp", "delivered", ""),
    ("other/stranger", "server.e2e:80", "tcp", "delivered", ""),
    ("other/stranger", "e2e/server:9090", "tcp", "denied", "guard spec.ingress[2] \"other teams\" (Admin tier, Deny)"),
    ("other/stranger", "e2e/quiet:8080", "tcp", "denied", "base spec.ingress[0] (Baseline tier, Deny)"),
    ("e2e/client", "e2e/quiet:8080", "tcp", "delivered", ""),
    ("e2e/client", "e2e/tried:8080", "tcp", "delivered", ""),
    ("e2e/caged", "e2e/quiet:8080", "tcp", "delivered", ""),
    (
        "e2e/caged",
        "world:80",
        "tcp",
        "denied",
        "cage spec.egress[3] \"the rest\" (Admin tier, Deny); cage spec.egress[1] \"names\"",
    ),
    ("e2e/caged", "node1:7000", "tcp", "delivered", ""),
    ("e2e/caged", "node2:30090", "tcp", "denied", "e2e/server spec.ingress[0].from: e2e/caged"),
    ("e2e/caged", "node2", "icmp", "denied", "\"the rest\" (Admin tier, Deny)"),
    ("e2e/client", "other/agent:7000", "tcp", "delivered", ""),
    ("other/agent", "e2e/quiet:8080", "tcp", "delivered", ""),
    ("other/agent", "e2e/server:8080", "tcp", "denied", "node node1 (172.30.0.11) is not in"),
    ("node:node2", "e2e/server:8080", "tcp", "delivered", ""),
    ("node:node1", "e2e/server:8080", "tcp", "denied", "node node1"),
    ("world", "172.30.0.12:30090", "tcp", "denied", "172.30.0.100, an address of no pod or node, is not in"),
    ("world", "172.30.0.11:30090", "tcp", "denied", "nor does e2e/default allow it"),
];

const NODES: [&str; 2] = ["node1", "node2"];

fn explained(lab: &Lab, (from, to, protocol): (&str, &str, &str)) -> Value {
    let args = ["explain", "--lab", &lab.name, "--from", from, "--to", to, "--protocol", protocol, "-o", "json"];
    let output = podplane(&args);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{from} -> {to}: {e}: {}{}", text(&output.stdout), text(&output.stderr)))
}

/// Packets that policy discarded, by node and reason.
fn denied(lab: &Lab) -> BTreeMap<(String, String), u64> {
    let mut counts = BTreeMap::new();
    for node in NODES {
        for drop in drops(lab, node).as_array().expect("a list") {
            let reason = drop["reason"].as_str().expect("a reason");
            if reason.starts_with("denied-by") {
                counts.insert((node.to_owned(), reason.to_owned()), drop["count"].as_u64().expect("a count"));
            }
        }
    }
    counts
}

fn drops(lab: &Lab, node: &str) -> Value {
    let output = podplane(&["drops", "--node", node, "--lab", &lab.name, "-o", "json"]);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)))
}

/// What is recorded of drops, real and of a dry run, on a node: their reasons and why.
fn recorded(lab: &Lab, node: &str) -> Vec<(String, bool, String)> {
    let drops = drops(lab, node);
    let records =
        drops.as_array().expect("a list").iter().flat_map(|drop| drop["recent"].as_array().expect("records").clone());
    let text = |value: &Value| value.as_str().expect("text").to_owned();
    records.map(|record| (text(&record["reason"]), record["dry_run"] == true, text(&record["why"]))).collect()
}

/// Where `explain` says that policy drops it, and for which reason.
fn told_drop(told: &Value) -> Option<(String, String)> {
    let steps = told["steps"].as_array()?;
    let judged =
        steps.iter().rfind(|step| matches!(step["stage"].as_str(), Some("egress-policy" | "ingress-policy")))?;
    let place = steps.last()?["where"].as_str()?;
    Some((place.to_owned(), format!("denied-by-{}", judged["stage"].as_str()?)))
}

#[test]
fn what_is_explained_of_policies_is_what_happens_and_is_counted_there() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(CLUSTER, &[]);
    let mut wrong = Vec::new();
    for (from, to, protocol, outcome, names) in CASES {
        let told = explained(&lab, (from, to, protocol));
        let before = denied(&lab);
        // Only a connection that should not succeed is waited for.
        let timeout = if *outcome == "denied" { "700" } else { "10000" };
        let seen = lab.json("probe", &["--from", from, "--to", to, "--protocol", protocol, "--timeout", timeout]);
        let mut problems = Vec::new();
        let reason = told["reason"].as_str().unwrap_or_default();
        if told["outcome"] != *outcome || !reason.contains(names) {
            problems.push(format!("explain says {}: {reason}", told["outcome"]));
        }
        let expected = if *outcome == "denied" { "timeout" } else { "connected" };
        if seen["outcome"] != expected {
            problems.push(format!("the probe says {}", seen["outcome"]));
        }
        let more = |after: &BTreeMap<(String, String), u64>| -> Vec<(String, String)> {
            let grown = after.iter().filter(|(key, count)| before.get(*key).is_none_or(|then| then < *count));
            grown.map(|(key, _)| key.clone()).collect()
        };
        let wanted: Vec<(String, String)> = told_drop(&told).filter(|_| *outcome == "denied").into_iter().collect();
        let counted = wait_until(Duration::from_secs(5), || Some(more(&denied(&lab))).filter(|grown| *grown == wanted));
        if counted.is_none() {
            problems.push(format!("counted are {:?}, not {wanted:?}", more(&denied(&lab))));
        }
        // The record of the drop says what explain says.
        for (node, cause) in wanted {
            let record = (cause, false, reason.to_owned());
            let records = recorded(&lab, &node);
            if !records.contains(&record) {
                problems.push(format!("{node} has no such record: {records:?}"));
            }
        }
        if !problems.is_empty() {
            wrong.push(format!("{from} -> {to} ({protocol}), {outcome}: {}\n  {told}\n  {seen}", problems.join("; ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // So does that of a dry run.
    let told = explained(&lab, ("e2e/client", "e2e/tried:8080", "tcp"));
    let reason = told["reason"].as_str().expect("a reason");
    let dry_run =
        |(_, dry_run, why): &(String, bool, String)| *dry_run && !why.is_empty() && reason.ends_with(why.as_str());
    let records = recorded(&lab, "node2");
    assert!(reason.contains("would deny it") && records.iter().any(dry_run), "{reason}\n{records:?}");
}
