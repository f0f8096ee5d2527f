//! The reference model of Services: which endpoints a flow may open to, and with which it may stay, read from the objects' JSON as
//! the Kubernetes API documentation and KEP-1669 say it. It shares no code with the compiler or the switch, indexes nothing, and
//! looks at everything each time.

use crate::model::{address, items, text};
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

/// Where a flow enters the cluster.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Entry {
    pub(super) node: String,
    pub(super) outside: bool,
}

/// What a flow was opened to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) is_tcp: bool,
    pub(super) to: SocketAddr,
}

#[derive(Clone, Debug)]
struct Endpoint {
    at: SocketAddr,
    is_tcp: bool,
    node: String,
    ready: bool,
    serving: bool,
    terminating: bool,
}

/// A Service and its endpoints.
#[derive(Clone, Debug)]
pub(super) struct Service {
    pub(super) name: String,
    pub(super) addresses: Vec<IpAddr>,
    /// Seconds.
    pub(super) affinity: Option<u64>,
    inside_local: bool,
    outside_local: bool,
    /// TCP or not, port, nodePort.
    ports: Vec<(bool, u16, Option<u16>)>,
    endpoints: Vec<Endpoint>,
}

/// All Services of one moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Model {
    nodes: BTreeMap<String, Vec<IpAddr>>,
    /// Name and node of the pod with an address.
    pods: BTreeMap<IpAddr, (String, String)>,
    pub(super) services: Vec<Service>,
}

impl Model {
    /// The model of objects as the controller filled them in.
    pub(super) fn new(objects: &[Value]) -> Model {
        let mut model = Model::default();
        for object in objects {
            let name = text(&object["metadata"]["name"]);
            match object["kind"].as_str() {
                Some("Node") => {
                    let addresses = items(&object["status"]["addresses"]);
                    model.nodes.insert(name, addresses.iter().filter_map(|a| address(&a["address"])).collect());
                }
                Some("Pod") => {
                    for addr in items(&object["status"]["podIPs"]).iter().filter_map(|ip| address(&ip["ip"])) {
                        model.pods.insert(addr, (name.clone(), text(&object["spec"]["nodeName"])));
                    }
                }
                Some("Service") => model.services.push(service(&name, object)),
                _ => {}
            }
        }
        for slice in objects.iter().filter(|object| object["kind"] == "EndpointSlice") {
            let of = text(&slice["metadata"]["labels"]["kubernetes.io/service-name"]);
            let service = model.services.iter_mut().find(|service| service.name == of);
            service.into_iter().for_each(|service| service.endpoints.extend(endpoints(slice)));
        }
        model
    }

    /// Name and node of the pod with `addr`.
    pub(super) fn pod_at(&self, addr: IpAddr) -> Option<&(String, String)> {
        self.pods.get(&addr)
    }

    /// The addresses of a node.
    pub(super) fn node_addresses(&self, node: &str) -> &[IpAddr] {
        self.nodes.get(node).map_or(&[], Vec::as_slice)
    }

    pub(super) fn service(&self, name: &str) -> Option<&Service> {
        self.services.iter().find(|service| service.name == name)
    }

    /// The Service that answers, and the node to whose endpoints its traffic policy confines the flow.
    pub(super) fn find<'a>(&'a self, entry: &'a Entry, asked: &Asked) -> Option<(&'a Service, Option<&'a str>)> {
        let (addr, port) = (asked.to.ip(), asked.to.port());
        let own_node = Some(entry.node.as_str());
        if !entry.outside
            && let Some(service) = self.services.iter().find(|service| service.addresses.contains(&addr))
        {
            let listens = service.ports.iter().any(|(tcp, own, _)| (*tcp, *own) == (asked.is_tcp, port));
            return listens.then_some((service, own_node.filter(|_| service.inside_local)));
        }
        let (target, _) = self.nodes.iter().find(|(_, addresses)| addresses.contains(&addr))?;
        let listens = |service: &&Service| service.ports.iter().any(|p| (p.0, p.2) == (asked.is_tcp, Some(port)));
        let service = self.services.iter().find(listens)?;
        // From inside, one's own node is asked for the Service, another node for itself.
        let confined = service.outside_local && (entry.outside || *target != entry.node);
        Some((service, confined.then_some(target.as_str())))
    }

    /// Where a flow may open to: what is ready, or else what still serves while it terminates.
    pub(super) fn eligible(&self, entry: &Entry, asked: &Asked) -> Vec<SocketAddr> {
        let Some((service, confined)) = self.find(entry, asked) else { return Vec::new() };
        let reachable: Vec<&Endpoint> = service.reachable(asked, confined).collect();
        let ready: Vec<SocketAddr> = reachable.iter().filter(|e| e.ready).map(|e| e.at).collect();
        let draining = reachable.iter().filter(|e| e.serving && e.terminating).map(|e| e.at);
        if ready.is_empty() { draining.collect() } else { ready }
    }

    /// Whether any endpoint of the Service, on whatever node, could take the flow.
    pub(super) fn is_usable(&self, entry: &Entry, asked: &Asked) -> bool {
        let Some((service, _)) = self.find(entry, asked) else { return false };
        service.reachable(asked, None).any(|e| e.ready || e.serving && e.terminating)
    }

    /// Whether a flow that opened to `at` may stay there: a connection while that is listed, datagrams while it serves where the
    /// traffic policy lets them go.
    pub(super) fn may_stay(&self, entry: &Entry, asked: &Asked, at: SocketAddr) -> bool {
        let Some((service, confined)) = self.find(entry, asked) else { return false };
        match asked.is_tcp {
            true => service.reachable(asked, None).any(|e| e.at == at),
            false => service.reachable(asked, confined).any(|e| e.at == at && (e.ready || e.serving)),
        }
    }
}

impl Service {
    fn reachable<'a>(&'a self, asked: &'a Asked, on: Option<&'a str>) -> impl Iterator<Item = &'a Endpoint> {
        let of_kind = |e: &&Endpoint| e.is_tcp == asked.is_tcp && e.at.is_ipv4() == asked.to.is_ipv4();
        self.endpoints.iter().filter(of_kind).filter(move |e| on.is_none_or(|node| e.node == node))
    }

    /// Whether `addr` is ready for everybody, so that no client has a reason to leave it.
    pub(super) fn is_steady(&self, addr: IpAddr) -> bool {
        let ready = self.endpoints.iter().any(|e| e.at.ip() == addr && e.ready);
        ready && self.affinity.is_some() && !self.inside_local && !self.outside_local
    }
}

fn service(name: &str, object: &Value) -> Service {
    let spec = &object["spec"];
    let port = |number: &Value| number.as_u64().map(|number| number as u16);
    let ports = items(&spec["ports"]).iter().map(|p| (p["protocol"] != "UDP", port(&p["port"]), port(&p["nodePort"])));
    let seconds = &spec["sessionAffinityConfig"]["clientIP"]["timeoutSeconds"];
    Service {
        name: name.to_owned(),
        addresses: items(&spec["clusterIPs"]).iter().filter_map(address).collect(),
        affinity: (spec["sessionAffinity"] == "ClientIP").then(|| seconds.as_u64().unwrap_or(10_800)),
        inside_local: spec["internalTrafficPolicy"] == "Local",
        outside_local: spec["externalTrafficPolicy"] == "Local",
        ports: ports.filter_map(|(tcp, port, node_port)| Some((tcp, port?, node_port))).collect(),
        endpoints: Vec::new(),
    }
}

fn endpoints(slice: &Value) -> Vec<Endpoint> {
    let mut found = Vec::new();
    for port in items(&slice["ports"]) {
        for endpoint in items(&slice["endpoints"]) {
            let condition = |name: &str| endpoint["conditions"][name] == true;
            for addr in items(&endpoint["addresses"]).iter().filter_map(address) {
                found.push(Endpoint {
                    at: SocketAddr::new(addr, port["port"].as_u64().expect("a number") as u16),
                    is_tcp: port["protocol"] != "UDP",
                    node: text(&endpoint["nodeName"]),
                    ready: condition("ready"),
                    serving: condition("serving"),
                    terminating: condition("terminating"),
                });
            }
        }
    }
    found
}
