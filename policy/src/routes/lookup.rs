//! What a port serves, and how the rule of a request is found in it.
//!
//! A port has *listeners*, by host pattern. A listener of a Gateway is one; and each host of an Ingress acts as one, in which
//! only the Ingress rules of that host stand. Where both have a pattern, their rules stand side by side and compete: by the
//! pattern of the HTTPRoute's or Ingress' own host, then by path, then by conditions, then by age.
//!
//! A request is shown to the listeners that match its host, the most specific first. It goes on to the next one where no rule takes
//! it, so that an Ingress' rules without a host hold for all hosts; but a Gateway's listener is the last one that is asked, because requests
//! to its hosts are answered by its routes or by nobody. If there is no rule, the default backends of the Ingresses on that way
//! are left, in the same order.
//!
//! On a port with TLS a host *belongs* to a Gateway's listener or to the certificate of an Ingress. A request for a host that belongs
//! elsewhere than the server name of its connection is misdirected (RFC 9110, section 15.5.20).

use super::conditions::Conditions;
use super::hosts::{HostMap, HostPattern, has_one_label_more};
use super::paths::{Candidate, PathMatch, PathTable};
use super::table::{CertificateId, Found, PortRoutes, Request, Routes, Rule};

/// Rules of one host pattern of a port.
#[derive(Debug, Default)]
pub(super) struct Listener {
    /// Whether a Gateway has a listener of this pattern.
    pub(super) is_of_gateway: bool,
    /// The rules, by the pattern of their own host.
    pub(super) hosts: HostMap<PathTable>,
    /// The default backend of an Ingress.
    pub(super) default: Option<u32>,
}

/// To whom a host pattern belongs on a port with TLS.
#[derive(Debug, Default)]
pub(super) struct TlsName {
    /// The listener of a Gateway, by number, and its certificate.
    pub(super) gateway: Option<(u32, CertificateId)>,
    /// The certificate of an Ingress, for hosts with one label before the name if the pattern is a wildcard.
    pub(super) ingress: Option<IngressTls>,
}

/// A certificate that an Ingress names for a host.
#[derive(Debug)]
pub(super) struct IngressTls {
    /// The certificate.
    pub(super) certificate: CertificateId,
    /// The name after `*.`.
    pub(super) one_label_under: Option<Box<str>>,
}

/// To whom a host belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// The listener of a Gateway.
    Listener(u32),
    /// The Ingresses whose certificate this is.
    Certificate(CertificateId),
}

impl PortRoutes {
    /// The rule that takes `request`, and the length of the prefix that matched.
    pub(super) fn find(&self, request: &Request<'_>) -> Option<(u32, usize)> {
        for listener in self.asked(request.host) {
            let mut tables = listener.hosts.matching(request.host);
            let found = tables.find_map(|paths| paths.find(request));
            if found.is_some() {
                return found;
            }
        }
        let default = self.asked(request.host).find_map(|listener| listener.default);
        default.map(|rule| (rule, 0))
    }

    /// The listeners that a request for `host` is shown to, in order.
    pub(super) fn asked<'a>(&'a self, host: &'a str) -> impl Iterator<Item = &'a Listener> {
        let mut is_over = false;
        self.listeners
            .matching(host)
            .take_while(move |listener| !std::mem::replace(&mut is_over, listener.is_of_gateway))
    }

    /// To whom `host` belongs, and its certificate.
    fn tls(&self, host: &str) -> (Option<Owner>, Option<CertificateId>) {
        for name in self.tls_names.matching(host) {
            if let Some((listener, certificate)) = name.gateway {
                return (Some(Owner::Listener(listener)), Some(certificate));
            }
            let ingress = name.ingress.as_ref();
            let is_meant =
                |tls: &&IngressTls| tls.one_label_under.as_ref().is_none_or(|parent| has_one_label_more(host, parent));
            if let Some(tls) = ingress.filter(is_meant) {
                return (Some(Owner::Certificate(tls.certificate)), Some(tls.certificate));
            }
        }
        (self.default_certificate.map(Owner::Certificate), self.default_certificate)
    }
}

impl Routes {
    /// Routes of one port without TLS, whose rules take the paths under a prefix each, for every host: for tests and measurements of
    /// what is behind the lookup.
    pub fn of_prefixes(port: u16, rules: Vec<(&str, Rule)>) -> Routes {
        let mut paths = PathTable::default();
        for (number, (prefix, _)) in (0..).zip(&rules) {
            let conditions = Conditions::default();
            paths.entry(&PathMatch::prefix(prefix)).push(Candidate { conditions, rule: number });
        }
        let mut listener = Listener::default();
        *listener.hosts.entry(&HostPattern::Any) = paths;
        let mut port = PortRoutes { port, ..PortRoutes::default() };
        *port.listeners.entry(&HostPattern::Any) = listener;
        let rules = rules.into_iter().map(|(_, rule)| rule).collect();
        Routes { ports: vec![port], certificates: Vec::new(), rules }
    }

    /// What `request` is to.
    pub fn find<'a>(&'a self, request: &Request<'_>) -> Found<'a> {
        let Some(port) = self.port(request.port) else { return Found::Nothing };
        let request = &Request { host: without_final_dot(request.host), ..*request };
        let found = port.find(request);
        let belongs = |host: &str| port.tls(host).0;
        if let Some(sni) = request.sni.filter(|sni| port.tls && *sni != request.host) {
            let (opened, asked) = (belongs(without_final_dot(sni)), belongs(request.host));
            if opened != asked && (asked.is_some() || found.is_some()) {
                return Found::Misdirected;
            }
        }
        match found {
            Some((rule, matched_prefix_bytes)) => {
                Found::Rule { rule: &self.rules[rule as usize], matched_prefix_bytes }
            }
            None => Found::Nothing,
        }
    }

    /// The certificate for a TLS connection to `port` that asks for `sni` (in lower case).
    pub fn certificate(&self, port: u16, sni: Option<&str>) -> Option<CertificateId> {
        self.port(port)?.tls(without_final_dot(sni.unwrap_or_default())).1
    }

    /// All rules. Redirects that an object does not write, such as to HTTPS, are among them.
    pub fn rules(&self) -> &[Rule] {
        &self.rules
    }

    /// What is served on `port`.
    pub fn port(&self, port: u16) -> Option<&PortRoutes> {
        let found = self.ports.binary_search_by_key(&port, |routes| routes.port);
        found.ok().map(|at| &self.ports[at])
    }
}

/// A host name may be written with the dot of the root.
fn without_final_dot(host: &str) -> &str {
    host.strip_suffix('.').unwrap_or(host)
}
