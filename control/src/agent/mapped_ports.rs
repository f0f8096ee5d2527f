//! Ports of the node that a runtime maps into a sandbox: a port that nobody would reach is refused, so that a runtime does not call it
//! published.

use super::leases::host_ports_of;
use super::{Agent, State};
use crate::api::{ApiError, ErrorCode};
use crate::sandboxes::Record;
use node::ClaimFailure;
use policy::cluster::HostPort;
use policy::tables::{FrontendKind, Tables};
use std::net::IpAddr;

/// What podman does unless it is told otherwise.
const PODMAN_ADVICE: &str =
    "podman holds published ports itself unless containers.conf has enable_port_reservation=false";

impl Agent {
    /// Refuses ports that another pod or a Service has. To be asked before the tables know the sandbox: they might take a port from
    /// who has it.
    pub(super) fn check_ports_are_free(&self, record: &Record) -> Result<(), ApiError> {
        self.check_ports(record, |tables, port, address| {
            let holder = holder(tables, port, address, record)?;
            Some(format!("is taken by {holder}"))
        })
    }

    /// Refuses ports that the tables in force do not lead into the sandbox, or that the kernel did not give.
    pub(super) fn check_ports_are_served(&self, record: &Record, failures: &[ClaimFailure]) -> Result<(), ApiError> {
        let is_asked = |failure: &&ClaimFailure| {
            (&*failure.namespace, &*failure.name) == (&*record.pod.namespace, &*record.pod.name)
                && host_ports_of(record).any(|port| (port.protocol, port.port) == (failure.protocol, failure.port))
        };
        if let Some(failure) = failures.iter().find(is_asked) {
            return refuse(format!("{failure}; {PODMAN_ADVICE}"));
        }
        self.check_ports(record, |tables, port, address| {
            if let Some(holder) = holder(tables, port, address, record) {
                return Some(format!("is taken by {holder}"));
            }
            let found = tables.find_service(address, port.protocol, port.port);
            found.is_none().then(|| "is not served: see `podplane status` for the reason".to_owned())
        })
    }

    /// Refuses the first port of which `wrong` says something at one of the node's addresses that it is asked for on.
    fn check_ports(
        &self,
        record: &Record,
        wrong: impl Fn(&Tables, &HostPort, IpAddr) -> Option<String>,
    ) -> Result<(), ApiError> {
        let Some((tables, addresses)) = self.node_addresses(&self.lock()) else { return Ok(()) };
        for port in host_ports_of(record) {
            let HostPort { host_ip, protocol, port: number, .. } = &port;
            let mut asked = addresses
                .iter()
                .filter(|address| port.is_on(**address))
                .filter(|address| record.addresses.iter().any(|own| own.is_ipv4() == address.is_ipv4()))
                .peekable();
            if asked.peek().is_none() {
                let on = host_ip.map_or_else(|| "any address".to_owned(), |address| address.to_string());
                let own: Vec<String> = addresses.iter().map(ToString::to_string).collect();
                return refuse(format!(
                    "portMappings: {protocol} port {number} on {on} cannot be served: node {} has the addresses {}",
                    self.config.node_name,
                    own.join(", ")
                ));
            }
            if let Some(what) = asked.find_map(|address| wrong(&tables, &port, *address)) {
                let node = &self.config.node_name;
                return refuse(format!("portMappings: {protocol} port {number} of node {node} {what}"));
            }
        }
        Ok(())
    }

    fn node_addresses(&self, state: &State) -> Option<(std::sync::Arc<Tables>, Vec<IpAddr>)> {
        let tables = state.in_force.as_ref()?.tables.clone();
        let own = tables.find_node(&self.config.node_name)?;
        let addresses = tables.node(own).addresses.clone();
        Some((tables, addresses))
    }
}

/// Who else has a port.
fn holder(tables: &Tables, port: &HostPort, address: IpAddr, record: &Record) -> Option<String> {
    let frontend = tables.find_service(address, port.protocol, port.port)?;
    let entry = tables.service_entry(frontend.service);
    let is_pod = frontend.kind == FrontendKind::HostPort;
    let is_own = is_pod && (&*entry.namespace, &*entry.name) == (&*record.pod.namespace, &*record.pod.name);
    let kind = if is_pod { "Pod" } else { "Service" };
    (!is_own).then(|| format!("{kind} {}/{}", entry.namespace, entry.name))
}

fn refuse<T>(message: String) -> Result<T, ApiError> {
    Err(ApiError::new(ErrorCode::BadRequest, message))
}
