//! Ingresses, Gateways and what belongs to them.

use super::*;

#[test]
fn doors_are_passed_on_as_they_are_and_their_namespaces_exist() {
    let yaml = "
{apiVersion: networking.k8s.io/v1, kind: Ingress, metadata: {name: i, namespace: one}, spec: {defaultBackend: {service: {name: s, port: {number: 80}}}}}
---
{apiVersion: networking.k8s.io/v1, kind: IngressClass, metadata: {name: c}, spec: {controller: example.com/c}}
---
{apiVersion: v1, kind: Secret, metadata: {name: s, namespace: two}, stringData: {tls.crt: c, tls.key: k}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: GatewayClass, metadata: {name: c}, spec: {controllerName: example.com/c}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {name: g, namespace: three}, spec: {gatewayClassName: c, listeners: [{name: l, port: 80, protocol: HTTP}]}}
---
{apiVersion: gateway.networking.k8s.io/v1, kind: HTTPRoute, metadata: {name: r, namespace: four}, spec: {parentRefs: [{name: g, namespace: three}]}}
---
{apiVersion: gateway.networking.k8s.io/v1beta1, kind: ReferenceGrant, metadata: {name: g, namespace: five}, spec: {from: [{group: '', kind: K, namespace: one}], to: [{group: '', kind: K}]}}
";
    let filled = run(yaml);
    assert_eq!(filled.problems, []);
    for sourced in objects(yaml) {
        assert!(filled.objects.contains(&sourced), "{}", sourced.object.reference());
    }
    for namespace in ["one", "two", "three", "four", "five"] {
        let is_it = |sourced: &Sourced<Object>| matches!(&sourced.object, Object::Namespace(object) if object.metadata.name.as_deref() == Some(namespace));
        assert!(filled.objects.iter().any(is_it), "{namespace}");
    }
    assert_eq!(run_after(yaml, &filled).objects, filled.objects);
}
