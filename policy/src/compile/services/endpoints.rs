//! The EndpointSlices of a Service as the backends of one of its ports.
//!
//! Slices are merged, whatever their number, and an endpoint that stands in two of them during a move counts once (S24,
//! KEP-752). The port of a backend is the slice's port of the same name and protocol, so a named targetPort may be another
//! number in every slice (S23).

use super::NodeNames;
use crate::cluster::{Endpoint, Slice};
use crate::compile::pods::protocol;
use crate::tables::backends::{Backends, HintedBackend};
use crate::tables::{Backend, EndpointState};
use k8s_openapi::api::core::v1::ServicePort;

/// The backends of `port`: IPv4 and IPv6. `outside` says whether flows from outside may choose among them.
pub(crate) fn backends(
    port: &ServicePort,
    slices: &[&Slice],
    names: &NodeNames,
    outside: bool,
) -> (Backends, Backends) {
    let (mut v4, mut v6) = (Vec::new(), Vec::new());
    for slice in slices {
        let Some(target) = target_port(slice, port) else { continue };
        for endpoint in &slice.endpoints {
            let backends = if endpoint.addr.is_ipv4() { &mut v4 } else { &mut v6 };
            backends.push(hinted(endpoint, target, names));
        }
    }
    (Backends::new(v4, outside), Backends::new(v6, outside))
}

/// The port of a slice's endpoints that serves `port`: the one of the same name and protocol.
fn target_port(slice: &Slice, port: &ServicePort) -> Option<u16> {
    let name = port.name.as_deref().unwrap_or_default();
    let wanted = protocol(port.protocol.as_deref())?;
    let mut ports = slice.ports.iter();
    let target = ports.find(|candidate| &*candidate.name == name && candidate.protocol == wanted)?;
    target.port.filter(|port| *port > 0)
}

fn state(endpoint: &Endpoint) -> EndpointState {
    match (endpoint.ready, endpoint.serving, endpoint.terminating) {
        (true, ..) => EndpointState::Ready,
        (false, true, true) => EndpointState::Draining,
        (false, true, false) => EndpointState::Serving,
        (false, false, _) => EndpointState::Unready,
    }
}

fn hinted(endpoint: &Endpoint, target: u16, names: &NodeNames) -> HintedBackend {
    let node = endpoint.node.as_deref().and_then(|name| names.node(name));
    let hints = endpoint.rare.as_deref();
    let zones = hints.map(|hints| &hints.for_zones).filter(|zones| !zones.is_empty());
    let nodes = hints.map(|hints| &hints.for_nodes).filter(|nodes| !nodes.is_empty());
    HintedBackend {
        backend: Backend::new(endpoint.addr, target, state(endpoint), node),
        zones: zones.map(|zones| zones.iter().filter_map(|zone| names.zone(zone)).collect()),
        nodes: nodes.map(|nodes| nodes.iter().filter_map(|node| names.node(node)).collect()),
    }
}
