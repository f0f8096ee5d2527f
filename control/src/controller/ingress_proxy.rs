//! The Ingress and Gateway proxy of a cluster: what `helm install` of an Ingress controller adds.
//!
//! Where the manifests hold an Ingress or a Gateway that is podplane's to serve, they are given what serves it, as ordinary objects:
//! a DaemonSet whose pods have ports 80 and 443 of their nodes, a LoadBalancer Service for them, and the classes if there is none of
//! podplane's. Whatever of it the manifests bring themselves, by the same name, stays as it is. Without such an Ingress or Gateway
//! nothing is added. Which Ingresses are podplane's is asked of the compiler of routes.

use super::{Key, State};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::networking::v1::IngressClass;
use policy::cluster::Cluster;
use policy::objects::gateway_api::GATEWAY_GROUP;
use policy::objects::{GatewayClass, Object, Source, Sourced};
use policy::routes::{RouteOptions, Statuses, compile};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Namespace of the proxy.
pub const PROXY_NAMESPACE: &str = "podplane-system";

/// Name of its DaemonSet and its Service, and the value of its pods' label [`PROXY_LABEL`].
pub const PROXY_NAME: &str = "podplane-ingress";

/// Label by which its pods are known.
pub const PROXY_LABEL: &str = "app.kubernetes.io/name";

/// Name of the IngressClass and the GatewayClass.
const CLASS: &str = "podplane";

/// What a pod of the proxy runs, with the variables that the lab gives to every command.
const COMMAND: &str = "exec \"$PODPLANE\" ingress -f \"$PODPLANE_CLUSTER_DIR\" --node-name \"$PODPLANE_NODE\" --http '[::]:80' --https '[::]:443' --healthz-listen '[::]:10254' --access-log";

/// Where the proxy says that it is ready, as other Ingress controllers do.
const HEALTH_PORT: u16 = 10_254;

/// Annotation with the command that a pod of the lab runs.
const COMMAND_ANNOTATION: &str = "lab.podplane.io/command";

/// Adds the proxy if there is something for it to do.
pub(super) fn add(state: &mut State) {
    if state.ingresses.is_empty() && state.gateways.is_empty() {
        return;
    }
    let options = RouteOptions::default();
    let class = ingress_class(state, &options);
    let gateway_class = gateway_class(state, &options);
    let served = served(state, class.iter().cloned().map(Object::from).chain(gateway_class.clone().map(Object::from)));
    if served.ingresses.is_empty() && served.gateways.is_empty() {
        return;
    }
    if !served.ingresses.is_empty() {
        state.ingress_classes.extend(class.map(|class| (unnamespaced(CLASS), class)));
    }
    if !served.gateways.is_empty() {
        state.gateway_classes.extend(gateway_class.map(|class| (unnamespaced(CLASS), class)));
    }
    let ports = listener_ports(state, &served, &options);
    let key = (PROXY_NAMESPACE.to_owned(), PROXY_NAME.to_owned());
    state.namespaces.entry(PROXY_NAMESPACE.to_owned()).or_insert_with(namespace);
    if !state.deployments.contains_key(&key) && !state.stateful_sets.contains_key(&key) {
        state.daemon_sets.entry(key.clone()).or_insert_with(daemon_set);
    }
    state.services.entry(key).or_insert_with(|| service(&ports));
}

/// What would be served if these `classes` were there as well.
fn served(state: &State, classes: impl Iterator<Item = Object>) -> Statuses {
    let ingresses = state.ingresses.values().cloned().map(Object::from);
    let known = state.ingress_classes.values().cloned().map(Object::from);
    let gateways = state.gateways.values().cloned().map(Object::from);
    let gateway_classes = state.gateway_classes.values().cloned().map(Object::from);
    let objects = ingresses.chain(known).chain(gateways).chain(gateway_classes).chain(classes);
    let source = Source { file: super::SOURCE.into(), document: 0 };
    let (cluster, _) = Cluster::from_objects(objects.map(|object| Sourced { source: source.clone(), object }));
    compile(&cluster, &RouteOptions::default()).statuses
}

/// The IngressClass of podplane, if there is none. It is the default one if nobody else's could be.
fn ingress_class(state: &State, options: &RouteOptions) -> Option<IngressClass> {
    let controller = |class: &IngressClass| class.spec.as_ref().and_then(|spec| spec.controller.clone());
    let has_own = state.ingress_classes.values().any(|class| controller(class).as_ref() == Some(&options.controller));
    let is_free = !state.ingress_classes.contains_key(&unnamespaced(CLASS));
    let mut annotations = json!({});
    if state.ingress_classes.is_empty() {
        annotations = json!({"ingressclass.kubernetes.io/is-default-class": "true"});
    }
    (!has_own && is_free).then(|| {
        object(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "IngressClass",
            "metadata": {"name": CLASS, "annotations": annotations},
            "spec": {"controller": options.controller},
        }))
    })
}

/// The GatewayClass of podplane, if there is none.
fn gateway_class(state: &State, options: &RouteOptions) -> Option<GatewayClass> {
    let is_own = |class: &GatewayClass| class.spec.controller_name == options.gateway_controller;
    let has_own = state.gateway_classes.values().any(is_own);
    let is_free = !state.gateway_classes.contains_key(&unnamespaced(CLASS));
    (!has_own && is_free).then(|| {
        object(json!({
            "apiVersion": format!("{GATEWAY_GROUP}/v1"),
            "kind": "GatewayClass",
            "metadata": {"name": CLASS},
            "spec": {"controllerName": options.gateway_controller},
        }))
    })
}

/// Ports of listeners of Gateways beside the proxy's own.
fn listener_ports(state: &State, served: &Statuses, options: &RouteOptions) -> BTreeSet<u16> {
    let served: BTreeSet<Key> = served.gateways.keys().map(|(ns, name)| (ns.to_string(), name.to_string())).collect();
    let gateways = state.gateways.iter().filter(|(key, _)| served.contains(*key));
    let listeners = gateways.flat_map(|(_, gateway)| &gateway.spec.listeners);
    let listeners = listeners.filter(|listener| matches!(listener.protocol.as_str(), "HTTP" | "HTTPS"));
    let ports = listeners.filter_map(|listener| u16::try_from(listener.port).ok());
    ports.filter(|port| ![0, options.http_port, options.https_port].contains(port)).collect()
}

fn unnamespaced(name: &str) -> Key {
    (String::new(), name.to_owned())
}

fn namespace() -> Namespace {
    object(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PROXY_NAMESPACE}}))
}

/// A pod on every node. Listeners of Gateways on other ports are not among its container ports: a pod whose ports change is another
/// pod, and connections outlive a change of Gateways.
fn daemon_set() -> DaemonSet {
    let labels = json!({PROXY_LABEL: PROXY_NAME});
    object(json!({
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"namespace": PROXY_NAMESPACE, "name": PROXY_NAME, "labels": labels},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels, "annotations": {COMMAND_ANNOTATION: COMMAND}},
                "spec": {"containers": [{
                    "name": "proxy",
                    "image": "podplane",
                    "ports": [
                        {"name": "http", "containerPort": 80, "hostPort": 80},
                        {"name": "https", "containerPort": 443, "hostPort": 443},
                    ],
                    "readinessProbe": {"httpGet": {"path": "/healthz", "port": HEALTH_PORT}},
                }]},
            },
        },
    }))
}

/// Clients keep their addresses: every node has a pod of its own.
fn service(ports: &BTreeSet<u16>) -> Service {
    let own = [("http".to_owned(), 80), ("https".to_owned(), 443)];
    let ports = own.into_iter().chain(ports.iter().map(|port| (format!("gateway-{port}"), *port)));
    let ports: Vec<Value> = ports.map(|(name, port)| json!({"name": name, "port": port, "targetPort": port})).collect();
    object(json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"namespace": PROXY_NAMESPACE, "name": PROXY_NAME, "labels": {PROXY_LABEL: PROXY_NAME}},
        "spec": {
            "type": "LoadBalancer",
            "externalTrafficPolicy": "Local",
            "allocateLoadBalancerNodePorts": false,
            "ipFamilyPolicy": "PreferDualStack",
            "selector": {PROXY_LABEL: PROXY_NAME},
            "ports": ports,
        },
    }))
}

fn object<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("an object of its kind")
}
