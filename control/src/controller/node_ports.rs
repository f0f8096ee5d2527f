//! nodePorts and healthCheckNodePorts of Services.
//!
//! As the API server does it: Services of type NodePort and LoadBalancer get a nodePort per port unless
//! allocateLoadBalancerNodePorts is false, two ports of one number and different protocols share one, and a LoadBalancer with
//! externalTrafficPolicy Local gets a port for health checks (KEP-1669). A number that a Service states is claimed first, then
//! the ones that it had before; the rest begin to look where a hash of the name points, so that a number does not depend on
//! which Service came first and comes back with a Service that was deleted.

use super::{Key, Problems, load_balancers};
use crate::hash::fnv1a;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// The API server's default range (`--service-node-port-range`).
const RANGE: RangeInclusive<u16> = 30_000..=32_767;

/// First number that is given without being asked for: those below are left to people who choose one. The band of KEP-3668 for
/// a range of this size: a 32nd of it, between 16 and 128.
const FIRST_DYNAMIC: u16 = 30_000 + 86;

/// Completes all Services. One whose number cannot be had is refused and removed from `services`.
pub(super) fn fill(services: &mut BTreeMap<Key, Service>, previous: &BTreeMap<Key, Service>, problems: &mut Problems) {
    let mut allocator = Allocator::default();
    services.retain(|key, service| {
        for (field, number) in allocator.outside(service) {
            let reason = format!(
                "{number} is outside of {}-{}, the API server's default range: taken as it is, a cluster may refuse it",
                RANGE.start(),
                RANGE.end()
            );
            problems.warn("Service", &service.metadata, &field, &reason);
        }
        let claimed = allocator.claim_stated(key, service);
        keep_unless_refused(service, claimed, problems)
    });
    for (key, service) in services.iter_mut() {
        if let Some(before) = previous.get(key) {
            allocator.claim_previous(key, service, before);
        }
    }
    services.retain(|key, service| {
        let completed = allocator.complete(key, service);
        keep_unless_refused(service, completed, problems)
    });
}

type Refusal = (String, String);

fn keep_unless_refused(service: &Service, result: Result<(), Refusal>, problems: &mut Problems) -> bool {
    match result {
        Ok(()) => true,
        Err((field, reason)) => {
            problems.refuse("Service", &service.metadata, &field, &reason);
            false
        }
    }
}

/// Whether the Service is of a type that has nodePorts.
fn has_node_ports(spec: &ServiceSpec) -> bool {
    matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"))
}

/// Whether nodePorts are given that the Service does not state.
fn wants_node_ports(spec: &ServiceSpec) -> bool {
    let is_balancer = spec.type_.as_deref() == Some("LoadBalancer");
    has_node_ports(spec) && !(is_balancer && spec.allocate_load_balancer_node_ports == Some(false))
}

/// Whether the Service is to be given a nodePort.
pub(super) fn lacks_number(service: &Service) -> bool {
    let Some(spec) = &service.spec else { return false };
    wants_node_ports(spec) && spec.ports.iter().flatten().any(|port| stated(port.node_port).is_none())
}

fn wants_health_check(spec: &ServiceSpec) -> bool {
    load_balancers::is_load_balancer(spec) && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn protocol(port: &ServicePort) -> &str {
    port.protocol.as_deref().unwrap_or("TCP")
}

/// A number that is stated; 0 and nothing are both "give me one".
fn stated(number: Option<i32>) -> Option<u16> {
    u16::try_from(number?).ok().filter(|number| *number != 0)
}

#[derive(Default)]
struct Allocator {
    /// Who has a number, by protocol. Health checks are TCP.
    owners: BTreeMap<(u16, String), Key>,
}

impl Allocator {
    fn outside(&self, service: &Service) -> Vec<(String, u16)> {
        let Some(spec) = service.spec.as_ref().filter(|spec| has_node_ports(spec)) else { return Vec::new() };
        let ports = spec.ports.iter().flatten().enumerate();
        let numbers = ports.filter_map(|(index, port)| Some((field(index), stated(port.node_port)?)));
        numbers.filter(|(_, number)| !RANGE.contains(number)).collect()
    }

    fn claim_stated(&mut self, key: &Key, service: &Service) -> Result<(), Refusal> {
        let Some(spec) = service.spec.as_ref().filter(|spec| has_node_ports(spec)) else { return Ok(()) };
        let mut wishes = Vec::new();
        for (index, port) in spec.ports.iter().flatten().enumerate() {
            if let Some(number) = stated(port.node_port) {
                wishes.push((field(index), number, protocol(port)));
            }
        }
        if let Some(number) = stated(spec.health_check_node_port).filter(|_| wants_health_check(spec)) {
            wishes.push(("spec.healthCheckNodePort".to_owned(), number, "TCP"));
        }
        for (position, (field, number, protocol)) in wishes.iter().enumerate() {
            let twice = wishes[..position].iter().any(|(_, n, p)| (n, p) == (number, protocol));
            let owner = self.owners.get(&(*number, (*protocol).to_owned()));
            let holder = match owner {
                _ if twice => "another port of this Service".to_owned(),
                Some((namespace, name)) => format!("Service {namespace}/{name}"),
                None => continue,
            };
            let reason = format!("{protocol} port {number} is already a port of {holder}: state another one, or none");
            return Err((field.clone(), reason));
        }
        for (_, number, protocol) in wishes {
            self.own(key, number, protocol);
        }
        Ok(())
    }

    fn claim_previous(&mut self, key: &Key, service: &mut Service, before: &Service) {
        let (Some(spec), Some(before)) = (service.spec.as_mut(), before.spec.as_ref()) else { return };
        if wants_node_ports(spec) {
            for port in spec.ports.iter_mut().flatten().filter(|port| stated(port.node_port).is_none()) {
                let Some(number) = number_before(port, before) else { continue };
                if self.is_free_for(key, number, protocol(port)) {
                    self.own(key, number, protocol(port));
                    port.node_port = Some(number.into());
                }
            }
        }
        if wants_health_check(spec)
            && stated(spec.health_check_node_port).is_none()
            && let Some(number) = stated(before.health_check_node_port)
            && self.is_free(number)
        {
            self.own(key, number, "TCP");
            spec.health_check_node_port = Some(number.into());
        }
    }

    fn complete(&mut self, key: &Key, service: &mut Service) -> Result<(), Refusal> {
        let Some(spec) = service.spec.as_mut() else { return Ok(()) };
        if wants_node_ports(spec) {
            let ports = spec.ports.get_or_insert_default();
            for index in 0..ports.len() {
                if stated(ports[index].node_port).is_some() {
                    continue;
                }
                let own = protocol(&ports[index]).to_owned();
                let shared = ports.iter().filter(|port| port.port == ports[index].port && protocol(port) != own);
                let shared = shared.filter_map(|port| stated(port.node_port)).find(|n| self.is_free_for(key, *n, &own));
                let wish = ["nodePort", &key.0, &key.1, &ports[index].port.to_string()];
                let number = shared.or_else(|| self.find_free(&wish)).ok_or_else(|| full(field(index)))?;
                self.own(key, number, &own);
                ports[index].node_port = Some(number.into());
            }
        }
        if wants_health_check(spec) && stated(spec.health_check_node_port).is_none() {
            let wish = ["healthCheckNodePort", &key.0, &key.1];
            let number = self.find_free(&wish).ok_or_else(|| full("spec.healthCheckNodePort".to_owned()))?;
            self.own(key, number, "TCP");
            spec.health_check_node_port = Some(number.into());
        }
        Ok(())
    }

    fn own(&mut self, key: &Key, number: u16, protocol: &str) {
        self.owners.insert((number, protocol.to_owned()), key.clone());
    }

    /// Whether nobody has `number` in any protocol.
    fn is_free(&self, number: u16) -> bool {
        self.holders(number).next().is_none()
    }

    /// Whether `key` may have `number` for `protocol`: nobody has it, or `key` itself for other protocols.
    fn is_free_for(&self, key: &Key, number: u16, protocol: &str) -> bool {
        self.holders(number).all(|(held, holder)| holder == key && held != protocol)
    }

    fn holders(&self, number: u16) -> impl Iterator<Item = (&str, &Key)> {
        let entries = self.owners.range((number, String::new())..);
        let entries = entries.take_while(move |((other, _), _)| *other == number);
        entries.map(|((_, protocol), holder)| (protocol.as_str(), holder))
    }

    /// A free number: from where the hash of `wish` points upwards, around the end, then the band that is kept for people.
    fn find_free(&self, wish: &[&str]) -> Option<u16> {
        let dynamic = RANGE.end() - FIRST_DYNAMIC + 1;
        let start = FIRST_DYNAMIC + (fnv1a(wish) % u128::from(dynamic)) as u16;
        let mut order = (start..=*RANGE.end()).chain(FIRST_DYNAMIC..start).chain(*RANGE.start()..FIRST_DYNAMIC);
        order.find(|number| self.is_free(*number))
    }
}

/// The nodePort that `port` had, known again by number and protocol, else by name and protocol.
fn number_before(port: &ServicePort, before: &ServiceSpec) -> Option<u16> {
    let same_protocol = || before.ports.iter().flatten().filter(|other| protocol(other) == protocol(port));
    let same_name = |other: &&ServicePort| other.name == port.name && port.name.is_some();
    let found = same_protocol().find(|other| other.port == port.port).or_else(|| same_protocol().find(same_name));
    stated(found?.node_port)
}

fn field(index: usize) -> String {
    format!("spec.ports[{index}].nodePort")
}

fn full(field: String) -> Refusal {
    (
        field,
        format!(
            "every port from {} to {} is taken: delete a Service or state another port",
            RANGE.start(),
            RANGE.end()
        ),
    )
}
