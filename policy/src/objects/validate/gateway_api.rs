//! The Gateway API, by the schemas and the CEL rules of its CustomResourceDefinitions (standard channel of 1.5; where a later
//! version allows more of something, that).
//!
//! Beyond them, what no one could carry out is refused: hosts that are addresses (the API's text forbids them), header fields
//! and paths with characters that HTTP has no place for, selectors that are none. A listener that lacks what it needs only by
//! its meaning, such as HTTPS without tls, is no mistake here: the Gateway's other listeners may be served.
//! Status is not looked at: it is what an implementation says, not what is asked for.

mod filter;
mod gateway;
mod http_route;

use super::{Findings, name, port_number};
use crate::objects::gateway_api::{
    BackendObjectReference, GatewayClass, LocalReference, ObjectReference, ReferenceGrant, SecretReference,
};
use std::collections::BTreeSet;

pub(super) use gateway::validate_gateway;
pub(super) use http_route::validate_route;

/// Names of objects and listeners, host names, groups.
const NAME_MAX: usize = 253;
/// Kinds and namespaces.
const LABEL_MAX: usize = 63;
const DESCRIPTION_MAX: usize = 64;
/// Entries of each list of a ReferenceGrant.
const GRANTS_MAX: usize = 16;

pub(super) fn validate_class(class: &GatewayClass, out: &mut Findings) {
    let spec = &class.spec;
    let controller = length(&spec.controller_name, NAME_MAX);
    out.check("spec.controllerName", controller.and_then(|()| name::domain_prefixed_path(&spec.controller_name)));
    if spec.description.as_deref().is_some_and(|text| text.chars().count() > DESCRIPTION_MAX) {
        out.add("spec.description", format!("longer than {DESCRIPTION_MAX} characters"));
    }
    if let Some(parameters) = &spec.parameters_ref {
        validate_object("spec.parametersRef", parameters, out);
    }
}

pub(super) fn validate_grant(grant: &ReferenceGrant, out: &mut Findings) {
    validate_count("spec.from", grant.spec.from.len(), 1, GRANTS_MAX, out);
    for (index, from) in grant.spec.from.iter().enumerate() {
        let field = super::at("spec.from", index);
        out.check(format!("{field}.group"), group(&from.group));
        out.check(format!("{field}.kind"), kind(&from.kind));
        out.check(format!("{field}.namespace"), name::label(&from.namespace));
    }
    validate_count("spec.to", grant.spec.to.len(), 1, GRANTS_MAX, out);
    for (index, to) in grant.spec.to.iter().enumerate() {
        let field = super::at("spec.to", index);
        out.check(format!("{field}.group"), group(&to.group));
        out.check(format!("{field}.kind"), kind(&to.kind));
        if let Some(name) = &to.name {
            out.check(format!("{field}.name"), length(name, NAME_MAX));
        }
    }
}

fn validate_object(field: &str, reference: &ObjectReference, out: &mut Findings) {
    let ObjectReference { group, kind, name, namespace } = reference;
    validate_parts(field, Some(group), Some(kind), name, namespace.as_deref(), out);
}

fn validate_local(field: &str, reference: &LocalReference, out: &mut Findings) {
    validate_parts(field, Some(&reference.group), Some(&reference.kind), &reference.name, None, out);
}

fn validate_secret(field: &str, reference: &SecretReference, out: &mut Findings) {
    let SecretReference { group, kind, namespace, name } = reference;
    validate_parts(field, group.as_deref(), kind.as_deref(), name, namespace.as_deref(), out);
}

fn validate_backend(field: &str, reference: &BackendObjectReference, out: &mut Findings) {
    let BackendObjectReference { group, kind, namespace, name, port } = reference;
    validate_parts(field, group.as_deref(), kind.as_deref(), name, namespace.as_deref(), out);
    match port {
        Some(port) => drop(out.check(format!("{field}.port"), port_number(*port))),
        None if reference.group().is_empty() && reference.kind() == "Service" => {
            out.add(format!("{field}.port"), "required for a Service");
        }
        None => {}
    }
}

fn validate_parts(
    field: &str,
    group_part: Option<&str>,
    kind_part: Option<&str>,
    name_part: &str,
    namespace: Option<&str>,
    out: &mut Findings,
) {
    if let Some(text) = group_part {
        out.check(format!("{field}.group"), group(text));
    }
    if let Some(text) = kind_part {
        out.check(format!("{field}.kind"), kind(text));
    }
    out.check(format!("{field}.name"), length(name_part, NAME_MAX));
    if let Some(text) = namespace {
        out.check(format!("{field}.namespace"), name::label(text));
    }
}

/// Between `min` and `max` items.
fn validate_count(field: &str, count: usize, min: usize, max: usize, out: &mut Findings) {
    if count > max {
        out.add(field, format!("{count} items, at most {max} are allowed"));
    } else if count < min {
        out.add(field, format!("at least {min} item is required"));
    }
}

/// No text twice among `texts`; `part` is where each has it, such as `.name`.
fn validate_unique<'a>(field: &str, part: &str, texts: impl Iterator<Item = &'a str>, out: &mut Findings) {
    let mut seen = BTreeSet::new();
    for (index, text) in texts.enumerate() {
        if !seen.insert(text) {
            out.add(format!("{}{part}", super::at(field, index)), format!("duplicate \"{text}\""));
        }
    }
}

/// 1 to `max` characters.
fn length(text: &str, max: usize) -> Result<(), String> {
    match text.chars().count() {
        0 => Err("required".into()),
        count if count > max => Err(format!("longer than {max} characters")),
        _ => Ok(()),
    }
}

/// A group of the API: a DNS name, or nothing for the core group.
fn group(text: &str) -> Result<(), String> {
    if text.is_empty() { Ok(()) } else { name::subdomain(text) }
}

/// A kind of objects.
fn kind(text: &str) -> Result<(), String> {
    length(text, LABEL_MAX)?;
    let bytes = text.as_bytes();
    let is_kind = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-')
        && bytes.first().is_some_and(u8::is_ascii_alphabetic)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric);
    if is_kind {
        return Ok(());
    }
    Err(format!("\"{text}\" is not a kind: letters, digits and '-', first a letter"))
}

/// Name of a listener or of a rule.
fn section(text: &str) -> Result<(), String> {
    length(text, NAME_MAX)?;
    name::subdomain(text)
}
