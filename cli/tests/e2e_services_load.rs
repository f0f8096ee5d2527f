//! Many at once: sixty thousand flows from one node to one destination, and pairs of datagrams as resolvers send them.

mod support;

use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::process::Stdio;
use support::services::{NODES, WORLD, at, cluster, service, traffic};
use support::{Lab, PODPLANE, labs_can_run};

/// Flows to one destination at the same time; the source ports of one address are 65,535.
const FLOWS: usize = 60_000;

/// Pods that share them; each has at most 28,000 ephemeral ports of its own.
const PODS: usize = 4;

/// How long pairs are sent; as many as fit.
const PAIRS_MS: u64 = 3000;

fn pod(number: usize) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: load{number}, namespace: e2e}}\n\
         spec: {{nodeName: node1, containers: [{{name: main, image: none}}]}}\n"
    )
}

#[test]
fn sixty_thousand_flows_of_one_node_to_one_destination_have_sixty_thousand_source_ports() {
    if !labs_can_run() {
        return;
    }
    let pods: String = (0..PODS).map(pod).collect();
    let lab = Lab::up(&cluster(&pods), &[]);
    let wanted =
        json!({"kind": "flows", "target": at(WORLD[0], 80), "count": FLOWS / PODS, "rounds": 2, "pause": true});
    let mut children: Vec<_> = (0..PODS)
        .map(|number| {
            lab.command(&format!("e2e/load{number}"), &[PODPLANE, "lab", "internal", "traffic", &wanted.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .expect("podplane runs")
        })
        .collect();
    let mut outputs: Vec<_> = children
        .iter_mut()
        .map(|child| BufReader::new(child.stdout.take().expect("stdout is piped")).lines())
        .collect();
    // All are open before any is asked again.
    for output in &mut outputs {
        let line = output.next().expect("a line").expect("text");
        assert!(line.contains("\"open\""), "{line}");
    }
    for child in &mut children {
        child.stdin.take().expect("stdin is piped").write_all(b"\n").expect("it waits");
    }
    let mut clients = BTreeSet::new();
    for (mut output, mut child) in outputs.into_iter().zip(children) {
        let report: Value = serde_json::from_str(&output.next().expect("a line").expect("text")).expect("JSON");
        assert!(child.wait().expect("it ends").success());
        for (what, expected) in [("answered", FLOWS / PODS), ("refused", 0), ("lost", 0), ("moved", 0)] {
            assert_eq!(report[what], expected, "{what}; sent again: {}", report["resent"]);
        }
        assert_eq!(report["servers"], json!(["world"]));
        for client in report["clients"].as_array().expect("clients") {
            let client = client.as_str().expect("an address");
            assert!(client.starts_with(&format!("{}:", NODES[0][0])), "{client}");
            assert!(clients.insert(client.to_owned()), "{client} is two flows");
        }
    }
    assert_eq!(clients.len(), FLOWS);
}

#[test]
fn pairs_of_datagrams_at_full_speed_lose_nothing() {
    if !labs_can_run() {
        return;
    }
    let lab = Lab::up(&cluster(&service("dns", "NodePort", 53, "where: far", "")), &[]);
    for (from, target) in [
        ("e2e/client", at("10.96.0.53", 80)),
        ("e2e/client", at("fd00:10:96::53", 80)),
        ("e2e/client", at(WORLD[0], 80)),
        ("world", at(NODES[0][0], 30_053)),
    ] {
        for fresh in [false, true] {
            let wanted = json!({
                "kind": "pairs", "target": target, "count": 1_000_000, "limit_ms": PAIRS_MS / 4, "fresh": fresh
            });
            let report = traffic(&lab, from, &wanted);
            let pairs = report["pairs"].as_u64().expect("a number");
            assert!(pairs > 100, "{from} to {target}: {report}");
            assert_eq!(report["lost"], 0, "{from} to {target}: {report}");
            assert_eq!(report["strange"], 0, "{from} to {target}: {report}");
            assert_eq!(report["answered"], 2 * pairs, "{from} to {target}: {report}");
        }
    }
}
