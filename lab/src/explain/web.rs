//! A URL that leads to the Ingress and Gateway proxy: what the proxy does with the request, and the proxy's own connection to the
//! backend.
//!
//! There are two connections, each followed as any other: the client's to the proxy and the proxy's to an endpoint. Between them
//! stands what the compiled routes say of the request ([`policy::routes`]), as the proxy itself would ask them. The first of it that
//! does not get through decides the answer; the request's destination is told all the same. A URL that leads elsewhere is a
//! connection to its host and port.

use super::answer::{Candidate, IngressRoute, Outcome, ServiceView, Side, Step};
use super::route::Sender;
use super::story::{Told, step};
use super::{Asked, Case, Explanation, Question};
use crate::error::Result;
use crate::place::Place;
use control::controller::{PROXY_LABEL, PROXY_NAME, PROXY_NAMESPACE};
use gateway::http::tls::check_routed;
use http::{HeaderMap, Method};
use policy::cluster::Cluster;
use policy::objects::{Object, Sourced};
use policy::routes::{
    Endpoints, Forward, Found, PathRewrite, Redirect, Request, RouteOptions, Rule, Target, compile_checked,
};
use policy::tables::PodIndex;
use std::net::{IpAddr, SocketAddr};

/// What of a URL is more than a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url {
    /// Whether it is `https`.
    pub tls: bool,
    /// Begins with `/`.
    pub path: String,
    /// Without `?`.
    pub query: Option<String>,
}

/// Addresses that an external DNS would have for `host`, and why: those in the status of the Ingresses, Gateways and HTTPRoutes that
/// are for it.
pub(super) fn published(objects: &[Sourced<Object>], host: &str) -> Option<(Vec<IpAddr>, String)> {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    objects.iter().find_map(|sourced| {
        let addresses = match &sourced.object {
            Object::Ingress(ingress) => {
                let mut rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
                rules.find(|rule| is_for(rule.host.as_deref(), &host))?;
                let status = ingress.status.as_ref()?.load_balancer.as_ref()?;
                let entries = status.ingress.iter().flatten();
                entries.filter_map(|entry| entry.ip.as_deref()?.parse().ok()).collect()
            }
            Object::Gateway(gateway) => {
                gateway.spec.listeners.iter().find(|listener| is_for(listener.hostname.as_deref(), &host))?;
                gateway_addresses(sourced)
            }
            Object::HTTPRoute(route) => {
                let mut names = route.spec.hostnames.iter().flatten();
                names.find(|name| is_for(Some(name), &host))?;
                let parents = route.spec.parent_refs.iter().flatten();
                let own = route.metadata.namespace.as_deref().unwrap_or_default();
                let named = |sourced: &&Sourced<Object>| {
                    let reference = sourced.object.reference();
                    parents.clone().any(|parent| {
                        reference.name == parent.name
                            && reference.namespace == parent.namespace.as_deref().unwrap_or(own)
                    })
                };
                let gateways = objects.iter().filter(|other| matches!(other.object, Object::Gateway(_)));
                gateways.filter(named).flat_map(gateway_addresses).collect()
            }
            _ => Vec::new(),
        };
        let why = format!("the status of {}, from which an external DNS has it", sourced.object.reference());
        (!addresses.is_empty()).then_some((addresses, why))
    })
}

fn gateway_addresses(sourced: &Sourced<Object>) -> Vec<IpAddr> {
    let Object::Gateway(gateway) = &sourced.object else { return Vec::new() };
    let addresses = gateway.status.iter().flat_map(|status| status.addresses.iter().flatten());
    addresses.filter_map(|address| address.value.as_deref()?.parse().ok()).collect()
}

/// Whether a host of an object, which may be a wildcard, is for `host`. One that is for all hosts names none.
fn is_for(pattern: Option<&str>, host: &str) -> bool {
    let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) else { return false };
    match pattern.strip_prefix("*.") {
        Some(parent) => host.strip_suffix(parent).is_some_and(|label| label.len() > 1 && label.ends_with('.')),
        None => pattern.eq_ignore_ascii_case(host),
    }
}

/// What the request meets at the proxy.
struct Meeting {
    route: Option<IngressRoute>,
    steps: Vec<Step>,
    outcome: Met,
}

enum Met {
    /// It goes to one of these.
    Backends(Option<ServiceView>, Vec<Candidate>),
    /// The proxy answers itself.
    Answer(Outcome, String),
}

/// The pod of the proxy that a connection ends at.
struct Proxy {
    pod: PodIndex,
    name: String,
    port: u16,
}

impl Asked<'_> {
    /// Answers about `url`, whose host was found by `name`, from the `cases` of its connection.
    pub(super) fn answer_url(
        &self,
        objects: &[Sourced<Object>],
        url: &Url,
        name: Option<Step>,
        service: Option<ServiceView>,
        mut cases: Vec<Case>,
    ) -> Result<Explanation> {
        let failed = cases.iter().position(|case| !case.told.outcome.is_yes());
        let Some(proxy) = cases.get(failed.unwrap_or(0)).and_then(|case| self.proxy(case)) else {
            return Ok(self.put_together(name, service, cases));
        };
        let arrival = cases.swap_remove(failed.unwrap_or(0));
        let Meeting { route, mut steps, outcome } = self.meet(objects, url, &proxy);
        steps.extend(arrival.told.steps.iter().cloned());
        if failed.is_some() {
            let service = match outcome {
                Met::Backends(view, _) => view,
                Met::Answer(..) => None,
            };
            // Of the Service behind: the proxy would speak for the client.
            let told = Told { steps, source_nat: true, ..arrival.told };
            return Ok(self.routed(name, route, service, vec![Case { told, ..arrival }]));
        }
        let (view, candidates) = match outcome {
            Met::Backends(view, candidates) => (view, candidates),
            Met::Answer(outcome, reason) => {
                steps.push(step(&*proxy.name, "answer", outcome.to_string(), reason.clone()));
                let told = Told { outcome, reason, steps, ..arrival.told };
                return Ok(self.routed(name, route, None, vec![Case { told, candidate: None, ..arrival }]));
            }
        };
        let onward = candidates.into_iter().map(|candidate| self.onward(&proxy, &steps, candidate)).collect();
        Ok(self.routed(name, route, view, onward))
    }

    fn routed(
        &self,
        name: Option<Step>,
        route: Option<IngressRoute>,
        service: Option<ServiceView>,
        cases: Vec<Case>,
    ) -> Explanation {
        Explanation { ingress_route: route, ..self.put_together(name, service, cases) }
    }

    /// The pod of the proxy at which a case ends or was to end.
    fn proxy(&self, case: &Case) -> Option<Proxy> {
        let (addr, port) = match &case.candidate {
            Some(candidate) => (candidate.ip, candidate.port),
            None => (case.address, self.question.port),
        };
        let pod = self.scene.pod_at(addr)?;
        let entry = self.scene.tables.pod(pod);
        let is_proxy = &*entry.namespace == PROXY_NAMESPACE && entry.labels.get(PROXY_LABEL) == Some(PROXY_NAME);
        is_proxy.then(|| Proxy { pod, name: self.scene.pod_name(pod), port })
    }

    /// What the proxy does with the request.
    fn meet(&self, objects: &[Sourced<Object>], url: &Url, proxy: &Proxy) -> Meeting {
        let (cluster, _) = Cluster::from_objects(objects.iter().cloned());
        let node = self.scene.tables.node_of_pod(proxy.pod).map(|node| self.scene.node_name(node));
        let options = RouteOptions { node_name: node, ..RouteOptions::default() };
        let routes = compile_checked(&cluster, &options, &check_routed).routes;
        let host = self.question.host.trim_end_matches('.').to_ascii_lowercase();
        let is_name = host.parse::<IpAddr>().is_err();
        let mut meeting = Meeting { route: None, steps: Vec::new(), outcome: Met::Backends(None, Vec::new()) };
        let fail = |meeting: &mut Meeting, stage, decision: &str, why: String| {
            meeting.steps.push(step(&*proxy.name, stage, decision, why.clone()));
            meeting.outcome = Met::Answer(Outcome::Rejected, why);
        };
        let Some(port) = routes.port(proxy.port) else {
            let why = format!("the proxy {} has no listener on port {}", proxy.name, proxy.port);
            fail(&mut meeting, "certificate", "none", why);
            return meeting;
        };
        if port.tls != url.tls {
            let (speaks, asked) = if port.tls { ("TLS", "plain HTTP") } else { ("plain HTTP", "TLS") };
            let why = format!("the proxy speaks {speaks} on port {}, and the URL asks for {asked}", proxy.port);
            fail(&mut meeting, "certificate", "failed", why);
            return meeting;
        }
        let sni = Some(host.as_str()).filter(|_| url.tls && is_name);
        let mut secret = None;
        if url.tls {
            let Some(id) = routes.certificate(proxy.port, sni) else {
                let why = format!("the TLS handshake fails: the proxy has no certificate for {host}");
                fail(&mut meeting, "certificate", "none", why);
                return meeting;
            };
            let reference = &routes.certificates[id.0 as usize].secret;
            let why = format!("it is the certificate for the server name {host}");
            meeting.steps.push(step(&*proxy.name, "certificate", reference.to_string(), why));
            secret = Some(format!("{}/{}", reference.namespace, reference.name));
        }
        let written = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        let request = Request {
            port: proxy.port,
            sni,
            host: &written,
            method: &Method::GET,
            path: &url.path,
            query: url.query.as_deref(),
            headers: &HeaderMap::new(),
        };
        let explained = routes.explain(&request);
        let passed: Vec<String> = explained
            .passed
            .iter()
            .map(|passed| format!("{} ({}): {}", passed.rule.object, passed.rule.field, passed.why))
            .collect();
        let why = [std::slice::from_ref(&explained.why), passed.as_slice()].concat().join("; ");
        match explained.found {
            Found::Rule { rule, .. } => {
                let decision = format!("{} {}", rule.source.object, rule.source.field);
                meeting.steps.push(step(&*proxy.name, "http-rule", decision, why));
                self.take(&mut meeting, rule, secret, proxy);
            }
            Found::Nothing => fail(&mut meeting, "http-rule", "none", format!("404: {why}")),
            Found::Misdirected => fail(&mut meeting, "http-rule", "none", format!("421: {why}")),
        }
        meeting
    }

    /// Follows the rule that takes the request.
    fn take(&self, meeting: &mut Meeting, rule: &Rule, secret: Option<String>, proxy: &Proxy) {
        let mut route = IngressRoute {
            kind: rule.source.object.kind.clone(),
            ingress: format!("{}/{}", rule.source.object.namespace, rule.source.object.name),
            field: rule.source.field.clone(),
            host: rule.source.host.clone(),
            path: rule.source.path.clone(),
            path_type: rule.source.path_type.to_owned(),
            service: None,
            port: None,
            tls_secret: secret,
        };
        match &rule.outcome {
            policy::routes::Outcome::Forward(forward) => self.forward(meeting, &mut route, forward, proxy),
            policy::routes::Outcome::Redirect(redirect) => {
                let reason = format!("the proxy answers {}, a redirect to {}", redirect.status, redirected(redirect));
                meeting.outcome = Met::Answer(Outcome::Delivered, reason);
            }
            policy::routes::Outcome::Status(status, why) => {
                meeting.outcome = Met::Answer(Outcome::Rejected, format!("{status}: {why}"));
            }
        }
        meeting.route = Some(route);
    }

    fn forward(&self, meeting: &mut Meeting, route: &mut IngressRoute, forward: &Forward, proxy: &Proxy) {
        let weighted: Vec<_> = forward.targets.iter().filter(|target| target.weight > 0).collect();
        let mut candidates = Vec::new();
        let mut missing = None;
        for target in &weighted {
            match &target.target {
                Target::Unresolved { status, why } => missing = missing.or(Some(format!("{status}: {why}"))),
                Target::Endpoints(endpoints) => {
                    let Endpoints { namespace, service, port, addresses, .. } = &**endpoints;
                    let name = format!("{namespace}/{service}");
                    let share = match weighted.len() {
                        1 => String::new(),
                        _ => format!(", {} of {} requests", target.weight, forward.weight_total),
                    };
                    let count = addresses.len();
                    let why = match count {
                        0 => format!("Service {name} port {port} has no ready endpoint{share}"),
                        1 => format!("Service {name} port {port}{share}: the only endpoint"),
                        _ => format!("Service {name} port {port}{share}: one of {count} endpoints"),
                    };
                    let decision = addresses.first().map_or_else(|| "none".to_owned(), ToString::to_string);
                    meeting.steps.push(step(&*proxy.name, "service", decision, why));
                    if count == 0 {
                        missing = missing.or(Some(format!("503: Service {name} port {port} has no ready endpoint")));
                    }
                    let of = addresses.iter().map(|at| self.endpoint(*at, (namespace, service), proxy));
                    let of: Vec<Candidate> = of.collect();
                    if route.service.is_none() {
                        (route.service, route.port) = (Some(name), Some(*port));
                        meeting.outcome = Met::Backends(Some(self.view_of(endpoints)), Vec::new());
                    }
                    candidates.extend(of);
                }
            }
        }
        match (missing, &mut meeting.outcome) {
            (Some(why), _) => meeting.outcome = Met::Answer(Outcome::Rejected, why),
            (None, Met::Backends(view, all)) => {
                if let Some(view) = view {
                    view.candidates = candidates.clone();
                }
                *all = candidates;
            }
            (None, Met::Answer(..)) => {}
        }
    }

    /// An endpoint as the proxy sees it.
    fn endpoint(&self, at: SocketAddr, (namespace, service): (&str, &str), proxy: &Proxy) -> Candidate {
        let node = self.scene.tables.node_of_pod(proxy.pod);
        self.scene.candidate_at(at, (namespace, service), node)
    }

    fn view_of(&self, endpoints: &Endpoints) -> ServiceView {
        let Endpoints { namespace, service, port, .. } = endpoints;
        let vip = self
            .scene
            .census
            .service(namespace, service)
            .and_then(|own| crate::names::cluster_ips(own).first().copied());
        ServiceView {
            namespace: namespace.to_string(),
            name: service.to_string(),
            port: *port,
            vip,
            kind: "ClusterIP".to_owned(),
            candidates: Vec::new(),
            // The proxy speaks for the client.
            source_nat: true,
            affinity: "None".to_owned(),
            affinity_timeout_seconds: None,
        }
    }

    /// The proxy's connection to an endpoint; `before` is what happened until then.
    fn onward(&self, proxy: &Proxy, before: &[Step], candidate: Candidate) -> Case {
        let entry = self.scene.tables.pod(proxy.pod);
        let place = Place::Pod { namespace: entry.namespace.to_string(), name: entry.name.to_string() };
        let question = Question {
            from: proxy.name.clone(),
            host: candidate.ip.to_string(),
            port: candidate.port,
            node: None,
            url: None,
            ..self.question.clone()
        };
        let asked = Asked {
            scene: self.scene,
            compile: self.compile.clone(),
            masquerade_all: self.masquerade_all,
            question: &question,
            sender: Sender::Pod(proxy.pod),
            sources: entry.addresses.clone(),
            from: proxy.name.clone(),
            place: &place,
        };
        let address = candidate.ip;
        if asked.source_for(address).is_none() {
            let reason = format!("{} has no address of the family of {address}", proxy.name);
            let steps = [before, &[step(&*proxy.name, "enter", "none", reason.clone())]].concat();
            let (egress, ingress) = (Side::open(), Side::open());
            let outcome = Outcome::Rejected;
            let told = Told { outcome, reason, source_nat: true, egress, ingress, steps, left_to_kernel: false };
            return Case { address, candidate: Some(candidate), told };
        }
        let mut service = None;
        let case = asked.cases(address, &mut service).swap_remove(0);
        let reason = match case.told.outcome {
            Outcome::Delivered | Outcome::External => format!("{}, from the proxy {}", case.told.reason, proxy.name),
            Outcome::Rejected => format!("{}: the proxy answers 502", case.told.reason),
            _ => format!("{}: the proxy answers 504", case.told.reason),
        };
        let steps = [before, &case.told.steps].concat();
        let told = Told { reason, steps, source_nat: true, ..case.told };
        Case { address, candidate: Some(candidate), told }
    }
}

/// Where a redirect leads, as far as the rule says it.
fn redirected(redirect: &Redirect) -> String {
    let Redirect { scheme, host, path, port, .. } = redirect;
    let mut told: Vec<String> = Vec::new();
    told.extend(scheme.map(|scheme| format!("scheme {scheme}")));
    told.extend(host.as_ref().map(|host| format!("host {host}")));
    told.extend(port.map(|port| format!("port {port}")));
    told.extend(path.as_ref().map(|path| match path {
        PathRewrite::Full(path) => format!("path {path}"),
        PathRewrite::Prefix(prefix) => format!("prefix {prefix}"),
    }));
    if told.is_empty() { "the same place".to_owned() } else { told.join(", ") }
}
