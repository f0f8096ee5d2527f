//! `podplane policy lint`: exit codes, the shape of its JSON, `--allow`, and silence about the bundled demo.

mod support;

use serde_json::{Value, json};
use support::{Folder, podplane, podplane_with_input, text};

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: shop, labels: {app: db}}
spec: {containers: [{name: main, image: none}]}
";

/// Selects nothing, and is in dry run.
const POLICY: &str = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: typo, namespace: shop, annotations: {podplane.io/dry-run: 'true'}}
spec: {podSelector: {matchLabels: {app: bd}}}
";

/// Exit code and JSON of `policy lint -f -`.
fn lint(manifests: &str, args: &[&str]) -> (Option<i32>, Value, String) {
    let output = podplane_with_input(&[&["policy", "lint", "-o", "json", "-f", "-"], args].concat(), manifests);
    let json = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    (output.status.code(), json, text(&output.stderr))
}

fn ids(findings: &Value) -> Vec<&str> {
    let findings = findings["findings"].as_array().expect("findings");
    findings.iter().map(|finding| finding["id"].as_str().expect("an id")).collect()
}

#[test]
fn the_bundled_demo_is_clean() {
    let demo = concat!(env!("CARGO_MANIFEST_DIR"), "/../lab/demo");
    let output = podplane(&["policy", "lint", "-f", demo]);
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "0 warnings, 0 notes\n".to_owned()));
}

#[test]
fn findings_are_exit_code_1_and_name_file_object_and_field() {
    let (code, found, _) = lint(&[POD, "---", POLICY].concat(), &[]);
    assert_eq!((code, ids(&found)), (Some(1), vec!["dry-run", "selects-nothing"]), "{found:#}");
    let mut finding = found["findings"][1].clone();
    assert!(
        finding["message"].take().as_str().is_some_and(|message| message.contains("correct the labels")),
        "{found:#}"
    );
    let expected = json!({
        "id": "selects-nothing", "severity": "warning", "file": "<stdin>", "kind": "NetworkPolicy", "namespace": "shop",
        "name": "typo", "field": "spec.podSelector", "message": null,
    });
    assert_eq!(finding, expected);
    let output = podplane_with_input(&["policy", "lint", "-f", "-"], &[POD, "---", POLICY].concat());
    let said = text(&output.stdout);
    assert!(said.contains("warning: <stdin>: NetworkPolicy shop/typo: spec.podSelector: "), "{said}");
    assert!(said.contains("[selects-nothing]") && said.ends_with("1 warnings, 1 notes\n"), "{said}");
}

#[test]
fn what_is_allowed_is_not_told() {
    let manifests = [POD, "---", POLICY].concat();
    let (code, found, _) = lint(&manifests, &["--allow", "dry-run"]);
    assert_eq!((code, ids(&found)), (Some(1), vec!["selects-nothing"]));
    let (code, found, _) = lint(&manifests, &["--allow", "dry-run", "--allow", "selects-nothing"]);
    assert_eq!((code, ids(&found)), (Some(0), vec![]));
    let (code, _, error) = lint(&manifests, &["--allow", "typo"]);
    assert_eq!((code, error.contains("selects-nothing, peer-matches-nothing")), (Some(2), true), "{error}");
}

#[test]
fn folders_files_and_lists_are_read() {
    let folder = Folder::new();
    std::fs::create_dir(folder.path().join("policies")).expect("a folder");
    let file = folder.write("policies/typo.yaml", POLICY);
    folder.write(
        "policies/pods.json",
        r#"{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "db", "namespace": "shop"}}]}"#,
    );
    let path = folder.path().to_str().expect("a UTF-8 path").to_owned();
    let output = podplane(&["policy", "lint", "-f", &path, "-o", "json"]);
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((output.status.code(), &found["findings"][0]["file"]), (Some(1), &json!(file)), "{found:#}");
    let list = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "db", "namespace": "shop"}, "spec": {"containers": []}},
        {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "p", "namespace": "shop"},
         "spec": {"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "x"}}}]}]}}]}"#;
    let (code, found, _) = lint(list, &[]);
    assert_eq!((code, ids(&found)), (Some(1), vec!["peer-matches-nothing"]), "{found:#}");
}

#[test]
fn bad_input_is_exit_code_2() {
    assert_eq!(podplane(&["policy", "lint"]).status.code(), Some(2));
    assert_eq!(podplane(&["policy", "lint", "-f", "/nonexistent"]).status.code(), Some(2));
    assert_eq!(lint("{", &[]).0, Some(2));
    let bad = POLICY.replace("spec: {", "spec: {policyTypes: [Sideways], ");
    let (code, found, error) = lint(&[POD, "---", &bad].concat(), &[]);
    assert_eq!((code, ids(&found)), (Some(2), vec![]), "{error}");
    assert!(error.contains("NetworkPolicy shop/typo: spec.policyTypes[0]"), "{error}");
}
