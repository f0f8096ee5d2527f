//! `podplane policy matrix`: the same answer for pods and for the Deployments that make them, without root or packets.

mod support;

use serde_json::Value;
use support::{Folder, podplane, podplane_with_input, stdout, text};

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

/// Exit code and standard output of `policy matrix -f - --expect FILE` on the shop.
fn expect(expectations: &str, format: &str) -> (Option<i32>, String, String) {
    let folder = Folder::new();
    let file = folder.write("expected.yaml", expectations);
    let output = podplane_with_input(&["policy", "matrix", "-f", "-", "--expect", &file, "-o", format], SHOP);
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

const MET: &str = "- {from: shop/frontend-*, to: shop/db, port: 5432, outcome: allow}\n";
const NOT_MET: &str = "- {from: '*/*', to: shop/db, protocol: UDP, port: 53, outcome: allow}\n";

#[test]
fn a_saved_matrix_is_a_test() {
    let saved = stdout(podplane_with_input(&["policy", "matrix", "-f", "-", "-o", "json"], SHOP));
    let (code, said, _) = expect(&saved, "text");
    assert_eq!((code, said.contains("9 as expected, 0 not")), (Some(0), true), "{said}");
}

#[test]
fn what_is_not_as_expected_is_told_with_the_rule_and_exit_code_1() {
    let (code, said, _) = expect(&[MET, NOT_MET].concat(), "text");
    assert_eq!(code, Some(1), "{said}");
    for part in ["not as expected: */* -> shop/db UDP/53 allowed: 2 of 2", "shop/frontend-", "shop/db spec.ingress[0]"]
    {
        assert!(said.contains(part), "{part:?} in {said}");
    }
    assert!(!said.contains("5432 allowed") && said.contains("1 as expected, 1 not"), "{said}");
}

#[test]
fn expectations_are_json_too() {
    let (code, json, _) = expect(&[MET, NOT_MET].concat(), "json");
    let report: Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!((code, &report["passed"], &report["failed"]), (Some(1), &1.into(), &1.into()), "{report:#}");
    let result = &report["results"][1];
    let (from, expected) = (&result["from"], &result["expected"]);
    assert_eq!((from, expected, &result["passed"]), (&"*/*".into(), &"allow".into(), &false.into()), "{report:#}");
    let example = &result["examples"][0];
    assert_eq!((&result["mismatches"], &example["outcome"]), (&2.into(), &"deny".into()), "{report:#}");
}

#[test]
fn expectations_are_junit_xml_that_is_the_same_every_time() {
    let (code, xml, _) = expect(&[MET, NOT_MET].concat(), "junit");
    assert_eq!(code, Some(1), "{xml}");
    let begins = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
                  <testsuites name=\"podplane policy matrix\" tests=\"2\" failures=\"1\" errors=\"0\" time=\"0\">\n";
    assert!(xml.starts_with(begins), "{xml}");
    assert_eq!(xml.matches("<testcase ").count(), 2, "{xml}");
    assert!(xml.contains("name=\"*/* -&gt; shop/db UDP/53 allowed\""), "{xml}");
    assert!(xml.contains("<failure type=\"mismatch\" message=\"2 of 2 connections are denied\">"), "{xml}");
    let again = expect(&[MET, NOT_MET].concat(), "junit").1;
    let without_file = |xml: &str| xml.lines().filter(|line| !line.contains("expected.yaml")).collect::<String>();
    assert_eq!(without_file(&again), without_file(&xml));
    let (code, xml, _) = expect(MET, "junit");
    assert_eq!((code, xml.contains("failures=\"0\"")), (Some(0), true), "{xml}");
}

#[test]
fn expectations_that_cannot_be_read_are_bad_input() {
    let (code, said, error) = expect("- {from: shop, to: shop/db, port: 1, outcome: deny}\n", "junit");
    assert_eq!(
        (code, said.as_str(), error.contains("expected.yaml: [0].from: \"shop\"")),
        (Some(2), "", true),
        "{error}"
    );
    let output = podplane(&["policy", "matrix", "-f", "-", "--expect", "-"]);
    assert_eq!(output.status.code(), Some(2));
    let output = podplane_with_input(&["policy", "matrix", "-f", "-", "--expect", "/nonexistent"], SHOP);
    assert_eq!((output.status.code(), text(&output.stderr).contains("/nonexistent")), (Some(2), true));
}

#[test]
fn an_answer_without_a_refused_object_is_given_and_is_exit_code_2() {
    let bad = SHOP.replace("{port: 5432}", "{port: 98765}");
    let output = podplane_with_input(&["policy", "matrix", "-f", "-", "-o", "json"], &bad);
    let (code, error) = (output.status.code(), text(&output.stderr));
    let matrix: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((code, matrix["results"].as_array().map(Vec::len)), (Some(2), Some(9)), "{error}");
    assert!(error.contains("NetworkPolicy shop/db: spec.ingress[0].ports[0].port"), "{error}");
}
