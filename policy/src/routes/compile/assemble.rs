//! From rules with their places to the tables of the ports.
//!
//! Rules of one host and path stand in one order, whoever wrote them: those that ask for more first, then the older object, then by
//! name, then as written. A rule that asks for the same as one before it never gets a request; that is told, with the one that does.
//! Who has the certificate of a host is decided likewise: the oldest.

use super::report::{Report, Subject};
use crate::cluster::Key;
use crate::routes::conditions::Conditions;
use crate::routes::hosts::HostPattern;
use crate::routes::lookup::IngressTls;
use crate::routes::paths::{Candidate, PathMatch};
use crate::routes::table::{Certificate, CertificateId, PortRoutes, RouteOptions, Routes, Rule};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A rule and where it is to stand.
#[derive(Debug)]
pub(super) struct Placed {
    /// The port.
    pub(super) port: u16,
    /// The listener on it.
    pub(super) listener: HostPattern,
    /// The rule's own host, which the listener's pattern covers.
    pub(super) host: HostPattern,
    /// Its path.
    pub(super) path: PathMatch,
    /// What else it asks for.
    pub(super) conditions: Conditions,
    /// Position of the rule in its object, and of this match in the rule.
    pub(super) position: (u32, u32),
    /// The rule.
    pub(super) rule: RuleId,
}

/// Position of a rule in [`Routes::rules`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct RuleId(u32);

/// A default backend and where it is to stand.
#[derive(Debug)]
struct PlacedDefault {
    port: u16,
    listener: HostPattern,
    rule: RuleId,
}

/// A certificate and the hosts that an Ingress wants it for.
#[derive(Debug)]
struct PlacedCertificate {
    hosts: HostPattern,
    certificate: CertificateId,
    subject: Arc<Subject>,
    field: String,
}

/// Rules with their places, as they are collected.
#[derive(Debug)]
pub(super) struct Assembly {
    https_port: u16,
    /// How many listeners of Gateways have a certificate.
    listeners: u32,
    ports: BTreeMap<u16, PortRoutes>,
    rules: Vec<Rule>,
    /// Who wrote each rule.
    subjects: Vec<Arc<Subject>>,
    placed: Vec<Placed>,
    defaults: Vec<PlacedDefault>,
    certificates: Vec<PlacedCertificate>,
    /// For TLS connections to the port of Ingresses that no other certificate is for.
    pub(super) default_certificate: Option<CertificateId>,
}

impl Assembly {
    /// With the ports of `options`, and nothing on them.
    pub(super) fn new(options: &RouteOptions) -> Assembly {
        let port = |port, tls| (port, PortRoutes { port, tls, ..PortRoutes::default() });
        Assembly {
            https_port: options.https_port,
            listeners: 0,
            ports: BTreeMap::from([port(options.http_port, false), port(options.https_port, true)]),
            rules: Vec::new(),
            subjects: Vec::new(),
            placed: Vec::new(),
            defaults: Vec::new(),
            certificates: Vec::new(),
            default_certificate: None,
        }
    }

    /// Has a Gateway listen on `port` for `hosts`. All listeners of a port speak TLS or none does, and those of the same hosts have the
    /// same certificate.
    pub(super) fn add_listener(
        &mut self,
        port: u16,
        tls: bool,
        hosts: &HostPattern,
        certificate: Option<CertificateId>,
    ) {
        let routes = self.ports.entry(port).or_insert_with(|| PortRoutes { port, tls, ..PortRoutes::default() });
        routes.listeners.entry(hosts).is_of_gateway = true;
        if let Some(certificate) = certificate {
            let number = self.listeners;
            let name = routes.tls_names.entry(hosts);
            self.listeners += u32::from(name.gateway.is_none());
            name.gateway.get_or_insert((number, certificate));
        }
    }

    /// Takes a rule of `subject`.
    pub(super) fn add_rule(&mut self, subject: &Arc<Subject>, rule: Rule) -> RuleId {
        self.rules.push(rule);
        self.subjects.push(subject.clone());
        RuleId(self.rules.len() as u32 - 1)
    }

    /// Has a rule stand somewhere.
    pub(super) fn place(&mut self, placed: Placed) {
        self.placed.push(placed);
    }

    /// Has a rule take what no rule takes of the listeners that a request for a host of `listener` is shown to.
    pub(super) fn place_default(&mut self, port: u16, listener: HostPattern, rule: RuleId) {
        self.defaults.push(PlacedDefault { port, listener, rule });
    }

    /// Has an Ingress' certificate stand for hosts; `field` says so.
    pub(super) fn place_certificate(
        &mut self,
        hosts: HostPattern,
        certificate: CertificateId,
        subject: &Arc<Subject>,
        field: String,
    ) {
        self.certificates.push(PlacedCertificate { hosts, certificate, subject: subject.clone(), field });
    }

    /// Puts everything at its place.
    pub(super) fn finish(mut self, certificates: Vec<Certificate>, report: &mut Report) -> Routes {
        self.put_rules(report);
        self.put_defaults(report);
        self.put_certificates(&certificates, report);
        if let Some(port) = self.ports.get_mut(&self.https_port) {
            port.default_certificate = self.default_certificate;
        }
        Routes { ports: self.ports.into_values().collect(), certificates, rules: self.rules }
    }

    fn put_rules(&mut self, report: &mut Report) {
        let Assembly { ports, rules, subjects, placed, .. } = self;
        let subject = |RuleId(rule): RuleId| &subjects[rule as usize];
        placed.sort_by(|one, other| {
            let order = |placed: &Placed| placed.conditions.rank();
            let by_age = || (subject(one.rule), one.position).cmp(&(subject(other.rule), other.position));
            order(one).cmp(&order(other)).then_with(by_age)
        });
        let mut told: BTreeSet<(&Key, &str)> = BTreeSet::new();
        for Placed { port, listener, host, path, conditions, rule: id, .. } in placed.drain(..) {
            let port = ports.get_mut(&port).expect("rules are placed on ports that there are");
            let candidates = port.listeners.entry(&listener).hosts.entry(&host).entry(&path);
            if let Some(first) = candidates.iter().find(|first| first.conditions.take_all_of(&conditions)) {
                let (loser, winner) = (&rules[id.0 as usize].source, &rules[first.rule as usize].source);
                let (own, other) = (subject(id), subject(RuleId(first.rule)));
                if told.insert((&own.key, &loser.field)) {
                    let what = format!("{}{}", loser.host, loser.path);
                    let message = if own == other {
                        format!("no request comes here: {what} is taken by {}", winner.field)
                    } else {
                        let because = other.comes_before_because(own);
                        format!(
                            "no request comes here: {what} is taken by {} ({}), because {because}",
                            winner.object, winner.field
                        )
                    };
                    report.warn(own, loser.field.clone(), message);
                }
            }
            candidates.push(Candidate { conditions, rule: id.0 });
        }
    }

    fn put_defaults(&mut self, report: &mut Report) {
        let Assembly { ports, rules, subjects, defaults, .. } = self;
        let subject = |RuleId(rule): RuleId| &subjects[rule as usize];
        defaults.sort_by(|one, other| subject(one.rule).cmp(subject(other.rule)));
        let mut told: BTreeSet<&Key> = BTreeSet::new();
        for PlacedDefault { port, listener, rule } in defaults.drain(..) {
            let port = ports.get_mut(&port).expect("rules are placed on ports that there are");
            let entry = port.listeners.entry(&listener);
            let first = RuleId(*entry.default.get_or_insert(rule.0));
            let (own, other) = (subject(rule), subject(first));
            if listener == HostPattern::Any && own != other && told.insert(&own.key) {
                let because = other.comes_before_because(own);
                let winner = &rules[first.0 as usize].source.object;
                let message =
                    format!("requests for hosts of other Ingresses go to that of {winner}, because {because}");
                report.warn(own, "spec.defaultBackend", message);
            }
        }
    }

    fn put_certificates(&mut self, list: &[Certificate], report: &mut Report) {
        let mut placed = std::mem::take(&mut self.certificates);
        placed.sort_by(|one, other| (&one.subject, one.certificate).cmp(&(&other.subject, other.certificate)));
        let mut winners: BTreeMap<HostPattern, (CertificateId, Arc<Subject>)> = BTreeMap::new();
        let port = self.ports.get_mut(&self.https_port).expect("the ports of the options are there");
        for PlacedCertificate { hosts, certificate, subject, field } in placed {
            if let Some((winner, other)) = winners.get(&hosts) {
                if *winner != certificate {
                    let secret = &list[winner.0 as usize].secret;
                    let other_name = other.reference();
                    let message = if *other == subject {
                        format!("{hosts} has the certificate of {secret} already")
                    } else {
                        let because = other.comes_before_because(&subject);
                        format!("{hosts} has the certificate of {secret} from {other_name}, because {because}")
                    };
                    report.warn(&subject, field, message);
                }
                continue;
            }
            let name = port.tls_names.entry(&hosts);
            if let Some((_, other)) = name.gateway.filter(|(_, other)| *other != certificate) {
                let secret = &list[other.0 as usize].secret;
                report.warn(&subject, field, format!("{hosts} has the certificate of {secret} from a Gateway"));
            }
            let one_label_under = match &hosts {
                HostPattern::Under(parent) => Some(parent.clone()),
                HostPattern::Name(_) | HostPattern::Any => None,
            };
            name.ingress = Some(IngressTls { certificate, one_label_under });
            winners.insert(hosts, (certificate, subject));
        }
    }
}
