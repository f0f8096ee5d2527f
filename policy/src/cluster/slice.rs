//! EndpointSlices as traffic needs them.
//!
//! A cluster has more endpoints than anything else, and a node keeps all of them. The API's own type takes half a kilobyte
//! for an endpoint, most of it empty fields; this one takes 48 bytes, and names that occur in many endpoints of a slice
//! are stored once.

use k8s_openapi::api::discovery::v1::{Endpoint as ApiEndpoint, EndpointSlice};
use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use wire::Protocol;

/// Label of an EndpointSlice that names its Service (KEP-752).
const SERVICE_NAME_LABEL: &str = "kubernetes.io/service-name";

/// An EndpointSlice. Slices of host names (addressType FQDN) have no endpoints here: nothing can be sent to them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slice {
    /// The Service in the slice's namespace that it belongs to; `None` without the label `kubernetes.io/service-name`.
    pub service: Option<Arc<str>>,
    /// ports; one of an unknown protocol is left out.
    pub ports: Box<[SlicePort]>,
    /// endpoints, one entry for each address.
    pub endpoints: Box<[Endpoint]>,
}

/// One of ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlicePort {
    /// Its name, empty if unnamed.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number; `None` where none is given (all ports), which no Service leads to.
    pub port: Option<u16>,
}

/// An address of one of endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The address.
    pub addr: IpAddr,
    /// conditions.ready; true if not given.
    pub ready: bool,
    /// conditions.serving; true if not given.
    pub serving: bool,
    /// conditions.terminating; false if not given.
    pub terminating: bool,
    /// nodeName.
    pub node: Option<Arc<str>>,
    /// What most endpoints do not have.
    pub rare: Option<Box<Rare>>,
}

/// Fields that few endpoints have, kept apart so that the others stay small.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rare {
    /// hostname: its name in the DNS, below that of its Service.
    pub hostname: Option<Arc<str>>,
    /// hints.forNodes: nodes of its clients (KEP-3015).
    pub for_nodes: Box<[Arc<str>]>,
    /// hints.forZones: zones of its clients (KEP-2433).
    pub for_zones: Box<[Arc<str>]>,
}

impl Endpoint {
    /// hostname.
    pub fn hostname(&self) -> Option<&Arc<str>> {
        self.rare.as_ref()?.hostname.as_ref()
    }
}

impl From<&EndpointSlice> for Slice {
    fn from(slice: &EndpointSlice) -> Slice {
        let mut names = Names::default();
        let labels = slice.metadata.labels.as_ref();
        let service = labels.and_then(|labels| labels.get(SERVICE_NAME_LABEL)).map(|name| name.as_str().into());
        let ports = slice.ports.iter().flatten().filter_map(|port| {
            Some(SlicePort {
                name: names.intern(port.name.as_deref().unwrap_or_default()),
                protocol: crate::compile::protocol(port.protocol.as_deref())?,
                port: port.port.and_then(|number| u16::try_from(number).ok()),
            })
        });
        let ports = ports.collect();
        let mut endpoints = Vec::new();
        for endpoint in slice.endpoints.iter().flatten() {
            // Addresses that do not parse are host names: validation has refused all others.
            for addr in endpoint.addresses.iter().filter_map(|text| text.parse().ok()) {
                endpoints.push(names.endpoint(addr, endpoint));
            }
        }
        Slice { service, ports, endpoints: endpoints.into() }
    }
}

/// Names of one slice, each stored once.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    fn intern(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let name: Arc<str> = name.into();
        self.0.insert(name.clone());
        name
    }

    fn endpoint(&mut self, addr: IpAddr, endpoint: &ApiEndpoint) -> Endpoint {
        let conditions = endpoint.conditions.as_ref();
        let ready = conditions.and_then(|conditions| conditions.ready).unwrap_or(true);
        let hints = endpoint.hints.as_ref();
        let for_nodes = hints.iter().flat_map(|hints| hints.for_nodes.iter().flatten());
        let for_zones = hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
        let rare = Rare {
            hostname: endpoint.hostname.as_deref().filter(|name| !name.is_empty()).map(Arc::from),
            for_nodes: for_nodes.map(|node| self.intern(&node.name)).collect(),
            for_zones: for_zones.map(|zone| self.intern(&zone.name)).collect(),
        };
        Endpoint {
            addr,
            ready,
            serving: conditions.and_then(|conditions| conditions.serving).unwrap_or(true),
            terminating: conditions.and_then(|conditions| conditions.terminating).unwrap_or(false),
            node: endpoint.node_name.as_deref().map(|node| self.intern(node)),
            rare: (rare != Rare::default()).then(|| Box::new(rare)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_small_because_a_node_keeps_every_one_of_the_cluster() {
        assert_eq!(size_of::<Endpoint>(), 48);
    }

    #[test]
    fn names_are_stored_once_and_conditions_that_are_not_given_mean_ready_and_serving() {
        let yaml = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-1, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{name: http, port: 8080}, {name: all}]
endpoints:
- {addresses: [10.0.0.1, 10.0.0.2], nodeName: node1, zone: a, hints: {forZones: [{name: a}], forNodes: [{name: node1}]}}
- {addresses: [10.0.0.3], nodeName: node1, conditions: {ready: false, terminating: true}, hints: {}}
";
        let parsed = crate::objects::parse("test.yaml", yaml);
        let crate::objects::Object::EndpointSlice(slice) = &parsed.objects[0].object else { panic!("a slice") };
        let slice = Slice::from(&**slice);
        assert_eq!(slice.service.as_deref(), Some("web"));
        assert_eq!(
            (slice.ports[0].protocol, slice.ports[0].port, slice.ports[1].port),
            (Protocol::TCP, Some(8080), None)
        );
        let [first, second, third] = &*slice.endpoints else { panic!("one entry for each address") };
        assert!(first.ready && first.serving && !first.terminating);
        assert!(!third.ready && third.serving && third.terminating && third.rare.is_none());
        let hints = first.rare.as_ref().expect("hints");
        assert_eq!((&*hints.for_nodes[0], &*hints.for_zones[0], first.hostname()), ("node1", "a", None));
        let node = |endpoint: &Endpoint| Arc::as_ptr(endpoint.node.as_ref().expect("a node"));
        assert!(std::ptr::eq(node(first), node(third)) && second.addr.to_string() == "10.0.0.2");
    }
}
