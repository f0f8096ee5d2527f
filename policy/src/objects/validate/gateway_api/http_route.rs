//! HTTPRoute.

use super::super::{at, name, one_of, port_number};
use super::filter::{Prefix, header_name, validate_filters};
use super::{Findings, NAME_MAX, length, section, validate_backend, validate_count, validate_parts, validate_unique};
use crate::objects::gateway_api::http_route::{
    CookieLifetime, HTTPRoute, Match, PathMatch, PathMatchType, Retry, Rule, SessionPersistence, SessionType, Timeouts,
};
use crate::objects::gateway_api::{ParentReference, duration};
use std::collections::BTreeSet;
use std::time::Duration;

const PARENTS_MAX: usize = 32;
const HOSTS_MAX: usize = 16;
const RULES_MAX: usize = 16;
/// Of a rule.
const MATCHES_MAX: usize = 64;
/// Of all rules together.
const ALL_MATCHES_MAX: usize = 128;
const BACKENDS_MAX: usize = 16;
/// Header fields, and query parameters, of a match.
const VALUES_MAX: usize = 16;
const PATH_MAX: usize = 1024;
const HEADER_VALUE_MAX: usize = 4096;
const PARAM_VALUE_MAX: usize = 1024;
const WEIGHT_MAX: i32 = 1_000_000;
const SESSION_NAME_MAX: usize = 128;
pub(super) const METHODS: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];

/// What must not be in a path: proxies and backends would not agree on what it is.
const PATH_PARTS: [&str; 6] = ["//", "/./", "/../", "%2f", "%2F", "#"];
/// What a path must not end in, for the same reason.
const PATH_ENDS: [&str; 2] = ["/..", "/."];

pub(crate) fn validate_route(route: &HTTPRoute, out: &mut Findings) {
    let spec = &route.spec;
    validate_parents(spec.parent_refs.as_deref().unwrap_or_default(), out);
    let hosts = spec.hostnames.as_deref().unwrap_or_default();
    validate_count("spec.hostnames", hosts.len(), 0, HOSTS_MAX, out);
    for (index, host) in hosts.iter().enumerate() {
        let checked = length(host, NAME_MAX).and_then(|()| name::host_pattern(host));
        out.check(at("spec.hostnames", index), checked);
    }
    let Some(rules) = &spec.rules else { return };
    validate_count("spec.rules", rules.len(), 1, RULES_MAX, out);
    let matches: usize = rules.iter().map(|rule| rule.matches().len()).sum();
    if matches > ALL_MATCHES_MAX {
        out.add("spec.rules", format!("{matches} matches together, at most {ALL_MATCHES_MAX} are allowed"));
    }
    let mut names = BTreeSet::new();
    for (index, rule) in rules.iter().enumerate() {
        let field = at("spec.rules", index);
        if let Some(name) = &rule.name {
            out.check(format!("{field}.name"), section(name));
            if !names.insert(name) {
                out.add(format!("{field}.name"), format!("duplicate \"{name}\""));
            }
        }
        validate_rule(&field, rule, out);
    }
}

fn validate_parents(parents: &[ParentReference], out: &mut Findings) {
    validate_count("spec.parentRefs", parents.len(), 0, PARENTS_MAX, out);
    for (index, parent) in parents.iter().enumerate() {
        let field = at("spec.parentRefs", index);
        let ParentReference { group, kind, namespace, name, section_name, port } = parent;
        validate_parts(&field, group.as_deref(), kind.as_deref(), name, namespace.as_deref(), out);
        if let Some(name) = section_name {
            out.check(format!("{field}.sectionName"), section(name));
        }
        if let Some(port) = port {
            out.check(format!("{field}.port"), port_number(*port));
        }
        let same = parents[..index].iter().find(|other| {
            let namespace = |parent: &ParentReference| parent.namespace.clone().unwrap_or_default();
            (other.group(), other.kind(), &other.name, namespace(other))
                == (parent.group(), parent.kind(), name, namespace(parent))
                && (other.section_name.is_none() || section_name.is_none() || other.section_name == *section_name)
        });
        match same {
            None => {}
            Some(other) if other.section_name == *section_name => {
                out.add(field, "duplicate: another entry refers to the same parent and section");
            }
            Some(_) => {
                out.add(format!("{field}.sectionName"), "required in every entry when several refer to one parent");
            }
        }
    }
}

fn validate_rule(field: &str, rule: &Rule, out: &mut Findings) {
    let matches = rule.matches.as_deref().unwrap_or_default();
    validate_count(&format!("{field}.matches"), matches.len(), 0, MATCHES_MAX, out);
    for (index, entry) in matches.iter().enumerate() {
        validate_match(&at(format_args!("{field}.matches"), index), entry, out);
    }
    let prefix = match rule.matches.as_deref() {
        None => Prefix::Single,
        Some([single]) if single.path().0 == PathMatchType::PathPrefix => Prefix::Single,
        Some(_) => Prefix::None,
    };
    let filters = rule.filters.as_deref().unwrap_or_default();
    validate_filters(&format!("{field}.filters"), filters, prefix, out);
    let backends = rule.backend_refs.as_deref().unwrap_or_default();
    validate_count(&format!("{field}.backendRefs"), backends.len(), 0, BACKENDS_MAX, out);
    if !backends.is_empty() && filters.iter().any(|filter| filter.request_redirect.is_some()) {
        out.add(format!("{field}.backendRefs"), "not allowed with a filter RequestRedirect");
    }
    for (index, backend) in backends.iter().enumerate() {
        let field = at(format_args!("{field}.backendRefs"), index);
        validate_backend(&field, &backend.target(), out);
        if !(0..=WEIGHT_MAX).contains(&backend.weight()) {
            out.add(format!("{field}.weight"), format!("{} is not between 0 and {WEIGHT_MAX}", backend.weight()));
        }
        validate_filters(&format!("{field}.filters"), backend.filters.as_deref().unwrap_or_default(), prefix, out);
    }
    if let Some(timeouts) = &rule.timeouts {
        validate_timeouts(&format!("{field}.timeouts"), timeouts, out);
    }
    if let Some(retry) = &rule.retry {
        validate_retry(&format!("{field}.retry"), retry, out);
    }
    if let Some(session) = &rule.session_persistence {
        validate_session(&format!("{field}.sessionPersistence"), session, out);
    }
}

fn validate_match(field: &str, entry: &Match, out: &mut Findings) {
    if let Some(path) = &entry.path {
        validate_path(&format!("{field}.path.value"), path, out);
    }
    out.check(format!("{field}.method"), one_of(entry.method.as_deref(), &METHODS));
    let headers = entry.headers.as_deref().unwrap_or_default();
    let headers = headers.iter().map(|header| (&*header.name, &*header.value)).collect::<Vec<_>>();
    validate_values(&format!("{field}.headers"), &headers, HEADER_VALUE_MAX, out);
    let params = entry.query_params.as_deref().unwrap_or_default();
    let params = params.iter().map(|param| (&*param.name, &*param.value)).collect::<Vec<_>>();
    validate_values(&format!("{field}.queryParams"), &params, PARAM_VALUE_MAX, out);
}

/// Names and values of header fields or query parameters, each name once.
fn validate_values(field: &str, values: &[(&str, &str)], value_max: usize, out: &mut Findings) {
    validate_count(field, values.len(), 0, VALUES_MAX, out);
    validate_unique(field, ".name", values.iter().map(|(name, _)| *name), out);
    for (index, (name, value)) in values.iter().enumerate() {
        let field = at(field, index);
        out.check(format!("{field}.name"), header_name(name));
        out.check(format!("{field}.value"), length(value, value_max));
    }
}

fn validate_path(field: &str, path: &PathMatch, out: &mut Findings) {
    let text = path.value();
    if text.chars().count() > PATH_MAX {
        out.add(field, format!("longer than {PATH_MAX} characters"));
    }
    if path.kind() == PathMatchType::RegularExpression {
        return;
    }
    if !text.starts_with('/') {
        out.add(field, format!("\"{text}\" does not begin with '/'"));
    }
    for part in PATH_PARTS.into_iter().filter(|part| text.contains(part)) {
        out.add(field, format!("\"{part}\" is not allowed in a path"));
    }
    for end in PATH_ENDS.into_iter().filter(|end| text.ends_with(end)) {
        out.add(field, format!("a path must not end in \"{end}\""));
    }
    if !text.contains('#') && !is_path(text) {
        out.add(field, format!("\"{text}\" has characters that a path does not have: write them as %XX"));
    }
}

/// Characters of a path, and `%XX`.
fn is_path(text: &str) -> bool {
    let bytes = text.as_bytes();
    let is_digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_hexdigit);
    bytes.iter().enumerate().all(|(at, byte)| match byte {
        b'%' => is_digit(at + 1) && is_digit(at + 2),
        _ => byte.is_ascii_alphanumeric() || b"-/._~!$&'()*+,;=:@".contains(byte),
    })
}

fn validate_timeouts(field: &str, timeouts: &Timeouts, out: &mut Findings) {
    let request = validate_duration(&format!("{field}.request"), timeouts.request.as_deref(), out);
    let field = format!("{field}.backendRequest");
    let backend = validate_duration(&field, timeouts.backend_request.as_deref(), out);
    if let (Some(request), Some(backend)) = (request, backend)
        && !request.is_zero()
        && backend > request
    {
        out.add(field, "longer than request");
    }
}

fn validate_duration(field: &str, text: Option<&str>, out: &mut Findings) -> Option<Duration> {
    out.check(field, duration(text?))
}

fn validate_retry(field: &str, retry: &Retry, out: &mut Findings) {
    for (index, code) in retry.codes.iter().flatten().enumerate() {
        if !(400..=599).contains(code) {
            out.add(at(format_args!("{field}.codes"), index), format!("{code} is not between 400 and 599"));
        }
    }
    validate_duration(&format!("{field}.backoff"), retry.backoff.as_deref(), out);
}

fn validate_session(field: &str, session: &SessionPersistence, out: &mut Findings) {
    if session.session_name.as_deref().is_some_and(|name| name.chars().count() > SESSION_NAME_MAX) {
        out.add(format!("{field}.sessionName"), format!("longer than {SESSION_NAME_MAX} characters"));
    }
    validate_duration(&format!("{field}.absoluteTimeout"), session.absolute_timeout.as_deref(), out);
    validate_duration(&format!("{field}.idleTimeout"), session.idle_timeout.as_deref(), out);
    let Some(cookie) = &session.cookie_config else { return };
    if session.type_ == Some(SessionType::Header) {
        out.add(format!("{field}.cookieConfig"), "only for type Cookie");
    }
    if cookie.lifetime_type == Some(CookieLifetime::Permanent) && session.absolute_timeout.is_none() {
        out.add(format!("{field}.absoluteTimeout"), "required for a cookie with lifetimeType Permanent");
    }
}
