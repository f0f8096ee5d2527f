//! Ingresses (networking.k8s.io/v1).
//!
//! Each host of an Ingress acts as a listener with the rules of all Ingresses for that host; rules without a host stand under the
//! pattern of all hosts, so they hold for what no other rule takes. ImplementationSpecific paths are prefixes by element. A
//! defaultBackend takes what no rule of any Ingress takes: first for the hosts that its own Ingress names, then, that of the
//! oldest Ingress, for all.
//!
//! The same rules stand on the ports for HTTP and for HTTPS; whether TLS is spoken for a host depends on its certificate alone. HTTP is
//! not redirected to HTTPS unless [`SSL_REDIRECT_ANNOTATION`] asks for it. Annotations of other controllers are not read: most of them
//! change what a rule means, and one of them half understood is worse than none.

use super::Work;
use super::assemble::{Placed, RuleId};
use super::backends::{Part, PortName, Unresolved, annotated_protocol};
use super::class::{DefaultClass, is_ours, warn_of_parameters};
use super::report::Subject;
use crate::routes::conditions::Conditions;
use crate::routes::hosts::{HostPattern, has_one_label_more};
use crate::routes::paths::PathMatch;
use crate::routes::table::{
    BackendProtocol, Forward, Outcome, Redirect, Rule, RuleRef, Target, Timeouts, WeightedTarget,
};
use k8s_openapi::api::networking::v1::{HTTPIngressPath, Ingress, IngressBackend, IngressTLS};
use std::sync::Arc;

/// Annotation on an Ingress: with the value `true`, requests that come over HTTP are redirected to HTTPS where the Ingress has a
/// certificate for the host. With `false`, or without the annotation, they are served.
pub const SSL_REDIRECT_ANNOTATION: &str = "podplane.io/ssl-redirect";

/// Annotation on an Ingress: how backends are spoken to whose Service port has no appProtocol. `HTTP`, as without the
/// annotation, `HTTPS` (their certificate is not verified), `H2C` or `GRPC` (HTTP/2 without TLS).
pub const BACKEND_PROTOCOL_ANNOTATION: &str = "podplane.io/backend-protocol";

/// Answer to requests that a rule has no backend for.
const UNRESOLVED_STATUS: u16 = 503;

/// Answer that redirects to HTTPS: the client repeats the request with its method and body.
const REDIRECT_STATUS: u16 = 308;

/// The port that `https` means where none is given.
const HTTPS_PORT: u16 = 443;

/// Compiles all Ingresses that are ours.
pub(super) fn compile(work: &mut Work<'_>) {
    let cluster = work.cluster;
    let default = DefaultClass::of(&cluster.ingress_classes, &work.options.controller);
    warn_of_parameters(work);
    for (key, sourced) in &cluster.ingresses {
        let ingress = &*sourced.object;
        let subject = Subject::new("Ingress", key, sourced, &ingress.metadata);
        if is_ours(ingress, &subject, default, work) {
            work.statuses.ingresses.insert(key.clone());
            let protocol = backend_protocol(ingress, &subject, work);
            let certified = certificates(ingress, &subject, work);
            let redirected = if redirects(ingress, &subject, &certified, work) { certified } else { Vec::new() };
            Reading { subject, protocol, redirected }.place(ingress, work);
        }
    }
}

/// What holds for all rules of an Ingress.
struct Reading {
    subject: Arc<Subject>,
    /// How backends are spoken to that do not say it.
    protocol: BackendProtocol,
    /// Hosts for which HTTP is redirected.
    redirected: Vec<HostPattern>,
}

impl Reading {
    fn place(&self, ingress: &Ingress, work: &mut Work<'_>) {
        let Some(spec) = &ingress.spec else { return };
        let ports = [work.options.http_port, work.options.https_port];
        let rules = spec.rules.as_deref().unwrap_or_default();
        for (at, rule) in (0u32..).zip(rules) {
            let host = HostPattern::new(rule.host.as_deref().unwrap_or_default());
            let paths = rule.http.as_ref().map(|http| http.paths.as_slice()).unwrap_or_default();
            for (path_at, path) in (0u32..).zip(paths) {
                let field = format!("spec.rules[{at}].http.paths[{path_at}]");
                let target = self.target(&path.backend, &format!("{field}.backend"), work);
                let source = self.source(field, &host, Some(path));
                let matched = match source.path_type {
                    "Exact" => PathMatch::Exact(source.path.as_str().into()),
                    _ => PathMatch::prefix(&source.path),
                };
                let rules = self.add_rules(source, target, &host, work);
                for (port, rule) in ports.into_iter().zip(rules) {
                    work.assembly.place(Placed {
                        port,
                        listener: host.clone(),
                        host: host.clone(),
                        path: matched.clone(),
                        conditions: conditions(&host),
                        position: (at, path_at),
                        rule,
                    });
                }
            }
        }
        let Some(backend) = &spec.default_backend else { return };
        let target = self.target(backend, "spec.defaultBackend", work);
        let mut hosts: Vec<HostPattern> =
            rules.iter().map(|rule| HostPattern::new(rule.host.as_deref().unwrap_or_default())).collect();
        hosts.push(HostPattern::Any);
        hosts.sort();
        hosts.dedup();
        for host in hosts {
            let source = self.source("spec.defaultBackend".into(), &host, None);
            let rules = self.add_rules(source, target.clone(), &host, work);
            for (port, rule) in ports.into_iter().zip(rules) {
                work.assembly.place_default(port, host.clone(), rule);
            }
        }
    }

    fn source(&self, field: String, host: &HostPattern, path: Option<&HTTPIngressPath>) -> RuleRef {
        let path_type = match path.map(|path| path.path_type.as_str()) {
            Some("Exact") => "Exact",
            Some("Prefix") => "Prefix",
            Some(_) => "ImplementationSpecific",
            None => "",
        };
        let written = path.and_then(|path| path.path.as_deref()).filter(|path| !path.is_empty());
        RuleRef {
            object: self.subject.reference(),
            field,
            host: host.to_string(),
            path: path.map(|_| written.unwrap_or("/").to_owned()).unwrap_or_default(),
            path_type,
        }
    }

    /// The rule for HTTP and that for HTTPS, which mostly are one.
    fn add_rules(&self, source: RuleRef, target: Target, host: &HostPattern, work: &mut Work<'_>) -> [RuleId; 2] {
        let redirecting = self.redirected.iter().any(|certified| certifies(certified, host)).then(|| {
            let https_port = work.options.https_port;
            let port = (https_port != HTTPS_PORT).then_some(https_port);
            let redirect = Redirect { scheme: Some("https"), host: None, path: None, port, status: REDIRECT_STATUS };
            let outcome = Outcome::Redirect(redirect);
            let (filters, timeouts) = (Vec::new(), Timeouts::default());
            work.assembly.add_rule(&self.subject, Rule { source: source.clone(), filters, outcome, timeouts })
        });
        let targets = vec![WeightedTarget { weight: 1, filters: Vec::new(), target }];
        let outcome = Outcome::Forward(Forward { targets, weight_total: 1 });
        let (filters, timeouts) = (Vec::new(), Timeouts::default());
        let forwarding = work.assembly.add_rule(&self.subject, Rule { source, filters, outcome, timeouts });
        [redirecting.unwrap_or(forwarding), forwarding]
    }

    /// Where `backend` leads, which is at `field`.
    fn target(&self, backend: &IngressBackend, field: &str, work: &mut Work<'_>) -> Target {
        let unresolved = |why: String| Target::Unresolved { status: UNRESOLVED_STATUS, why };
        let told = |why: &str| format!("{why}: requests are answered with {UNRESOLVED_STATUS}");
        let Some(service) = &backend.service else {
            let why = match &backend.resource {
                Some(resource) => format!("a {} cannot be a backend, only a Service can", resource.kind),
                None => "no service is given".to_owned(),
            };
            let field = if backend.resource.is_some() { format!("{field}.resource") } else { field.to_owned() };
            work.report.close(&self.subject, field, told(&why));
            return unresolved(why);
        };
        let port = service.port.as_ref();
        let name = port.and_then(|port| port.name.as_deref()).filter(|name| !name.is_empty()).map(PortName::Name);
        let number = port.and_then(|port| port.number).map(PortName::Number);
        let key = (self.subject.key.0.clone(), service.name.as_str().into());
        let found = match name.or(number) {
            Some(port) => work.backends.find(&key, port, self.protocol),
            None => Err(Unresolved { part: Part::Port, why: "neither name nor number is given".into() }),
        };
        found.map_or_else(
            |Unresolved { part, why }| {
                let part = match part {
                    Part::Service | Part::Type => "name",
                    Part::Port | Part::Protocol => "port",
                };
                work.report.warn(&self.subject, format!("{field}.service.{part}"), told(&why));
                unresolved(why)
            },
            Target::Endpoints,
        )
    }
}

/// What a rule for `host` asks for: the wildcard of an Ingress stands for one label.
fn conditions(host: &HostPattern) -> Conditions {
    let one_label_under = match host {
        HostPattern::Under(parent) => Some(parent.clone()),
        HostPattern::Name(_) | HostPattern::Any => None,
    };
    Conditions { one_label_under, ..Conditions::default() }
}

/// Has the certificates of an Ingress stand for its hosts; gives the hosts that have one.
fn certificates(ingress: &Ingress, subject: &Arc<Subject>, work: &mut Work<'_>) -> Vec<HostPattern> {
    let spec = ingress.spec.as_ref();
    let mut certified = Vec::new();
    for (at, tls) in spec.iter().flat_map(|spec| spec.tls.iter().flatten()).enumerate() {
        let field = format!("spec.tls[{at}]");
        let hosts = hosts_of(tls, ingress);
        let Some(name) = tls.secret_name.as_deref().filter(|name| !name.is_empty()) else {
            match work.assembly.default_certificate {
                Some(_) => certified.extend(hosts),
                None => work.report.warn(subject, field, "no secretName, and the proxy has no default certificate"),
            }
            continue;
        };
        let field = format!("{field}.secretName");
        match work.certificates.find(&(subject.key.0.clone(), name.into())) {
            Ok(certificate) => {
                for hosts in hosts {
                    if hosts == HostPattern::Any && work.assembly.default_certificate.is_some() {
                        let message = "hosts that are not named have the proxy's default certificate, not this one";
                        work.report.warn(subject, field.clone(), message);
                    } else {
                        work.assembly.place_certificate(hosts.clone(), certificate, subject, field.clone());
                    }
                    certified.push(hosts);
                }
            }
            Err(why) => {
                let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
                let message = format!("{why}: {} has no certificate", hosts.join(", "));
                work.report.warn(subject, field, message);
            }
        }
    }
    certified
}

/// The hosts that an entry of tls is for: if it names none those of the rules, and if they name none all.
fn hosts_of(tls: &IngressTLS, ingress: &Ingress) -> Vec<HostPattern> {
    let named = tls.hosts.as_deref().unwrap_or_default();
    let rules = ingress.spec.iter().flat_map(|spec| spec.rules.iter().flatten());
    let of_rules = rules.filter_map(|rule| rule.host.as_deref()).filter(|host| !host.is_empty());
    let mut hosts: Vec<HostPattern> = match named {
        [] => of_rules.map(HostPattern::new).collect(),
        named => named.iter().map(|host| HostPattern::new(host)).collect(),
    };
    if hosts.is_empty() {
        hosts.push(HostPattern::Any);
    }
    hosts.sort();
    hosts.dedup();
    hosts
}

/// Whether a certificate for `certified` is one for all of `host`.
fn certifies(certified: &HostPattern, host: &HostPattern) -> bool {
    match (certified, host) {
        (HostPattern::Any, _) => true,
        (HostPattern::Under(parent), HostPattern::Name(name)) => has_one_label_more(name, parent),
        _ => certified == host,
    }
}

/// Whether HTTP is redirected for the hosts of an Ingress that have a certificate.
fn redirects(ingress: &Ingress, subject: &Subject, certified: &[HostPattern], work: &mut Work<'_>) -> bool {
    let Some(text) = annotation(ingress, SSL_REDIRECT_ANNOTATION) else { return false };
    let field = format!("metadata.annotations[{SSL_REDIRECT_ANNOTATION}]");
    match text {
        "true" if certified.is_empty() => {
            let message = "no host of this Ingress has a certificate: nothing is redirected";
            work.report.warn(subject, field, message);
        }
        "true" => return true,
        "false" => {}
        other => {
            let message = format!("\"{other}\" is neither true nor false: nothing is redirected");
            work.report.warn(subject, field, message);
        }
    }
    false
}

fn backend_protocol(ingress: &Ingress, subject: &Subject, work: &mut Work<'_>) -> BackendProtocol {
    let Some(text) = annotation(ingress, BACKEND_PROTOCOL_ANNOTATION) else { return BackendProtocol::default() };
    annotated_protocol(text).unwrap_or_else(|| {
        let message = format!("\"{text}\" is none of HTTP, HTTPS, GRPC and H2C: HTTP is spoken");
        work.report.warn(subject, format!("metadata.annotations[{BACKEND_PROTOCOL_ANNOTATION}]"), message);
        BackendProtocol::default()
    })
}

fn annotation<'a>(ingress: &'a Ingress, name: &str) -> Option<&'a str> {
    ingress.metadata.annotations.as_ref()?.get(name).map(String::as_str)
}
