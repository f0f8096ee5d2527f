//! URLs that lead to the proxy.

use super::*;

/// Service `web` of near and far, and a Service without endpoints.
const SERVICES: &str = "
---
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {selector: {app: web}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: v1
kind: Service
metadata: {name: idle, namespace: shop}
spec: {selector: {app: nobody}, ports: [{port: 80}]}
";

const INGRESS: &str = "
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata: {name: web, namespace: shop}
spec:
  tls: [{hosts: [secure.example], secretName: tls}]
  rules:
  - host: shop.example
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: web, port: {name: http}}}}
      - {path: /idle, pathType: Exact, backend: {service: {name: idle, port: {number: 80}}}}
      - {path: /gone, pathType: Prefix, backend: {service: {name: missing, port: {number: 80}}}}
  - host: '*.wild.example'
    http: {paths: [{path: /only, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
  - host: secure.example
    http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
";

/// The answer about a URL as `explain -f` gives it.
#[track_caller]
fn visit(objects: &str, from: &str, url: &str) -> Explanation {
    let yaml = format!("{PODS}{SERVICES}{INGRESS}{objects}");
    let parsed = policy::objects::parse("test.yaml", &yaml);
    assert_eq!(parsed.problems, vec![], "{objects}");
    let network = LabNetwork::default();
    let mut filled = fill(&parsed.objects, [], &network);
    crate::publish(&mut filled.objects);
    let (scheme, rest) = url.split_once("://").expect("a URL");
    let (host, path) = rest.split_once('/').expect("a path");
    let tls = scheme == "https";
    let question = Question {
        from: from.into(),
        to: url.into(),
        host: crate::place::without_brackets(host).to_owned(),
        port: if tls { 443 } else { 80 },
        protocol: ProbeProtocol::Tcp,
        url: Some(Url { tls, path: format!("/{path}"), query: None }),
        node: None,
        each: false,
        assume_pods: true,
    };
    explain(&filled.objects, &network, &NodeOptions::default(), &question).expect("an answer").0
}

/// Outcome and route of `url` from outside; the reason holds `why`.
#[track_caller]
fn visits(objects: &str, url: &str, outcome: Outcome, why: &str) -> Explanation {
    let told = visit(objects, "world", url);
    assert_eq!(told.outcome, outcome, "{url}: {}\n{:#?}", told.reason, told.steps);
    assert!(told.reason.contains(why), "{url}: {}", told.reason);
    told
}

#[test]
fn a_request_is_followed_to_its_backends_through_the_proxy() {
    let told = visits("", "http://shop.example/a", Delivered, "from the proxy podplane-system/podplane-ingress-");
    let route = told.ingress_route.expect("a route");
    assert_eq!((&*route.kind, &*route.ingress, &*route.field), ("Ingress", "shop/web", "spec.rules[0].http.paths[0]"));
    assert_eq!((&*route.host, &*route.path, &*route.path_type), ("shop.example", "/", "Prefix"));
    assert_eq!((route.service.as_deref(), route.port, route.tls_secret), (Some("shop/web"), Some(80), None));
    let service = told.service.expect("a Service");
    assert!(service.source_nat, "the proxy speaks for the client");
    let names: Vec<_> = service.candidates.iter().map(|candidate| candidate.pod.as_deref().unwrap()).collect();
    assert_eq!(std::collections::BTreeSet::from_iter(names), ["shop/far", "shop/near"].into());
    let stages: Vec<&str> = told.steps.iter().map(|step| step.stage).collect();
    assert_eq!(stages[..3], ["name", "http-rule", "service"], "{:#?}", told.steps);
    assert_eq!(stages.iter().filter(|stage| **stage == "deliver").count(), 2, "{:#?}", told.steps);
    assert!(told.steps[0].why.contains("status of Ingress shop/web"), "{:#?}", told.steps[0]);
}

#[test]
fn what_the_proxy_answers_itself_is_rejected_with_the_reason() {
    visits("", "http://shop.example/idle", Rejected, "503: Service shop/idle port 80 has no ready endpoint");
    visits("", "http://shop.example/gone/x", Rejected, "503: ");
    visits("", "http://a.wild.example/other", Rejected, "404: ");
    visits("", "https://shop.example/", Rejected, "no certificate for shop.example");
    visits("", "http://nobody.example/", Unresolved, "nobody.example");
    visits("", "http://a.wild.example/only/this", Delivered, "from the proxy");
    // The Secret is missing, so its hosts have no certificate.
    visits("", "https://secure.example/", Rejected, "no certificate");
    assert_eq!(visit("", "world", "http://172.30.0.11/").outcome, Rejected);
}

#[test]
fn policies_of_both_connections_are_told() {
    let at_backend = policy("{podSelector: {matchLabels: {app: web}}, ingress: []}");
    let told = visits(&at_backend, "http://shop.example/", Denied, "the proxy answers 504");
    assert!(told.ingress_route.is_some() && told.ingress.is_denied());
    let at_door = "
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: shut, namespace: podplane-system}
spec: {podSelector: {}, ingress: []}
";
    let told = visits(at_door, "http://shop.example/", Denied, "podplane-system/shut");
    assert_eq!(told.ingress_route.expect("it is told all the same").ingress, "shop/web");
    assert!(told.service.expect("a Service").source_nat);
    let only_proxy = policy(
        "{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: \
         podplane-system}}}]}]}",
    );
    visits(&only_proxy, "http://shop.example/", Delivered, "from the proxy");
}

#[test]
fn a_url_that_names_a_service_is_a_connection_to_it() {
    let told = visit("", "shop/client", "http://web.shop/");
    assert_eq!((told.outcome, told.ingress_route), (Delivered, None));
    assert_eq!(told.service.expect("a Service").name, "web");
}
