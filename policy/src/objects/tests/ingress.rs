//! Ingresses and IngressClasses: what is read, written back and refused.

use super::*;
use serde_json::{Value, json};

/// An Ingress `i` with this spec.
fn ingress(spec: &str) -> String {
    format!("{{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {{name: i}}, spec: {spec}}}")
}

/// An Ingress with one path of this type, to a backend that there is nothing wrong with.
fn path(kind: &str, path: &str) -> String {
    ingress(&format!(
        "{{rules: [{{http: {{paths: [{{path: '{path}', pathType: {kind}, backend: {{service: {{name: s, port: {{number: 80}}}}}}}}]}}}}]}}"
    ))
}

/// An Ingress with this default backend.
fn backend(backend: &str) -> String {
    ingress(&format!("{{defaultBackend: {backend}}}"))
}

/// Every field that the API has.
fn everything() -> Value {
    let service = json!({"service": {"name": "web", "port": {"name": "http"}}});
    let resource = json!({"resource": {"apiGroup": "example.com", "kind": "Bucket", "name": "static"}});
    json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": "everything", "namespace": "shop", "annotations": {"kubernetes.io/ingress.class": "podplane"}},
        "spec": {
            "ingressClassName": "podplane",
            "defaultBackend": {"service": {"name": "fallback", "port": {"number": 8080}}},
            "tls": [
                {"hosts": ["shop.example", "*.shop.example"], "secretName": "shop-tls"}, {}, {"hosts": ["10.0.0.1"]},
            ],
            "rules": [
                {"host": "shop.example", "http": {"paths": [
                    {"path": "/api", "pathType": "Prefix", "backend": service},
                    {"path": "/api/", "pathType": "Exact", "backend": service},
                    {"pathType": "ImplementationSpecific", "backend": resource},
                    {"path": "/a//b/..", "pathType": "ImplementationSpecific", "backend": service},
                ]}},
                {"host": "*.shop.example"},
                {"http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": service}]}},
            ],
        },
        "status": {"loadBalancer": {"ingress": [
            {"ip": "192.0.2.1", "ports": [{"port": 443, "protocol": "TCP"}]}, {"hostname": "door.example"},
        ]}},
    })
}

#[test]
fn an_ingress_is_written_back_as_it_was_read() {
    let parsed = parse("f.yaml", &everything().to_string());
    assert_eq!(parsed.problems, []);
    assert_eq!(serde_json::to_value(&parsed.objects[0].object).unwrap(), everything());
}

#[test]
fn what_the_api_server_refuses_of_an_ingress_is_refused_by_field() {
    let rule = "spec.rules[0].http.paths[0]";
    let cases = [
        (ingress("{}"), "spec: required: defaultBackend or rules".to_owned()),
        (ingress("{rules: []}"), "spec: required: defaultBackend or rules".into()),
        (
            ingress("{rules: [{host: 10.0.0.1}]}"),
            "spec.rules[0].host: \"10.0.0.1\" is an IP address, use a DNS name".into(),
        ),
        (
            ingress("{rules: [{host: 010.0.0.01}]}"),
            "spec.rules[0].host: \"010.0.0.01\" is an IP address, use a DNS name".into(),
        ),
        (ingress("{rules: [{host: '::1'}]}"), "spec.rules[0].host: \"::1\" is an IP address, use a DNS name".into()),
        (
            ingress("{rules: [{host: 'a.*.example'}]}"),
            "spec.rules[0].host: \"a.*.example\" is not a host: '*' stands alone as the first part, such as *.example.com".into(),
        ),
        (
            ingress("{rules: [{host: '*'}]}"),
            "spec.rules[0].host: \"*\" is not a host: '*' stands alone as the first part, such as *.example.com".into(),
        ),
        (
            ingress("{rules: [{host: Shop.example}]}"),
            "spec.rules[0].host: \"Shop.example\" is not a DNS name: lower-case letters, digits, '-' and '.', each part begins and ends with a letter or a digit".into(),
        ),
        (
            ingress(&format!("{{rules: [{{host: {}}}]}}", ["a"; 128].join("."))),
            "spec.rules[0].host: longer than 253 characters".into(),
        ),
        (ingress("{rules: [{http: {paths: []}}]}"), "spec.rules[0].http.paths: required".into()),
        (path("''", "/"), format!("{rule}.pathType: required: one of Exact, Prefix, ImplementationSpecific")),
        (
            path("Regex", "/"),
            format!("{rule}.pathType: \"Regex\" is not supported, use Exact, Prefix, ImplementationSpecific"),
        ),
        (path("Exact", ""), format!("{rule}.path: \"\" does not begin with '/'")),
        (path("Prefix", "a"), format!("{rule}.path: \"a\" does not begin with '/'")),
        (path("ImplementationSpecific", "a"), format!("{rule}.path: \"a\" does not begin with '/'")),
        (path("Exact", "/a//b"), format!("{rule}.path: \"//\" is not allowed in a path")),
        (path("Prefix", "/a/./b"), format!("{rule}.path: \"/./\" is not allowed in a path")),
        (path("Prefix", "/a/../b"), format!("{rule}.path: \"/../\" is not allowed in a path")),
        (path("Prefix", "/a%2fb"), format!("{rule}.path: \"%2f\" is not allowed in a path")),
        (path("Prefix", "/a%2Fb"), format!("{rule}.path: \"%2F\" is not allowed in a path")),
        (path("Prefix", "/a/.."), format!("{rule}.path: a path must not end in \"/..\"")),
        (path("Exact", "/a/."), format!("{rule}.path: a path must not end in \"/.\"")),
        (backend("{}"), "spec.defaultBackend: required: resource or service".into()),
        (
            backend("{resource: {kind: K, name: ns}, service: {name: s, port: {number: 1}}}"),
            "spec.defaultBackend: only one of resource, service is allowed".into(),
        ),
        (backend("{resource: {kind: '', name: ns}}"), "spec.defaultBackend.resource.kind: required".into()),
        (
            backend("{resource: {kind: K, name: a/b}}"),
            "spec.defaultBackend.resource.name: \"a/b\" is neither a kind nor a name: '/', '%', \".\" and \"..\" are not allowed".into(),
        ),
        (
            backend("{resource: {apiGroup: A, kind: K, name: ns}}"),
            "spec.defaultBackend.resource.apiGroup: \"A\" is not a DNS name: lower-case letters, digits, '-' and '.', each part begins and ends with a letter or a digit".into(),
        ),
        (backend("{service: {name: '', port: {number: 80}}}"), "spec.defaultBackend.service.name: required".into()),
        (
            backend("{service: {name: A, port: {number: 80}}}"),
            "spec.defaultBackend.service.name: \"A\" is not a DNS label: lower-case letters, digits and '-', first and last a letter or a digit".into(),
        ),
        (backend("{service: {name: s}}"), "spec.defaultBackend.service.port: required: name or number".into()),
        (
            backend("{service: {name: s, port: {name: '', number: 0}}}"),
            "spec.defaultBackend.service.port: required: name or number".into(),
        ),
        (
            backend("{service: {name: s, port: {name: http, number: 80}}}"),
            "spec.defaultBackend.service.port: only one of name, number is allowed".into(),
        ),
        (
            backend("{service: {name: s, port: {number: 65536}}}"),
            "spec.defaultBackend.service.port.number: 65536 is not between 1 and 65535".into(),
        ),
        (
            backend("{service: {name: s, port: {name: '80'}}}"),
            "spec.defaultBackend.service.port.name: \"80\" is not a port name: at most 15 lower-case letters, digits and single '-', with at least one letter".into(),
        ),
        (
            ingress("{rules: [{}], tls: [{hosts: ['*.*.a']}]}"),
            "spec.tls[0].hosts[0]: \"*.*.a\" is not a host: '*' stands alone as the first part, such as *.example.com".into(),
        ),
        (
            ingress("{rules: [{}], tls: [{hosts: [a, '']}]}"),
            "spec.tls[0].hosts[1]: \"\" is not a DNS name: lower-case letters, digits, '-' and '.', each part begins and ends with a letter or a digit".into(),
        ),
        (
            ingress("{rules: [{}], tls: [{secretName: a_b}]}"),
            "spec.tls[0].secretName: \"a_b\" is not a DNS name: lower-case letters, digits, '-' and '.', each part begins and ends with a letter or a digit".into(),
        ),
        (
            ingress("{rules: [{}], ingressClassName: ''}"),
            "spec.ingressClassName: \"\" is not a DNS name: lower-case letters, digits, '-' and '.', each part begins and ends with a letter or a digit".into(),
        ),
        (
            ingress("{rules: [{}], ingressClassName: a}")
                .replace("name: i}", "name: i, annotations: {kubernetes.io/ingress.class: b}}"),
            "metadata.annotations[kubernetes.io/ingress.class]: \"b\" is not spec.ingressClassName \"a\"".into(),
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(findings(&text), [expected], "{text}");
    }
}

#[test]
fn a_path_without_a_type_is_named_even_beside_other_mistakes() {
    let text = ingress("{rules: [{http: {paths: [{path: /, backend: {}}, {path: b, pathType: Exact, backend: {}}]}}]}");
    assert_eq!(
        findings(&text),
        [
            "spec.rules[0].http.paths[0].pathType: required: one of Exact, Prefix, ImplementationSpecific",
            "spec.rules[0].http.paths[1].path: \"b\" does not begin with '/'",
            "spec.rules[0].http.paths[1].backend: required: resource or service",
        ]
    );
}

#[test]
fn an_ingress_of_an_old_version_is_told_the_one_to_use() {
    let text = ingress("{}").replace("networking.k8s.io/v1", "networking.k8s.io/v1beta1");
    assert_eq!(
        findings(&text),
        ["apiVersion: \"networking.k8s.io/v1beta1\" is not supported, use \"networking.k8s.io/v1\""]
    );
}

/// An IngressClass `c` with this spec.
fn class(spec: &str) -> String {
    format!("{{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {{name: c}}, spec: {spec}}}")
}

#[test]
fn an_ingress_class_is_written_back_as_it_was_read() {
    let everything = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "IngressClass",
        "metadata": {"name": "c", "annotations": {"ingressclass.kubernetes.io/is-default-class": "true"}},
        "spec": {"controller": "podplane.io/ingress", "parameters": {
            "apiGroup": "example.com", "kind": "Settings", "name": "s", "scope": "Namespace", "namespace": "n",
        }},
    });
    let parsed = parse("f.yaml", &everything.to_string());
    assert_eq!(parsed.problems, []);
    assert_eq!(serde_json::to_value(&parsed.objects[0].object).unwrap(), everything);
    assert_eq!(findings(&class("{controller: a.b/c, parameters: {kind: K, name: ns}}")), [""; 0]);
}

#[test]
fn what_the_api_server_refuses_of_an_ingress_class_is_refused_by_field() {
    let parameters = |parameters: &str| class(&format!("{{controller: a.b/c, parameters: {parameters}}}"));
    let long = format!("{{controller: a.b/{}}}", "c".repeat(247));
    let cases = [
        (class("{}"), "spec.controller: required"),
        (
            class("{controller: nginx}"),
            "spec.controller: \"nginx\" is not a DNS name, '/' and a path, such as example.com/controller",
        ),
        (
            class("{controller: A/b}"),
            "spec.controller: \"A/b\" is not a DNS name, '/' and a path, such as example.com/controller",
        ),
        (
            class("{controller: a/}"),
            "spec.controller: \"a/\" is not a DNS name, '/' and a path, such as example.com/controller",
        ),
        (class(&long), "spec.controller: longer than 250 characters"),
        (parameters("{kind: K, name: ''}"), "spec.parameters.name: required"),
        (
            parameters("{kind: '..', name: ns}"),
            "spec.parameters.kind: \"..\" is neither a kind nor a name: '/', '%', \".\" and \"..\" are not allowed",
        ),
        (
            parameters("{kind: K, name: ns, scope: Namespace}"),
            "spec.parameters.namespace: required for scope Namespace",
        ),
        (
            parameters("{kind: K, name: ns, scope: Namespace, namespace: A}"),
            "spec.parameters.namespace: \"A\" is not a DNS label: lower-case letters, digits and '-', first and last a letter or a digit",
        ),
        (parameters("{kind: K, name: ns, namespace: ns}"), "spec.parameters.namespace: not allowed for scope Cluster"),
        (
            parameters("{kind: K, name: ns, scope: World}"),
            "spec.parameters.scope: \"World\" is not supported, use Cluster, Namespace",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(findings(&text), [expected], "{text}");
    }
    assert_eq!(
        findings(&class("{controller: a.b/c}").replace("name: c", "name: c, namespace: ns")),
        ["metadata.namespace: not allowed: a IngressClass has no namespace"]
    );
}

#[test]
fn doors_of_a_real_api_server_are_read_without_a_word() {
    // As Kubernetes 1.36.2 answers them, with the fields that it fills in.
    let metadata = |name: &str| {
        json!({
            "name": name, "namespace": "shop", "uid": "054e9326-2988-4b72-a2d2-108c8347afda", "resourceVersion": "313",
            "generation": 1, "creationTimestamp": "2026-11-23T00:01:53Z",
            "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}\n"},
            "managedFields": [{
                "manager": "kubectl-client-side-apply", "operation": "Update", "apiVersion": "networking.k8s.io/v1",
                "time": "2026-11-23T00:01:53Z", "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:rules": {}}},
            }],
        })
    };
    let ingress = json!({
        "kind": "Ingress", "apiVersion": "networking.k8s.io/v1", "metadata": metadata("shop"),
        "spec": {
            "ingressClassName": "podplane",
            "tls": [{"hosts": ["shop.example"], "secretName": "shop-tls"}],
            "rules": [{"host": "shop.example", "http": {"paths": [{
                "path": "/api", "pathType": "Prefix", "backend": {"service": {"name": "backend", "port": {"name": "http"}}},
            }]}}],
        },
        "status": {"loadBalancer": {}},
    });
    let mut class = json!({
        "kind": "IngressClass", "apiVersion": "networking.k8s.io/v1", "metadata": metadata("podplane"),
        "spec": {"controller": "podplane.io/ingress"},
    });
    class["metadata"].as_object_mut().unwrap().remove("namespace");
    let list = json!({
        "kind": "IngressList", "apiVersion": "networking.k8s.io/v1", "metadata": {"resourceVersion": "374"},
        "items": [ingress],
    });
    let text = format!("{list}\n{class}");
    assert_eq!(problems(&text), [""; 0]);
    assert_eq!(objects(&text), ["Ingress shop/shop", "IngressClass podplane"]);
}
