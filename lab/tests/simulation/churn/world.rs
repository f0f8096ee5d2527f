//! Random Services whose endpoints change: as manifests, and random changes to them.

use lab::sim::Random;
use serde_json::{Value, json};
use std::ops::RangeInclusive;

/// Pods that may be endpoints, half of them on each node.
const SLOTS: usize = 6;
const SERVICES: usize = 3;
pub(super) const NAMESPACE: &str = "churn";
/// Every Service answers here.
pub(super) const SERVICE_PORT: u16 = 80;
/// A nodePort per Service, if it has one.
pub(super) const NODE_PORT_BASE: u16 = 30_080;
/// The servers of all Services; every pod listens on all of them.
pub(super) const SERVER_PORTS: RangeInclusive<u16> = 8_000..=8_000 + SERVICES as u16 - 1;

/// How an endpoint is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Unready,
    /// Serving and terminating.
    Draining,
    /// Terminating, and not serving any more.
    Leaving,
}

#[derive(Clone, Debug)]
struct Service {
    exists: bool,
    is_node_port: bool,
    inside_local: bool,
    outside_local: bool,
    affinity: Option<u64>,
    /// By slot; `None` is not listed.
    endpoints: [Option<State>; SLOTS],
    /// What it had before it was scaled to zero.
    before: Option<[Option<State>; SLOTS]>,
}

/// The objects that a person, an EndpointSlice controller and kubelets would write.
pub(super) struct World {
    random: Random,
    services: Vec<Service>,
    /// How many pods had the slot's addresses before.
    replaced: [u32; SLOTS],
}

impl World {
    pub(super) fn new(mut random: Random) -> World {
        let mut services = Vec::new();
        for _ in 0..SERVICES {
            let endpoints = [(); SLOTS].map(|()| random.chance(600).then_some(State::Ready));
            services.push(Service {
                exists: true,
                is_node_port: random.chance(600),
                inside_local: random.chance(200),
                outside_local: random.chance(400),
                affinity: random.chance(400).then_some(30),
                endpoints,
                before: None,
            });
        }
        World { random, services, replaced: [0; SLOTS] }
    }

    pub(super) fn service_name(index: usize) -> String {
        format!("svc{index}")
    }

    /// Changes something; says what.
    pub(super) fn change(&mut self) -> String {
        let index = self.random.below(SERVICES as u64) as usize;
        let slot = self.random.below(SLOTS as u64) as usize;
        let service = &mut self.services[index];
        let name = World::service_name(index);
        match self.random.below(14) {
            0..=5 => {
                let states =
                    [Some(State::Ready), Some(State::Unready), Some(State::Draining), Some(State::Leaving), None];
                service.endpoints[slot] = *self.random.pick(&states);
                service.before = None;
                format!("{name}: slot {slot} is {:?}", service.endpoints[slot])
            }
            6 => match service.before.take() {
                Some(before) => {
                    service.endpoints = before;
                    format!("{name}: scaled back to {before:?}")
                }
                None => {
                    service.before = Some(std::mem::replace(&mut service.endpoints, [None; SLOTS]));
                    format!("{name}: scaled to zero")
                }
            },
            7 => {
                // A rolling update: what was there drains, what was not is ready.
                service.endpoints = service.endpoints.map(|state| match state {
                    Some(State::Ready) => Some(State::Draining),
                    None => Some(State::Ready),
                    Some(_) => None,
                });
                format!("{name}: rolled to {:?}", service.endpoints)
            }
            8 | 9 => {
                service.exists = !service.exists;
                format!("{name}: exists: {}", service.exists)
            }
            10 => {
                self.replaced[slot] += 1;
                if self.random.chance(500) {
                    self.services.iter_mut().for_each(|service| service.endpoints[slot] = None);
                }
                format!("another pod in slot {slot}, listed: {:?}", self.services.iter().map(|s| s.endpoints[slot]))
            }
            11 => {
                service.is_node_port = !service.is_node_port;
                format!("{name}: NodePort: {}", service.is_node_port)
            }
            12 => {
                service.inside_local = self.random.chance(400);
                service.outside_local = self.random.chance(400);
                format!("{name}: inside Local {}, outside Local {}", service.inside_local, service.outside_local)
            }
            _ => {
                service.affinity = *self.random.pick(&[None, Some(1), Some(30)]);
                format!("{name}: affinity {:?}", service.affinity)
            }
        }
    }

    /// All objects as one manifest.
    pub(super) fn manifest(&self) -> String {
        let mut objects = Vec::new();
        for node in 1..=2 {
            objects.push(pod(&format!("client{node}"), node, 100));
        }
        for slot in 0..SLOTS {
            objects.push(pod(&format!("back{slot}-{}", self.replaced[slot]), node_of(slot), host_of(slot)));
        }
        for (index, service) in self.services.iter().enumerate().filter(|(_, service)| service.exists) {
            objects.push(service_object(index, service));
            objects.extend([true, false].map(|ipv4| slice(index, service, ipv4)));
        }
        let documents: Vec<String> = objects.iter().map(Value::to_string).collect();
        documents.join("\n---\n")
    }
}

fn node_of(slot: usize) -> usize {
    1 + slot % 2
}

fn host_of(slot: usize) -> usize {
    20 + slot
}

fn address(node: usize, host: usize, ipv4: bool) -> String {
    if ipv4 { format!("10.244.{node}.{host}") } else { format!("fd00:10:244:{node}::{host}") }
}

fn pod(name: &str, node: usize, host: usize) -> Value {
    let ports = SERVER_PORTS.flat_map(|port| ["TCP", "UDP"].map(|p| json!({"containerPort": port, "protocol": p})));
    let ports: Vec<Value> = ports.collect();
    let addresses = [true, false].map(|ipv4| json!({"ip": address(node, host, ipv4)}));
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"nodeName": format!("node{node}"), "containers": [{"name": "main", "image": "none", "ports": ports}]},
        "status": {"podIPs": addresses},
    })
}

fn service_object(index: usize, service: &Service) -> Value {
    let policy = |local: bool| if local { "Local" } else { "Cluster" };
    let port = |protocol: &str| {
        let mut port = json!({"name": protocol.to_lowercase(), "protocol": protocol, "port": SERVICE_PORT});
        if service.is_node_port {
            port["nodePort"] = json!(NODE_PORT_BASE + index as u16);
        }
        port
    };
    let ports = ["TCP", "UDP"].map(port);
    let mut spec = json!({
        "ports": ports, "ipFamilyPolicy": "RequireDualStack",
        "internalTrafficPolicy": policy(service.inside_local),
    });
    if service.is_node_port {
        spec["type"] = json!("NodePort");
        spec["externalTrafficPolicy"] = json!(policy(service.outside_local));
    }
    if let Some(seconds) = service.affinity {
        spec["sessionAffinity"] = json!("ClientIP");
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": seconds}});
    }
    let metadata = json!({"name": World::service_name(index), "namespace": NAMESPACE});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}

fn slice(index: usize, service: &Service, ipv4: bool) -> Value {
    let family = if ipv4 { "IPv4" } else { "IPv6" };
    let name = World::service_name(index);
    let endpoint = |(slot, state): (usize, &Option<State>)| {
        let state = (*state)?;
        let (serving, terminating) = match state {
            State::Ready => (true, false),
            State::Unready => (false, false),
            State::Draining => (true, true),
            State::Leaving => (false, true),
        };
        Some(json!({
            "addresses": [address(node_of(slot), host_of(slot), ipv4)], "nodeName": format!("node{}", node_of(slot)),
            "conditions": {"ready": state == State::Ready, "serving": serving, "terminating": terminating},
        }))
    };
    let endpoints: Vec<Value> = service.endpoints.iter().enumerate().filter_map(endpoint).collect();
    let server = SERVER_PORTS.start() + index as u16;
    let ports = ["TCP", "UDP"].map(|p| json!({"name": p.to_lowercase(), "protocol": p, "port": server}));
    let labels = json!({"kubernetes.io/service-name": name});
    let metadata =
        json!({"name": format!("{name}-{}", family.to_lowercase()), "namespace": NAMESPACE, "labels": labels});
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
        "addressType": family, "endpoints": endpoints, "ports": ports,
    })
}
