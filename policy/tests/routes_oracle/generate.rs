//! Small clusters in which everything that routes speak of meets often: few hosts, one below the other, few paths, few header
//! fields. Objects are the JSON that somebody would hand in.

use crate::literal::Asked;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Map, Value, json};

/// Hosts as objects say them; the empty one is left out.
const PATTERNS: [&str; 9] =
    ["", "a.com", "b.a.com", "c.b.a.com", "*.a.com", "*.b.a.com", "*.com", "d.org", "*.c.b.a.com"];

/// Hosts of requests.
const HOSTS: [&str; 8] = ["a.com", "b.a.com", "c.b.a.com", "x.c.b.a.com", "y.b.a.com", "d.org", "com", "e.net"];

/// Paths as objects say them.
const PATHS: [&str; 8] = ["/", "/a", "/a/", "/a/b", "/a/b/", "/ab", "/a/b/c", "/A"];

/// Regular expressions whose meaning the oracle knows.
pub(crate) const PATTERNS_OF_PATHS: [&str; 3] = ["/a/.*", "/[ab/]*", "/a/b|/ab"];

/// Paths of requests.
const ASKED_PATHS: [&str; 13] =
    ["/", "/a", "/a/", "/a/b", "/a/b/", "/a/bc", "/ab", "/a/b/c", "/a/b/c/d", "/A", "/b", "//", "/a//b"];

const TIMES: [&str; 2] = ["2024-01-01T00:00:00Z", "2024-01-02T00:00:00Z"];
const NAMESPACES: [&str; 2] = ["default", "shop"];
const SECRETS: [&str; 2] = ["s1", "s2"];
const GATEWAYS: usize = 2;

/// Ports and hosts of listeners; a Gateway has some of them.
const LISTENERS: [(u16, &str); 10] = [
    (80, ""),
    (80, "*.a.com"),
    (80, "b.a.com"),
    (443, ""),
    (443, "*.com"),
    (443, "*.b.a.com"),
    (443, "b.a.com"),
    (8080, ""),
    (8080, "a.com"),
    (8080, "*.b.a.com"),
];

/// Objects, and what is asked about them.
#[derive(Clone, Debug)]
pub(crate) struct Case {
    pub(crate) objects: Vec<Value>,
    pub(crate) has_default_certificate: bool,
    pub(crate) asked: Vec<Asked<'static>>,
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let ingresses = vec(ingress(), 0..5);
    let gateways = vec(listeners(), 0..=GATEWAYS);
    let routes = vec(route(), 0..6);
    (ingresses, gateways, routes, any::<bool>(), asked()).prop_map(
        |(ingresses, gateways, routes, has_default_certificate, asked)| {
            let mut objects = fixed();
            objects.extend(
                (0..).zip(ingresses).map(|(at, ingress)| named("networking.k8s.io/v1", "Ingress", at, ingress)),
            );
            let gateways = (0..).zip(gateways).map(|(at, (created, listeners))| {
                let spec = json!({"gatewayClassName": "ours", "listeners": listeners});
                named("gateway.networking.k8s.io/v1", "Gateway", at, ("default", created, spec))
            });
            objects.extend(gateways);
            let routes = (0..).zip(routes);
            objects.extend(routes.map(|(at, route)| named("gateway.networking.k8s.io/v1", "HTTPRoute", at, route)));
            Case { objects, has_default_certificate, asked }
        },
    )
}

type Written = (&'static str, Option<&'static str>, Value);

fn named(api_version: &str, kind: &str, at: usize, (namespace, created, spec): Written) -> Value {
    let mut metadata = json!({"name": format!("x{at}"), "namespace": namespace});
    if let Some(created) = created {
        metadata["creationTimestamp"] = json!(created);
    }
    json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec})
}

/// What all cases have: a class, Services, certificates.
fn fixed() -> Vec<Value> {
    let mut objects = vec![json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": "GatewayClass",
        "metadata": {"name": "ours"},
        "spec": {"controllerName": "podplane.io/gateway"},
    })];
    for namespace in NAMESPACES {
        objects.push(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web", "namespace": namespace},
            "spec": {"ports": [{"port": 80}]},
        }));
        let secrets = SECRETS.map(|name| {
            json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": name, "namespace": namespace},
                "type": "kubernetes.io/tls",
                "stringData": {"tls.crt": "-----BEGIN CERTIFICATE-----", "tls.key": "-----BEGIN PRIVATE KEY-----"},
            })
        });
        objects.extend(secrets);
    }
    objects
}

fn ingress() -> impl Strategy<Value = Written> {
    let backend = || json!({"service": {"name": "web", "port": {"number": 80}}});
    let path_type = select(vec!["Exact", "Prefix", "Prefix", "ImplementationSpecific"]);
    let path = (path_type, select(&PATHS[..]))
        .prop_map(move |(path_type, path)| json!({"path": path, "pathType": path_type, "backend": backend()}));
    let rule = (select(&PATTERNS[..]), vec(path, 1..4)).prop_map(|(host, paths)| {
        let mut rule = json!({"http": {"paths": paths}});
        if !host.is_empty() {
            rule["host"] = json!(host);
        }
        rule
    });
    let tls = (subsequence(&PATTERNS[1..], 1..3), select(&SECRETS[..]))
        .prop_map(|(hosts, secret)| json!({"hosts": hosts, "secretName": secret}));
    let parts = (vec(rule, 1..4), any::<bool>(), option::weighted(0.4, tls));
    (select(&NAMESPACES[..]), option::of(select(&TIMES[..])), parts).prop_map(
        move |(namespace, created, (rules, has_default, tls))| {
            let mut spec = json!({"rules": rules});
            if has_default {
                spec["defaultBackend"] = backend();
            }
            if let Some(tls) = tls {
                spec["tls"] = json!([tls]);
            }
            (namespace, created, spec)
        },
    )
}

/// Listeners of a Gateway and when it was created. Those of the same port and host have the same certificate everywhere.
fn listeners() -> impl Strategy<Value = (Option<&'static str>, Vec<Value>)> {
    let listeners = subsequence(&LISTENERS[..], 1..5).prop_map(|listeners| {
        let listeners = listeners.into_iter().map(|(port, host)| {
            let mut listener = json!({
                "name": format!("l{port}{}", host.replace("*.", "-").replace('.', "-")),
                "port": port,
                "protocol": if port == 443 { "HTTPS" } else { "HTTP" },
                "allowedRoutes": {"namespaces": {"from": "All"}},
            });
            if !host.is_empty() {
                listener["hostname"] = json!(host);
            }
            if port == 443 {
                listener["tls"] = json!({"certificateRefs": [{"name": SECRETS[host.len() % 2]}]});
            }
            listener
        });
        listeners.collect()
    });
    (option::of(select(&TIMES[..])), listeners)
}

fn route() -> impl Strategy<Value = Written> {
    // Two entries for one Gateway would need sectionNames.
    let names: Vec<String> = (0..GATEWAYS).map(|at| format!("x{at}")).collect();
    let ports = vec(option::weighted(0.3, select(vec![80, 443, 8080])), 2);
    let parents = (subsequence(names, 1..3), ports).prop_map(|(names, ports)| {
        let parents = names.into_iter().zip(ports).map(|(name, port)| {
            let mut parent = json!({"name": name, "namespace": "default"});
            if let Some(port) = port {
                parent["port"] = json!(port);
            }
            parent
        });
        parents.collect::<Vec<Value>>()
    });
    let rule = vec(route_match(), 0..4).prop_map(|matches| {
        let mut rule = json!({"backendRefs": [{"name": "web", "port": 80}]});
        if !matches.is_empty() {
            rule["matches"] = json!(matches);
        }
        rule
    });
    let parts = (parents, subsequence(&PATTERNS[1..], 0..3), vec(rule, 1..4));
    (select(&NAMESPACES[..]), option::of(select(&TIMES[..])), parts).prop_map(
        |(namespace, created, (parents, hostnames, rules))| {
            let mut spec = json!({"parentRefs": parents, "rules": rules});
            if !hostnames.is_empty() {
                spec["hostnames"] = json!(hostnames);
            }
            (namespace, created, spec)
        },
    )
}

fn route_match() -> impl Strategy<Value = Value> {
    let path = prop_oneof![
        1 => select(&PATHS[..]).prop_map(|path| json!({"type": "Exact", "value": path})),
        3 => select(&PATHS[..]).prop_map(|path| json!({"type": "PathPrefix", "value": path})),
        1 => select(&PATTERNS_OF_PATHS[..]).prop_map(|path| json!({"type": "RegularExpression", "value": path})),
    ];
    let pairs = |names: [&'static str; 2]| {
        (subsequence(names.to_vec(), 1..3), vec(select(vec!["1", "2"]), 2)).prop_map(|(names, values)| {
            let pairs = names.into_iter().zip(values).map(|(name, value)| json!({"name": name, "value": value}));
            pairs.collect::<Vec<Value>>()
        })
    };
    let parts = (
        option::weighted(0.6, path),
        option::weighted(0.4, pairs(["x-one", "x-two"])),
        option::weighted(0.4, pairs(["p", "q"])),
        option::weighted(0.4, select(vec!["GET", "POST"])),
    );
    parts.prop_map(|(path, headers, query, method)| {
        let mut written = Map::new();
        let mut put = |name: &str, value: Option<Value>| written.extend(value.map(|value| (name.to_owned(), value)));
        put("path", path);
        put("headers", headers.map(Value::from));
        put("queryParams", query.map(Value::from));
        put("method", method.map(Value::from));
        Value::Object(written)
    })
}

/// Every host with every path, some with more.
fn asked() -> impl Strategy<Value = Vec<Asked<'static>>> {
    let more = (
        select(vec![80, 80, 443, 443, 8080, 9]),
        option::weighted(0.8, select(&HOSTS[..])),
        select(vec!["GET", "POST"]),
        select(vec![vec![], vec![("x-one", "1")], vec![("x-one", "1"), ("x-two", "2")], vec![("x-one", "2")]]),
        select(vec![None, Some("p=1"), Some("q=2&p=1"), Some("p=2&p=1")]),
    );
    const ROUNDS: usize = 4;
    vec(more, HOSTS.len() * ASKED_PATHS.len() * ROUNDS).prop_map(|more| {
        let places = HOSTS.iter().flat_map(|host| ASKED_PATHS.iter().map(move |path| (*host, *path))).cycle();
        let asked = places.zip(more).map(|((host, path), (port, other, method, headers, query))| {
            // Half of the connections are opened for the host itself.
            let sni = if other.is_some_and(|other| other.len() % 2 == 0) { Some(host) } else { other };
            let sni = sni.filter(|_| port == 443);
            Asked { port, sni, host, path, query, method, headers }
        });
        asked.collect()
    })
}
