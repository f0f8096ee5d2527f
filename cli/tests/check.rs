//! `podplane check`: each bad input of its own kind, with the exit code, the file, the object and the field.

mod support;

use serde_json::Value;
use support::{Folder, podplane, podplane_with_input, text};

/// Runs `check -f -` on `manifests`; gives the exit code and the JSON.
fn check(manifests: &str) -> (Option<i32>, Value) {
    let output = podplane_with_input(&["check", "-o", "json", "-f", "-"], manifests);
    let json = serde_json::from_slice(&output.stdout);
    (output.status.code(), json.unwrap_or_else(|e| panic!("{e}: {}{}", text(&output.stdout), text(&output.stderr))))
}

/// The one problem of `manifests` with this severity.
fn problem(manifests: &str, severity: &str) -> Value {
    let (_, findings) = check(manifests);
    let problems = findings["problems"].as_array().expect("problems");
    let found: Vec<&Value> = problems.iter().filter(|problem| problem["severity"] == severity).collect();
    assert_eq!(found.len(), 1, "{findings:#}");
    found[0].clone()
}

const POD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop}
spec: {containers: [{name: main, image: none}]}
";

#[test]
fn good_manifests_are_accepted() {
    let (code, findings) = check(POD);
    assert_eq!((code, &findings["objects"]), (Some(0), &Value::from(1)), "{findings:#}");
    assert_eq!(findings["problems"], Value::Array(Vec::new()));
}

#[test]
fn broken_yaml_names_file_line_and_column_and_is_exit_code_2() {
    let folder = Folder::new();
    let file = folder.write("broken.yaml", "apiVersion: v1\nkind: Pod\nmetadata: {name: web\n");
    folder.write("good.yaml", POD);
    let output = podplane(&["check", "-f", folder.path().to_str().expect("a UTF-8 path")]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stdout);
    assert!(said.contains(&format!("unreadable: {file}:")) && said.contains("1 objects in 2 files"), "{said}");
}

#[test]
fn an_unknown_kind_is_named_and_skipped_with_a_warning() {
    let manifests = format!("{POD}---\napiVersion: example.com/v1\nkind: Toaster\nmetadata: {{name: kitchen}}\n");
    let (code, findings) = check(&manifests);
    assert_eq!((code, &findings["objects"]), (Some(0), &Value::from(1)), "{findings:#}");
    let warning = problem(&manifests, "warning");
    assert_eq!((&warning["kind"], &warning["name"]), (&"Toaster".into(), &"kitchen".into()), "{warning:#}");
}

#[test]
fn an_invalid_cidr_in_a_policy_is_refused_by_field() {
    let manifests = format!(
        "{POD}---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{name: bad, namespace: shop}}
spec:
  podSelector: {{}}
  ingress:
  - from: [{{ipBlock: {{cidr: 10.0.0.0/40}}}}]
"
    );
    let (code, findings) = check(&manifests);
    assert_eq!(code, Some(1), "{findings:#}");
    let refused = problem(&manifests, "refused");
    assert_eq!(refused["field"], "spec.ingress[0].from[0].ipBlock.cidr", "{refused:#}");
    assert_eq!((&refused["namespace"], &refused["name"]), (&"shop".into(), &"bad".into()), "{refused:#}");
    assert_eq!(refused["file"], "<stdin>", "{refused:#}");
    let message = refused["message"].as_str().expect("a message");
    assert!(message.ends_with("; nothing of it is in force: pods that only it isolates are open"), "{message}");
}

#[test]
fn a_cluster_network_policy_is_refused_closed_and_warned_about_by_field() {
    let policy = |annotations: &str, spec: &str| {
        format!(
            "{{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {{name: tenants, annotations: \
             {{{annotations}}}}}, spec: {{tier: Admin, priority: 10, subject: {{namespaces: {{}}}}, {spec}}}}}"
        )
    };
    let to = |action: &str, peer: &str| policy("", &format!("egress: [{{action: {action}, to: [{peer}]}}]"));
    let good = to("Deny", "{networks: [10.0.0.0/8]}");
    assert_eq!(check(&good), (Some(0), serde_json::json!({"files": 1, "objects": 1, "problems": []})));
    let (code, _) = check(&to("Deny", "{networks: [10.0.0.0/40]}"));
    assert_eq!(code, Some(1));
    let refused = problem(&to("Deny", "{networks: [10.0.0.0/40]}"), "refused");
    assert_eq!(refused["field"], "spec.egress[0].to[0].networks[0]", "{refused:#}");
    let message = refused["message"].as_str().expect("a message");
    assert!(message.ends_with("; nothing of it is in force: what it denies is judged without it"), "{message}");
    assert_eq!(
        (&refused["kind"], &refused["namespace"], &refused["name"]),
        (&"ClusterNetworkPolicy".into(), &"".into(), &"tenants".into())
    );
    let closed = problem(&to("Deny", "{services: {}}"), "closed");
    assert_eq!(closed["field"], "spec.egress[0].to[0].services", "{closed:#}");
    assert_eq!(closed["message"], "unknown field: spec.egress[0] denies everything", "{closed:#}");
    let warning = problem(&policy("podplane.io/dry-run: 'yes'", ""), "warning");
    assert_eq!(warning["field"], "metadata.annotations.podplane.io/dry-run", "{warning:#}");
    let old = "{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {name: old}}";
    let message = problem(old, "warning")["message"].to_string();
    assert!(message.contains("ClusterNetworkPolicy with spec.tier: Admin"), "{message}");
}

#[test]
fn w12_every_field_that_cannot_be_enforced_is_listed_with_what_comes_of_it() {
    let manifests = "
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: np}
spec:
  podSelector: {}
  ingress: [{from: [{podSelector: {}, serviceAccount: a}], http: {}}, {ports: [{port: 80, flags: [SYN]}]}]
  egress: [{to: [{fqdn: example.com}, {podSelector: {}}]}]
---
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: cnp}
spec:
  tier: Admin
  priority: 1
  subject: {namespaces: {}}
  ingress: [{action: Accept, from: [{networks: ['::/0']}]}, {action: Deny, from: [{namespaces: {}}], log: true}]
  egress: [{action: Pass, to: [{services: {}}, {domainNames: [a.b]}], protocols: [{icmp: {}}]}]
";
    let (code, findings) = check(manifests);
    assert_eq!(code, Some(0), "{findings:#}");
    let problems = findings["problems"].as_array().expect("problems");
    assert!(problems.iter().all(|problem| problem["severity"] == "closed"), "{findings:#}");
    let told = |problem: &Value| {
        let text = |field: &str| problem[field].as_str().unwrap_or_default().to_owned();
        let (_, effect) = problem["message"].as_str()?.rsplit_once(": ")?;
        Some(format!("{} {}: {effect}", text("name"), text("field")))
    };
    let mut told: Vec<String> = problems.iter().filter_map(told).collect();
    told.sort();
    assert_eq!(
        told,
        [
            "cnp spec.egress[0].protocols[0].icmp: spec.egress[0] denies everything",
            "cnp spec.egress[0].to[0].services: spec.egress[0] denies everything",
            "cnp spec.egress[0].to[1].domainNames: spec.egress[0] denies everything",
            "cnp spec.ingress[0].from[0].networks: spec.ingress[0] matches nothing",
            "cnp spec.ingress[1].log: spec.ingress[1] denies everything",
            "np spec.egress[0].to[0].fqdn: spec.egress[0] matches nothing",
            "np spec.ingress[0].from[0].serviceAccount: spec.ingress[0] matches nothing",
            "np spec.ingress[0].http: spec.ingress[0] matches nothing",
            "np spec.ingress[1].ports[0].flags: spec.ingress[1] matches nothing",
        ]
    );
}

#[test]
fn doors_that_cannot_be_opened_are_refused_by_field() {
    let manifests = "
apiVersion: v1
kind: Secret
metadata: {name: shop-tls, namespace: shop}
type: kubernetes.io/tls
stringData: {tls.crt: chain}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: shop, namespace: shop}
spec:
  tls: [{hosts: [shop.example], secretName: shop-tls}]
  rules:
  - host: 192.0.2.1
    http:
      paths:
      - {path: /api, pathType: Prefix, backend: {service: {name: backend, port: {name: http}}}}
      - {path: /a//b, pathType: Exact, backend: {service: {name: backend}}}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: shop, namespace: shop}
spec: {rules: [{backendRefs: [{name: backend, weight: -1}], timeouts: {request: 10 s}}]}
";
    let (code, findings) = check(manifests);
    assert_eq!(code, Some(1), "{findings:#}");
    let problems = findings["problems"].as_array().expect("problems").iter();
    let told: Vec<String> = problems.map(|problem| format!("{} {}", problem["kind"], problem["field"])).collect();
    let expected = [
        "\"Secret\" \"data[tls.key]\"",
        "\"Ingress\" \"spec.rules[0].host\"",
        "\"Ingress\" \"spec.rules[0].http.paths[1].path\"",
        "\"Ingress\" \"spec.rules[0].http.paths[1].backend.service.port\"",
        "\"HTTPRoute\" \"spec.rules[0].backendRefs[0].port\"",
        "\"HTTPRoute\" \"spec.rules[0].backendRefs[0].weight\"",
        "\"HTTPRoute\" \"spec.rules[0].timeouts.request\"",
    ];
    assert_eq!(told, expected, "{findings:#}");
}

#[test]
fn a_field_of_the_wrong_type_is_refused_by_field() {
    let refused = problem(&POD.replace("name: main", "name: main, ports: [{containerPort: many}]"), "refused");
    assert_eq!(refused["field"], "spec.containers[0].ports[0].containerPort", "{refused:#}");
}

#[test]
fn duplicate_pod_addresses_are_refused_and_both_pods_named() {
    let pod = |name: &str| {
        format!("{}status: {{podIPs: [{{ip: 10.244.1.7}}], podIP: 10.244.1.7}}\n", POD.replace("name: web", name))
            .replace("spec: {", "spec: {nodeName: node1, ")
    };
    let manifests = format!("{}---\n{}", pod("name: first"), pod("name: second"));
    let (code, findings) = check(&manifests);
    assert_eq!(code, Some(1), "{findings:#}");
    let refused = problem(&manifests, "refused");
    let said = refused.to_string();
    assert!(said.contains("first") && said.contains("second") && said.contains("10.244.1.7"), "{refused:#}");
}

#[test]
fn a_full_node_range_is_refused_and_the_node_named() {
    let node = "
apiVersion: v1
kind: Node
metadata: {name: tiny}
spec: {podCIDR: 10.244.9.0/30, podCIDRs: [10.244.9.0/30, 'fd00:10:244:9::/64']}
";
    let pods: String = (0..4).map(|i| format!("---{}", POD.replace("name: web", &format!("name: web-{i}")))).collect();
    let (code, findings) = check(&format!("{node}{pods}"));
    assert_eq!(code, Some(1), "{findings:#}");
    let said = findings["problems"].to_string();
    assert!(said.contains("10.244.9.0/30") && said.contains("tiny"), "{findings:#}");
}

#[test]
fn an_object_that_is_defined_twice_is_refused() {
    let refused = problem(&format!("{POD}---{POD}"), "refused");
    assert_eq!((&refused["kind"], &refused["name"]), (&"Pod".into(), &"web".into()), "{refused:#}");
}

#[test]
fn a_list_and_json_are_read() {
    let list = r#"{"apiVersion":"v1","kind":"List","items":[
        {"apiVersion":"v1","kind":"Namespace","metadata":{"name":"shop"}},
        {"apiVersion":"v1","kind":"Service","metadata":{"name":"web","namespace":"shop"},"spec":{"ports":[{"port":80}]}}]}"#;
    let (code, findings) = check(list);
    assert_eq!((code, &findings["objects"]), (Some(0), &Value::from(2)), "{findings:#}");
}
