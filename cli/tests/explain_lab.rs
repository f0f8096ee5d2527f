//! `podplane explain --lab` against real connections in that lab: what it says is what happens (W06).

mod support;

use serde_json::Value;
use support::{Lab, labs_can_run, podplane, text};

/// Servers near and far, one of them closed to the client; Services of every kind in front of them.
const CLUSTER: &str = "
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: e2e, labels: {app: client}}
spec: {nodeName: node1, containers: [{name: main, image: none}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, namespace: e2e, labels: {app: web, at: node1}}
spec:
  nodeName: node1
  containers: [{name: main, image: none, ports: [{containerPort: 8080}, {containerPort: 8080, protocol: UDP}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: far, namespace: e2e, labels: {app: web, at: node2}}
spec:
  nodeName: node2
  containers: [{name: main, image: none, ports: [{containerPort: 8080}, {containerPort: 8080, protocol: UDP}]}]
---
apiVersion: v1
kind: Pod
metadata: {name: closed, namespace: e2e, labels: {app: closed}}
spec: {nodeName: node2, containers: [{name: main, image: none, ports: [{containerPort: 8080}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: closed, namespace: e2e}
spec: {podSelector: {matchLabels: {app: closed}}, ingress: [{from: [{podSelector: {matchLabels: {app: web}}}]}]}
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: e2e}
spec:
  type: LoadBalancer
  clusterIP: 10.96.0.80
  ipFamilyPolicy: PreferDualStack
  selector: {app: web}
  ports: [{name: t, port: 80, targetPort: 8080, nodePort: 30080}, {name: u, port: 80, protocol: UDP, targetPort: 8080, nodePort: 30080}]
status: {loadBalancer: {ingress: [{ip: 172.30.0.201}]}}
---
apiVersion: v1
kind: Service
metadata: {name: local, namespace: e2e}
spec:
  type: NodePort
  externalTrafficPolicy: Local
  internalTrafficPolicy: Local
  clusterIP: 10.96.0.81
  selector: {at: node2}
  ports: [{port: 80, targetPort: 8080, nodePort: 30081}]
---
apiVersion: v1
kind: Service
metadata: {name: closed, namespace: e2e}
spec: {clusterIP: 10.96.0.82, selector: {app: closed}, ports: [{port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: none, namespace: e2e}
spec: {clusterIP: 10.96.0.83, selector: {app: nobody}, ports: [{name: t, port: 80}, {name: u, port: 80, protocol: UDP}]}
---
apiVersion: v1
kind: Service
metadata: {name: headless, namespace: e2e}
spec: {clusterIP: None, selector: {app: web}, ports: [{port: 8080}]}
";

/// From, to, protocol, and what both have to say.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("e2e/client", "e2e/near:8080", "tcp", "delivered"),
    ("e2e/client", "e2e/far:8080", "udp", "delivered"),
    ("e2e/client", "e2e/closed:8080", "tcp", "denied"),
    ("e2e/near", "e2e/closed:8080", "tcp", "delivered"),
    ("e2e/client", "e2e/far", "icmp", "delivered"),
    ("e2e/client", "web:80", "tcp", "delivered"),
    ("e2e/client", "web.e2e.svc.cluster.local:80", "udp", "delivered"),
    ("e2e/near", "10.96.0.80:80", "tcp", "delivered"),
    ("e2e/client", "closed:80", "tcp", "denied"),
    ("node:node1", "10.96.0.82:80", "tcp", "denied"),
    ("e2e/client", "none:80", "tcp", "rejected"),
    ("e2e/client", "none:80", "udp", "rejected"),
    ("e2e/client", "web:81", "tcp", "rejected"),
    ("e2e/client", "local:80", "tcp", "dropped"),
    ("e2e/closed", "local:80", "tcp", "delivered"),
    ("e2e/client", "headless:8080", "tcp", "delivered"),
    ("e2e/client", "nothing:80", "tcp", "unresolved"),
    ("e2e/client", "10.244.1.250:80", "tcp", "rejected"),
    ("e2e/client", "node1:30080", "tcp", "delivered"),
    ("e2e/client", "node2:30080", "udp", "delivered"),
    ("e2e/client", "172.30.0.201:80", "tcp", "delivered"),
    ("e2e/client", "world:80", "tcp", "external"),
    ("e2e/far", "world:80", "udp", "external"),
    ("node:node1", "web.e2e:80", "tcp", "delivered"),
    ("node:node1", "127.0.0.1:30080", "tcp", "delivered"),
    ("node:node1", "[::1]:30080", "tcp", "delivered"),
    ("node:node1", "172.30.0.11:30080", "udp", "delivered"),
    ("node:node1", "172.30.0.12:30080", "tcp", "delivered"),
    ("world", "172.30.0.11:30080", "tcp", "delivered"),
    ("world", "[fd00:172:30::c]:30080", "tcp", "delivered"),
    ("world", "172.30.0.12:30080", "udp", "delivered"),
    ("world", "172.30.0.201:80", "tcp", "delivered"),
    ("world", "172.30.0.12:30081", "tcp", "delivered"),
    ("world", "172.30.0.11:30081", "tcp", "dropped"),
];

/// What a real connection shows of each outcome.
fn shows(outcome: &str) -> &'static [&'static str] {
    match outcome {
        "delivered" | "external" => &["connected"],
        "denied" | "dropped" => &["timeout"],
        "rejected" => &["refused", "unreachable"],
        "unresolved" => &["dns-error"],
        other => panic!("no such outcome: {other}"),
    }
}

fn explained(lab: &Lab, from: &str, to: &str, protocol: &str) -> Value {
    let args = ["explain", "--lab", &lab.name, "--from", from, "--to", to, "--protocol", protocol, "-o", "json"];
    let output = podplane(&args);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{from} -> {to}: {e}: {}{}", text(&output.stdout), text(&output.stderr)))
}

#[test]
fn what_is_explained_is_what_happens() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(CLUSTER, &[]);
    let mut wrong = Vec::new();
    for (from, to, protocol, outcome) in CASES {
        let told = explained(&lab, from, to, protocol);
        // Only a connection that should not succeed is waited for.
        let timeout = if matches!(*outcome, "denied" | "dropped") { "700" } else { "10000" };
        let probe = ["--from", from, "--to", to, "--protocol", protocol, "--timeout", timeout];
        let seen = lab.json("probe", &probe);
        let happened = seen["outcome"].as_str().unwrap_or_default();
        let mut problems = Vec::new();
        if told["outcome"] != *outcome {
            problems.push(format!("explain says {}: {}", told["outcome"], told["reason"]));
        }
        if !shows(outcome).contains(&happened) {
            problems.push(format!("the probe says {happened}"));
        }
        if happened == "connected" && *outcome == "delivered" {
            problems.extend(disagreement(&told, &seen));
        }
        if !problems.is_empty() {
            wrong.push(format!("{from} -> {to} ({protocol}), {outcome}: {}\n  {told}\n  {seen}", problems.join("; ")));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where the two differ about a connection that was made: who answered, and whom it saw.
fn disagreement(told: &Value, seen: &Value) -> Option<String> {
    let service = told["service"].as_object()?;
    let candidates = service["candidates"].as_array()?;
    if !candidates.iter().any(|candidate| candidate["pod"] == seen["server"]) {
        return Some(format!("{} answered, which is no candidate", seen["server"]));
    }
    // A client that asks for its own backend by chance sees another source than usual.
    if seen["server"] != told["backend"]["pod"] {
        return None;
    }
    let source = told["steps"].as_array()?.iter().find(|step| step["stage"] == "source-nat");
    let becomes = source.and_then(|step| step["decision"].as_str()?.split(" becomes ").nth(1));
    match (becomes, seen["client_ip"].as_str()) {
        (Some(expected), Some(client)) if expected != client => {
            Some(format!("the server saw {client}, not {expected}"))
        }
        _ => None,
    }
}
