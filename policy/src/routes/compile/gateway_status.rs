//! What the status of GatewayClasses and Gateways says.

use super::Work;
use super::gateway::OurGateway;
use super::report::Subject;
use super::status::{Fault, alarm, condition, merge};
use crate::cluster::Key;
use crate::objects::gateway_api::{
    Gateway, GatewayClass, GatewayClassStatus, GatewayStatus, ListenerStatus, SupportedFeature,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use std::collections::BTreeMap;

/// What there is of the Gateway API beyond its core, as the conformance tests call it, in alphabetical order.
const FEATURES: &[&str] = &[
    "Gateway",
    "GatewayHTTPListenerIsolation",
    "GatewayHTTPSListenerDetectMisdirectedRequests",
    "GatewayPort8080",
    "HTTPRoute",
    "HTTPRoute303RedirectStatusCode",
    "HTTPRoute307RedirectStatusCode",
    "HTTPRoute308RedirectStatusCode",
    "HTTPRouteBackendProtocolH2C",
    "HTTPRouteBackendProtocolWebSocket",
    "HTTPRouteBackendRequestHeaderModification",
    "HTTPRouteBackendTimeout",
    "HTTPRouteBackendURLRewrite",
    "HTTPRouteHostRewrite",
    "HTTPRouteMethodMatching",
    "HTTPRouteNamedRouteRule",
    "HTTPRouteParentRefPort",
    "HTTPRoutePathRedirect",
    "HTTPRoutePathRewrite",
    "HTTPRoutePortRedirect",
    "HTTPRouteQueryParamMatching",
    "HTTPRouteRequestMirror",
    "HTTPRouteRequestMultipleMirrors",
    "HTTPRouteRequestPercentageMirror",
    "HTTPRouteRequestTimeout",
    "HTTPRouteResponseHeaderModification",
    "HTTPRouteSchemeRedirect",
    "ReferenceGrant",
];

/// The conditions that are written here; others in a status are left as they are.
const CLASS_CONDITIONS: &[&str] = &["Accepted"];
const GATEWAY_CONDITIONS: &[&str] = &["Accepted", "Programmed"];
const LISTENER_CONDITIONS: &[&str] = &["Accepted", "Programmed", "ResolvedRefs", "Conflicted", "OverlappingTLSConfig"];

/// The status of all GatewayClasses of our controller.
pub(super) fn of_classes(work: &mut Work<'_>) {
    let cluster = work.cluster;
    for (key, sourced) in &cluster.gateway_classes {
        let class = &*sourced.object;
        if class.spec.controller_name != work.options.gateway_controller {
            continue;
        }
        let fault = class.spec.parameters_ref.is_some().then(|| {
            let message = "podplane has no parameters for GatewayClasses";
            let subject = Subject::new("GatewayClass", key, sourced, &class.metadata);
            work.report.close(&subject, "spec.parametersRef", format!("{message}: the class is not accepted"));
            Fault::new("InvalidParameters", message)
        });
        work.statuses.gateway_classes.insert(key.clone(), of_class(class, fault.as_ref()));
    }
}

fn of_class(class: &GatewayClass, fault: Option<&Fault>) -> GatewayClassStatus {
    let accepted = condition("Accepted", "Accepted", fault, class.metadata.generation);
    let before = class.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let features = FEATURES.iter().map(|name| SupportedFeature { name: (*name).into() });
    GatewayClassStatus {
        conditions: Some(merge(before, vec![accepted], CLASS_CONDITIONS)),
        supported_features: Some(features.collect()),
    }
}

/// The status of all our Gateways.
pub(super) fn of_gateways(ours: &BTreeMap<Key, OurGateway<'_>>, work: &mut Work<'_>) {
    for (key, gateway) in ours {
        let unreachable = unreachable(gateway.gateway);
        if let Some((field, fault)) = &unreachable {
            work.report.warn(&gateway.subject, *field, fault.message.clone());
        }
        let status = of_gateway(gateway, unreachable.map(|(_, fault)| fault));
        work.statuses.gateways.insert(key.clone(), status);
    }
}

/// Why a Gateway cannot be reached where it wants to be, by the addresses that its status has. Without a status nothing is known of
/// them: whoever writes it says where the proxy is reached.
fn unreachable(gateway: &Gateway) -> Option<(&'static str, Fault)> {
    let given = gateway.status.as_ref()?.addresses.as_deref()?;
    if given.is_empty() {
        return Some(("status.addresses", Fault::new("AddressNotAssigned", "the proxy has no address")));
    }
    let mut asked = gateway.spec.addresses.iter().flatten().filter_map(|address| address.value.as_deref());
    let missing = asked.find(|asked| !given.iter().any(|given| given.value.as_deref() == Some(*asked)))?;
    Some(("spec.addresses", Fault::new("AddressNotUsable", format!("{missing} is not an address of the proxy"))))
}

fn of_gateway(ours: &OurGateway<'_>, unreachable: Option<Fault>) -> GatewayStatus {
    let OurGateway { gateway, listeners, .. } = ours;
    let refused: Vec<&str> =
        listeners.iter().filter(|listener| !listener.is_accepted()).map(|listener| listener.name()).collect();
    let not_valid = Fault::new("ListenersNotValid", format!("listeners that are not accepted: {}", refused.join(", ")));
    let fault = ours.refused.clone().or_else(|| (refused.len() == listeners.len()).then(|| not_valid.clone()));
    let generation = gateway.metadata.generation;
    let mut accepted = condition("Accepted", "Accepted", fault.as_ref(), generation);
    if fault.is_none() && !refused.is_empty() {
        accepted = alarm("Accepted", &not_valid, generation);
    }
    let is_served = ours.refused.is_none() && listeners.iter().any(|listener| listener.is_served());
    let unserved = (!is_served).then(|| Fault::new("Invalid", "no listener is served"));
    let unserved = unserved.or(unreachable);
    let programmed = condition("Programmed", "Programmed", unserved.as_ref(), generation);
    let before = gateway.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    GatewayStatus {
        addresses: gateway.status.as_ref().and_then(|status| status.addresses.clone()),
        conditions: Some(merge(before, vec![accepted, programmed], GATEWAY_CONDITIONS)),
        listeners: Some(of_listeners(ours)),
        attached_listener_sets: None,
    }
}

fn of_listeners(ours: &OurGateway<'_>) -> Vec<ListenerStatus> {
    let before = ours.gateway.status.as_ref().and_then(|status| status.listeners.as_deref()).unwrap_or_default();
    let statuses = ours.listeners.iter().map(|listener| {
        let before = before.iter().find(|before| before.name == listener.name());
        let before = before.map(|before| before.conditions.as_slice()).unwrap_or_default();
        ListenerStatus {
            name: listener.name().to_owned(),
            supported_kinds: Some(listener.kinds.clone()),
            attached_routes: listener.attached_routes.try_into().unwrap_or(i32::MAX),
            conditions: merge(before, listener_conditions(listener, ours.gateway), LISTENER_CONDITIONS),
        }
    });
    statuses.collect()
}

fn listener_conditions(listener: &super::gateway::OurListener<'_>, gateway: &Gateway) -> Vec<Condition> {
    let generation = gateway.metadata.generation;
    let refused = listener.refused.as_ref().or(listener.conflict.as_ref());
    let unserved = (!listener.is_served()).then(|| Fault::new("Invalid", "see the other conditions"));
    let mut conditions = vec![
        condition("Accepted", "Accepted", refused, generation),
        condition("Programmed", "Programmed", unserved.as_ref(), generation),
        condition("ResolvedRefs", "ResolvedRefs", listener.unresolved.as_ref(), generation),
        match &listener.conflict {
            Some(conflict) => alarm("Conflicted", conflict, generation),
            None => condition("Conflicted", "", Some(&Fault::new("NoConflicts", "")), generation),
        },
    ];
    conditions.extend(listener.overlaps.as_ref().map(|overlaps| alarm("OverlappingTLSConfig", overlaps, generation)));
    conditions
}
