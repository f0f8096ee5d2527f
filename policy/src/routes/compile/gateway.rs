//! GatewayClasses and Gateways: on which ports and for which hosts HTTPRoutes are served.
//!
//! All Gateways of our classes share the proxy's address, so their listeners are one set: those of the same port, protocol and hostname
//! are one, with the routes of both, unless they want different certificates. Within a Gateway listeners that are not distinct are
//! all refused, as the API wants it; between Gateways the older one keeps what it has. The proxy's own ports speak what they speak:
//! a listener that wants something else there is refused.

use super::Work;
use super::grants::is_permitted;
use super::report::Subject;
use super::status::Fault;
use crate::cluster::Key;
use crate::objects::gateway_api::gateway::{FromNamespaces, Listener, TlsMode};
use crate::objects::gateway_api::{GATEWAY_GROUP, Gateway, RouteGroupKind};
use crate::routes::hosts::HostPattern;
use crate::routes::table::CertificateId;
use crate::selector::Selector;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The only kind of routes that there is here.
pub(super) const ROUTE_KIND: &str = "HTTPRoute";

/// Label that every namespace has, whether an object says so or not.
const NAMESPACE_NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// A Gateway of a class of ours.
pub(super) struct OurGateway<'a> {
    /// The object.
    pub(super) gateway: &'a Gateway,
    /// Its name and age.
    pub(super) subject: Arc<Subject>,
    /// Why it is not accepted, whatever its listeners are like.
    pub(super) refused: Option<Fault>,
    /// Its listeners, as it lists them.
    pub(super) listeners: Vec<OurListener<'a>>,
}

/// A listener of a Gateway of ours.
pub(super) struct OurListener<'a> {
    listener: &'a Listener,
    /// Its port; 0 for a number that is none.
    pub(super) port: u16,
    /// Whether it speaks TLS.
    tls: bool,
    /// Its hosts.
    pub(super) hosts: HostPattern,
    /// Kinds of routes that may attach and that there are here.
    pub(super) kinds: Vec<RouteGroupKind>,
    /// Why it is not accepted.
    pub(super) refused: Option<Fault>,
    /// With what it conflicts; then it is not accepted either.
    pub(super) conflict: Option<Fault>,
    /// Which of its references lead nowhere.
    pub(super) unresolved: Option<Fault>,
    /// Other listeners whose hosts overlap and that speak TLS too.
    pub(super) overlaps: Option<Fault>,
    certificate: Option<CertificateId>,
    /// Routes that are attached.
    pub(super) attached_routes: u32,
}

impl OurListener<'_> {
    /// Its name.
    pub(super) fn name(&self) -> &str {
        &self.listener.name
    }

    /// Whether routes can be attached.
    pub(super) fn is_accepted(&self) -> bool {
        self.refused.is_none() && self.conflict.is_none()
    }

    /// Whether requests come in.
    pub(super) fn is_served(&self) -> bool {
        self.is_accepted() && !self.kinds.is_empty() && (!self.tls || self.certificate.is_some())
    }

    /// Whether an HTTPRoute of `namespace` may attach to it.
    pub(super) fn allows(&self, namespace: &str, own_namespace: &str, work: &Work<'_>) -> bool {
        let is_allowed = match self.listener.from() {
            FromNamespaces::All => true,
            FromNamespaces::Same => namespace == own_namespace,
            FromNamespaces::None => false,
            FromNamespaces::Selector => {
                let routes = self.listener.allowed_routes.as_ref().and_then(|routes| routes.namespaces.as_ref());
                // A selector that is not given selects nothing: it may have been forgotten.
                let selector = routes.and_then(|namespaces| namespaces.selector.as_ref());
                let object = work.cluster.namespaces.get(&("".into(), namespace.into()));
                let labels = object.and_then(|object| object.object.metadata.labels.as_ref());
                selector.is_some_and(|selector| {
                    Selector::compile(selector).matches_with(|key| match key {
                        NAMESPACE_NAME_LABEL => Some(namespace),
                        key => labels.and_then(|labels| labels.get(key)).map(String::as_str),
                    })
                })
            }
        };
        is_allowed && !self.kinds.is_empty()
    }
}

/// Our Gateways, with their listeners in the assembly.
pub(super) fn compile<'a>(work: &mut Work<'a>) -> BTreeMap<Key, OurGateway<'a>> {
    let cluster = work.cluster;
    let mut ours = Vec::new();
    for (key, sourced) in &cluster.gateways {
        let gateway = &*sourced.object;
        let class = cluster.gateway_classes.get(&("".into(), gateway.spec.gateway_class_name.as_str().into()));
        let subject = Subject::new("Gateway", key, sourced, &gateway.metadata);
        let Some(class) = class else {
            let message = format!("GatewayClass {} does not exist: nothing is served", gateway.spec.gateway_class_name);
            work.report.warn(&subject, "spec.gatewayClassName", message);
            continue;
        };
        if class.object.spec.controller_name == work.options.gateway_controller {
            let is_class_accepted = class.object.spec.parameters_ref.is_none();
            ours.push(read(gateway, subject, is_class_accepted, work));
        }
    }
    ours.sort_by(|one, other| one.subject.cmp(&other.subject));
    settle(&mut ours, work);
    for gateway in &ours {
        for listener in gateway.listeners.iter().filter(|listener| listener.is_accepted()) {
            let certificate = listener.certificate.filter(|_| listener.tls);
            work.assembly.add_listener(listener.port, listener.tls, &listener.hosts, certificate);
        }
    }
    ours.into_iter().map(|gateway| (gateway.subject.key.clone(), gateway)).collect()
}

/// A Gateway by itself.
fn read<'a>(
    gateway: &'a Gateway,
    subject: Arc<Subject>,
    is_class_accepted: bool,
    work: &mut Work<'a>,
) -> OurGateway<'a> {
    let refused = refuse(gateway, &subject, is_class_accepted, work);
    warn_of_unused(gateway, &subject, work);
    let mut listeners: Vec<OurListener<'a>> = Vec::new();
    for (at, listener) in gateway.spec.listeners.iter().enumerate() {
        let mut read = read_listener(gateway, listener, &subject, &format!("spec.listeners[{at}]"), work);
        if let Some(fault) = &refused {
            read.refused.get_or_insert_with(|| {
                Fault::new("Pending", format!("the Gateway is not accepted: {}", fault.message))
            });
        }
        listeners.push(read);
    }
    OurGateway { gateway, subject, refused, listeners }
}

fn refuse(gateway: &Gateway, subject: &Subject, is_class_accepted: bool, work: &mut Work<'_>) -> Option<Fault> {
    let spec = &gateway.spec;
    let infrastructure = spec.infrastructure.as_ref();
    let address = spec.addresses.iter().flatten().find(|address| !matches!(address.kind(), "IPAddress" | "Hostname"));
    let (field, fault) = if !is_class_accepted {
        let message = format!("GatewayClass {} is not accepted", spec.gateway_class_name);
        ("spec.gatewayClassName", Fault::new("Pending", message))
    } else if infrastructure.is_some_and(|infrastructure| infrastructure.parameters_ref.is_some()) {
        let message = "podplane has no parameters for Gateways";
        ("spec.infrastructure.parametersRef", Fault::new("InvalidParameters", message))
    } else if let Some(address) = address {
        let message = format!("addresses of type {} are not supported", address.kind());
        ("spec.addresses", Fault::new("UnsupportedAddress", message))
    } else {
        return None;
    };
    work.report.close(subject, field, format!("{}: nothing is served", fault.message));
    Some(fault)
}

/// Parts of a Gateway that change nothing here.
fn warn_of_unused(gateway: &Gateway, subject: &Subject, work: &mut Work<'_>) {
    let spec = &gateway.spec;
    let backend = spec.tls.as_ref().and_then(|tls| tls.backend.as_ref());
    if backend.is_some_and(|backend| backend.client_certificate_ref.is_some()) {
        let message = "not supported: backends are shown no certificate";
        work.report.warn(subject, "spec.tls.backend.clientCertificateRef", message);
    }
    if spec.allowed_listeners.is_some() {
        work.report.warn(subject, "spec.allowedListeners", "not supported: there are no ListenerSets here");
    }
}

/// A listener by itself; `field` is where it is.
fn read_listener<'a>(
    gateway: &Gateway,
    listener: &'a Listener,
    subject: &Subject,
    field: &str,
    work: &mut Work<'_>,
) -> OurListener<'a> {
    let tls = listener.protocol == "HTTPS";
    let mut read = OurListener {
        listener,
        port: u16::try_from(listener.port).unwrap_or_default(),
        tls,
        hosts: HostPattern::new(listener.hostname.as_deref().unwrap_or_default()),
        kinds: Vec::new(),
        refused: None,
        conflict: None,
        unresolved: None,
        overlaps: None,
        certificate: None,
        attached_routes: 0,
    };
    if let Some((part, fault)) = refuse_listener(gateway, listener, read.port, work) {
        work.report.close(subject, format!("{field}{part}"), format!("{}: nothing is served", fault.message));
        read.refused = Some(fault);
    }
    if !tls && listener.protocol != "HTTP" {
        return read;
    }
    read.kinds = kinds(listener, subject, field, &mut read.unresolved, work);
    if tls {
        match certificate(listener, subject, work) {
            Ok(certificate) => read.certificate = Some(certificate),
            Err((part, fault)) => {
                let message = format!("{}: TLS connections to it fail", fault.message);
                work.report.warn(subject, format!("{field}.{part}"), message);
                read.unresolved.get_or_insert(fault);
            }
        }
        if listener.tls.as_ref().is_some_and(|tls| tls.options.as_ref().is_some_and(|options| !options.is_empty())) {
            work.report.warn(subject, format!("{field}.tls.options"), "podplane has no options for TLS");
        }
        let references = listener.tls.iter().flat_map(|tls| tls.certificate_refs.iter().flatten());
        if references.count() > 1 {
            let message = "only the first certificate is used";
            work.report.warn(subject, format!("{field}.tls.certificateRefs[1]"), message);
        }
    }
    read
}

/// What makes a listener something that is not served here, and at which field of it.
fn refuse_listener(
    gateway: &Gateway,
    listener: &Listener,
    port: u16,
    work: &Work<'_>,
) -> Option<(&'static str, Fault)> {
    let options = work.options;
    let tls = match &*listener.protocol {
        "HTTP" => false,
        "HTTPS" => true,
        other => {
            let message = format!("protocol {other} is not supported, use HTTP or HTTPS");
            return Some((".protocol", Fault::new("UnsupportedProtocol", message)));
        }
    };
    if port == 0 {
        let message = format!("{} is not between 1 and 65535", listener.port);
        return Some((".port", Fault::new("PortUnavailable", message)));
    }
    let own = [(options.http_port, false, "HTTP"), (options.https_port, true, "HTTPS")];
    if let Some((_, _, spoken)) = own.into_iter().find(|(own, own_tls, _)| *own == port && *own_tls != tls) {
        let message = format!("the proxy speaks {spoken} on port {port}");
        return Some((".port", Fault::new("PortUnavailable", message)));
    }
    if tls && listener.tls.as_ref().is_some_and(|tls| tls.mode() == TlsMode::Passthrough) {
        return Some((".tls.mode", Fault::new("UnsupportedValue", "TLS of protocol HTTPS ends at the proxy")));
    }
    if tls && validates_clients(gateway, listener.port) {
        // Without the check clients would get in that the Gateway wants to keep out.
        return Some((
            ".tls",
            Fault::new("UnsupportedValue", "certificates of clients (spec.tls.frontend) are not supported"),
        ));
    }
    None
}

/// Whether clients of a port have to show a certificate.
fn validates_clients(gateway: &Gateway, port: i32) -> bool {
    let Some(frontend) = gateway.spec.tls.as_ref().and_then(|tls| tls.frontend.as_ref()) else { return false };
    let of_port = frontend.per_port.iter().flatten().find(|entry| entry.port == port).map(|entry| &entry.tls);
    of_port.unwrap_or(&frontend.default).validation.is_some()
}

/// Kinds of routes that a listener takes and that there are here.
fn kinds(
    listener: &Listener,
    subject: &Subject,
    field: &str,
    unresolved: &mut Option<Fault>,
    work: &mut Work<'_>,
) -> Vec<RouteGroupKind> {
    let ours = || RouteGroupKind { group: Some(GATEWAY_GROUP.into()), kind: ROUTE_KIND.into() };
    let asked = listener.allowed_routes.as_ref().and_then(|routes| routes.kinds.as_deref()).unwrap_or_default();
    let is_ours = |kind: &RouteGroupKind| kind.group() == GATEWAY_GROUP && kind.kind == ROUTE_KIND;
    for (at, kind) in asked.iter().enumerate().filter(|(_, kind)| !is_ours(kind)) {
        let message = format!("routes of kind {} ({}) are not supported, use HTTPRoute", kind.kind, kind.group());
        work.report.warn(subject, format!("{field}.allowedRoutes.kinds[{at}]"), message.clone());
        unresolved.get_or_insert_with(|| Fault::new("InvalidRouteKinds", message));
    }
    if asked.is_empty() || asked.iter().any(is_ours) { vec![ours()] } else { Vec::new() }
}

/// The certificate of a listener; else the field that is wrong.
fn certificate(
    listener: &Listener,
    subject: &Subject,
    work: &mut Work<'_>,
) -> Result<CertificateId, (&'static str, Fault)> {
    let invalid = |message: String| Fault::new("InvalidCertificateRef", message);
    let references = listener.tls.as_ref().and_then(|tls| tls.certificate_refs.as_deref()).unwrap_or_default();
    let Some(reference) = references.first() else {
        return Err(("tls.certificateRefs", invalid("required for protocol HTTPS".into())));
    };
    let place = "tls.certificateRefs[0]";
    if (reference.group(), reference.kind()) != ("", "Secret") {
        let message = format!("a {} cannot be a certificate, only a Secret can", reference.kind());
        return Err((place, invalid(message)));
    }
    let namespace = reference.namespace.as_deref().map_or_else(|| subject.key.0.clone(), Arc::from);
    let secret = (namespace, reference.name.as_str().into());
    if !is_permitted(work.cluster, "Gateway", &subject.key.0, "Secret", &secret) {
        let message = format!(
            "no ReferenceGrant in {} lets Gateways of {} refer to Secret {}",
            secret.0, subject.key.0, secret.1
        );
        return Err((place, Fault::new("RefNotPermitted", message)));
    }
    work.certificates.find(&secret).map_err(|why| (place, invalid(why)))
}

/// Finds listeners that are not distinct.
fn settle(ours: &mut [OurGateway<'_>], work: &mut Work<'_>) {
    for gateway in ours.iter_mut() {
        settle_within(gateway, work);
    }
    // By port: whether TLS is spoken, and who said so. By port and hosts: the certificate, and who wants it.
    let mut ports: BTreeMap<u16, (bool, Arc<Subject>)> = BTreeMap::new();
    let mut certificates: BTreeMap<(u16, HostPattern), (Option<CertificateId>, Arc<Subject>)> = BTreeMap::new();
    for gateway in ours.iter_mut() {
        let subject = &gateway.subject;
        for (at, listener) in gateway.listeners.iter_mut().enumerate().filter(|(_, listener)| listener.is_accepted()) {
            let field = format!("spec.listeners[{at}]");
            let (tls, first) = ports.entry(listener.port).or_insert_with(|| (listener.tls, subject.clone()));
            if *tls != listener.tls {
                let spoken = if *tls { "HTTPS" } else { "HTTP" };
                let message = format!("port {} speaks {spoken} for {}", listener.port, first.reference());
                work.report.warn(subject, format!("{field}.protocol"), format!("{message}: nothing is served"));
                listener.conflict = Some(Fault::new("ProtocolConflict", message));
                continue;
            }
            let place = (listener.port, listener.hosts.clone());
            let (certificate, first) =
                certificates.entry(place).or_insert_with(|| (listener.certificate, subject.clone()));
            if *certificate != listener.certificate {
                let message = format!(
                    "{} of port {} has another certificate for {}",
                    listener.hosts,
                    listener.port,
                    first.reference()
                );
                work.report.warn(subject, format!("{field}.hostname"), format!("{message}: nothing is served"));
                listener.conflict = Some(Fault::new("HostnameConflict", message));
            }
        }
    }
}

/// Within a Gateway all listeners of a conflict are refused.
fn settle_within(gateway: &mut OurGateway<'_>, work: &mut Work<'_>) {
    let standing: Vec<(usize, u16, bool, HostPattern)> = gateway
        .listeners
        .iter()
        .enumerate()
        .filter(|(_, listener)| listener.refused.is_none())
        .map(|(at, listener)| (at, listener.port, listener.tls, listener.hosts.clone()))
        .collect();
    for (at, port, tls, hosts) in &standing {
        let others = || standing.iter().filter(|(other, other_port, ..)| other != at && other_port == port);
        let name = |at: &usize| gateway.gateway.spec.listeners[*at].name.as_str();
        let overlaps = |other: &HostPattern| other != hosts && other.intersection(hosts).is_some();
        let found = if let Some((other, ..)) = others().find(|(_, _, other_tls, _)| other_tls != tls) {
            let message = format!("listener {} has port {port} for another protocol", name(other));
            Some(("protocol", Fault::new("ProtocolConflict", message)))
        } else if let Some((other, ..)) = others().find(|(.., other_hosts)| other_hosts == hosts) {
            let message = format!("listener {} has {hosts} on port {port} too", name(other));
            Some(("hostname", Fault::new("HostnameConflict", message)))
        } else {
            None
        };
        let overlapping = others()
            .find(|(_, _, other_tls, other_hosts)| *tls && *other_tls && overlaps(other_hosts))
            .map(|(other, .., other_hosts)| {
                let message = format!("{hosts} overlaps {other_hosts} of listener {}", name(other));
                Fault::new("OverlappingHostnames", message)
            });
        if let Some((part, fault)) = &found {
            let field = format!("spec.listeners[{at}].{part}");
            work.report.warn(&gateway.subject, field, format!("{}: nothing is served", fault.message));
        }
        let listener = &mut gateway.listeners[*at];
        listener.conflict = found.map(|(_, fault)| fault);
        listener.overlaps = overlapping;
    }
}
