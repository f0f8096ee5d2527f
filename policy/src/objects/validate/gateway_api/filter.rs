//! Filters of an HTTPRoute.

use super::super::{at, name, one_of, port_number};
use super::http_route::METHODS;
use super::{Findings, NAME_MAX, length, validate_backend, validate_count, validate_local, validate_unique};
use crate::objects::gateway_api::filter::{
    Cors, Filter, FilterType, Header, HeaderModifier, PathModifier, PathModifierType, RequestMirror, RequestRedirect,
};

const FILTERS_MAX: usize = 16;
/// Header fields of each kind of change.
const HEADERS_MAX: usize = 16;
const HEADER_NAME_MAX: usize = 256;
const HEADER_VALUE_MAX: usize = 4096;
const PATH_MAX: usize = 1024;
/// Origins, and header fields of each kind, of a CORS filter.
const CORS_MAX: usize = 64;
const STATUS_CODES: [i32; 5] = [301, 302, 303, 307, 308];

/// Filters that may be given once.
const SINGLE: [FilterType; 5] = [
    FilterType::CORS,
    FilterType::RequestHeaderModifier,
    FilterType::ResponseHeaderModifier,
    FilterType::RequestRedirect,
    FilterType::URLRewrite,
];

/// Whether the rule of a filter has one prefix to replace.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Prefix {
    /// Exactly one match, of type PathPrefix.
    Single,
    /// None, or several matches.
    None,
}

pub(super) fn validate_filters(field: &str, filters: &[Filter], prefix: Prefix, out: &mut Findings) {
    validate_count(field, filters.len(), 0, FILTERS_MAX, out);
    for (index, filter) in filters.iter().enumerate() {
        let before = &filters[..index];
        let has = |kind: FilterType| before.iter().any(|other| other.type_ == kind);
        let excluded = match filter.type_ {
            FilterType::RequestRedirect => Some(FilterType::URLRewrite),
            FilterType::URLRewrite => Some(FilterType::RequestRedirect),
            _ => None,
        };
        let place = at(field, index);
        if SINGLE.contains(&filter.type_) && has(filter.type_) {
            out.add(format!("{place}.type"), format!("{} is allowed once", filter.type_));
        }
        if let Some(excluded) = excluded.filter(|excluded| has(*excluded)) {
            out.add(format!("{place}.type"), format!("{} is not allowed with {excluded}", filter.type_));
        }
        validate_filter(&place, filter, prefix, out);
    }
}

fn validate_filter(field: &str, filter: &Filter, prefix: Prefix, out: &mut Findings) {
    let parts = [
        (FilterType::RequestHeaderModifier, "requestHeaderModifier", filter.request_header_modifier.is_some()),
        (FilterType::ResponseHeaderModifier, "responseHeaderModifier", filter.response_header_modifier.is_some()),
        (FilterType::RequestMirror, "requestMirror", filter.request_mirror.is_some()),
        (FilterType::RequestRedirect, "requestRedirect", filter.request_redirect.is_some()),
        (FilterType::URLRewrite, "urlRewrite", filter.url_rewrite.is_some()),
        (FilterType::CORS, "cors", filter.cors.is_some()),
        (FilterType::ExtensionRef, "extensionRef", filter.extension_ref.is_some()),
    ];
    for (kind, part, is_set) in parts {
        if kind == filter.type_ && !is_set {
            out.add(format!("{field}.{part}"), format!("required for type {kind}"));
        } else if kind != filter.type_ && is_set {
            out.add(format!("{field}.{part}"), format!("not allowed for type {}", filter.type_));
        }
    }
    if let Some(modifier) = &filter.request_header_modifier {
        validate_headers(&format!("{field}.requestHeaderModifier"), modifier, out);
    }
    if let Some(modifier) = &filter.response_header_modifier {
        validate_headers(&format!("{field}.responseHeaderModifier"), modifier, out);
    }
    if let Some(mirror) = &filter.request_mirror {
        validate_mirror(&format!("{field}.requestMirror"), mirror, out);
    }
    if let Some(redirect) = &filter.request_redirect {
        validate_redirect(&format!("{field}.requestRedirect"), redirect, prefix, out);
    }
    if let Some(rewrite) = &filter.url_rewrite {
        let field = format!("{field}.urlRewrite");
        validate_host(&field, rewrite.hostname.as_deref(), out);
        validate_modifier(&field, rewrite.path.as_ref(), prefix, out);
    }
    if let Some(cors) = &filter.cors {
        validate_cors(&format!("{field}.cors"), cors, out);
    }
    if let Some(extension) = &filter.extension_ref {
        validate_local(&format!("{field}.extensionRef"), extension, out);
    }
}

/// Name of a header field: a token of HTTP (RFC 9110, section 5.6.2).
pub(super) fn header_name(text: &str) -> Result<(), String> {
    length(text, HEADER_NAME_MAX)?;
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)) {
        return Ok(());
    }
    Err(format!("\"{text}\" is not a name: letters, digits and !#$%&'*+-.^_`|~"))
}

fn header_value(text: &str) -> Result<(), String> {
    length(text, HEADER_VALUE_MAX)?;
    if text.chars().any(|character| character.is_control() && character != '\t') {
        return Err("control characters are not allowed".into());
    }
    Ok(())
}

fn validate_headers(field: &str, modifier: &HeaderModifier, out: &mut Findings) {
    for (part, headers) in [("set", &modifier.set), ("add", &modifier.add)] {
        let headers: &[Header] = headers.as_deref().unwrap_or_default();
        let field = format!("{field}.{part}");
        validate_count(&field, headers.len(), 0, HEADERS_MAX, out);
        validate_unique(&field, ".name", headers.iter().map(|header| &*header.name), out);
        for (index, header) in headers.iter().enumerate() {
            let field = at(&field, index);
            out.check(format!("{field}.name"), header_name(&header.name));
            out.check(format!("{field}.value"), header_value(&header.value));
        }
    }
    // A name that no header field can have takes nothing away.
    let removed = modifier.remove.as_deref().unwrap_or_default();
    let field = format!("{field}.remove");
    validate_count(&field, removed.len(), 0, HEADERS_MAX, out);
    validate_unique(&field, "", removed.iter().map(String::as_str), out);
}

fn validate_mirror(field: &str, mirror: &RequestMirror, out: &mut Findings) {
    validate_backend(&format!("{field}.backendRef"), &mirror.backend_ref, out);
    if let Some(percent) = mirror.percent.filter(|percent| !(0..=100).contains(percent)) {
        out.add(format!("{field}.percent"), format!("{percent} is not between 0 and 100"));
    }
    let Some(fraction) = &mirror.fraction else { return };
    if mirror.percent.is_some() {
        out.add(field, "only one of percent, fraction is allowed");
    }
    if fraction.denominator() < 1 {
        out.add(format!("{field}.fraction.denominator"), format!("{} is not 1 or more", fraction.denominator()));
    } else if !(0..=fraction.denominator()).contains(&fraction.numerator) {
        let message = format!("{} is not between 0 and {}", fraction.numerator, fraction.denominator());
        out.add(format!("{field}.fraction.numerator"), message);
    }
}

fn validate_redirect(field: &str, redirect: &RequestRedirect, prefix: Prefix, out: &mut Findings) {
    out.check(format!("{field}.scheme"), one_of(redirect.scheme.as_deref(), &["http", "https"]));
    validate_host(field, redirect.hostname.as_deref(), out);
    validate_modifier(field, redirect.path.as_ref(), prefix, out);
    if let Some(port) = redirect.port {
        out.check(format!("{field}.port"), port_number(port));
    }
    if !STATUS_CODES.contains(&redirect.status_code()) {
        let codes = STATUS_CODES.map(|code| code.to_string()).join(", ");
        let message = format!("{} is not supported, use {codes}", redirect.status_code());
        out.add(format!("{field}.statusCode"), message);
    }
}

/// A host without `*`.
fn validate_host(field: &str, host: Option<&str>, out: &mut Findings) {
    if let Some(host) = host {
        let checked = length(host, NAME_MAX).and_then(|()| name::subdomain(host));
        out.check(format!("{field}.hostname"), checked);
    }
}

fn validate_modifier(field: &str, path: Option<&PathModifier>, prefix: Prefix, out: &mut Findings) {
    let Some(path) = path else { return };
    let field = format!("{field}.path");
    let parts = [
        (PathModifierType::ReplaceFullPath, "replaceFullPath", &path.replace_full_path),
        (PathModifierType::ReplacePrefixMatch, "replacePrefixMatch", &path.replace_prefix_match),
    ];
    for (kind, part, text) in parts {
        let field = format!("{field}.{part}");
        match text {
            None if kind == path.type_ => out.add(field, format!("required for type {kind}")),
            None => {}
            Some(_) if kind != path.type_ => out.add(field, format!("not allowed for type {}", path.type_)),
            Some(text) => drop(out.check(field, new_path(text))),
        }
    }
    if path.type_ == PathModifierType::ReplacePrefixMatch && prefix == Prefix::None {
        out.add(format!("{field}.type"), "ReplacePrefixMatch needs a rule with exactly one match, of type PathPrefix");
    }
}

/// What a path may be replaced by; may be empty.
fn new_path(text: &str) -> Result<(), String> {
    if text.chars().count() > PATH_MAX {
        return Err(format!("longer than {PATH_MAX} characters"));
    }
    if text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'?' && byte != b'#') {
        return Ok(());
    }
    Err(format!("\"{text}\" has characters that a path does not have: write them as %XX"))
}

fn validate_cors(field: &str, cors: &Cors, out: &mut Findings) {
    let methods = |text: &str| if text == "*" { Ok(()) } else { one_of(Some(text), &METHODS) };
    validate_set(&format!("{field}.allowOrigins"), cors.allow_origins.as_deref(), CORS_MAX, origin, out);
    validate_set(&format!("{field}.allowMethods"), cors.allow_methods.as_deref(), METHODS.len(), methods, out);
    validate_set(&format!("{field}.allowHeaders"), cors.allow_headers.as_deref(), CORS_MAX, header_name, out);
    let field_exposed = format!("{field}.exposeHeaders");
    let exposed = cors.expose_headers.as_deref().unwrap_or_default();
    validate_count(&field_exposed, exposed.len(), 0, CORS_MAX, out);
    validate_unique(&field_exposed, "", exposed.iter().map(String::as_str), out);
    for (index, text) in exposed.iter().enumerate() {
        out.check(at(&field_exposed, index), header_name(text));
    }
    if cors.max_age() < 1 {
        out.add(format!("{field}.maxAge"), format!("{} is not 1 or more", cors.max_age()));
    }
}

/// Texts, none of them twice; `*` for all of them stands alone.
fn validate_set(
    field: &str,
    texts: Option<&[String]>,
    max: usize,
    check: impl Fn(&str) -> Result<(), String>,
    out: &mut Findings,
) {
    let texts = texts.unwrap_or_default();
    validate_count(field, texts.len(), 0, max, out);
    validate_unique(field, "", texts.iter().map(String::as_str), out);
    for (index, text) in texts.iter().enumerate() {
        out.check(at(field, index), check(text));
    }
    if texts.len() > 1 && texts.iter().any(|text| text == "*") {
        out.add(field, "\"*\" stands alone");
    }
}

/// `*`, or scheme, host and port of an origin; the host may be `*` or begin with `*.`.
fn origin(text: &str) -> Result<(), String> {
    length(text, NAME_MAX)?;
    let is_host = |host: &str| {
        let is_label =
            |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        host == "*" || host.strip_prefix("*.").unwrap_or(host).split('.').all(is_label)
    };
    let is_port = |port: &str| (1..=5).contains(&port.len()) && port.bytes().all(|byte| byte.is_ascii_digit());
    let rest = text.strip_prefix("http://").or_else(|| text.strip_prefix("https://"));
    let is_origin = rest.is_some_and(|rest| match rest.split_once(':') {
        Some((host, port)) => is_host(host) && is_port(port),
        None => is_host(rest),
    });
    if text == "*" || is_origin {
        return Ok(());
    }
    Err(format!("\"{text}\" is not an origin such as https://example.com or https://*.example.com:8443"))
}
