//! What a node tells of real traffic and its policies: drops in the words of `podplane explain` (W03), what a dry run would deny (N21,
//! W04), and how often each rule decided (N22).

mod support;

use serde_json::{Value, json};
use std::time::Duration;
use support::policies::{cluster_policy, policy, socket};
use support::services::{at, cluster, outcome, service};
use support::{Lab, labs_can_run, podplane, stdout, text, wait_for};

/// Everything here happens long before.
const LIMIT: Duration = Duration::from_secs(10);

/// What a node says to `podplane COMMAND -o json`.
fn ask(lab: &Lab, node: &str, command: &str) -> Vec<Value> {
    let output = podplane(&[command, "-o", "json", "--socket", &socket(lab, node)]);
    serde_json::from_str(&stdout(output)).expect("a list")
}

/// The record of drops from one pod to another on `node`, by the address that was asked; waits for it.
fn record(lab: &Lab, node: &str, from: &str, to: &str, dry_run: bool) -> Value {
    wait_for(&format!("{from} to {to} in the drops of {node}"), LIMIT, || {
        let drops = ask(lab, node, "drops");
        let mut recent = drops.iter().flat_map(|drop| drop["recent"].as_array().expect("records"));
        let is_it =
            |drop: &Value| drop["from"]["owner"] == from && drop["to"]["address"] == to && drop["dry_run"] == dry_run;
        recent.find(|drop| is_it(drop)).cloned()
    })
}

/// The policy `name` as `node` tells it.
fn told(lab: &Lab, node: &str, name: &str) -> Value {
    let policies = ask(lab, node, "policies");
    policies.into_iter().find(|policy| policy["name"] == name).unwrap_or_else(|| panic!("no policy {name}"))
}

fn explained(lab: &Lab, from: &str, to: &str) -> String {
    let output = podplane(&["explain", "--lab", &lab.name, "--from", from, "--to", to, "-o", "json"]);
    let told: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {}", text(&output.stderr)));
    assert_eq!(told["outcome"], "denied", "{told:#}");
    told["reason"].as_str().expect("a reason").to_owned()
}

#[test]
fn a_drop_is_told_in_the_words_of_explain() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(&service("web", "ClusterIP", 50, "where: far", "")), &[]);
    let [near, far] = ["e2e/near", "e2e/far"].map(|pod| lab.address(pod, false));
    lab.apply(
        &[
            policy("e2e/ports", "{podSelector: {matchLabels: {where: near}}, ingress: [{ports: [{port: 80}]}]}"),
            policy(
                "e2e/peers",
                "{podSelector: {matchLabels: {where: far}}, ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]}",
            ),
            cluster_policy(
                "admin",
                "{tier: Admin, priority: 3, subject: {pods: {namespaceSelector: {}, podSelector: {matchLabels: {where: near}}}}, \
                  egress: [{name: not-there, action: Deny, to: [{namespaces: {}}]}]}",
            ),
        ]
        .concat(),
    );
    for (from, node, to, asked) in [
        ("e2e/client", "node1", at(&near, 8080), near.as_str()),
        ("e2e/client", "node2", at(&far, 8080), &far),
        ("e2e/near", "node1", at(&far, 8080), &far),
    ] {
        assert_eq!(outcome(&lab, from, &to, "tcp", 300), "timeout", "{from} to {to}");
        let drop = record(&lab, node, from, asked, false);
        assert_eq!(drop["why"], explained(&lab, from, &to).as_str(), "{drop:#}");
        let text = stdout(podplane(&["drops", "--socket", &socket(&lab, node)]));
        assert!(text.contains(drop["why"].as_str().expect("a text")), "{text}");
    }
    // Through a Service the record of the pod's own node names the Service and its backend.
    assert_eq!(outcome(&lab, "e2e/near", "10.96.0.50:80", "tcp", 300), "timeout");
    let drop = record(&lab, "node1", "e2e/near", "10.96.0.50", false);
    assert_eq!([&drop["service"], &drop["backend"]["owner"]], ["e2e/web", "e2e/far"], "{drop:#}");
    assert_eq!(drop["why"], explained(&lab, "e2e/near", "10.96.0.50:80").as_str(), "{drop:#}");
}

#[test]
fn a_dry_run_denies_nothing_and_tells_what_it_would_until_its_annotation_is_removed() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(""), &[]);
    let near = lab.address("e2e/near", false);
    let to = at(&near, 8080);
    let enforced = policy("e2e/only", "{podSelector: {matchLabels: {where: near}}, ingress: [{ports: [{port: 80}]}]}");
    let dry = enforced.replace("name: only,", "name: only, annotations: {podplane.io/dry-run: 'true'},");
    lab.apply(&dry);
    assert_eq!(outcome(&lab, "e2e/client", &to, "tcp", 5000), "connected");
    let would = record(&lab, "node1", "e2e/client", &near, true);
    assert!(would["why"].as_str().expect("a text").contains("e2e/only"), "{would:#}");
    let counts = told(&lab, "node1", "only");
    assert_eq!([&counts["dry_run"], &counts["default_denied"]], [&json!(true), &json!(0)], "{counts:#}");
    assert!(counts["default_would_deny"].as_u64() >= Some(1), "{counts:#}");
    lab.apply(&enforced);
    assert_eq!(outcome(&lab, "e2e/client", &to, "tcp", 300), "timeout");
}

#[test]
fn rules_count_what_they_decide() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(""), &[]);
    lab.apply(
        &[
            policy(
                "e2e/rules",
                "{podSelector: {matchLabels: {where: near}}, ingress: [{ports: [{port: 81}]}, {ports: [{port: 8080}]}]}",
            ),
            cluster_policy(
                "admin",
                "{tier: Admin, priority: 3, subject: {namespaces: {}}, ingress: [{name: no-udp, action: Deny, \
                  from: [{namespaces: {}}], protocols: [{udp: {destinationPort: {number: 8080}}}]}]}",
            ),
        ]
        .concat(),
    );
    let to = at(&lab.address("e2e/near", false), 8080);
    for _ in 0..3 {
        assert_eq!(outcome(&lab, "e2e/client", &to, "tcp", 5000), "connected");
    }
    assert_eq!(outcome(&lab, "e2e/client", &to, "udp", 300), "timeout");
    let (rules, admin) = (told(&lab, "node1", "rules"), told(&lab, "node1", "admin"));
    let accepted: Vec<&Value> =
        rules["rules"].as_array().expect("rules").iter().map(|rule| &rule["accepted"]).collect();
    assert_eq!(accepted, [&json!(0), &json!(3)], "{rules:#}");
    assert_eq!([&rules["pods"], &rules["tier"]], [&json!(1), &json!("NetworkPolicy")]);
    assert_eq!(admin["rules"][0]["name"], "no-udp");
    assert!(admin["rules"][0]["denied"].as_u64() >= Some(1), "{admin:#}");
    let text = stdout(podplane(&["policies", "--socket", &socket(&lab, "node1")]));
    assert!(text.contains("e2e/rules") && text.contains("no-udp"), "{text}");
}
