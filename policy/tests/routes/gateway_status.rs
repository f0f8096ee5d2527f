//! What the status of GatewayClasses and Gateways says, and that whatever makes a condition false is told by field. The cases of the
//! conformance tests of the Gateway API are here by their names.

use crate::harness::{
    CLASS, certificate, check_compiled, cluster, compiled, conditions, gateway, gateway_status, listener_status,
    of_route, open_gateway, route_of, services, told,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use policy::routes::{self, Compiled, RouteOptions};
use std::sync::Arc;

fn of_gateway(compiled: &Compiled, name: &str) -> Vec<String> {
    conditions(gateway_status(compiled, name).conditions.as_deref().expect("conditions"))
}

fn of_listener(compiled: &Compiled, gateway: &str, name: &str) -> Vec<String> {
    conditions(&listener_status(compiled, gateway, name).conditions)
}

fn kinds<'a>(compiled: &'a Compiled, gateway: &str, name: &str) -> Vec<&'a str> {
    let kinds = listener_status(compiled, gateway, name).supported_kinds.iter().flatten();
    kinds.map(|kind| kind.kind.as_str()).collect()
}

fn attached_routes(compiled: &Compiled, name: &str) -> i32 {
    listener_status(compiled, "web", name).attached_routes
}

const WELL: [&str; 4] = [
    "Accepted=True Accepted",
    "Programmed=True Programmed",
    "ResolvedRefs=True ResolvedRefs",
    "Conflicted=False NoConflicts",
];

#[test]
fn what_is_in_order_is_accepted_with_the_generation_that_was_read() {
    let compiled = compiled(&(open_gateway() + &route_of("r", "", &[("{method: GET}", "v1")]) + &services(&["v1"])));
    assert_eq!(told(&compiled), Vec::<String>::new());
    let class = &compiled.statuses.gateway_classes[&("".into(), "ours".into())];
    assert_eq!(conditions(class.conditions.as_deref().expect("conditions")), ["Accepted=True Accepted"]);
    let features: Vec<&str> = class.supported_features.iter().flatten().map(|feature| &*feature.name).collect();
    assert!(features.is_sorted() && features.contains(&"HTTPRouteMethodMatching"));
    assert_eq!(of_gateway(&compiled, "web"), ["Accepted=True Accepted", "Programmed=True Programmed"]);
    assert_eq!(of_listener(&compiled, "web", "http"), WELL);
    assert_eq!(listener_status(&compiled, "web", "http").attached_routes, 1);
    assert_eq!(kinds(&compiled, "web", "http"), ["HTTPRoute"]);
    assert_eq!(of_route(&compiled, "r"), ["Accepted=True Accepted", "ResolvedRefs=True ResolvedRefs"]);
    let generation = |conditions: &[Condition]| conditions.iter().map(|c| c.observed_generation).collect::<Vec<_>>();
    assert_eq!(generation(&listener_status(&compiled, "web", "http").conditions), [Some(7); 4]);
    let route = &compiled.statuses.http_routes[&("default".into(), "r".into())].parents[0];
    assert_eq!(generation(&route.conditions), [Some(3); 2]);
    assert_eq!((route.controller_name.as_str(), &*route.parent_ref.name), ("podplane.io/gateway", "web"));
}

#[test]
fn objects_of_other_controllers_are_none_of_our_business_and_a_class_that_does_not_exist_is_told() {
    let others = CLASS.replace("podplane.io/gateway", "example.com/other");
    let open = "{name: http, port: 80, protocol: HTTP}";
    let yaml = gateway("web", open) + &route_of("r", "", &[("{method: GET}", "v1")]) + &services(&["v1"]);
    let foreign = compiled(&(others + &yaml));
    let statuses = &foreign.statuses;
    assert!(statuses.gateway_classes.is_empty() && statuses.gateways.is_empty() && statuses.http_routes.is_empty());
    assert_eq!(told(&foreign), Vec::<String>::new());
    check_compiled(&foreign, &[("http://web/", "404")]);
    assert_eq!(
        told(&compiled(&yaml)),
        ["Gateway default/web: spec.gatewayClassName: GatewayClass ours does not exist: nothing is served"]
    );
    let unparented =
        compiled(&(CLASS.to_owned() + &route_of("r", "", &[("{method: GET}", "v1")]) + &services(&["v1"])));
    assert_eq!(told(&unparented), ["HTTPRoute default/r: spec.parentRefs[0]: Gateway default/web does not exist"]);
    assert!(unparented.statuses.http_routes.is_empty());
}

#[test]
fn a_listener_of_an_unsupported_protocol_is_not_accepted_and_a_gateway_with_no_other_neither() {
    let invalid = "{name: invalid, port: 5000, protocol: 'example.com/pigeons'}";
    let http = "{name: http, port: 80, protocol: HTTP}";
    let yaml = CLASS.to_owned() + &gateway("only", invalid) + &gateway("both", &format!("{http}, {invalid}"));
    let compiled = compiled(&yaml);
    assert_eq!(of_gateway(&compiled, "only"), ["Accepted=False ListenersNotValid", "Programmed=False Invalid"]);
    assert_eq!(of_gateway(&compiled, "both"), ["Accepted=True ListenersNotValid", "Programmed=True Programmed"]);
    assert_eq!(of_listener(&compiled, "both", "http"), WELL);
    for gateway in ["only", "both"] {
        assert_eq!(
            of_listener(&compiled, gateway, "invalid"),
            [
                "Accepted=False UnsupportedProtocol",
                "Programmed=False Invalid",
                "ResolvedRefs=True ResolvedRefs",
                "Conflicted=False NoConflicts"
            ]
        );
        assert!(kinds(&compiled, gateway, "invalid").is_empty());
    }
    let message = "protocol example.com/pigeons is not supported, use HTTP or HTTPS: nothing is served";
    assert_eq!(
        told(&compiled),
        [
            format!("Gateway default/both: spec.listeners[1].protocol: {message}"),
            format!("Gateway default/only: spec.listeners[0].protocol: {message}"),
        ]
    );
}

#[test]
fn route_kinds_that_there_are_not_are_told_and_the_others_are_listed() {
    let listener = |name: &str, kinds: &str| {
        format!("{{name: {name}, port: 80, hostname: {name}.com, protocol: HTTP, allowedRoutes: {{kinds: [{kinds}]}}}}")
    };
    let listeners =
        [listener("only", "{kind: InvalidRoute}"), listener("both", "{kind: HTTPRoute}, {kind: InvalidRoute}")];
    let yaml = CLASS.to_owned() + &gateway("web", &listeners.join(", "));
    let compiled = compiled(&(yaml + &route_of("r", "", &[("{method: GET}", "v1")]) + &services(&["v1"])));
    for (name, expected) in [("only", vec![]), ("both", vec!["HTTPRoute"])] {
        assert_eq!(kinds(&compiled, "web", name), expected);
        assert!(of_listener(&compiled, "web", name).contains(&"ResolvedRefs=False InvalidRouteKinds".to_owned()));
        assert_eq!(attached_routes(&compiled, name), expected.len() as i32);
    }
    check_compiled(&compiled, &[("http://only.com/", "404"), ("http://both.com/", "v1:8080")]);
    assert_eq!(
        told(&compiled)[0],
        "Gateway default/web: spec.listeners[0].allowedRoutes.kinds[0]: routes of kind InvalidRoute (gateway.networking.k8s.io) are not supported, use HTTPRoute"
    );
}

#[test]
fn certificates_that_cannot_be_had_are_told_and_the_listener_is_not_programmed() {
    let cases = [
        ("{name: absent}", "InvalidCertificateRef", "tls.certificateRefs[0]: Secret default/absent does not exist"),
        (
            "{name: s1, kind: NonExistent}",
            "InvalidCertificateRef",
            "tls.certificateRefs[0]: a NonExistent cannot be a certificate, only a Secret can",
        ),
        (
            "{name: s1, group: wrong.group.company.io}",
            "InvalidCertificateRef",
            "tls.certificateRefs[0]: a Secret cannot be a certificate, only a Secret can",
        ),
        (
            "{name: malformed}",
            "InvalidCertificateRef",
            "tls.certificateRefs[0]: Secret default/malformed: tls.crt has no PEM certificate",
        ),
        (
            "{name: s1, namespace: other}",
            "RefNotPermitted",
            "tls.certificateRefs[0]: no ReferenceGrant in other lets Gateways of default refer to Secret s1",
        ),
    ];
    let malformed = certificate("default", "malformed").replace("-----BEGIN CERTIFICATE-----", "Hello world");
    let secrets = certificate("default", "s1") + &certificate("other", "s1") + &malformed;
    for (reference, reason, message) in cases {
        let https = format!("{{name: https, port: 443, protocol: HTTPS, tls: {{certificateRefs: [{reference}]}}}}");
        let yaml = CLASS.to_owned() + &gateway("web", &https) + &route_of("r", "", &[("{method: GET}", "v1")]);
        let compiled = compiled(&(yaml + &secrets + &services(&["v1"])));
        assert_eq!(
            of_listener(&compiled, "web", "https"),
            [
                "Accepted=True Accepted",
                "Programmed=False Invalid",
                &format!("ResolvedRefs=False {reason}"),
                "Conflicted=False NoConflicts"
            ]
        );
        assert_eq!(of_gateway(&compiled, "web"), ["Accepted=True Accepted", "Programmed=False Invalid"]);
        assert_eq!(attached_routes(&compiled, "https"), 1, "a route attaches whether the certificate is there or not");
        assert_eq!(kinds(&compiled, "web", "https"), ["HTTPRoute"]);
        assert_eq!(compiled.routes.certificate(443, Some("any")), None);
        let expected = format!("Gateway default/web: spec.listeners[0].{message}: TLS connections to it fail");
        assert_eq!(told(&compiled), [expected]);
    }
}

#[test]
fn listeners_of_a_gateway_that_are_not_distinct_are_all_refused() {
    let listener = |name: &str, rest: &str| format!("{{name: {name}, {rest}}}");
    let tls = "tls: {certificateRefs: [{name: s1}]}";
    let listeners = [
        listener("a", "port: 8080, protocol: HTTP, hostname: a.com"),
        listener("b", "port: 8080, protocol: HTTP, hostname: b.com"),
        listener("c", "port: 8080, protocol: HTTP, hostname: c.com"),
        listener("d", "port: 8443, protocol: HTTP"),
        listener("e", &format!("port: 8443, protocol: HTTPS, hostname: e.com, {tls}")),
        listener("f", &format!("port: 443, protocol: HTTPS, hostname: f.com, {tls}")),
        listener("g", &format!("port: 443, protocol: HTTPS, hostname: '*.com', {tls}")),
    ];
    let yaml = CLASS.to_owned() + &gateway("web", &listeners.join(", ")) + &certificate("default", "s1");
    let mut cluster = cluster(&(yaml + &route_of("r", "", &[("{method: GET}", "v1")]) + &services(&["v1"])));
    // A manifest with the same host, port and protocol twice is refused where it is read.
    let web = cluster.gateways.get_mut(&("default".into(), "web".into())).expect("it is there");
    Arc::make_mut(&mut web.object).spec.listeners[1].hostname = Some("a.com".into());
    let compiled = routes::compile(&cluster, &RouteOptions::default());
    let refused = |reason: &str| {
        vec![
            format!("Accepted=False {reason}"),
            "Programmed=False Invalid".into(),
            "ResolvedRefs=True ResolvedRefs".into(),
            format!("Conflicted=True {reason}"),
        ]
    };
    for name in ["a", "b"] {
        assert_eq!(of_listener(&compiled, "web", name), refused("HostnameConflict"));
    }
    for name in ["d", "e"] {
        assert_eq!(of_listener(&compiled, "web", name), refused("ProtocolConflict"));
    }
    assert_eq!(of_listener(&compiled, "web", "c"), WELL);
    for name in ["f", "g"] {
        assert_eq!(of_listener(&compiled, "web", name)[..4], WELL);
        assert_eq!(of_listener(&compiled, "web", name)[4], "OverlappingTLSConfig=True OverlappingHostnames");
    }
    assert_eq!(of_gateway(&compiled, "web"), ["Accepted=True ListenersNotValid", "Programmed=True Programmed"]);
    check_compiled(&compiled, &[("http://a.com:8080/", "404"), ("http://c.com:8080/", "v1:8080")]);
    assert_eq!(
        told(&compiled),
        [
            "Gateway default/web: spec.listeners[0].hostname: listener b has a.com on port 8080 too: nothing is served",
            "Gateway default/web: spec.listeners[1].hostname: listener a has a.com on port 8080 too: nothing is served",
            "Gateway default/web: spec.listeners[3].protocol: listener e has port 8443 for another protocol: nothing is served",
            "Gateway default/web: spec.listeners[4].protocol: listener d has port 8443 for another protocol: nothing is served",
        ]
    );
}

#[test]
fn between_gateways_the_older_listener_stays_and_the_proxys_own_ports_speak_what_they_speak() {
    let tls = |name: &str| format!("protocol: HTTPS, tls: {{certificateRefs: [{{name: {name}}}]}}");
    let aged = |name: &str, listeners: &str, time: &str| {
        gateway(name, listeners).replace("generation: 7", &format!("creationTimestamp: '{time}'"))
    };
    let new = format!(
        "{{name: a, port: 8443, protocol: HTTP}}, {{name: b, port: 443, hostname: a.com, {}}}, {{name: c, port: 80, {}}}, {{name: d, port: 443, protocol: HTTP}}",
        tls("s1"),
        tls("s1"),
    );
    let old = format!("{{name: a, port: 8443, {}}}, {{name: b, port: 443, hostname: a.com, {}}}", tls("s2"), tls("s2"));
    let yaml = aged("a", &new, "2024-01-02T00:00:00Z") + &aged("z", &old, "2024-01-01T00:00:00Z");
    let compiled =
        compiled(&(CLASS.to_owned() + &yaml + &certificate("default", "s1") + &certificate("default", "s2")));
    assert_eq!(of_listener(&compiled, "z", "a"), WELL);
    assert_eq!(of_listener(&compiled, "z", "b"), WELL);
    assert_eq!(of_listener(&compiled, "a", "a")[0], "Accepted=False ProtocolConflict");
    assert_eq!(of_listener(&compiled, "a", "b")[0], "Accepted=False HostnameConflict");
    assert_eq!(of_listener(&compiled, "a", "c")[0], "Accepted=False PortUnavailable");
    assert_eq!(of_listener(&compiled, "a", "d")[0], "Accepted=False PortUnavailable");
    assert_eq!(
        told(&compiled),
        [
            "Gateway default/a: spec.listeners[2].port: the proxy speaks HTTP on port 80: nothing is served",
            "Gateway default/a: spec.listeners[3].port: the proxy speaks HTTPS on port 443: nothing is served",
            "Gateway default/a: spec.listeners[0].protocol: port 8443 speaks HTTPS for Gateway default/z: nothing is served",
            "Gateway default/a: spec.listeners[1].hostname: a.com of port 443 has another certificate for Gateway default/z: nothing is served",
        ]
    );
}

#[test]
fn a_gateway_that_asks_for_what_there_is_not_is_refused_as_a_whole() {
    let http = "{name: http, port: 80, protocol: HTTP}";
    let asking = |more: &str| {
        let yaml = gateway("web", http).replace("listeners:", &format!("{more}, listeners:"));
        compiled(&(CLASS.to_owned() + &yaml + &route_of("r", "", &[("{method: GET}", "v1")]) + &services(&["v1"])))
    };
    let cases = [
        (
            "addresses: [{type: 'test/fake-invalid-type', value: fake-fruit-address}]",
            "UnsupportedAddress",
            "spec.addresses: addresses of type test/fake-invalid-type are not supported",
        ),
        (
            "infrastructure: {parametersRef: {group: example.com, kind: Config, name: c}}",
            "InvalidParameters",
            "spec.infrastructure.parametersRef: podplane has no parameters for Gateways",
        ),
    ];
    for (more, reason, message) in cases {
        let compiled = asking(more);
        assert_eq!(of_gateway(&compiled, "web"), [&format!("Accepted=False {reason}"), "Programmed=False Invalid"]);
        check_compiled(&compiled, &[("http://web/", "404")]);
        assert_eq!(told(&compiled)[0], format!("Gateway default/web: {message}: nothing is served"));
    }
    let class =
        CLASS.replace("controllerName", "parametersRef: {group: example.com, kind: Config, name: c}, controllerName");
    let compiled = compiled(&(class + &gateway("web", http)));
    let status = &compiled.statuses.gateway_classes[&("".into(), "ours".into())];
    assert_eq!(conditions(status.conditions.as_deref().expect("conditions")), ["Accepted=False InvalidParameters"]);
    assert_eq!(of_gateway(&compiled, "web")[0], "Accepted=False Pending");
}

#[test]
fn a_gateway_is_programmed_once_it_has_the_addresses_that_it_asks_for() {
    let with = |spec: &str, status: &str| {
        let yaml = gateway("web", "{name: http, port: 80, protocol: HTTP}")
            .replace("listeners:", &format!("{spec}listeners:"));
        compiled(&(CLASS.to_owned() + &yaml + status))
    };
    let asked = "addresses: [{type: IPAddress, value: 10.0.0.9}], ";
    let given = |value: &str| format!("status: {{addresses: [{{type: IPAddress, value: {value}}}]}}\n");
    let programmed = |compiled: &Compiled| of_gateway(compiled, "web")[1].clone();
    assert_eq!(programmed(&with(asked, "")), "Programmed=True Programmed", "nothing is known of addresses");
    assert_eq!(programmed(&with(asked, &given("10.0.0.9"))), "Programmed=True Programmed");
    assert_eq!(programmed(&with("", &given("10.0.0.1"))), "Programmed=True Programmed");
    let unusable = with(asked, &given("10.0.0.1"));
    assert_eq!(programmed(&unusable), "Programmed=False AddressNotUsable");
    assert_eq!(told(&unusable), ["Gateway default/web: spec.addresses: 10.0.0.9 is not an address of the proxy"]);
    let unassigned = with("", "status: {addresses: []}\n");
    assert_eq!(programmed(&unassigned), "Programmed=False AddressNotAssigned");
    assert_eq!(told(&unassigned), ["Gateway default/web: status.addresses: the proxy has no address"]);
}

#[test]
fn a_gateway_that_checks_certificates_of_clients_is_not_served_without_the_check() {
    let listeners = "{name: http, port: 80, protocol: HTTP}, {name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: s1}]}}";
    let frontend = "tls: {frontend: {default: {validation: {caCertificateRefs: [{group: '', kind: ConfigMap, name: ca}]}}}}, listeners:";
    let yaml = gateway("web", listeners).replace("listeners:", frontend);
    let compiled = compiled(&(CLASS.to_owned() + &yaml + &certificate("default", "s1")));
    assert_eq!(of_listener(&compiled, "web", "http"), WELL);
    assert_eq!(of_listener(&compiled, "web", "https")[0], "Accepted=False UnsupportedValue");
    assert_eq!(compiled.routes.certificate(443, None), None);
}

#[test]
fn a_grant_holds_for_what_it_names_and_for_nothing_else() {
    let https = "{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: [{name: s1, namespace: other}]}}";
    let resolved = |from: &str, to: &str| {
        let grant = format!(
            "---\napiVersion: gateway.networking.k8s.io/v1beta1\nkind: ReferenceGrant\nmetadata: {{name: g, namespace: other}}\nspec: {{from: [{{{from}}}], to: [{{{to}}}]}}\n"
        );
        let yaml = CLASS.to_owned() + &gateway("web", https) + &certificate("other", "s1") + &grant;
        of_listener(&compiled(&yaml), "web", "https")[2].clone()
    };
    let gateways = "group: gateway.networking.k8s.io, kind: Gateway, namespace: default";
    let secrets = "group: '', kind: Secret";
    let (yes, no) = ("ResolvedRefs=True ResolvedRefs", "ResolvedRefs=False RefNotPermitted");
    assert_eq!(resolved(gateways, secrets), yes);
    assert_eq!(resolved(gateways, &format!("{secrets}, name: s1")), yes);
    assert_eq!(resolved(gateways, &format!("{secrets}, name: s2")), no);
    assert_eq!(resolved(gateways, "group: '', kind: Service"), no);
    assert_eq!(resolved(&gateways.replace("kind: Gateway", "kind: HTTPRoute"), secrets), no);
    assert_eq!(resolved(&gateways.replace("namespace: default", "namespace: third"), secrets), no);
}

#[test]
fn conditions_keep_their_time_while_they_say_the_same_and_those_of_others_are_kept() {
    let condition = |kind: &str, status: &str| {
        format!(
            "{{type: {kind}, status: '{status}', reason: x, message: '', lastTransitionTime: '2024-01-01T00:00:00Z'}}"
        )
    };
    let before = format!(
        "status: {{conditions: [{}, {}, {}], addresses: [{{value: 10.0.0.1}}]}}\n",
        condition("Accepted", "True"),
        condition("Programmed", "False"),
        condition("example.com/Own", "True")
    );
    let parents = format!(
        "status: {{parents: [{{parentRef: {{name: web}}, controllerName: example.com/other, conditions: [{}]}}, {{parentRef: {{name: web}}, controllerName: podplane.io/gateway, conditions: [{}]}}]}}\n",
        condition("Accepted", "True"),
        condition("Accepted", "True")
    );
    let yaml =
        open_gateway() + &before + &route_of("r", "", &[("{method: GET}", "v1")]) + &parents + &services(&["v1"]);
    let mut compiled = compiled(&yaml);
    compiled.statuses.stamp("2025-05-05T00:00:00Z".parse().expect("a time"));
    let times = |conditions: &[Condition]| -> Vec<String> {
        conditions.iter().map(|c| format!("{} {}", c.type_, &c.last_transition_time.0.to_string()[..4])).collect()
    };
    let web = gateway_status(&compiled, "web");
    assert_eq!(
        times(web.conditions.as_deref().expect("some")),
        ["Accepted 2024", "Programmed 2025", "example.com/Own 2024"]
    );
    assert_eq!(web.addresses.as_ref().map(Vec::len), Some(1));
    let route = &compiled.statuses.http_routes[&("default".into(), "r".into())];
    assert_eq!(times(&route.parents[0].conditions), ["Accepted 2024", "ResolvedRefs 2025"]);
    assert_eq!(route.parents[1].controller_name, "example.com/other");
    assert_eq!(times(&route.parents[1].conditions), ["Accepted 2024"]);
}
