//! The commands of the CNI plugin: all of them that need more than a sentence about the sandbox.
//!
//! ADD goes through these steps, and undoes them in reverse if one fails (P07): the name is taken; the pod is found or waited for
//! ([`super::identity`]); addresses are taken; the record is put on disk; the tables in force know pod, addresses and ports of the node
//! ([`super::leases`]); the interface is made. So the first packet is judged by the pod's policies, and after a crash there is at worst a record
//! whose interface was never made.

use super::Agent;
use super::identity::{Identity, is_taken};
use super::leases::{says_something, unix_ms};
use crate::api::{ApiError, ErrorCode};
use crate::log::{Level, event};
use crate::sandboxes::{self, RECORD_VERSION, Record, SandboxName};
use ::cni::api::{Add, Added, Address, Check, Collected, Dns, Gc, Removed};
use node::{PortInfo, PortSpec};
use std::net::IpAddr;
use std::time::SystemTime;
use switch::PortKind;
use wire::MacAddr;

/// Longest name of a pod: what a name in Kubernetes may have, and of a container elsewhere.
const NAME_BYTES_MAX: usize = 253;

/// Options of resolvers in clusters, as the kubelet sets them.
const RESOLVER_OPTIONS: &str = "ndots:5";

impl Agent {
    /// Makes an interface in a sandbox.
    pub(crate) fn cni_add(&self, add: &Add) -> Result<Added, ApiError> {
        super::ports::check_names(&add.container_id, &add.ifname, &add.netns)?;
        check_pod_names(add)?;
        let name = SandboxName::new(&*add.container_id, &*add.ifname);
        self.reserve(&name)?;
        let added = self.add(&name, add);
        self.settle(&name, added.as_ref().ok().map(|(port, ..)| port.id));
        match added {
            Ok((port, identity)) => {
                let pod = &identity.pod;
                event(
                    Level::Info,
                    "attached",
                    &[("pod", pod), ("port", &port.id.0), ("container_id", &name.container_id)],
                );
                Ok(self.describe(&port, &identity, add))
            }
            Err(error) => {
                event(Level::Error, "not attached", &[("what", &name), ("reason", &error)]);
                Err(error)
            }
        }
    }

    fn add(&self, name: &SandboxName, add: &Add) -> Result<(PortInfo, Identity), ApiError> {
        let gone = || {
            let message = format!("the network namespace {} is not there: the sandbox is gone", add.netns.display());
            ApiError::new(ErrorCode::NoSuchNamespace, message)
        };
        let netns_inode = sandboxes::inode(&add.netns).ok_or_else(gone)?;
        let mac = add.mac.as_deref().map(parse_mac).transpose()?;
        let identity = self.identify(add)?;
        let (addresses, leased) = self.take_addresses(name, &identity, &add.ips)?;
        let spec = PortSpec {
            kind: PortKind::Pod { namespace: identity.pod.namespace.clone(), name: identity.pod.name.clone() },
            netns: add.netns.clone(),
            ifname: add.ifname.clone(),
            addresses: addresses.clone(),
            mac,
        };
        let record = Record {
            version: RECORD_VERSION,
            container_id: add.container_id.clone(),
            ifname: add.ifname.clone(),
            netns: add.netns.clone(),
            netns_inode,
            pod: identity.pod.clone(),
            addresses,
            leased,
            mac: identity.dataplane.mac_for(&spec),
            // An object that vanishes leaves the container that a person started.
            implicit: self.config.implicit_pods.then(|| add.labels.clone()),
            port_mappings: add.port_mappings.clone(),
            bandwidth: add.bandwidth,
            network: Some(add.network.clone()),
            boot_id: self.boot_id.clone(),
            attached_unix_ms: unix_ms(SystemTime::now()),
        };
        self.keep(&record)?;
        let port = self.connect(&identity, &record, spec);
        if port.is_err() {
            self.sandboxes.give_back(name);
            if says_something(&record) {
                // The error that led here is the one to tell.
                let _ = self.lay_over(&record.pod);
            }
        }
        port.map(|port| (port, identity))
    }

    /// Has the tables know a sandbox, and makes its interface.
    fn connect(&self, identity: &Identity, record: &Record, spec: PortSpec) -> Result<PortInfo, ApiError> {
        let pod = &record.pod;
        self.check_ports_are_free(record)?;
        if says_something(record) {
            let failures = self.lay_over(pod)?;
            self.check_ports_are_served(record, &failures)?;
        }
        if !self.is_in_force(record) {
            let message = format!(
                "Pod {pod} is refused, so nothing may talk to it: see `podplane status` of node {} for the reason",
                self.config.node_name
            );
            return Err(ApiError::new(ErrorCode::PodNotInForce, message));
        }
        identity.dataplane.attach(spec).map_err(|error| super::ports::attach_error(&pod.to_string(), &error))
    }

    /// Whether the tables in force judge a record's addresses as its pod's.
    fn is_in_force(&self, record: &Record) -> bool {
        let state = self.lock();
        let Some(tables) = state.in_force.as_ref().map(|in_force| &in_force.tables) else { return false };
        let pod = tables.find_pod(&record.pod.namespace, &record.pod.name).map(|index| tables.pod(index));
        pod.is_some_and(|pod| record.addresses.iter().all(|address| pod.addresses.contains(address)))
    }

    fn describe(&self, port: &PortInfo, identity: &Identity, add: &Add) -> Added {
        let gateway = |address: &IpAddr| port.gateways.iter().find(|gateway| gateway.is_ipv4() == address.is_ipv4());
        let addresses = port.addresses.iter();
        let addresses =
            addresses.filter_map(|address| Some(Address { address: *address, gateway: *gateway(address)? }));
        let mut warnings = Vec::new();
        if add.bandwidth.is_some() {
            warnings
                .push("bandwidth limits are not enforced: chain the plugin \"bandwidth\" behind podplane".to_owned());
        }
        Added {
            mac: port.mac.to_string(),
            mtu: port.mtu,
            addresses: addresses.collect(),
            dns: self.resolver_of(&identity.pod.namespace, &port.addresses),
            warnings,
        }
    }

    /// What a pod's resolver should be told, as the kubelet does it: one address, of a family that the pod has.
    fn resolver_of(&self, namespace: &str, addresses: &[IpAddr]) -> Dns {
        let Some(dns) = &self.config.cluster_dns else { return Dns::default() };
        let speaks = |server: &&IpAddr| addresses.iter().any(|address| address.is_ipv4() == server.is_ipv4());
        let Some(server) = dns.addresses.iter().find(speaks) else { return Dns::default() };
        let zone = dns.names.zone.to_string();
        Dns {
            nameservers: vec![server.to_string()],
            domain: None,
            search: vec![format!("{namespace}.svc.{zone}"), format!("svc.{zone}"), zone],
            options: vec![RESOLVER_OPTIONS.to_owned()],
        }
    }

    /// Ends an attachment; one that is not there has ended already.
    pub(crate) fn cni_del(&self, container_id: &str, ifname: &str) -> Result<Removed, ApiError> {
        self.detach(container_id, ifname).map(|detached| Removed { removed: detached.removed })
    }

    /// Whether an attachment is as it was added.
    pub(crate) fn cni_check(&self, check: &Check) -> Result<(), ApiError> {
        let name = SandboxName::new(&*check.container_id, &*check.ifname);
        let wrong = |message: String| Err(ApiError::new(ErrorCode::NotAsAdded, format!("{name}: {message}")));
        let Some(record) = self.sandboxes.find(&name) else {
            let message = format!("{name} is not attached to node {}", self.config.node_name);
            return Err(ApiError::new(ErrorCode::NotAttached, message));
        };
        let port = self
            .ports()?
            .into_iter()
            .find(|port| (&port.container_id, &port.ifname) == (&name.container_id, &name.ifname));
        let Some(port) = port else {
            return wrong("the node process has no port for it, so it is cut off: delete the sandbox".to_owned());
        };
        if sandboxes::inode(&check.netns) != Some(record.netns_inode) {
            return wrong(format!("{} is not the network namespace that it was added to", check.netns.display()));
        }
        if let Some(address) = record.addresses.iter().find(|address| !check.addresses.contains(address)) {
            return wrong(format!("address {address} is not in prevResult"));
        }
        let found = node::inspect(&check.netns, &check.ifname).map_err(|error| {
            ApiError::new(ErrorCode::NotAsAdded, format!("{name}: its interface cannot be looked at: {error}"))
        })?;
        let Some(found) = found else { return wrong("the interface is gone".to_owned()) };
        if found.mac != record.mac {
            return wrong(format!("its MAC is {} and not {}, so all that it sends is dropped", found.mac, record.mac));
        }
        if found.mtu != u32::from(port.mtu) {
            return wrong(format!("its MTU is {} and not {}", found.mtu, port.mtu));
        }
        if let Some(address) = record.addresses.iter().find(|address| !found.addresses.contains(address)) {
            return wrong(format!("address {address} is not on the interface"));
        }
        let lost = |gateway: &&IpAddr| check.gateways.contains(gateway) && !found.gateways.contains(gateway);
        if let Some(gateway) = port.gateways.iter().find(lost) {
            return wrong(format!("the default route through {gateway} is gone"));
        }
        if !self.is_in_force(&record) {
            return wrong(format!("Pod {} is not in force with its addresses, so nothing may talk to it", record.pod));
        }
        Ok(())
    }

    /// Whether an add could succeed.
    pub(crate) fn cni_status(&self) -> Result<(), ApiError> {
        let state = self.lock();
        if state.stopping {
            return Err(ApiError::new(ErrorCode::Degraded, "the node process is stopping"));
        }
        let tables = state.in_force.as_ref().ok_or_else(|| self.not_ready(&state))?.tables.clone();
        drop(state);
        let own = tables.find_node(&self.config.node_name);
        self.sandboxes.set_ranges(own.map(|own| &*tables.node(own).pod_cidrs).unwrap_or_default());
        let refuse = || {
            let tables = self.tables_in_force().unwrap_or_else(|| tables.clone());
            self.sandboxes.refuse(SystemTime::now(), |address| is_taken(&tables, address, None))
        };
        match refuse() {
            None => Ok(()),
            Some(_) if self.end_vanished() > 0 && refuse().is_none() => Ok(()),
            Some(error) => Err(ApiError::new(ErrorCode::RangeExhausted, error.to_string())),
        }
    }

    /// Ends all attachments of a network but the valid ones; goes on past what cannot be ended.
    pub(crate) fn cni_gc(&self, gc: &Gc) -> Collected {
        let mut collected = Collected::default();
        for record in self.sandboxes.all() {
            let is_valid = gc
                .valid
                .iter()
                .any(|valid| (&valid.container_id, &valid.ifname) == (&record.container_id, &record.ifname));
            if is_valid || record.network.as_ref() != Some(&gc.network) {
                continue;
            }
            match self.detach(&record.container_id, &record.ifname) {
                Ok(detached) => collected.removed += usize::from(detached.removed),
                Err(error) => collected.errors.push(format!("{}: {error}", record.sandbox())),
            }
        }
        collected
    }
}

/// A pod's name is a key of tables and a word in messages.
fn check_pod_names(add: &Add) -> Result<(), ApiError> {
    let parts =
        [("K8S_POD_NAMESPACE", &add.pod.namespace), ("K8S_POD_NAME", &add.pod.name), ("K8S_POD_UID", &add.pod.uid)];
    for (field, value) in parts {
        let Some(value) = value else { continue };
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if value.is_empty() || value.len() > NAME_BYTES_MAX || !value.bytes().all(plain) {
            let message =
                format!("{field} {value:?} is not 1 to {NAME_BYTES_MAX} letters, digits, \"-\", \"_\" and \".\"");
            return Err(ApiError::new(ErrorCode::BadRequest, message));
        }
    }
    Ok(())
}

fn parse_mac(text: &str) -> Result<MacAddr, ApiError> {
    let wrong = |why: &str| ApiError::new(ErrorCode::BadRequest, format!("the requested MAC {text:?}: {why}"));
    let mac: MacAddr = text.parse().map_err(wrong)?;
    if mac.is_multicast() || mac == MacAddr::default() {
        return Err(wrong("it is not that of one interface"));
    }
    Ok(mac)
}
