//! Clusters from YAML, requests from one line, answers in one line.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use policy::cluster::Cluster;
use policy::objects;
use policy::objects::gateway_api::{GatewayStatus, ListenerStatus};
use policy::routes::{self, Compiled, Found, Outcome, PathRewrite, Redirect, Request, RouteOptions, Routes, Target};

/// `yaml` as a cluster. Every object of it has to be valid.
pub(crate) fn cluster(yaml: &str) -> Cluster {
    let parsed = objects::parse("test.yaml", yaml);
    assert!(parsed.problems.is_empty(), "{:#?}", parsed.problems);
    let (cluster, problems) = Cluster::from_objects(parsed.objects);
    assert!(problems.is_empty(), "{problems:#?}");
    cluster
}

/// `yaml`, compiled with default options.
pub(crate) fn compiled(yaml: &str) -> Compiled {
    routes::compile(&cluster(yaml), &RouteOptions::default())
}

/// Services of the namespace `default`, each with port 8080 (`http`) and one ready endpoint.
pub(crate) fn services(names: &[&str]) -> String {
    let services = names.iter().map(|name| service("default", name));
    services.collect()
}

/// A Service with port 8080 (`http`) and one ready endpoint.
pub(crate) fn service(namespace: &str, name: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{ports: [{{name: http, port: 8080}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: {name}-1, namespace: {namespace}, labels: {{kubernetes.io/service-name: {name}}}}}
addressType: IPv4
ports: [{{name: http, port: 80}}]
endpoints: [{{addresses: [10.0.0.1]}}]
"
    )
}

/// A Secret with what looks like a certificate and a key.
pub(crate) fn certificate(namespace: &str, name: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Secret
metadata: {{name: {name}, namespace: {namespace}}}
type: kubernetes.io/tls
stringData: {{tls.crt: '-----BEGIN CERTIFICATE-----', tls.key: '-----BEGIN PRIVATE KEY-----'}}
"
    )
}

/// A request as one line: `[METHOD] scheme://host[:port]/path[?query] [name: value]...`. Over https the server name is the
/// host, unless `sni=name` (or `sni=` for none) comes last but for header fields.
pub(crate) struct Line {
    port: u16,
    sni: Option<String>,
    host: String,
    method: Method,
    path: String,
    query: Option<String>,
    headers: HeaderMap,
}

impl Line {
    pub(crate) fn new(text: &str) -> Line {
        let (text, header_text) = text.split_once(" [").map_or((text, ""), |(text, rest)| (text, rest));
        let mut headers = HeaderMap::new();
        for header in header_text.split_terminator(']').map(|part| part.trim_start_matches([' ', '['])) {
            let (name, value) = header.split_once(": ").expect("a header field");
            let name: HeaderName = name.parse().expect("a name");
            headers.append(name, HeaderValue::from_str(value).expect("a value"));
        }
        let mut words: Vec<&str> = text.split(' ').collect();
        let sni = words.last().and_then(|word| word.strip_prefix("sni="));
        if sni.is_some() {
            words.pop();
        }
        let url = words.pop().expect("a URL");
        let method = words.pop().unwrap_or("GET").parse().expect("a method");
        let (scheme, rest) = url.split_once("://").expect("a scheme");
        let (authority, path) = rest.split_at(rest.find('/').expect("a path"));
        let (host, port) =
            authority.split_once(':').unwrap_or((authority, if scheme == "https" { "443" } else { "80" }));
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query.to_owned())));
        let sni = sni.or((scheme == "https").then_some(host)).filter(|sni| !sni.is_empty());
        Line {
            port: port.parse().expect("a port"),
            sni: sni.map(str::to_owned),
            host: host.to_owned(),
            method,
            path: path.to_owned(),
            query,
            headers,
        }
    }

    pub(crate) fn request(&self) -> Request<'_> {
        Request {
            port: self.port,
            sni: self.sni.as_deref(),
            host: &self.host,
            method: &self.method,
            path: &self.path,
            query: self.query.as_deref(),
            headers: &self.headers,
        }
    }
}

/// What becomes of a request: `service:port` (with `*weight` if there are several), a status, or `status location`.
pub(crate) fn outcome(routes: &Routes, request: &Request<'_>) -> String {
    match routes.find(request) {
        Found::Nothing => "404".into(),
        Found::Misdirected => "421".into(),
        Found::Rule { rule, .. } => match &rule.outcome {
            Outcome::Status(status, _) => status.to_string(),
            Outcome::Redirect(redirect) => location(redirect),
            Outcome::Forward(forward) => {
                let several = forward.targets.len() > 1;
                let targets = forward.targets.iter().map(|weighted| {
                    let text = target(&weighted.target);
                    if several { format!("{text}*{}", weighted.weight) } else { text }
                });
                targets.collect::<Vec<_>>().join(" ")
            }
        },
    }
}

fn target(target: &Target) -> String {
    match target {
        Target::Unresolved { status, .. } => status.to_string(),
        Target::Endpoints(endpoints) if endpoints.addresses.is_empty() => "503".into(),
        Target::Endpoints(endpoints) => format!("{}:{}", endpoints.service, endpoints.port),
    }
}

fn location(redirect: &Redirect) -> String {
    let scheme = redirect.scheme.unwrap_or("-");
    let host = redirect.host.as_deref().unwrap_or("-");
    let port = redirect.port.map(|port| format!(":{port}")).unwrap_or_default();
    let path = match &redirect.path {
        None => "/-".to_owned(),
        Some(PathRewrite::Full(path)) => path.clone(),
        Some(PathRewrite::Prefix(path)) => format!("{path}+"),
    };
    format!("{} {scheme}://{host}{port}{path}", redirect.status)
}

/// Holds each request's outcome against the expected one.
pub(crate) fn check(yaml: &str, requests: &[(&str, &str)]) {
    check_compiled(&compiled(yaml), requests);
}

/// The same for what is compiled.
pub(crate) fn check_compiled(compiled: &Compiled, requests: &[(&str, &str)]) {
    for (line, expected) in requests {
        let found = outcome(&compiled.routes, &Line::new(line).request());
        assert_eq!(found, *expected, "{line}\n{:#?}", compiled.problems);
    }
}

/// All problems as they are displayed, without the file.
pub(crate) fn problems(compiled: &Compiled) -> Vec<String> {
    let texts = compiled.problems.iter().map(ToString::to_string);
    texts.map(|text| text.strip_prefix("test.yaml: ").unwrap_or(&text).to_owned()).collect()
}

/// The same without the note that there are no classes, which a test's Ingress mostly gives cause for.
pub(crate) fn told(compiled: &Compiled) -> Vec<String> {
    problems(compiled).into_iter().filter(|text| !text.contains("there is no IngressClass")).collect()
}

/// Name of the Secret whose certificate a connection to port 443 gets.
pub(crate) fn certificate_of(routes: &Routes, sni: Option<&str>) -> Option<String> {
    let found = routes.certificate(443, sni)?;
    Some(routes.certificates[found.0 as usize].secret.name.clone())
}

/// GatewayClass `ours`, of our controller.
pub(crate) const CLASS: &str = "---
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: ours}
spec: {controllerName: podplane.io/gateway}
";

/// A Gateway in the namespace `default` of class `ours`.
pub(crate) fn gateway(name: &str, listeners: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: default, generation: 7}}
spec: {{gatewayClassName: ours, listeners: [{listeners}]}}
"
    )
}

/// Class `ours` and Gateway `web` with one listener: HTTP, port 80, all hosts, routes of all namespaces.
pub(crate) fn open_gateway() -> String {
    let listener = "{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}";
    CLASS.to_owned() + &gateway("web", listener)
}

/// An HTTPRoute in the namespace `default` with `spec`.
pub(crate) fn route(name: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {{name: {name}, namespace: default, generation: 3}}
spec: {{{spec}}}
"
    )
}

/// An HTTPRoute of Gateway `web` whose rules are `matches -> service`.
pub(crate) fn route_of(name: &str, hostnames: &str, rules: &[(&str, &str)]) -> String {
    let rules = rules
        .iter()
        .map(|(matches, service)| format!("{{matches: [{matches}], backendRefs: [{{name: {service}, port: 8080}}]}}"));
    let rules = rules.collect::<Vec<_>>().join(", ");
    route(name, &format!("parentRefs: [{{name: web}}], hostnames: [{hostnames}], rules: [{rules}]"))
}

/// `type=status reason` of conditions.
pub(crate) fn conditions(conditions: &[Condition]) -> Vec<String> {
    conditions
        .iter()
        .map(|condition| format!("{}={} {}", condition.type_, condition.status, condition.reason))
        .collect()
}

/// Status of Gateway `name` in the namespace `default`.
pub(crate) fn gateway_status<'a>(compiled: &'a Compiled, name: &str) -> &'a GatewayStatus {
    &compiled.statuses.gateways[&("default".into(), name.into())]
}

/// Status of a listener of that Gateway.
pub(crate) fn listener_status<'a>(compiled: &'a Compiled, gateway: &str, name: &str) -> &'a ListenerStatus {
    let listeners = gateway_status(compiled, gateway).listeners.as_ref().expect("listeners");
    listeners.iter().find(|listener| listener.name == name).expect("it is there")
}

/// Conditions of HTTPRoute `name` in the namespace `default` at its first parent.
pub(crate) fn of_route(compiled: &Compiled, name: &str) -> Vec<String> {
    let status = &compiled.statuses.http_routes[&("default".into(), name.into())];
    conditions(&status.parents[0].conditions)
}
