//! The Gateway API: what is read, written back and refused.

mod filters;
mod gateway;
mod http_route;

use super::*;
use crate::objects::gateway_api::reference_grant::ReferenceGrant;
use serde_json::{Value, json};

/// Checks that each text has exactly the finding beside it.
fn refuses<'a>(cases: impl IntoIterator<Item = (String, &'a str)>) {
    for (text, expected) in cases {
        assert_eq!(findings(&text), [expected], "{text}");
    }
}

/// Checks that an object is read without a word and written back as it was, in every version of its kind.
fn survives(object: &Value) {
    for version in ["v1", "v1beta1"] {
        let mut object = object.clone();
        object["apiVersion"] = format!("gateway.networking.k8s.io/{version}").into();
        let parsed = parse("f.yaml", &object.to_string());
        assert_eq!(parsed.problems, []);
        assert_eq!(serde_json::to_value(&parsed.objects[0].object).unwrap(), object);
    }
}

/// A condition as implementations write it.
fn condition(kind: &str) -> Value {
    json!({
        "type": kind, "status": "True", "reason": kind, "message": "", "observedGeneration": 2,
        "lastTransitionTime": "2026-11-23T00:01:53Z",
    })
}

#[test]
fn a_gateway_class_is_written_back_as_it_was_read() {
    survives(&json!({
        "kind": "GatewayClass",
        "metadata": {"name": "c"},
        "spec": {
            "controllerName": "podplane.io/gateway",
            "description": "doors",
            "parametersRef": {"group": "example.com", "kind": "Settings", "name": "s", "namespace": "n"},
        },
        "status": {"conditions": [condition("Accepted")], "supportedFeatures": [{"name": "HTTPRouteMethodMatching"}]},
    }));
}

#[test]
fn what_the_schema_refuses_of_a_gateway_class_is_refused_by_field() {
    let class = |spec: &str| {
        format!("{{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {{name: c}}, spec: {spec}}}")
    };
    let parameters = |text: &str| class(&format!("{{controllerName: a/b, parametersRef: {text}}}"));
    refuses([
        (class("{}"), "spec.controllerName: required"),
        (class("{controllerName: ''}"), "spec.controllerName: required"),
        (
            class("{controllerName: podplane}"),
            "spec.controllerName: \"podplane\" is not a DNS name, '/' and a path, such as example.com/controller",
        ),
        (
            class(&format!("{{controllerName: a/{}}}", "b".repeat(252))),
            "spec.controllerName: longer than 253 characters",
        ),
        (
            class(&format!("{{controllerName: a/b, description: {}}}", "d".repeat(65))),
            "spec.description: longer than 64 characters",
        ),
        (parameters("{kind: K, name: ns}"), "spec.parametersRef.group: required"),
        (parameters("{group: '', kind: '', name: ns}"), "spec.parametersRef.kind: required"),
        (
            parameters("{group: '', kind: K, name: ns, namespace: A}"),
            "spec.parametersRef.namespace: \"A\" is not a DNS label: lower-case letters, digits and '-', first and last a letter or a digit",
        ),
        (
            class("{controllerName: a/b}").replace("name: c", "name: c, namespace: d"),
            "metadata.namespace: not allowed: a GatewayClass has no namespace",
        ),
        (
            class("{controllerName: a/b}").replace("k8s.io/v1", "k8s.io/v1alpha2"),
            "apiVersion: \"gateway.networking.k8s.io/v1alpha2\" is not supported, use \"gateway.networking.k8s.io/v1\"",
        ),
    ]);
}

/// A ReferenceGrant `g` with this spec.
fn grant(spec: &str) -> String {
    format!(
        "{{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {{name: g}}, spec: {spec}}}"
    )
}

#[test]
fn a_reference_grant_is_written_back_as_it_was_read() {
    survives(&json!({
        "kind": "ReferenceGrant",
        "metadata": {"name": "g", "namespace": "shop"},
        "spec": {
            "from": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute", "namespace": "edge"}],
            "to": [{"group": "", "kind": "Service"}, {"group": "", "kind": "Secret", "name": "tls"}],
        },
    }));
}

#[test]
fn what_the_schema_refuses_of_a_reference_grant_is_refused_by_field() {
    let from = "from: [{group: '', kind: K, namespace: ns}]";
    let to = "to: [{group: '', kind: K}]";
    let many = ["{group: '', kind: K}"; 17].join(", ");
    refuses([
        (grant(&format!("{{{from}}}")), "spec.to: required"),
        (grant(&format!("{{{from}, to: []}}")), "spec.to: at least 1 item is required"),
        (grant(&format!("{{{from}, to: [{many}]}}")), "spec.to: 17 items, at most 16 are allowed"),
        (grant(&format!("{{from: [], {to}}}")), "spec.from: at least 1 item is required"),
        (grant(&format!("{{from: [{{group: '', kind: K}}], {to}}}")), "spec.from[0].namespace: required"),
        (
            grant(&format!("{{{from}, to: [{{group: '', kind: '-'}}]}}")),
            "spec.to[0].kind: \"-\" is not a kind: letters, digits and '-', first a letter",
        ),
        (grant(&format!("{{{from}, to: [{{group: '', kind: K, name: ''}}]}}")), "spec.to[0].name: required"),
        (
            grant(&format!("{{{from}, to: [{{group: A, kind: K}}]}}")),
            "spec.to[0].group: \"A\" is not a DNS name: lower-case letters, digits, '-' and '.', each part begins and ends with a letter or a digit",
        ),
    ]);
}

#[test]
fn a_reference_grant_allows_what_it_names_and_nothing_else() {
    let text = grant(
        "{from: [{group: gateway.networking.k8s.io, kind: HTTPRoute, namespace: edge}], to: [{group: '', kind: Service, name: web}]}",
    );
    let parsed = parse("f.yaml", &text);
    let Object::ReferenceGrant(grant) = &parsed.objects[0].object else { panic!("a grant") };
    let allows = |from: (&str, &str), to: (&str, &str)| {
        ReferenceGrant::allows(grant, ("gateway.networking.k8s.io", from.0, from.1), ("", to.0, to.1))
    };
    assert!(allows(("HTTPRoute", "edge"), ("Service", "web")));
    assert!(!allows(("HTTPRoute", "edge"), ("Service", "db")));
    assert!(!allows(("HTTPRoute", "edge"), ("Secret", "web")));
    assert!(!allows(("HTTPRoute", "other"), ("Service", "web")));
    assert!(!allows(("Gateway", "edge"), ("Service", "web")));
}

#[test]
fn a_gateway_of_another_project_is_skipped_by_name() {
    let istio = "{apiVersion: networking.istio.io/v1, kind: Gateway, metadata: {name: g}, spec: {}}";
    assert_eq!(problems(istio), ["f.yaml: Gateway g: skipped: podplane does not use networking.istio.io/v1 Gateway"]);
}
