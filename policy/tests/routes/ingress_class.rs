//! Which Ingresses are served: feature ingress_class of ingress-controller-conformance, default classes, the annotation.

use crate::harness::{check_compiled, cluster, compiled, problems, services};
use policy::routes::{self, RouteOptions};
use std::sync::Arc;

/// An Ingress whose class is said by `metadata` and `spec`.
fn ingress(metadata: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {{name: web, namespace: default{metadata}}}
spec:
  rules: [{{http: {{paths: [{{path: /, pathType: Prefix, backend: {{service: {{name: web, port: {{number: 8080}}}}}}}}]}}}}]
{spec}
"
    )
}

fn class(name: &str, controller: &str, metadata: &str) -> String {
    format!(
        "---
apiVersion: networking.k8s.io/v1
kind: IngressClass
metadata: {{name: {name}{metadata}}}
spec: {{controller: {controller}}}
"
    )
}

const OURS: &str = "podplane.io/ingress";
const DEFAULT: &str = ", annotations: {ingressclass.kubernetes.io/is-default-class: 'true'}";

/// Whether the Ingress is served, and what is told.
fn served(yaml: &str) -> (bool, Vec<String>) {
    let compiled = compiled(&format!("{yaml}{}", services(&["web"])));
    let is_served = !compiled.statuses.ingresses.is_empty();
    check_compiled(&compiled, &[("http://web/", if is_served { "web:8080" } else { "404" })]);
    (is_served, problems(&compiled))
}

#[test]
fn an_ingress_of_a_class_that_does_not_exist_is_not_served_and_told() {
    let (is_served, told) = served(&ingress("", "  ingressClassName: some-invalid-class-name"));
    assert!(!is_served);
    assert_eq!(
        told,
        [
            "Ingress default/web: spec.ingressClassName: IngressClass some-invalid-class-name does not exist: it is not served"
        ]
    );
}

#[test]
fn ingresses_of_our_classes_are_served_and_those_of_others_are_none_of_our_business() {
    let classes = class("ours", OURS, "") + &class("nginx", "k8s.io/ingress-nginx", "");
    assert_eq!(served(&(ingress("", "  ingressClassName: ours") + &classes)), (true, vec![]));
    assert_eq!(served(&(ingress("", "  ingressClassName: nginx") + &classes)), (false, vec![]));
}

#[test]
fn an_ingress_without_a_class_is_of_the_default_one() {
    let ours = class("ours", OURS, DEFAULT) + &class("nginx", "k8s.io/ingress-nginx", "");
    assert_eq!(served(&(ingress("", "") + &ours)), (true, vec![]));
    let others = class("ours", OURS, "") + &class("nginx", "k8s.io/ingress-nginx", DEFAULT);
    assert_eq!(served(&(ingress("", "") + &others)), (false, vec![]));
}

#[test]
fn of_several_default_classes_the_newest_counts_and_of_those_the_first_name() {
    let at = |time: &str| format!("{DEFAULT}, creationTimestamp: '{time}'");
    let classes = class("a", "example.com/other", &at("2024-01-01T00:00:00Z"))
        + &class("b", OURS, &at("2024-01-02T00:00:00Z"))
        + &class("c", "example.com/other", &at("2024-01-02T00:00:00Z"));
    assert_eq!(served(&(ingress("", "") + &classes)), (true, vec![]));
}

#[test]
fn an_ingress_without_a_class_is_served_where_there_are_no_classes_and_not_where_none_is_the_default() {
    let (is_served, told) = served(&ingress("", ""));
    assert!(is_served);
    assert_eq!(
        told,
        [
            "Ingress default/web: spec.ingressClassName: not given, and there is no IngressClass: it is served by podplane"
        ]
    );
    let (is_served, told) = served(&(ingress("", "") + &class("ours", OURS, "")));
    assert!(!is_served);
    assert_eq!(
        told,
        [
            "Ingress default/web: spec.ingressClassName: not given, and no IngressClass is the default one: it is not served"
        ]
    );
}

#[test]
fn the_annotation_goes_before_the_field_and_a_difference_is_told() {
    let classes = class("ours", OURS, "") + &class("nginx", "k8s.io/ingress-nginx", "");
    let annotation = ", annotations: {kubernetes.io/ingress.class: ours}";
    assert_eq!(served(&(ingress(annotation, "") + &classes)), (true, vec![]));
    // A manifest with both is refused where it is read; an Ingress that had the annotation alone may have got the field later.
    let mut cluster = cluster(&(ingress(annotation, "") + &classes + &services(&["web"])));
    let web = cluster.ingresses.get_mut(&("default".into(), "web".into())).expect("it is there");
    let spec = &mut Arc::make_mut(&mut web.object).spec;
    spec.as_mut().expect("it has a spec").ingress_class_name = Some("nginx".into());
    let compiled = routes::compile(&cluster, &RouteOptions::default());
    check_compiled(&compiled, &[("http://web/", "web:8080")]);
    assert_eq!(
        problems(&compiled),
        [
            "Ingress default/web: metadata.annotations[kubernetes.io/ingress.class]: class \"ours\" is used, not \"nginx\" of spec.ingressClassName"
        ]
    );
}

#[test]
fn a_class_that_asks_for_settings_is_told_that_there_are_none() {
    let classes = class("ours", OURS, "").replace("}\n", ", parameters: {kind: Config, name: c}}\n");
    let classes = classes.replace("{name: ours, parameters: {kind: Config, name: c}}", "{name: ours}");
    let (is_served, told) = served(&(ingress("", "  ingressClassName: ours") + &classes));
    assert!(is_served);
    assert_eq!(told, ["IngressClass ours: spec.parameters: podplane has no parameters for IngressClasses"]);
}
