//! The handle that control holds: start, attach, swap tables, ask, stop.

use crate::{AttachError, Counters, DataplaneConfig, PortInfo, PortSpec, StartError, Stopped};
use ipnet::IpNet;
use std::io;
use std::sync::Arc;
use switch::{FlowInfo, PortId};

/// A running dataplane: its threads, its host TAP and its ports. Methods may be called from any thread; those that change
/// something wait until every shard has it in force.
pub struct Dataplane {
    config: DataplaneConfig,
}

impl Dataplane {
    /// Probes what the kernel grants, makes the host TAP and the tunnel sockets, and starts the shards. Until
    /// [`Dataplane::set_policy`] everything is dropped.
    pub fn start(config: DataplaneConfig) -> Result<Dataplane, StartError> {
        let _ = config;
        todo!("node")
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &DataplaneConfig {
        &self.config
    }

    /// The MTU of pod interfaces and of the host TAP, in bytes.
    pub fn pod_mtu(&self) -> u16 {
        todo!("node")
    }

    /// Puts compiled tables in force; returns when every shard judges by them.
    pub fn set_policy(&self, policy: Arc<policy::tables::Tables>) -> Result<(), Stopped> {
        let _ = policy;
        todo!("node")
    }

    /// Routes of the node's own network namespace towards the host TAP: missing ones are added, stale ones removed.
    pub fn set_routes(&self, destinations: &[IpNet]) -> io::Result<()> {
        let _ = destinations;
        todo!("node")
    }

    /// Makes a pod's interface and its port. When it returns, the port is judged by the tables in force and the interface
    /// is up; when it fails, nothing of it is left.
    pub fn attach(&self, spec: PortSpec) -> Result<PortInfo, AttachError> {
        let _ = spec;
        todo!("node")
    }

    /// Removes a port and its interface; `false` if there is no such port.
    pub fn detach(&self, id: PortId) -> Result<bool, Stopped> {
        let _ = id;
        todo!("node")
    }

    /// All ports, the host port first, by number.
    pub fn ports(&self) -> Vec<PortInfo> {
        todo!("node")
    }

    /// What was counted since the start.
    pub fn counters(&self) -> Counters {
        todo!("node")
    }

    /// Flows of all shards, at most `max`.
    pub fn flows(&self, max: usize) -> Vec<FlowInfo> {
        let _ = max;
        todo!("node")
    }

    /// Stops the shards and removes every interface and route that was made. Dropping the handle does the same.
    pub fn shutdown(self) {}
}
