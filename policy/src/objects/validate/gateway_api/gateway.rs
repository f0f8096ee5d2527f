//! Gateway.

use super::super::selector::validate_selector;
use super::super::{at, name, one_of, port_number};
use super::{
    Findings, NAME_MAX, length, section, validate_count, validate_local, validate_object, validate_secret,
    validate_unique,
};
use crate::objects::gateway_api::GatewayAddress;
use crate::objects::gateway_api::gateway::{
    AllowedRoutes, FromNamespaces, Gateway, GatewayTls, Infrastructure, Listener, TlsMode, TlsSettings,
};
use std::collections::{BTreeMap, BTreeSet};

const LISTENERS_MAX: usize = 64;
const ADDRESSES_MAX: usize = 16;
const CERTIFICATES_MAX: usize = 64;
const KINDS_MAX: usize = 8;
const TLS_OPTIONS_MAX: usize = 16;
/// Certificates of those who sign clients' certificates: 8 in 1.5, 16 in 1.6.
const AUTHORITIES_MAX: usize = 16;
const LABELS_MAX: usize = 8;
/// 8 in 1.5, 16 in 1.6.
const ANNOTATIONS_MAX: usize = 16;
const PROTOCOL_MAX: usize = 255;
/// A value of an annotation or of an option.
const VALUE_MAX: usize = 4096;

pub(crate) fn validate_gateway(gateway: &Gateway, out: &mut Findings) {
    let spec = &gateway.spec;
    out.check("spec.gatewayClassName", length(&spec.gateway_class_name, NAME_MAX));
    validate_listeners(&spec.listeners, out);
    validate_addresses(spec.addresses.as_deref().unwrap_or_default(), out);
    if let Some(infrastructure) = &spec.infrastructure {
        validate_infrastructure(infrastructure, out);
    }
    let namespaces = spec.allowed_listeners.as_ref().and_then(|allowed| allowed.namespaces.as_ref());
    if let Some(selector) = namespaces.and_then(|namespaces| namespaces.selector.as_ref()) {
        validate_selector("spec.allowedListeners.namespaces.selector", selector, out);
    }
    if let Some(tls) = &spec.tls {
        validate_tls(tls, out);
    }
}

fn validate_listeners(listeners: &[Listener], out: &mut Findings) {
    validate_count("spec.listeners", listeners.len(), 1, LISTENERS_MAX, out);
    validate_unique("spec.listeners", ".name", listeners.iter().map(|listener| &*listener.name), out);
    let mut places = BTreeSet::new();
    for (index, listener) in listeners.iter().enumerate() {
        let field = at("spec.listeners", index);
        validate_listener(&field, listener, out);
        let Listener { port, protocol, hostname, .. } = listener;
        if !places.insert((port, protocol, hostname)) {
            let host = hostname.as_deref().map_or("no hostname".to_owned(), |host| format!("hostname \"{host}\""));
            out.add(field, format!("another listener has port {port}, protocol {protocol} and {host}"));
        }
    }
}

fn validate_listener(field: &str, listener: &Listener, out: &mut Findings) {
    out.check(format!("{field}.name"), section(&listener.name));
    out.check(format!("{field}.port"), port_number(listener.port));
    out.check(format!("{field}.protocol"), protocol(&listener.protocol));
    if let Some(host) = &listener.hostname {
        let checked = length(host, NAME_MAX).and_then(|()| name::host_pattern(host));
        out.check(format!("{field}.hostname"), checked);
        if matches!(listener.protocol.as_str(), "TCP" | "UDP") {
            out.add(format!("{field}.hostname"), format!("not allowed for protocol {}", listener.protocol));
        }
    }
    validate_listener_tls(field, listener, out);
    if let Some(routes) = &listener.allowed_routes {
        validate_routes(&format!("{field}.allowedRoutes"), routes, out);
    }
}

/// A word such as HTTP, or a domain and a word.
fn protocol(text: &str) -> Result<(), String> {
    length(text, PROTOCOL_MAX)?;
    let is_word = |word: &str| {
        let bytes = word.as_bytes();
        bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
    };
    let is_protocol = match text.split_once('/') {
        None => is_word(text),
        Some((domain, word)) => name::subdomain(domain).is_ok() && is_word(word) && !word.contains('-'),
    };
    if is_protocol {
        return Ok(());
    }
    Err(format!("\"{text}\" is not a protocol such as HTTP, HTTPS or example.com/protocol"))
}

fn validate_listener_tls(field: &str, listener: &Listener, out: &mut Findings) {
    let field = format!("{field}.tls");
    let Some(tls) = &listener.tls else {
        if listener.protocol == "TLS" {
            out.add(format!("{field}.mode"), "required for protocol TLS");
        }
        return;
    };
    match (listener.protocol.as_str(), tls.mode) {
        ("HTTP" | "TCP" | "UDP", _) => {
            out.add(field.clone(), format!("not allowed for protocol {}", listener.protocol))
        }
        ("HTTPS", Some(TlsMode::Passthrough)) => {
            out.add(format!("{field}.mode"), "Terminate is the only mode of protocol HTTPS");
        }
        // The mode has a default, which the API server fills in before it looks.
        _ => {}
    }
    let certificates = tls.certificate_refs.as_deref().unwrap_or_default();
    validate_count(&format!("{field}.certificateRefs"), certificates.len(), 0, CERTIFICATES_MAX, out);
    for (index, certificate) in certificates.iter().enumerate() {
        validate_secret(&at(format_args!("{field}.certificateRefs"), index), certificate, out);
    }
    validate_texts(&format!("{field}.options"), tls.options.as_ref(), TLS_OPTIONS_MAX, out);
    let has_options = tls.options.as_ref().is_some_and(|options| !options.is_empty());
    if tls.mode() == TlsMode::Terminate && certificates.is_empty() && !has_options {
        out.add(format!("{field}.certificateRefs"), "required for mode Terminate: certificateRefs or options");
    }
}

fn validate_routes(field: &str, routes: &AllowedRoutes, out: &mut Findings) {
    let kinds = routes.kinds.as_deref().unwrap_or_default();
    validate_count(&format!("{field}.kinds"), kinds.len(), 0, KINDS_MAX, out);
    for (index, entry) in kinds.iter().enumerate() {
        let field = at(format_args!("{field}.kinds"), index);
        out.check(format!("{field}.group"), super::group(entry.group()));
        out.check(format!("{field}.kind"), super::kind(&entry.kind));
    }
    let Some(namespaces) = &routes.namespaces else { return };
    if namespaces.from == Some(FromNamespaces::None) {
        let checked = one_of(Some("None"), &["All", "Selector", "Same"]);
        out.check(format!("{field}.namespaces.from"), checked);
    }
    if let Some(selector) = &namespaces.selector {
        validate_selector(&format!("{field}.namespaces.selector"), selector, out);
    }
}

fn validate_addresses(addresses: &[GatewayAddress], out: &mut Findings) {
    validate_count("spec.addresses", addresses.len(), 0, ADDRESSES_MAX, out);
    let mut seen = BTreeSet::new();
    for (index, address) in addresses.iter().enumerate() {
        let field = at("spec.addresses", index);
        let kind = address.kind();
        if !matches!(kind, "IPAddress" | "Hostname" | "NamedAddress") && name::domain_prefixed_path(kind).is_err() {
            let message =
                format!("\"{kind}\" is not supported, use IPAddress, Hostname, NamedAddress or example.com/type");
            out.add(format!("{field}.type"), message);
        }
        let Some(value) = &address.value else { continue };
        let field = format!("{field}.value");
        match kind {
            "IPAddress" => drop(out.check(field.clone(), super::super::address(value))),
            "Hostname" if !value.is_empty() => drop(out.check(field.clone(), name::host_pattern(value))),
            _ if value.chars().count() > NAME_MAX => {
                out.add(field.clone(), format!("longer than {NAME_MAX} characters"));
            }
            _ => {}
        }
        if matches!(kind, "IPAddress" | "Hostname") && !seen.insert((kind, value)) {
            out.add(field, format!("duplicate \"{value}\""));
        }
    }
}

fn validate_infrastructure(infrastructure: &Infrastructure, out: &mut Findings) {
    let field = "spec.infrastructure";
    let Infrastructure { labels, annotations, parameters_ref } = infrastructure;
    super::super::selector::validate_labels(&format!("{field}.labels"), labels.as_ref(), out);
    validate_count(&format!("{field}.labels"), labels.as_ref().map_or(0, BTreeMap::len), 0, LABELS_MAX, out);
    validate_texts(&format!("{field}.annotations"), annotations.as_ref(), ANNOTATIONS_MAX, out);
    for key in annotations.iter().flatten().map(|(key, _)| key) {
        out.check(format!("{field}.annotations"), name::annotation_key(key));
    }
    if let Some(parameters) = parameters_ref {
        validate_local(&format!("{field}.parametersRef"), parameters, out);
    }
}

fn validate_texts(field: &str, texts: Option<&BTreeMap<String, String>>, max: usize, out: &mut Findings) {
    validate_count(field, texts.map_or(0, BTreeMap::len), 0, max, out);
    for (key, value) in texts.into_iter().flatten() {
        if value.chars().count() > VALUE_MAX {
            out.add(format!("{field}[{key}]"), format!("longer than {VALUE_MAX} characters"));
        }
    }
}

fn validate_tls(tls: &GatewayTls, out: &mut Findings) {
    if let Some(certificate) = tls.backend.as_ref().and_then(|backend| backend.client_certificate_ref.as_ref()) {
        validate_secret("spec.tls.backend.clientCertificateRef", certificate, out);
    }
    let Some(frontend) = &tls.frontend else { return };
    validate_settings("spec.tls.frontend.default", &frontend.default, out);
    let ports = frontend.per_port.as_deref().unwrap_or_default();
    validate_count("spec.tls.frontend.perPort", ports.len(), 0, LISTENERS_MAX, out);
    let mut seen = BTreeSet::new();
    for (index, entry) in ports.iter().enumerate() {
        let field = at("spec.tls.frontend.perPort", index);
        out.check(format!("{field}.port"), port_number(entry.port));
        if !seen.insert(entry.port) {
            out.add(format!("{field}.port"), format!("duplicate {}", entry.port));
        }
        validate_settings(&format!("{field}.tls"), &entry.tls, out);
    }
}

fn validate_settings(field: &str, settings: &TlsSettings, out: &mut Findings) {
    let Some(validation) = &settings.validation else { return };
    let field = format!("{field}.validation.caCertificateRefs");
    validate_count(&field, validation.ca_certificate_refs.len(), 1, AUTHORITIES_MAX, out);
    for (index, reference) in validation.ca_certificate_refs.iter().enumerate() {
        validate_object(&at(&field, index), reference, out);
    }
}
