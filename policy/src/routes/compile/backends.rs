//! From a Service's name and port to the endpoints that the proxy sends to.
//!
//! Endpoints are those that a pod on the proxy's node would reach over the Service's ClusterIP, so internalTrafficPolicy and the
//! hints that trafficDistribution brings hold for the proxy too; a headless Service has them as well. Only Services that a route names are looked at.

use crate::cluster::{Cluster, Key, Slice};
use crate::compile::{Vantage, protocol};
use crate::routes::table::{BackendProtocol, Endpoints};
use k8s_openapi::api::core::v1::{Service, ServicePort};
use std::collections::BTreeMap;
use std::sync::Arc;
use wire::Protocol;

/// How a port is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PortName<'a> {
    /// By its number.
    Number(i32),
    /// By its name.
    Name(&'a str),
}

/// Why a reference leads to no endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Unresolved {
    /// What is wrong.
    pub(super) part: Part,
    /// The same, for people.
    pub(super) why: String,
}

/// What of a reference does not lead on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// The Service does not exist.
    Service,
    /// It has no such port.
    Port,
    /// It is of a type that has no endpoints.
    Type,
    /// Its port speaks something that is not HTTP.
    Protocol,
}

/// Endpoints of Services, each list made once.
pub(super) struct Backends<'a> {
    cluster: &'a Cluster,
    vantage: Vantage,
    known: BTreeMap<(Key, u16, BackendProtocol), Arc<Endpoints>>,
}

impl<'a> Backends<'a> {
    /// None so far; `node_name` is where the proxy runs.
    pub(super) fn new(cluster: &'a Cluster, node_name: Option<&str>) -> Backends<'a> {
        Backends { cluster, vantage: Vantage::of(cluster, node_name), known: BTreeMap::new() }
    }

    /// The endpoints of a Service's port, spoken to as its appProtocol says or else as `fallback`.
    pub(super) fn find(
        &mut self,
        key: &Key,
        port: PortName<'_>,
        fallback: BackendProtocol,
    ) -> Result<Arc<Endpoints>, Unresolved> {
        let unresolved = |part, why| Unresolved { part, why };
        let name = || format!("Service {}/{}", key.0, key.1);
        let Some(service) = self.cluster.services.get(key) else {
            return Err(unresolved(Part::Service, format!("{} does not exist", name())));
        };
        let service = &*service.object;
        if service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() == Some("ExternalName")) {
            return Err(unresolved(Part::Type, format!("{} is of type ExternalName, which has no endpoints", name())));
        }
        let port = find_port(service, port).map_err(|why| unresolved(Part::Port, format!("{} {why}", name())))?;
        let spoken = match port.app_protocol.as_deref() {
            None => fallback,
            Some(text) => app_protocol(text).ok_or_else(|| {
                let (number, name) = (port.port, name());
                unresolved(Part::Protocol, format!("port {number} of {name} has appProtocol {text}, which is not HTTP"))
            })?,
        };
        // Its number was compared with what is asked for, or validated.
        let number = u16::try_from(port.port).unwrap_or_default();
        let place = (key.clone(), number, spoken);
        if let Some(known) = self.known.get(&place) {
            return Ok(known.clone());
        }
        let slices: Vec<&Slice> = self.cluster.slices_of(key).map(|slice| &*slice.object).collect();
        let is_local = service.spec.as_ref().and_then(|spec| spec.internal_traffic_policy.as_deref()) == Some("Local");
        let endpoints = Arc::new(Endpoints {
            namespace: key.0.clone(),
            service: key.1.clone(),
            port: number,
            protocol: spoken,
            addresses: self.vantage.endpoints(port, &slices, is_local),
        });
        self.known.insert(place, endpoints.clone());
        Ok(endpoints)
    }
}

/// A Service's TCP port; why there is none, for people.
fn find_port<'a>(service: &'a Service, wanted: PortName<'_>) -> Result<&'a ServicePort, String> {
    let ports = service.spec.as_ref().and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
    let is_wanted = |port: &&ServicePort| match wanted {
        PortName::Number(number) => port.port == number,
        PortName::Name(name) => port.name.as_deref() == Some(name),
    };
    let is_tcp = |port: &&ServicePort| protocol(port.protocol.as_deref()) == Some(Protocol::TCP);
    if let Some(found) = ports.iter().filter(is_wanted).find(is_tcp) {
        return Ok(found);
    }
    let text = match wanted {
        PortName::Number(number) => format!("port {number}"),
        PortName::Name(name) => format!("port \"{name}\""),
    };
    if let Some(other) = ports.iter().find(is_wanted) {
        return Err(format!("has its {text} for {}, not TCP", other.protocol.as_deref().unwrap_or("TCP")));
    }
    let names = ports.iter().filter(is_tcp).map(|port| match port.name.as_deref() {
        Some(name) if !name.is_empty() => format!("{} ({name})", port.port),
        _ => port.port.to_string(),
    });
    let names: Vec<String> = names.collect();
    if names.is_empty() {
        return Err(format!("has no {text}, it has no TCP ports"));
    }
    Err(format!("has no {text}, it has {}", names.join(", ")))
}

/// What appProtocol says (KEP-3726); `None` if that is not HTTP. Names with a prefix that is not Kubernetes' own mean what some
/// implementation wants, which leaves HTTP.
fn app_protocol(text: &str) -> Option<BackendProtocol> {
    match text {
        "http" | "HTTP" | "tcp" | "kubernetes.io/ws" | "ws" => Some(BackendProtocol::Http1),
        "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => Some(BackendProtocol::H2c),
        "https" | "HTTPS" | "kubernetes.io/wss" | "wss" => Some(BackendProtocol::Https),
        other => other.contains('/').then_some(BackendProtocol::Http1),
    }
}

/// What the annotation for backends without an appProtocol says; `None` if it says nothing that there is.
pub(super) fn annotated_protocol(text: &str) -> Option<BackendProtocol> {
    match text {
        "HTTP" => Some(BackendProtocol::Http1),
        "GRPC" | "H2C" => Some(BackendProtocol::H2c),
        "HTTPS" => Some(BackendProtocol::Https),
        _ => None,
    }
}
