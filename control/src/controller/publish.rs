//! What an Ingress controller writes back: the status of the Ingresses, Gateways and HTTPRoutes that are served.
//!
//! In: completed objects and those of before. Out: the same objects with their status, and what is wrong with routes. An Ingress'
//! and a Gateway's addresses are those of the proxy's Service. A condition keeps its time while what it says stays the same.

use super::ingress_proxy::{PROXY_NAME, PROXY_NAMESPACE};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IngressLoadBalancerIngress, IngressLoadBalancerStatus, IngressStatus};
use k8s_openapi::jiff::Timestamp;
use policy::cluster::{Cluster, Key};
use policy::objects::gateway_api::{GatewayAddress, GatewayStatus};
use policy::objects::{Object, ObjectRef, Problem, Sourced};
use policy::routes::{CertificateCheck, RouteOptions, Statuses, compile_checked};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Gives the served ones among `objects`, which are complete, their status, and tells what is wrong with routes. `previous` are the
/// objects of the last result; a certificate that `check` finds something wrong with is not used.
pub fn publish<'a>(
    objects: &mut [Sourced<Object>],
    previous: impl IntoIterator<Item = &'a Sourced<Object>>,
    check: CertificateCheck<'_>,
    now: Timestamp,
) -> Vec<Problem> {
    let has_routes = objects.iter().any(|sourced| {
        matches!(
            &sourced.object,
            Object::Ingress(_) | Object::Gateway(_) | Object::GatewayClass(_) | Object::HTTPRoute(_)
        )
    });
    if !has_routes {
        return Vec::new();
    }
    let addresses = addresses(objects);
    let given: BTreeMap<ObjectRef, Option<GatewayStatus>> = objects.iter().filter_map(given).collect();
    let before: BTreeMap<ObjectRef, &Object> =
        previous.into_iter().map(|sourced| (sourced.object.reference(), &sourced.object)).collect();
    for sourced in objects.iter_mut() {
        prepare(&mut sourced.object, &before, &addresses);
    }
    let (cluster, _) = Cluster::from_objects(objects.iter().cloned());
    let mut compiled = compile_checked(&cluster, &RouteOptions::default(), check);
    compiled.statuses.stamp(now);
    for sourced in objects {
        write(&mut sourced.object, &compiled.statuses, &addresses, &given);
    }
    compiled.problems
}

/// The addresses of the proxy's Service.
fn addresses(objects: &[Sourced<Object>]) -> Vec<IpAddr> {
    let is_proxy = |service: &&Arc<Service>| {
        let metadata = &service.metadata;
        (metadata.namespace.as_deref(), metadata.name.as_deref()) == (Some(PROXY_NAMESPACE), Some(PROXY_NAME))
    };
    let mut services = objects.iter().filter_map(|sourced| match &sourced.object {
        Object::Service(service) => Some(service),
        _ => None,
    });
    let status = services.find(is_proxy).and_then(|service| service.status.as_ref()?.load_balancer.as_ref());
    let ingress = status.iter().flat_map(|status| status.ingress.iter().flatten());
    ingress.filter_map(|entry| entry.ip.as_deref()?.parse().ok()).collect()
}

/// What the manifests say of a Gateway's status.
fn given(sourced: &Sourced<Object>) -> Option<(ObjectRef, Option<GatewayStatus>)> {
    match &sourced.object {
        Object::Gateway(gateway) => Some((sourced.object.reference(), gateway.status.clone())),
        _ => None,
    }
}

/// Starts from the status that the object had, where the manifests give it none. A Gateway's addresses are the compiler's to read.
fn prepare(object: &mut Object, before: &BTreeMap<ObjectRef, &Object>, addresses: &[IpAddr]) {
    let before = before.get(&object.reference());
    match (object, before) {
        (Object::GatewayClass(class), Some(Object::GatewayClass(before))) if class.status.is_none() => {
            Arc::make_mut(class).status = before.status.clone();
        }
        (Object::HTTPRoute(route), Some(Object::HTTPRoute(before))) if route.status.is_none() => {
            Arc::make_mut(route).status = before.status.clone();
        }
        (Object::Gateway(gateway), before) => {
            let gateway = Arc::make_mut(gateway);
            if let Some(Object::Gateway(before)) = before
                && gateway.status.is_none()
            {
                gateway.status = before.status.clone();
            }
            let status = gateway.status.get_or_insert_default();
            status.addresses = Some(addresses.iter().map(|address| gateway_address(*address)).collect());
        }
        _ => {}
    }
}

fn gateway_address(address: IpAddr) -> GatewayAddress {
    GatewayAddress { type_: Some("IPAddress".to_owned()), value: Some(address.to_string()) }
}

/// Writes what the compiler says; objects that others serve have no status of ours.
fn write(
    object: &mut Object,
    statuses: &Statuses,
    addresses: &[IpAddr],
    given: &BTreeMap<ObjectRef, Option<GatewayStatus>>,
) {
    let reference = object.reference();
    let metadata = object.metadata();
    let name = |text: &Option<String>| text.as_deref().unwrap_or_default().into();
    let key: Key = (name(&metadata.namespace), name(&metadata.name));
    match object {
        Object::Ingress(ingress) if statuses.ingresses.contains(&key) => {
            let of = |address: &IpAddr| IngressLoadBalancerIngress {
                ip: Some(address.to_string()),
                ..IngressLoadBalancerIngress::default()
            };
            let ingress_addresses = addresses.iter().map(of).collect();
            let load_balancer = IngressLoadBalancerStatus { ingress: Some(ingress_addresses) };
            Arc::make_mut(ingress).status = Some(IngressStatus { load_balancer: Some(load_balancer) });
        }
        Object::GatewayClass(class) if statuses.gateway_classes.contains_key(&key) => {
            Arc::make_mut(class).status = statuses.gateway_classes.get(&key).cloned();
        }
        Object::Gateway(gateway) => {
            let status = statuses.gateways.get(&key).cloned();
            Arc::make_mut(gateway).status = status.or_else(|| given.get(&reference).cloned().flatten());
        }
        Object::HTTPRoute(route) if statuses.http_routes.contains_key(&key) => {
            Arc::make_mut(route).status = statuses.http_routes.get(&key).cloned();
        }
        _ => {}
    }
}
