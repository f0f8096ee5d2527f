//! `podplane policy matrix`: the same answer for pods and for the Deployments that make them, without root or packets.

mod support;

use serde_json::Value;
use support::{podplane_with_input, stdout, text};

const SHOP: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: frontend, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: frontend}}
  template:
    metadata: {labels: {app: frontend}}
    spec: {containers: [{name: main, image: none, ports: [{containerPort: 8080}]}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: main, image: none, ports: [{containerPort: 5432}]}]}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: frontend}}}], ports: [{port: 5432}]}]
";

fn matrix(args: &[&str]) -> Value {
    let mut all = vec!["policy", "matrix", "-o", "json", "-f", "-"];
    all.extend(args);
    serde_json::from_str(&stdout(podplane_with_input(&all, SHOP))).expect("JSON")
}

fn outcome<'a>(matrix: &'a Value, from: &str, to: &str, port: u16) -> &'a str {
    let results = matrix["results"].as_array().expect("results");
    let starts = |value: &Value, prefix: &str| value.as_str().is_some_and(|name| name.starts_with(prefix));
    let found = results.iter().find(|r| starts(&r["from"], from) && starts(&r["to"], to) && r["port"] == port);
    found.unwrap_or_else(|| panic!("no {from} -> {to}:{port} in {matrix:#}"))["outcome"].as_str().expect("an outcome")
}

#[test]
fn policies_decide_and_what_manifests_leave_open_is_filled_in() {
    for args in [&[][..], &["--family", "4"], &["--family", "6"]] {
        let matrix = matrix(args);
        assert_eq!(matrix["pods"].as_array().expect("pods").len(), 3, "{matrix:#}");
        assert_eq!(outcome(&matrix, "shop/frontend", "shop/db", 5432), "allow");
        assert_eq!(outcome(&matrix, "shop/db", "shop/frontend", 8080), "allow");
    }
}

#[test]
fn asked_ports_are_judged_at_every_pod() {
    let matrix = matrix(&["--port", "TCP/5432", "--port", "UDP/53"]);
    assert_eq!(outcome(&matrix, "shop/frontend", "shop/db", 5432), "allow");
    assert_eq!(outcome(&matrix, "shop/frontend", "shop/db", 53), "deny");
    assert_eq!(outcome(&matrix, "shop/frontend", "shop/frontend", 53), "allow");
}

#[test]
fn people_get_a_grid() {
    let grid = stdout(podplane_with_input(&["policy", "matrix", "-f", "-", "--port", "TCP/80"], SHOP));
    assert!(grid.starts_with("FROM \\ TO") && grid.contains("-80") && grid.contains("+80"), "{grid}");
}

#[test]
fn text_that_is_not_yaml_is_bad_input() {
    let output = podplane_with_input(&["policy", "matrix", "-f", "-"], "{");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("<stdin>:"), "{}", text(&output.stderr));
}
