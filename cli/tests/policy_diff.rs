//! `podplane policy diff`: exit codes, the shape of its JSON, and all the ways in which manifests may be given.

mod support;

use serde_json::{Value, json};
use std::process::Output;
use support::{Folder, podplane, podplane_with_input, stdout, text};

const WORKLOADS: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: 2
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: main, image: one}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: main, image: none, ports: [{name: sql, containerPort: 5432}]}]}
";

const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: db, namespace: shop}
spec:
  podSelector: {matchLabels: {app: db}}
  ingress: [{from: [{podSelector: {matchLabels: {app: web}}}], ports: [{port: sql}]}]
";

/// The manifests of both sides in a folder, and the result of comparing them.
fn diff(old: &str, new: &str, args: &[&str]) -> Output {
    let folder = Folder::new();
    let (old, new) = (folder.write("old.yaml", old), folder.write("new.yaml", new));
    let workloads = folder.write("workloads.yaml", WORKLOADS);
    podplane(&[&["policy", "diff", "-f", &workloads, &old, &new], args].concat())
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|e| panic!("{e}: {}{}", text(&output.stdout), text(&output.stderr)))
}

#[test]
fn the_same_policies_are_exit_code_0() {
    let output = diff(POLICY, POLICY, &["-o", "json"]);
    assert_eq!(output.status.code(), Some(0));
    let expected = json!({"opens": [], "closes": [], "pods": {"only_old": [], "only_new": []}});
    assert_eq!(json(&output), expected);
    assert_eq!(text(&diff(POLICY, POLICY, &[]).stdout), "no flow opens or closes\n");
}

#[test]
fn what_opens_and_closes_is_exit_code_1_and_told_with_the_rule() {
    let output = diff(POLICY, &POLICY.replace("sql", "5433"), &["-o", "json"]);
    assert_eq!(output.status.code(), Some(1));
    let found = json(&output);
    let (opens, closes) = (&found["opens"][0], &found["closes"][0]);
    assert_eq!(opens["from"]["text"], "shop/web (2 pods)", "{found:#}");
    assert_eq!(opens["from"]["pods"].as_array().map(Vec::len), Some(2), "{found:#}");
    assert_eq!(opens["to"]["pods"], json!(["shop/db"]), "{found:#}");
    assert_eq!(opens["flows"], json!([{"protocol": "TCP", "ports": ["5433"]}]), "{found:#}");
    assert_eq!(opens["family"], Value::Null, "{found:#}");
    assert_eq!(closes["flows"], json!([{"protocol": "TCP", "ports": ["5432"]}]), "{found:#}");
    assert!(opens["now"].as_str().is_some_and(|rule| rule.contains("shop/db spec.ingress[0]")), "{found:#}");
    assert!(closes["before"].as_str().is_some_and(|rule| rule.contains("shop/db spec.ingress[0]")), "{found:#}");
    let output = diff(POLICY, &POLICY.replace("sql", "5433"), &[]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("opens shop/web (2 pods) -> shop/db: TCP 5433"), "{said}");
    assert!(said.contains("closes shop/web (2 pods) -> shop/db: TCP 5432"), "{said}");
}

/// The pods of a Deployment get other names with every edit of its template, and their addresses stay.
#[test]
fn an_edited_template_is_still_the_same_workload() {
    let (old, new) = ([POLICY, "---", WORKLOADS].concat(), [POLICY, "---", WORKLOADS].concat());
    let new = new.replace("image: one", "image: two");
    let folder = Folder::new();
    let (old, new) = (folder.write("old.yaml", &old), folder.write("new.yaml", &new));
    let output = podplane(&["policy", "diff", &old, &new, "-o", "json"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stdout));
    assert_eq!(json(&output)["pods"], json!({"only_old": [], "only_new": []}));
}

#[test]
fn a_pod_that_comes_is_listed_and_not_counted() {
    let more =
        [POLICY, "---\napiVersion: v1\nkind: Pod\nmetadata: {name: new, namespace: shop}\nspec: {containers: []}\n"];
    let output = diff(POLICY, &more.concat(), &["-o", "json"]);
    assert_eq!((output.status.code(), &json(&output)["pods"]["only_new"]), (Some(0), &json!(["shop/new"])));
}

#[test]
fn folders_standard_input_and_lists_are_read() {
    let folder = Folder::new();
    folder.write("workloads.yaml", WORKLOADS);
    folder.write("policy.yaml", POLICY);
    let path = folder.path().to_str().expect("a UTF-8 path").to_owned();
    let policy = r#"{"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "db", "namespace": "shop"},
        "spec": {"podSelector": {"matchLabels": {"app": "db"}}}}"#;
    let list = format!(r#"{{"apiVersion": "v1", "kind": "List", "items": [{policy}]}}"#);
    let other = Folder::new();
    let workloads = other.write("workloads.yaml", WORKLOADS);
    // A List beside the workloads on standard input: the policy has lost its rule.
    let input = format!("{list}\n---{WORKLOADS}");
    let output = podplane_with_input(&["policy", "diff", &path, "-", "-o", "json"], &input);
    assert_eq!((output.status.code(), json(&output)["closes"].as_array().map(Vec::len)), (Some(1), Some(1)));
    let said = stdout(podplane_with_input(&["policy", "diff", "-", &path], &[WORKLOADS, "---", POLICY].concat()));
    assert_eq!(said, "no flow opens or closes\n");
    let output = podplane_with_input(&["policy", "diff", "-f", &workloads, "-", "/dev/null", "-o", "json"], &list);
    assert_eq!((output.status.code(), json(&output)["opens"].as_array().map(Vec::len)), (Some(1), Some(1)));
}

#[test]
fn bad_input_is_exit_code_2() {
    for args in [&["-", "-"][..], &["-f", "-", "-", "/dev/null"], &["/nonexistent", "/dev/null"], &["/dev/null"]] {
        let output = podplane_with_input(&[&["policy", "diff"], args].concat(), "");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    let output = diff(POLICY, "{", &[]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(2), String::new()));
    let output = diff(POLICY, &POLICY.replace("sql", "98765"), &["-o", "json"]);
    let error = text(&output.stderr);
    assert_eq!((output.status.code(), json(&output)["opens"].as_array().map(Vec::len)), (Some(2), Some(2)), "{error}");
    assert!(error.contains("NEW: refused") && error.contains("NetworkPolicy shop/db: spec.ingress[0]"), "{error}");
}
