//! What the agent does for traffic from outside, beside handing tables to the dataplane: routes of the node to the addresses of
//! Services, health servers, announcements, and telling why a port is not served here.
//!
//! None of it can keep tables from coming in force: what does not work is a problem of the Service or node that it concerns,
//! and is tried again.

use super::Agent;
use super::intent::Intent;
use crate::announce::{Announcements, Announcer, AnnouncerConfig};
use crate::health::{HealthPlan, HealthServers, ServiceHealth, Unserved};
use crate::holder;
use crate::log::{Level, event};
use ipnet::IpNet;
use k8s_openapi::api::core::v1::Service;
use node::{ClaimFailure, Dataplane};
use policy::cluster::Key;
use policy::objects::{ObjectRef, Problem, Severity, Source, Sourced};
use policy::tables::{NodeIndex, ServiceIndex, Tables};
use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use wire::Protocol;

/// What runs for the outside.
#[derive(Default)]
pub(super) struct Outside {
    announcer: Option<Announcer>,
    health: Option<HealthServers>,
    /// Where the node's routes lead that are set.
    routes: Vec<IpNet>,
    /// Services that a port of this node could not be had for.
    concerned: BTreeMap<Key, Sourced<Arc<Service>>>,
    /// Pods that a hostPort of this node could not be had for.
    concerned_pods: BTreeMap<Key, Source>,
    /// What was told about ports that could not be had.
    told: Vec<Problem>,
}

impl Agent {
    fn outside(&self) -> MutexGuard<'_, Outside> {
        // Whoever panics with the lock held leaves at worst a server that the next change starts.
        let outside: &Mutex<Outside> = &self.outside;
        outside.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Follows tables that have come in force; what could not be had for Services, by file and field.
    pub(super) fn open_to_outside(
        &self,
        dataplane: &Arc<Dataplane>,
        tables: &Tables,
        failures: &[ClaimFailure],
        intent: &Intent,
    ) -> Vec<Problem> {
        let mut outside = self.outside();
        self.set_routes(&mut outside, dataplane, tables);
        self.announce(&mut outside, dataplane, tables);
        let own = tables.find_node(&self.config.node_name);
        let plan = self.health_plan(tables, own);
        let health_services = plan.services.clone();
        let unserved = self.serve_health(&mut outside, plan);
        let named = |failure: &ClaimFailure| (failure.namespace.clone(), failure.name.clone());
        let pods = failures.iter().filter(|failure| failure.host_port.is_some()).map(named);
        outside.concerned_pods = pods.filter_map(|name| intent.source_of_pod(&name).map(|pod| (name, pod))).collect();
        let names = failures.iter().filter(|failure| failure.host_port.is_none()).map(named);
        let unhealthy = unserved.iter().filter_map(|unserved| health_services.get(&unserved.socket.port()));
        let names = names.chain(unhealthy.map(|service| (service.namespace.clone(), service.name.clone())));
        outside.concerned =
            names.filter_map(|name| intent.find_service(&name).map(|service| (name, service))).collect();
        outside.told = self.tell(&outside, failures, &unserved, &health_services);
        outside.told.clone()
    }

    /// Tries again what could not be had. Gives what was told before and what is to be told now, if that is something else.
    pub(super) fn retry_outside(
        &self,
        dataplane: &Dataplane,
        tables: &Arc<Tables>,
    ) -> Option<(Vec<Problem>, Vec<Problem>)> {
        let mut outside = self.outside();
        if outside.told.is_empty() {
            return None;
        }
        // The tables are those in force: only the ports are tried again.
        let failures = dataplane.set_policy(tables.clone()).ok()?;
        let plan = self.health_plan(tables, tables.find_node(&self.config.node_name));
        let health_services = plan.services.clone();
        let unserved = self.serve_health(&mut outside, plan);
        let now = self.tell(&outside, &failures, &unserved, &health_services);
        let before = std::mem::replace(&mut outside.told, now.clone());
        (before != now).then_some((before, now))
    }

    /// Before the first tables: the node does not take traffic, and says so.
    pub(super) fn serve_health_early(&self) {
        let node = self.config.healthz_listen;
        let plan = HealthPlan { node, eligible: true, ..HealthPlan::default() };
        let unserved = self.serve_health(&mut self.outside(), plan);
        for Unserved { socket, error } in unserved {
            event(Level::Warn, "the node's health is not served yet", &[("socket", &socket), ("reason", &error)]);
        }
    }

    /// Ends everything, and tells the other nodes to take over at once, unless another process may follow.
    pub(super) fn close_to_outside(&self) {
        let mut outside = self.outside();
        outside.announcer = None;
        outside.health = None;
    }

    /// Who announces what.
    pub(super) fn announcements(&self) -> Announcements {
        self.outside().announcer.as_ref().map(Announcer::announcements).unwrap_or_default()
    }

    /// The node itself reaches pods and Services through its TAP. A route that cannot be set is no reason to keep policies
    /// from coming in force.
    fn set_routes(&self, outside: &mut Outside, dataplane: &Dataplane, tables: &Tables) {
        let pod_cidrs = tables.nodes.iter().flat_map(|node| node.pod_cidrs.iter().copied());
        let of_services = tables.services_with_ports().flat_map(|(entry, _)| {
            let addresses = entry.load_balancer_ips.iter().chain(&entry.external_ips);
            // An address that is a node's own is reached as that.
            addresses.copied().filter(|address| tables.is_virtual(*address)).map(IpNet::from).collect::<Vec<_>>()
        });
        let dns = self.config.cluster_dns.iter().flat_map(|dns| &dns.addresses).copied();
        let service_cidrs = &self.config.service_cidrs;
        let outside_them = |addr: &IpAddr| !service_cidrs.iter().any(|cidr| cidr.contains(addr));
        let dns = dns.filter(|addr| tables.is_cluster_dns(*addr)).filter(outside_them).map(IpNet::from);
        let mut routes: Vec<IpNet> =
            pod_cidrs.chain(service_cidrs.iter().copied()).chain(of_services).chain(dns).collect();
        routes.sort();
        routes.dedup();
        if routes == outside.routes {
            return;
        }
        match dataplane.set_routes(&routes) {
            Ok(()) => outside.routes = routes,
            Err(error) => event(Level::Error, "routes of the node are not complete", &[("reason", &error)]),
        }
    }

    fn announce(&self, outside: &mut Outside, dataplane: &Arc<Dataplane>, tables: &Tables) {
        if outside.announcer.is_none() {
            let config = AnnouncerConfig {
                node_name: self.config.node_name.clone(),
                addresses: dataplane.config().underlay.clone(),
                port: self.config.heartbeat_port,
                vni: self.config.vni,
                is_succeeded: self.config.state_dir.is_some(),
            };
            match Announcer::start(config, dataplane.clone()) {
                Ok(announcer) => outside.announcer = Some(announcer),
                Err(error) => event(Level::Error, "LoadBalancer addresses are not announced", &[("reason", &error)]),
            }
        }
        if let Some(announcer) = &outside.announcer {
            announcer.set_tables(tables, &self.config.node_name);
        }
    }

    fn health_plan(&self, tables: &Tables, own: Option<NodeIndex>) -> HealthPlan {
        let ports = (0u32..).map(ServiceIndex).zip(tables.services.iter()).filter_map(|(index, slot)| {
            let port = slot.entry.health_check_node_port?;
            let health = ServiceHealth {
                namespace: slot.entry.namespace.clone(),
                name: slot.entry.name.clone(),
                local_endpoints: own.map_or(0, |own| tables.local_ready_endpoints(index, own)),
            };
            Some((port, health))
        });
        let ranges = &self.config.nodeport_addresses;
        let addresses: Vec<IpAddr> = own.map(|own| tables.node_port_addresses(own).collect()).unwrap_or_default();
        HealthPlan {
            services: ports.collect(),
            addresses: if ranges.is_empty() { Vec::new() } else { addresses },
            node: self.config.healthz_listen,
            healthy: true,
            eligible: own.is_none_or(|own| !tables.node(own).being_deleted),
        }
    }

    fn serve_health(&self, outside: &mut Outside, plan: HealthPlan) -> Vec<Unserved> {
        if outside.health.is_none() {
            match HealthServers::start() {
                Ok(servers) => outside.health = Some(servers),
                Err(error) => event(Level::Error, "health checks are not answered", &[("reason", &error)]),
            }
        }
        outside.health.as_mut().map(|servers| servers.set(plan)).unwrap_or_default()
    }

    /// Problems of ports of this node, one for each Service and port.
    fn tell(
        &self,
        outside: &Outside,
        failures: &[ClaimFailure],
        unserved: &[Unserved],
        health_services: &BTreeMap<u16, ServiceHealth>,
    ) -> Vec<Problem> {
        let mut problems: Vec<Problem> = Vec::new();
        let mut add = |problem: Problem| {
            if !problems.iter().any(|known| (&known.object, &known.field) == (&problem.object, &problem.field)) {
                problems.push(problem);
            }
        };
        for failure in failures {
            let ClaimFailure { host_port, namespace, name, protocol, address, port, error } = failure;
            if let Some(field) = host_port {
                let end = End { protocol: *protocol, address: *address, port: *port };
                let message = end.tell(*error, "so it is not served to the outside here", "give the pod another port");
                let object = ObjectRef::new("Pod", &**namespace, &**name);
                add(match outside.concerned_pods.get(&(namespace.clone(), name.clone())) {
                    Some(source) => Problem::of(source, object, &**field, message, Severity::Warning),
                    None => Problem { object: Some(object), field: field.to_string(), ..self.problem(message) },
                });
                continue;
            }
            let service = outside.concerned.get(&(namespace.clone(), name.clone()));
            let field = service.map(|service| port_field(&service.object, *protocol, *port)).unwrap_or_default();
            let end = End { protocol: *protocol, address: *address, port: *port };
            let message = end.tell(*error, "so it is not served to the outside here", "give the Service another port");
            add(self.service_problem(service, namespace, name, &field, message));
        }
        for Unserved { socket, error } in unserved {
            let end = End { protocol: Protocol::TCP, address: socket.ip(), port: socket.port() };
            let loss = "so load balancers cannot ask it";
            match health_services.get(&socket.port()) {
                Some(ServiceHealth { namespace, name, .. }) => {
                    let service = outside.concerned.get(&(namespace.clone(), name.clone()));
                    let message = end.tell(error.kind(), loss, "give the Service another port for health checks");
                    add(self.service_problem(service, namespace, name, "spec.healthCheckNodePort", message));
                }
                None => {
                    let message = end.tell(error.kind(), loss, "choose another one with --healthz-listen");
                    add(self.problem(format!("health of the node: {message}")));
                }
            }
        }
        problems
    }

    fn service_problem(
        &self,
        service: Option<&Sourced<Arc<Service>>>,
        namespace: &str,
        name: &str,
        field: &str,
        message: String,
    ) -> Problem {
        let object = ObjectRef::new("Service", namespace, name);
        match service {
            Some(service) => Problem::of(&service.source, object, field, message, Severity::Warning),
            None => Problem { object: Some(object), field: field.to_owned(), ..self.problem(message) },
        }
    }
}

/// The field of a Service that says which port it was.
fn port_field(service: &Service, protocol: Protocol, number: u16) -> String {
    let ports = || service.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).enumerate();
    let same = |port: &k8s_openapi::api::core::v1::ServicePort| {
        port.protocol.as_deref().unwrap_or("TCP") == protocol.to_string()
    };
    let number = i32::from(number);
    let as_node_port = ports().find(|(_, port)| same(port) && port.node_port == Some(number));
    let as_port = || ports().find(|(_, port)| same(port) && port.port == number);
    match (as_node_port, as_port()) {
        (Some((index, _)), _) => format!("spec.ports[{index}].nodePort"),
        (None, Some((index, _))) => format!("spec.ports[{index}].port"),
        (None, None) => "spec.ports".to_owned(),
    }
}

/// A port of this node.
struct End {
    protocol: Protocol,
    address: IpAddr,
    port: u16,
}

impl End {
    /// What the kernel said about it, what is lost, and what to do.
    fn tell(&self, error: io::ErrorKind, loss: &str, advice: &str) -> String {
        let End { protocol, address, port } = self;
        if error != io::ErrorKind::AddrInUse {
            return format!("{protocol} port {port} of this node cannot be had ({error}), {loss}");
        }
        let holder = holder::find(*protocol, *address, *port);
        let holder = holder.as_deref().unwrap_or("another process");
        format!("{protocol} port {port} of this node is in use by {holder}, {loss}: stop that process, or {advice}")
    }
}
