//! Gateways.

use super::*;

/// A Gateway `g` with this spec.
fn gateway(spec: &str) -> String {
    format!("{{apiVersion: gateway.networking.k8s.io/v1, kind: Gateway, metadata: {{name: g}}, spec: {spec}}}")
}

/// A Gateway with these listeners.
fn listeners(listeners: &str) -> String {
    gateway(&format!("{{gatewayClassName: c, listeners: [{listeners}]}}"))
}

/// A Gateway with one listener, of protocol HTTP unless `fields` say otherwise.
fn listener(fields: &str) -> String {
    let protocol = if fields.contains("protocol:") { "" } else { "protocol: HTTP, " };
    listeners(&format!("{{name: l, port: 80, {protocol}{fields}}}"))
}

/// A Gateway with these fields beside a listener.
fn beside(fields: &str) -> String {
    gateway(&format!("{{gatewayClassName: c, listeners: [{{name: l, port: 80, protocol: HTTP}}], {fields}}}"))
}

#[test]
fn a_gateway_is_written_back_as_it_was_read() {
    let secret = json!({"group": "", "kind": "Secret", "namespace": "n", "name": "s"});
    let authority = json!({"group": "", "kind": "ConfigMap", "namespace": "n", "name": "ca"});
    let settings = json!({"validation": {"caCertificateRefs": [authority], "mode": "AllowInsecureFallback"}});
    survives(&json!({
        "kind": "Gateway",
        "metadata": {"name": "g", "namespace": "shop"},
        "spec": {
            "gatewayClassName": "podplane",
            "listeners": [
                {"name": "http", "port": 80, "protocol": "HTTP", "hostname": "*.example.com",
                 "allowedRoutes": {"namespaces": {"from": "All"}, "kinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}]}},
                {"name": "https", "port": 443, "protocol": "HTTPS", "hostname": "shop.example",
                 "tls": {"mode": "Terminate", "certificateRefs": [secret, {"name": "s"}], "options": {"a": "b"}},
                 "allowedRoutes": {"namespaces": {"from": "Selector", "selector": {"matchLabels": {"a": "b"}}}, "kinds": [{"kind": "HTTPRoute"}]}},
                {"name": "https2", "port": 443, "protocol": "HTTPS", "tls": {"certificateRefs": [{"name": "s"}]}, "allowedRoutes": {}},
                {"name": "pass", "port": 443, "protocol": "TLS", "tls": {"mode": "Passthrough"}},
                {"name": "tcp", "port": 80, "protocol": "TCP", "allowedRoutes": {"namespaces": {"from": "Same"}}},
                {"name": "own", "port": 81, "protocol": "example.com/own"},
            ],
            "addresses": [
                {"type": "IPAddress", "value": "192.0.2.1"}, {"value": "2001:db8::1"}, {"type": "IPAddress"},
                {"type": "Hostname", "value": "door.example"}, {"type": "NamedAddress", "value": "A"}, {"type": "example.com/own"},
            ],
            "infrastructure": {
                "labels": {"a": "b"}, "annotations": {"example.com/a": "b"},
                "parametersRef": {"group": "example.com", "kind": "Settings", "name": "s"},
            },
            "allowedListeners": {"namespaces": {"from": "None"}},
            "tls": {
                "backend": {"clientCertificateRef": secret},
                "frontend": {"default": {}, "perPort": [{"port": 443, "tls": settings}]},
            },
        },
        "status": {
            "addresses": [{"type": "IPAddress", "value": "192.0.2.1"}],
            "conditions": [condition("Accepted"), condition("Programmed")],
            "listeners": [{
                "name": "http", "attachedRoutes": 3, "conditions": [condition("Accepted")],
                "supportedKinds": [{"group": "gateway.networking.k8s.io", "kind": "HTTPRoute"}, {"kind": "GRPCRoute"}],
            }],
            "attachedListenerSets": 0,
        },
    }));
}

#[test]
fn what_a_gateway_does_not_say_is_told_by_its_methods() {
    let text = listeners("{name: l, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: s}]}}");
    let parsed = parse("f.yaml", &text);
    let Object::Gateway(gateway) = &parsed.objects[0].object else { panic!("a Gateway") };
    let listener = &gateway.spec.listeners[0];
    let tls = listener.tls.as_ref().expect("tls is given");
    assert_eq!((listener.from().as_str(), tls.mode().as_str()), ("Same", "Terminate"));
    let secret = &tls.certificate_refs.as_ref().expect("a certificate is given")[0];
    assert_eq!((secret.group(), secret.kind()), ("", "Secret"));
}

#[test]
fn what_the_schema_refuses_of_a_gateways_listeners_is_refused_by_field() {
    let many = (1..=65).map(|port| format!("{{name: l{port}, port: {port}, protocol: HTTP}}"));
    let many = many.collect::<Vec<_>>().join(", ");
    let kinds = ["{kind: K}"; 9].join(", ");
    refuses([
        (gateway("{listeners: []}"), "spec.gatewayClassName: required"),
        (
            gateway("{gatewayClassName: '', listeners: [{name: l, port: 1, protocol: UDP}]}"),
            "spec.gatewayClassName: required",
        ),
        (gateway("{gatewayClassName: c}"), "spec.listeners: required"),
        (listeners(""), "spec.listeners: at least 1 item is required"),
        (listeners(&many), "spec.listeners: 65 items, at most 64 are allowed"),
        (
            listeners("{name: a, port: 1, protocol: HTTP}, {name: a, port: 2, protocol: HTTP}"),
            "spec.listeners[1].name: duplicate \"a\"",
        ),
        (
            listeners(
                "{name: a, port: 1, protocol: HTTP, hostname: h}, {name: b, port: 1, protocol: HTTP, hostname: h}",
            ),
            "spec.listeners[1]: another listener has port 1, protocol HTTP and hostname \"h\"",
        ),
        (
            listeners("{name: a, port: 1, protocol: HTTP}, {name: b, port: 1, protocol: HTTP}"),
            "spec.listeners[1]: another listener has port 1, protocol HTTP and no hostname",
        ),
        (
            listeners("{name: A, port: 1, protocol: HTTP}"),
            "spec.listeners[0].name: \"A\" is not a DNS name: lower-case letters, digits, '-' and '.', each part begins and ends with a letter or a digit",
        ),
        (listeners("{name: a, port: 0, protocol: HTTP}"), "spec.listeners[0].port: 0 is not between 1 and 65535"),
        (listeners("{name: a, port: 1}"), "spec.listeners[0].protocol: required"),
        (
            listener("protocol: ht_tp"),
            "spec.listeners[0].protocol: \"ht_tp\" is not a protocol such as HTTP, HTTPS or example.com/protocol",
        ),
        (listener("hostname: ''"), "spec.listeners[0].hostname: required"),
        (listener("hostname: 10.0.0.1"), "spec.listeners[0].hostname: \"10.0.0.1\" is an IP address, use a DNS name"),
        (
            listener("hostname: a.*.b"),
            "spec.listeners[0].hostname: \"a.*.b\" is not a host: '*' stands alone as the first part, such as *.example.com",
        ),
        (listener("protocol: TCP, hostname: a.b"), "spec.listeners[0].hostname: not allowed for protocol TCP"),
        (listener("protocol: TLS"), "spec.listeners[0].tls.mode: required for protocol TLS"),
        (
            listener("protocol: HTTP, tls: {certificateRefs: [{name: s}]}"),
            "spec.listeners[0].tls: not allowed for protocol HTTP",
        ),
        (
            listener("protocol: HTTPS, tls: {mode: Passthrough}"),
            "spec.listeners[0].tls.mode: Terminate is the only mode of protocol HTTPS",
        ),
        (
            listener("protocol: HTTPS, tls: {mode: Open}"),
            "spec.listeners[0].tls.mode: \"Open\" is not supported, use Terminate, Passthrough",
        ),
        (
            listener("protocol: HTTPS, tls: {}"),
            "spec.listeners[0].tls.certificateRefs: required for mode Terminate: certificateRefs or options",
        ),
        (
            listener("protocol: HTTPS, tls: {certificateRefs: [{name: ''}]}"),
            "spec.listeners[0].tls.certificateRefs[0].name: required",
        ),
        (
            listener(&format!("allowedRoutes: {{kinds: [{kinds}]}}")),
            "spec.listeners[0].allowedRoutes.kinds: 9 items, at most 8 are allowed",
        ),
        (
            listener("allowedRoutes: {kinds: [{kind: 1a}]}"),
            "spec.listeners[0].allowedRoutes.kinds[0].kind: \"1a\" is not a kind: letters, digits and '-', first a letter",
        ),
        (
            listener("allowedRoutes: {namespaces: {from: None}}"),
            "spec.listeners[0].allowedRoutes.namespaces.from: \"None\" is not supported, use All, Selector, Same",
        ),
        (
            listener("allowedRoutes: {namespaces: {selector: {matchExpressions: [{key: a, operator: Is}]}}}"),
            "spec.listeners[0].allowedRoutes.namespaces.selector.matchExpressions[0].operator: \"Is\" is not supported, use In, NotIn, Exists or DoesNotExist",
        ),
    ]);
}

#[test]
fn what_the_schema_refuses_of_the_rest_of_a_gateway_is_refused_by_field() {
    let many = ["{type: NamedAddress}"; 17].join(", ");
    let labels = (0..9).map(|number| format!("l{number}: a")).collect::<Vec<_>>().join(", ");
    refuses([
        (beside(&format!("addresses: [{many}]")), "spec.addresses: 17 items, at most 16 are allowed"),
        (beside("addresses: [{value: a.b}]"), "spec.addresses[0].value: \"a.b\" is not an IP address"),
        (beside("addresses: [{value: 1.2.3.4}, {value: 1.2.3.4}]"), "spec.addresses[1].value: duplicate \"1.2.3.4\""),
        (
            beside("addresses: [{type: Hostname, value: 'a b'}]"),
            "spec.addresses[0].value: \"a b\" is not a DNS name: lower-case letters, digits, '-' and '.', each part begins and ends with a letter or a digit",
        ),
        (
            beside("addresses: [{type: Street}]"),
            "spec.addresses[0].type: \"Street\" is not supported, use IPAddress, Hostname, NamedAddress or example.com/type",
        ),
        (
            beside(&format!("infrastructure: {{labels: {{{labels}}}}}")),
            "spec.infrastructure.labels: 9 items, at most 8 are allowed",
        ),
        (
            beside("infrastructure: {annotations: {'a b': c}}"),
            "spec.infrastructure.annotations: \"a b\" is not an annotation key: [dns-prefix/]name, at most 63 letters, digits, '-', '_', '.'",
        ),
        (
            beside("infrastructure: {parametersRef: {group: '', kind: K, name: ''}}"),
            "spec.infrastructure.parametersRef.name: required",
        ),
        (
            beside("allowedListeners: {namespaces: {from: Some}}"),
            "spec.allowedListeners.namespaces.from: \"Some\" is not supported, use All, Selector, Same, None",
        ),
        (beside("tls: {frontend: {}}"), "spec.tls.frontend.default: required"),
        (
            beside("tls: {frontend: {default: {validation: {caCertificateRefs: []}}}}"),
            "spec.tls.frontend.default.validation.caCertificateRefs: at least 1 item is required",
        ),
        (
            beside("tls: {frontend: {default: {}, perPort: [{port: 1, tls: {}}, {port: 1, tls: {}}]}}"),
            "spec.tls.frontend.perPort[1].port: duplicate 1",
        ),
        (
            beside("tls: {backend: {clientCertificateRef: {name: ''}}}"),
            "spec.tls.backend.clientCertificateRef.name: required",
        ),
    ]);
    assert_eq!(findings(&listener("protocol: HTTPS")), [""; 0], "the other listeners of the Gateway may be served");
    assert_eq!(findings(&beside("listener: []")), ["spec.listener: unknown field, ignored"]);
}
