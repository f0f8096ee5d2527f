use super::*;

/// The problems of `text`, displayed.
fn problems(text: &str) -> Vec<String> {
    parse("f.yaml", text).problems.iter().map(Problem::to_string).collect()
}

/// The names of the objects of `text`.
fn objects(text: &str) -> Vec<String> {
    parse("f.yaml", text).objects.iter().map(|sourced| sourced.object.reference().to_string()).collect()
}

#[test]
fn a_broken_document_names_its_line_and_spoils_only_itself() {
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\nkind: Pod\n  x: [\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n";
    assert_eq!(problems(text), ["f.yaml:6:4: mapping values are not allowed in this context"]);
    assert_eq!(objects(text), ["Namespace a", "Namespace b"]);
    assert_eq!(parse("f.yaml", text).problems[0].severity, Severity::Unreadable);
}

#[test]
fn an_unknown_kind_is_named_and_skipped() {
    let text = "apiVersion: example.com/v1\nkind: Widget\nmetadata: {name: w, namespace: other}\n";
    assert_eq!(problems(text), ["f.yaml: Widget other/w: skipped: podplane does not use example.com/v1 Widget"]);
    assert_eq!(parse("f.yaml", text).problems[0].severity, Severity::Warning);
    let knative = "apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: s}\n";
    assert_eq!(problems(knative), ["f.yaml: Service s: skipped: podplane does not use serving.knative.dev/v1 Service"]);
}

#[test]
fn an_old_version_of_a_known_kind_is_refused_with_the_one_to_use() {
    let text = "apiVersion: apps/v1beta1\nkind: Deployment\nmetadata: {name: d}\n";
    assert_eq!(
        problems(text),
        ["f.yaml: Deployment default/d: apiVersion: \"apps/v1beta1\" is not supported, use \"apps/v1\""]
    );
}

#[test]
fn a_document_that_is_no_object_is_reported() {
    assert_eq!(problems("just text\n"), ["f.yaml: expected a Kubernetes object, found a string"]);
    assert_eq!(problems("a: 1\n"), ["f.yaml: object (document 1): kind: required: a string"]);
    assert_eq!(problems("kind: Pod\n"), ["f.yaml: Pod (document 1): apiVersion: required: a string"]);
    assert_eq!(problems("# only a comment\n---\n---\n"), Vec::<String>::new());
}

#[test]
fn a_wrong_type_is_named_by_its_field() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: s}\nspec: {ports: [{port: eighty}]}\n";
    assert_eq!(
        problems(text),
        ["f.yaml: Service default/s: spec.ports[0].port: invalid type: string \"eighty\", expected i32"]
    );
}

#[test]
fn yaml_is_read_as_kubernetes_reads_it() {
    let yes = "apiVersion: v1\nkind: Pod\nmetadata: {name: yes}\n";
    assert!(
        problems(yes)[0].contains("metadata.name: invalid type: boolean `true`, expected a string: put it in quotes"),
        "{:?}",
        problems(yes)
    );
    assert_eq!(objects("apiVersion: v1\nkind: Pod\nmetadata: {name: 'yes'}\n"), ["Pod default/yes"]);
    let twice = "apiVersion: v1\nkind: Pod\nkind: Pod\nmetadata: {name: a}\n";
    assert_eq!(problems(twice), ["f.yaml:3:1: duplicate mapping key: kind"]);
    let merged = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, labels: &l {x: one}, annotations: {<<: *l, z: two}}\n";
    assert_eq!(objects(merged), ["Pod default/a"]);
}

#[test]
fn json_is_read_with_duplicate_keys_refused_and_several_values_in_a_row() {
    let text = "{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"a\"}}\n{\"apiVersion\":\"v1\",\"kind\":\"Namespace\",\"metadata\":{\"name\":\"b\"}}";
    assert_eq!(objects(text), ["Namespace a", "Namespace b"]);
    assert_eq!(problems("{\"a\": 1,\n \"a\": 2}"), ["f.yaml:2:8: duplicate key \"a\""]);
    assert_eq!(objects("{apiVersion: v1, kind: Namespace, metadata: {name: flow-yaml}}"), ["Namespace flow-yaml"]);
}

#[test]
fn lists_are_taken_apart_and_typed_lists_imply_the_kind() {
    let text = "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Namespace, metadata: {name: a}}\n- {apiVersion: v1, kind: PodList, items: [{metadata: {name: p}}]}\n";
    assert_eq!(objects(text), ["Namespace a", "Pod default/p"]);
    assert_eq!(
        problems("{apiVersion: v1, kind: List, items: 3}")[0],
        "f.yaml: List (document 1): items: expected a list, found a number"
    );
    assert_eq!(
        problems("{apiVersion: v1, kind: PodList, metadata: {}, Items: []}"),
        ["f.yaml: PodList (document 1): Items: unknown field, ignored"]
    );
}

#[test]
fn aliases_cannot_blow_a_text_up() {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
    for level in 1..12 {
        let before = level - 1;
        let aliases = vec![format!("*a{before}"); 10].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{aliases}]\n"));
    }
    assert_eq!(parse("f.yaml", &text).problems[0].severity, Severity::Unreadable);
}

#[test]
fn nesting_is_bounded() {
    for text in ["[".repeat(5000), "{\"a\":".repeat(5000), "- ".repeat(5000)] {
        assert_eq!(parse("f.yaml", &text).problems[0].severity, Severity::Unreadable);
    }
}

/// The fields that validation names in the one object of `text`, with their messages.
fn findings(spec: &str) -> Vec<String> {
    let found = parse("f.yaml", spec).problems;
    found.iter().map(|problem| format!("{}: {}", problem.field, problem.message)).collect()
}

#[test]
fn services_and_slices_are_validated_as_by_the_api_server() {
    let service =
        |spec: &str| findings(&format!("{{apiVersion: v1, kind: Service, metadata: {{name: s}}, spec: {spec}}}"));
    let cases = [
        ("{ports: [{port: 80, name: a}, {port: 81, name: a}]}", "spec.ports[1].name: duplicate \"a\""),
        ("{ports: [{port: 80, name: a}, {port: 81}]}", "spec.ports[1].name: required with several ports"),
        ("{ports: [{port: 70000}]}", "spec.ports[0].port: 70000 is not between 1 and 65535"),
        ("{}", "spec.ports: required"),
        ("{clusterIP: x, ports: [{port: 80}]}", "spec.clusterIP: \"x\" is not an IP address"),
        (
            "{clusterIP: 10.0.0.1, clusterIPs: [10.0.0.2], ports: [{port: 80}]}",
            "spec.clusterIPs[0]: \"10.0.0.2\" is not the clusterIP \"10.0.0.1\"",
        ),
        ("{type: ExternalName}", "spec.externalName: required for type ExternalName"),
        (
            "{type: Magic, ports: [{port: 80}]}",
            "spec.type: \"Magic\" is not supported, use ClusterIP, NodePort, LoadBalancer, ExternalName",
        ),
    ];
    for (spec, expected) in cases {
        assert_eq!(service(spec), [expected], "{spec}");
    }
    let slice = "{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {name: e}, addressType: IPv4, endpoints: [{addresses: ['::1']}, {addresses: [127.0.0.1]}]}";
    assert_eq!(
        findings(slice),
        ["endpoints[0].addresses[0]: ::1 is not IPv4", "endpoints[1].addresses[0]: 127.0.0.1 is a loopback address"]
    );
}

#[test]
fn workloads_must_select_their_own_pods() {
    let text = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: d}, spec: {selector: {matchLabels: {app: x}}, template: {metadata: {labels: {app: z}}}}}";
    assert_eq!(findings(text), ["spec.template.metadata.labels: spec.selector does not select these labels"]);
}

#[test]
fn names_are_dns_names() {
    let named =
        |kind: &str, name: &str| findings(&format!("{{apiVersion: v1, kind: {kind}, metadata: {{name: '{name}'}}}}"));
    assert!(named("Pod", "a.b-c.1").is_empty());
    assert_eq!(named("Namespace", "a.b").len(), 1);
    assert_eq!(named("Pod", "A").len(), 1);
    assert_eq!(named("Pod", "").len(), 1);
    assert_eq!(named("Pod", &"a".repeat(254)).len(), 1);
}

#[test]
fn an_unknown_field_is_a_warning_except_in_a_network_policy() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: p}, spec: {nodename: n}}";
    assert_eq!(problems(pod), ["f.yaml: Pod default/p: spec.nodename: unknown field, ignored"]);
    let policy = "{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {name: p}, spec: {egress: [{}, {toFQDNs: []}]}}";
    let parsed = parse("f.yaml", policy);
    assert_eq!(parsed.problems[0].severity, Severity::Closed);
    let annotations = parsed.objects[0].object.metadata().annotations.clone().unwrap_or_default();
    assert_eq!(annotations.get(CLOSED_ANNOTATION).map(String::as_str), Some("egress[1]"));
}

mod cluster_network_policy;
mod gateway_api;
mod ingress;
mod network_policy;
mod secret;
