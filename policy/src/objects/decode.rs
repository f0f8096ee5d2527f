//! From a JSON value to typed objects: lists are taken apart, kind and apiVersion are checked, unknown fields are
//! reported, and what the API server would refuse is refused.

use super::cluster_network_policy::{ClusterNetworkPolicy, Tier};
use super::gateway_api::{Gateway, GatewayClass, HTTPRoute, ReferenceGrant};
use super::object::{Kind, Object, ObjectRef, Source, Sourced};
use super::pool::IPAddressPool;
use super::problem::{Problem, Severity};
use super::reader::{Mismatch, read};
use super::{Leniency, Parsed, annotations, closing, validate};
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use serde_json::{Map, Value};

/// What a list has besides its items.
const LIST_FIELDS: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Nesting of lists in lists.
const LISTS_DEPTH_MAX: u32 = 4;

/// Group of ClusterNetworkPolicy, and the kinds that it replaces there with the tier that each became.
const POLICY_GROUP: &str = "policy.networking.k8s.io";
const PREDECESSORS: [(&str, Tier); 2] =
    [("AdminNetworkPolicy", Tier::Admin), ("BaselineAdminNetworkPolicy", Tier::Baseline)];

/// Reads the object, or the list of objects, that one document holds.
pub(crate) fn decode(source: &Source, value: Value, leniency: Leniency, parsed: &mut Parsed) {
    decode_nested((source, leniency), value, None, LISTS_DEPTH_MAX, parsed);
}

/// `implied` is the kind of the list that the value came from: items of a typed list may omit kind and apiVersion.
fn decode_nested(
    (source, leniency): (&Source, Leniency),
    value: Value,
    implied: Option<&str>,
    depth: u32,
    parsed: &mut Parsed,
) {
    let Value::Object(mut fields) = value else {
        parsed.problems.push(Problem {
            document: source.document,
            ..Problem::unreadable(&source.file, format!("expected a Kubernetes object, found {}", describe(&value)))
        });
        return;
    };
    if let Some(kind) = implied.and_then(Kind::find) {
        fields.entry("kind").or_insert_with(|| kind.as_str().into());
        fields.entry("apiVersion").or_insert_with(|| kind.api_version().into());
    }
    let reference = reference(&fields);
    let (Some(Value::String(kind)), Some(Value::String(api_version))) = (fields.get("kind"), fields.get("apiVersion"))
    else {
        let missing = if matches!(fields.get("kind"), Some(Value::String(_))) { "apiVersion" } else { "kind" };
        let problem = Problem::of(source, reference, missing, "required: a string", Severity::Refused);
        return parsed.problems.push(problem);
    };
    if let Some(item_kind) = kind.strip_suffix("List") {
        let item_kind = item_kind.to_owned();
        let items = fields.remove("items");
        for (field, _) in fields.iter().filter(|(field, _)| !LIST_FIELDS.contains(&field.as_str())) {
            let message = "unknown field, ignored".to_owned();
            parsed.problems.push(Problem::of(source, reference.clone(), field, message, Severity::Warning));
        }
        let mut refuse = |field: &str, message: String| {
            parsed.problems.push(Problem::of(source, reference.clone(), field, message, Severity::Refused));
        };
        return match items {
            Some(Value::Array(_)) if depth == 0 => refuse("items", "lists are nested too deeply".into()),
            Some(Value::Array(items)) => {
                items
                    .into_iter()
                    .for_each(|item| decode_nested((source, leniency), item, Some(&item_kind), depth - 1, parsed));
            }
            None | Some(Value::Null) => {}
            Some(other) => refuse("items", format!("expected a list, found {}", describe(&other))),
        };
    }
    let Some(known) = Kind::find(kind) else {
        let message = match PREDECESSORS.iter().find(|(old, _)| old == kind && group(api_version) == POLICY_GROUP) {
            Some((_, tier)) => format!(
                "skipped: {api_version} {kind} is not in force. Write it as a {} ClusterNetworkPolicy with spec.tier: {tier}, \
                 actions Accept, Deny and Pass, and ports as protocols",
                Kind::ClusterNetworkPolicy.api_version()
            ),
            None => format!("skipped: podplane does not use {api_version} {kind}"),
        };
        return parsed.problems.push(Problem::of(source, reference, "", message, Severity::Warning));
    };
    if !known.accepts(api_version) {
        // The same kind name in another group (a Knative Service, for example) is another kind.
        let same_group = group(api_version) == group(known.api_version());
        let (message, severity) = if same_group {
            (format!("\"{api_version}\" is not supported, use \"{}\"", known.api_version()), Severity::Refused)
        } else {
            (format!("skipped: podplane does not use {api_version} {kind}"), Severity::Warning)
        };
        let field = if same_group { "apiVersion" } else { "" };
        return parsed.problems.push(Problem::of(source, reference, field, message, severity));
    }
    decode_known((source, leniency), known, reference, Value::Object(fields), parsed);
}

fn decode_known(
    (source, leniency): (&Source, Leniency),
    kind: Kind,
    mut reference: ObjectRef,
    value: Value,
    parsed: &mut Parsed,
) {
    if kind.is_namespaced() && reference.namespace.is_empty() {
        reference.namespace = "default".into();
    }
    let mut unknown = Vec::new();
    let object = match kind {
        Kind::Namespace => read::<Namespace>(value, &mut unknown).map(Object::from),
        Kind::Node => read::<Node>(value, &mut unknown).map(Object::from),
        Kind::Pod => read::<Pod>(value, &mut unknown).map(Object::from),
        Kind::Deployment => read::<Deployment>(value, &mut unknown).map(Object::from),
        Kind::ReplicaSet => read::<ReplicaSet>(value, &mut unknown).map(Object::from),
        Kind::StatefulSet => read::<StatefulSet>(value, &mut unknown).map(Object::from),
        Kind::DaemonSet => read::<DaemonSet>(value, &mut unknown).map(Object::from),
        Kind::Service => read::<Service>(value, &mut unknown).map(Object::from),
        Kind::EndpointSlice => read::<EndpointSlice>(value, &mut unknown).map(Object::from),
        Kind::NetworkPolicy => read::<NetworkPolicy>(value, &mut unknown).map(Object::from),
        Kind::ClusterNetworkPolicy => read::<ClusterNetworkPolicy>(value, &mut unknown).map(Object::from),
        Kind::Endpoints => read::<Endpoints>(value, &mut unknown).map(Object::from),
        Kind::IPAddressPool => read::<IPAddressPool>(value, &mut unknown).map(Object::from),
        Kind::Ingress => read::<Ingress>(value, &mut unknown).map(Object::from),
        Kind::IngressClass => read::<IngressClass>(value, &mut unknown).map(Object::from),
        Kind::Secret => read::<Secret>(value, &mut unknown).map(merge_string_data).map(Object::from),
        Kind::GatewayClass => read::<GatewayClass>(value, &mut unknown).map(Object::from),
        Kind::Gateway => read::<Gateway>(value, &mut unknown).map(Object::from),
        Kind::HTTPRoute => read::<HTTPRoute>(value, &mut unknown).map(Object::from),
        Kind::ReferenceGrant => read::<ReferenceGrant>(value, &mut unknown).map(Object::from),
    };
    let mut object = match object {
        Ok(object) => object,
        Err(Mismatch { field, message }) => {
            parsed.problems.push(Problem::of(source, reference, field, message, Severity::Refused));
            return;
        }
    };
    if kind.is_namespaced() {
        object.metadata_mut().namespace.get_or_insert_with(|| "default".into());
    }
    if matches!(object, Object::NetworkPolicy(_) | Object::ClusterNetworkPolicy(_)) {
        for (annotation, message) in annotations::mistakes(object.metadata()) {
            let field = format!("metadata.annotations.{annotation}");
            parsed.problems.push(Problem::of(source, reference.clone(), field, message, Severity::Warning));
        }
    }
    let closings = closing::close(&mut object, &unknown);
    let mut refused = validate::validate(&object, leniency);
    if let Object::ClusterNetworkPolicy(_) = &object {
        // Whom the policy is about cannot be guessed.
        let subjects = unknown.extract_if(.., |path| path.starts_with("spec.subject."));
        refused.extend(subjects.map(|path| (path, "unknown field: it is not known whom the policy is about".into())));
    }
    let is_refused = !refused.is_empty();
    let mut report = |field: String, message: String, severity| {
        parsed.problems.push(Problem::of(source, reference.clone(), field, message, severity));
    };
    refused.into_iter().for_each(|(field, message)| report(field, message, Severity::Refused));
    if is_refused {
        unknown.into_iter().for_each(|field| report(field, "unknown field".into(), Severity::Warning));
        return;
    }
    unknown.retain(|path| closings.iter().all(|(closing, _)| closing != path));
    closings.into_iter().for_each(|(field, message)| report(field, message, Severity::Closed));
    unknown.into_iter().for_each(|field| report(field, "unknown field, ignored".into(), Severity::Warning));
    parsed.objects.push(Sourced { source: source.clone(), object });
}

/// A Secret with what it gives as text among its data, where it wins, as the API server stores it.
fn merge_string_data(mut secret: Secret) -> Secret {
    if let Some(texts) = secret.string_data.take() {
        let texts = texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
        secret.data.get_or_insert_default().extend(texts);
    }
    secret
}

fn group(api_version: &str) -> &str {
    api_version.split_once('/').map_or("", |(group, _)| group)
}

/// How the object is named, as far as it says; without a namespace it is in `default`, if it is of a kind that has one.
fn reference(fields: &Map<String, Value>) -> ObjectRef {
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let metadata = fields.get("metadata");
    let mut reference = ObjectRef {
        kind: fields.get("kind").and_then(Value::as_str).unwrap_or("object").to_owned(),
        namespace: text(metadata.and_then(|metadata| metadata.get("namespace"))),
        name: text(metadata.and_then(|metadata| metadata.get("name"))),
    };
    // A mistake in the version does not make it another object.
    let kind = Kind::find(&reference.kind).filter(|kind| match fields.get("apiVersion").and_then(Value::as_str) {
        Some(api_version) => group(api_version) == group(kind.api_version()) || kind.accepts(api_version),
        None => true,
    });
    let is_named = !reference.name.is_empty();
    if is_named && reference.namespace.is_empty() && kind.is_some_and(Kind::is_namespaced) {
        reference.namespace = "default".into();
    }
    reference
}

fn describe(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}
