//! Services in the shape of [`crate::api`].

use super::owner_text;
use crate::agent::Agent;
use crate::api::{ApiError, Service, ServiceAddress, ServiceBackend, ServiceHits, ServicePort};
use policy::tables::{Backend, FrontendKind, NodeIndex, ServiceEntry, ServicePortId, ServicePortIndex, Tables};
use std::collections::BTreeMap;
use std::net::IpAddr;

impl Agent {
    /// All Services that have addresses.
    pub(crate) fn services(&self) -> Result<Vec<Service>, ApiError> {
        let (running, tables) = self.running()?;
        let hits = running.service_hits().into_iter().collect();
        let announced = self.announcements().owners;
        let view = View { own: tables.find_node(&self.config.node_name), tables: &tables, announced, hits };
        Ok(tables.services_with_ports().map(|(entry, ports)| view.service(entry, ports)).collect())
    }
}

struct View<'a> {
    tables: &'a Tables,
    own: Option<NodeIndex>,
    /// Which node announces which address.
    announced: BTreeMap<IpAddr, String>,
    hits: BTreeMap<ServicePortId, switch::ServiceHits>,
}

impl View<'_> {
    fn service(&self, entry: &ServiceEntry, ports: impl Iterator<Item = ServicePortIndex>) -> Service {
        let mut addresses: Vec<ServiceAddress> = Vec::new();
        let mut shown = Vec::new();
        for port in ports {
            for (address, kind) in self.tables.frontends(port) {
                if !addresses.iter().any(|known| known.address == address) {
                    addresses.push(self.address(address, kind));
                }
            }
            shown.push(self.port(port));
        }
        Service {
            namespace: entry.namespace.to_string(),
            name: entry.name.to_string(),
            type_: entry.service_type.to_string(),
            addresses,
            ports: shown,
            affinity_seconds: entry.affinity.map(|timeout| timeout.as_secs()),
            external_traffic_policy: entry.external_policy.to_string(),
            internal_traffic_policy: entry.internal_policy.to_string(),
            traffic_distribution: entry.traffic_distribution.as_deref().map(str::to_owned),
            health_check_node_port: entry.health_check_node_port,
            source_ranges: entry.source_ranges.clone(),
            connect_retry_ms: entry.connect_retry.map(|after| after.as_millis() as u64),
        }
    }

    fn address(&self, address: IpAddr, kind: FrontendKind) -> ServiceAddress {
        let announced_by = self.announced.get(&address).filter(|_| kind == FrontendKind::LoadBalancer).cloned();
        ServiceAddress { address, kind: kind.to_string(), announced_by }
    }

    fn port(&self, index: ServicePortIndex) -> ServicePort {
        let entry = self.tables.service(index);
        let hits = self.hits.get(&entry.id).copied().unwrap_or_default();
        ServicePort {
            name: entry.port_name.to_string(),
            protocol: entry.protocol.to_string(),
            port: entry.port,
            node_port: entry.node_port.filter(|_| self.tables.has_node_port(index)),
            backends: entry.backends().map(|backend| self.backend(backend)).collect(),
            hits: ServiceHits { opened: hits.opened, refused: hits.refused, retried: hits.retried },
        }
    }

    fn backend(&self, backend: &Backend) -> ServiceBackend {
        ServiceBackend {
            address: backend.addr,
            port: backend.port,
            owner: owner_text(backend.addr, self.tables),
            node: backend.node().map(|node| self.tables.node(node).name.to_string()),
            local: backend.is_on(self.own),
            state: backend.state.as_str().to_owned(),
        }
    }
}
