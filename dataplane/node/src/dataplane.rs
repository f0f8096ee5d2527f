//! The handle that control holds: attach, swap tables, ask, stop. How it starts is in [`crate::start`].
//!
//! # How it works
//! Control-side state (which port is where, which tables are in force) is behind one lock, so changes happen one after
//! another and each is complete when its method returns. Shards own everything that traffic touches; they are told by
//! commands and answer each of them.
//!
//! A port comes to be in this order: device, addresses, entry in the shard's switch, tables that know its addresses, link up,
//! routes. So no frame of it is ever seen before its tables are in force and its flows are tracked. A step that fails
//! undoes those before it; the interface goes away with its device. What a process before this one has left is taken over in
//! [`crate::adopt`].

mod registry;

use crate::command::{Command, Kept};
use crate::device::{derive_mac, host_mac, make_device};
use crate::link::{self, host_route, plan_routes};
use crate::state::{Left, StateDir};
use crate::tap::Tap;
use crate::uplink::keeper::{Keeper, ShardLine, Started};
use crate::{
    AttachError, ClaimFailure, Counters, DataplaneConfig, PortInfo, PortSpec, StartError, Stopped, UplinkState,
    UplinkStatus, start,
};
use crossbeam_channel::{Receiver, Sender, bounded};
use gateway::dns::desk::Desk;
use ipnet::IpNet;
use mio::Waker;
use policy::cluster::Cluster;
use policy::compile::{CompileOptions, compile_with};
use policy::tables::ServicePortId;
pub(crate) use registry::{Registry, is_interface_name};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use switch::{
    Attached, Decider, DropsSeen, FlowInfo, PolicyHits, PortConfig, PortId, PortKind, Restored, ServiceHits, ShardId,
    Tables,
};

/// A running dataplane: its threads, its host TAP and its ports. Methods may be called from any thread; those that change
/// something wait until every shard has it in force.
pub struct Dataplane {
    pub(crate) config: DataplaneConfig,
    pub(crate) pod_mtu: u16,
    /// Where flows are kept, if they are.
    pub(crate) state: Option<StateDir>,
    /// Or why there is no uplink. Dropped before the shards, which it tells things.
    uplink: Result<Keeper, UplinkState>,
    pub(crate) shards: Vec<ShardHandle>,
    /// If this node answers the cluster DNS. It ends when the shards have let go of it.
    desk: Option<Desk>,
    registry: Mutex<Registry>,
}

/// How to reach a shard's thread.
pub(crate) struct ShardHandle {
    pub(crate) commands: Sender<Command>,
    pub(crate) waker: Arc<Waker>,
    pub(crate) thread: JoinHandle<()>,
}

impl ShardHandle {
    /// Sends a command that is answered on the channel that `command` is given.
    fn ask<T>(&self, command: impl FnOnce(Sender<T>) -> Command) -> Result<Receiver<T>, Stopped> {
        let (reply, answer) = bounded(1);
        self.commands.send(command(reply)).map_err(|_| Stopped)?;
        self.waker.wake().map_err(|_| Stopped)?;
        Ok(answer)
    }
}

/// Whose flows a port begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flows {
    /// None.
    New,
    /// Those that the process before had, if any.
    Left,
}

impl Dataplane {
    /// Probes what the kernel grants, makes the host TAP and the tunnel sockets, and starts the shards. Until
    /// [`Dataplane::set_policy`] pods reach nothing.
    pub fn start(config: DataplaneConfig) -> Result<Dataplane, StartError> {
        let probed = start::probe(&config)?;
        let state = config.state_dir.as_deref().map(StateDir::open).transpose();
        let state = state.map_err(|error| StartError::System("the state folder cannot be used", error))?;
        let (shards, desk) = start::spawn_shards(&config, probed.pod_mtu)?;
        let nothing = Arc::new(nothing_yet(&config));
        let mut dataplane = Dataplane {
            pod_mtu: probed.pod_mtu,
            state,
            uplink: Err(UplinkState::Off),
            shards,
            desk,
            registry: Mutex::new(Registry {
                ports: BTreeMap::new(),
                policy: nothing,
                in_force: None,
                announced: BTreeSet::new(),
                unclaimed: HashSet::new(),
                next_port: HOST_PORT.0,
                restored: Restored::default(),
                source_ports_in_use: None,
                unkept: 0,
                netlink: probed.netlink,
                host_link: probed.host_link,
            }),
            config,
        };
        // Dropped on failure, which stops the shards.
        dataplane.attach_host(probed.host_tap)?;
        if dataplane.config.uplink {
            dataplane.uplink = dataplane.attach_uplink().map_err(UplinkState::Missing);
        }
        Ok(dataplane)
    }

    /// The configuration it was started with.
    pub fn config(&self) -> &DataplaneConfig {
        &self.config
    }

    /// The MTU of pod interfaces and of the host TAP, in bytes.
    pub fn pod_mtu(&self) -> u16 {
        self.pod_mtu
    }

    /// Puts compiled tables in force; returns when every shard judges by them. What is returned are ports of Services that
    /// cannot be held on this node, so that they are not served to the outside here; everything else is in force.
    pub fn set_policy(&self, policy: Arc<policy::tables::Tables>) -> Result<Vec<ClaimFailure>, Stopped> {
        let mut registry = self.registry();
        registry.policy = policy;
        let Ok(keeper) = &self.uplink else {
            self.publish(&mut registry)?;
            return Ok(Vec::new());
        };
        let failures = keeper.hold(registry.policy.clone());
        registry.unclaimed = failures.iter().map(|failure| (failure.protocol, failure.port)).collect();
        self.publish(&mut registry)?;
        keeper.let_go();
        if let Some(in_use) = registry.source_ports_in_use.take() {
            keeper.begin(in_use);
        }
        Ok(failures)
    }

    /// From here on this node answers ARP and neighbor discovery on the underlay for exactly these addresses, and tells the
    /// neighbors about those that it did not answer for before (gratuitous ARP, unsolicited neighbor advertisements).
    pub fn announce(&self, addresses: &BTreeSet<IpAddr>) -> Result<(), Stopped> {
        let mut registry = self.registry();
        if registry.announced == *addresses {
            return Ok(());
        }
        registry.announced.clone_from(addresses);
        self.publish(&mut registry)?;
        if let Ok(keeper) = &self.uplink {
            keeper.announce(addresses.clone());
        }
        Ok(())
    }

    /// State of the uplink.
    pub fn uplink_status(&self) -> UplinkStatus {
        match &self.uplink {
            Ok(keeper) => keeper.status(),
            Err(state) => UplinkStatus { state: state.clone(), ..UplinkStatus::default() },
        }
    }

    /// Routes of the node's own network namespace towards the host TAP: missing ones are added, stale ones removed.
    pub fn set_routes(&self, destinations: &[IpNet]) -> io::Result<()> {
        let mut registry = self.registry();
        let link = registry.host_link.index;
        let wanted: Vec<_> = destinations
            .iter()
            .map(|&destination| host_route(link, destination, self.host_source(destination), self.pod_mtu))
            .collect();
        let (stale, missing) = plan_routes(&registry.netlink.routes(link)?, &wanted);
        stale.iter().try_for_each(|route| registry.netlink.remove_route(route))?;
        missing.iter().try_for_each(|route| registry.netlink.add_route(route))
    }

    /// Makes a pod's interface and its port. When it returns, the port is judged by the tables in force and the interface
    /// is up; when it fails, nothing of it is left.
    pub fn attach(&self, spec: PortSpec) -> Result<PortInfo, AttachError> {
        let mut registry = self.registry();
        registry.check(&spec)?;
        let info = self.describe(&mut registry, spec);
        let id = info.id;
        let mut made = make_device(&info, self.config.tap_mode)?;
        let info = PortInfo { tap: made.tap.kind(), ..info };
        let step = |what| move |error| AttachError::Step(what, error);
        link::prepare(&mut made.netlink, &made.link, info.mac, info.mtu, &info.addresses)
            .map_err(step("setting the interface's MAC, MTU and addresses"))?;

        made.tap.set_persistent(self.state.is_some()).map_err(step("making the interface outlive the process"))?;
        self.register(&mut registry, &info, made.tap, Flows::New)?;
        let connected = self.publish(&mut registry).map_err(AttachError::from).and_then(|()| {
            link::connect_pod(&mut made.netlink, &made.link, &info.gateways, info.mtu)
                .map_err(step("setting the interface up and its routes"))
        });
        match connected {
            Ok(()) => Ok(info),
            Err(error) => {
                // The first error is the one to tell; a shard that has stopped has closed the device already.
                let _ = self.unregister(&mut registry, id);
                Err(error)
            }
        }
    }

    /// The port that `spec` becomes.
    pub(crate) fn describe(&self, registry: &mut Registry, spec: PortSpec) -> PortInfo {
        let id = PortId(registry.next_port);
        registry.next_port += 1;
        PortInfo {
            id,
            shard: registry.least_loaded(self.shards.len()),
            mac: spec.mac.unwrap_or_else(|| derive_mac(&spec, self.config.seed)),
            gateways: self.gateways_for(&spec.addresses),
            mtu: self.pod_mtu,
            tap: crate::TapKind::Plain,
            kind: spec.kind,
            netns: spec.netns,
            ifname: spec.ifname,
            addresses: spec.addresses,
        }
    }

    /// Removes a port and its interface; `false` if there is no such port. The host port and the uplink stay.
    pub fn detach(&self, id: PortId) -> Result<bool, Stopped> {
        let mut registry = self.registry();
        if id == HOST_PORT || id == UPLINK_PORT || !registry.ports.contains_key(&id) {
            return Ok(false);
        }
        self.unregister(&mut registry, id)?;
        Ok(true)
    }

    /// All ports, the host port first, then the uplink, by number.
    pub fn ports(&self) -> Vec<PortInfo> {
        self.registry().ports.values().cloned().collect()
    }

    /// What was counted since the start; empty once the dataplane has stopped.
    pub fn counters(&self) -> Counters {
        let mut sum = Counters::default();
        let asked: Vec<_> = self.shards.iter().filter_map(|shard| shard.ask(Command::Counters).ok()).collect();
        asked.into_iter().filter_map(|answer| answer.recv().ok()).for_each(|counters| sum.merge(counters));
        sum.io.flow_writes_failed += self.registry().unkept;
        sum.dns.desk = self.desk.as_ref().map(Desk::counters).unwrap_or_default();
        sum
    }

    /// How often each port of a Service was used since the start, at any port of this node, in the order of their names.
    pub fn service_hits(&self) -> Vec<(ServicePortId, ServiceHits)> {
        let asked: Vec<_> = self.shards.iter().filter_map(|shard| shard.ask(Command::ServiceHits).ok()).collect();
        let of_shards = asked.into_iter().filter_map(|answer| answer.recv().ok()).flatten();
        let relayed = self.uplink.as_ref().map(Keeper::service_hits).unwrap_or_default();
        let mut sum: BTreeMap<ServicePortId, ServiceHits> = BTreeMap::new();
        of_shards.chain(relayed).for_each(|(port, hits)| sum.entry(port).or_default().merge(hits));
        sum.into_iter().collect()
    }

    /// How often each rule of a policy, and each NetworkPolicy's default deny, decided since the start, in the order of their names.
    pub fn policy_hits(&self) -> Vec<(Decider, PolicyHits)> {
        let asked: Vec<_> = self.shards.iter().filter_map(|shard| shard.ask(Command::PolicyHits).ok()).collect();
        let mut sum: BTreeMap<Decider, PolicyHits> = BTreeMap::new();
        let of_shards = asked.into_iter().filter_map(|answer| answer.recv().ok()).flatten();
        of_shards.for_each(|(decider, hits)| sum.entry(decider).or_default().merge(hits));
        sum.into_iter().collect()
    }

    /// The most recent drops of all shards, the last one first.
    pub fn drops_seen(&self) -> DropsSeen {
        let asked: Vec<_> = self.shards.iter().filter_map(|shard| shard.ask(Command::DropsSeen).ok()).collect();
        let mut sum = DropsSeen::default();
        for seen in asked.into_iter().filter_map(|answer| answer.recv().ok()) {
            sum.records.extend(seen.records);
            sum.forgotten += seen.forgotten;
        }
        sum.records.sort_by_key(|record| record.last_ago);
        sum
    }

    /// Flows of all shards, at most `max`.
    pub fn flows(&self, max: usize) -> Vec<FlowInfo> {
        let asked: Vec<_> =
            self.shards.iter().filter_map(|shard| shard.ask(|reply| Command::Flows(max, reply)).ok()).collect();
        let mut flows: Vec<_> = asked.into_iter().filter_map(|answer| answer.recv().ok()).flatten().collect();
        flows.truncate(max);
        flows
    }

    /// Stops the shards and removes every interface and route that was made, or leaves them with the flows for another process if
    /// there is a [`DataplaneConfig::state_dir`]. Dropping the handle does the same.
    pub fn shutdown(self) {
        drop(self);
    }

    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        // A panic while the lock was held leaves at worst a port that is listed and gone.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the host TAP its addresses and its port.
    fn attach_host(&self, tap: Tap) -> Result<(), StartError> {
        let mut registry = self.registry();
        registry.next_port = UPLINK_PORT.0 + 1;
        let info = PortInfo {
            id: HOST_PORT,
            shard: ShardId(0),
            kind: PortKind::Host,
            netns: Default::default(),
            ifname: self.config.host_tap.clone(),
            mac: host_mac(self.config.vtep_mac),
            addresses: self.config.underlay.iter().chain(&self.config.gateways).copied().collect(),
            gateways: self.config.gateways.clone(),
            mtu: self.pod_mtu,
            tap: tap.kind(),
        };
        let refused = |error| StartError::HostTap(info.ifname.clone(), error);
        let link = registry.host_link.clone();
        let (netlink, gateways) = (&mut registry.netlink, &self.config.gateways);
        link::keep_only_addresses(netlink, &link, gateways).map_err(refused)?;
        link::repair(netlink, &link, info.mac, info.mtu, gateways).map_err(refused)?;
        tap.set_persistent(self.state.is_some()).map_err(refused)?;
        let stopped = |_| StartError::System("a shard did not start", io::Error::other(Stopped));
        self.register(&mut registry, &info, tap, Flows::Left)
            .map_err(|error| StartError::System("the host port cannot be served", io::Error::other(error)))?;
        self.publish(&mut registry).map_err(stopped)?;
        registry.netlink.set_up(link.index).map_err(refused)
    }

    /// Opens the uplink and has the shard of the host port serve it; the error says in words why there is none.
    fn attach_uplink(&self) -> Result<Keeper, String> {
        let mut registry = self.registry();
        let shard = &self.shards[0];
        let line = ShardLine { commands: shard.commands.clone(), waker: shard.waker.clone() };
        let Started { keeper, uplink, survey } = Keeper::start(&self.config, line)?;
        let mut interfaces = survey.interfaces.iter().map(|interface| &interface.info);
        let first = interfaces.next().ok_or("no interface has the node's addresses")?;
        let info = PortInfo {
            id: UPLINK_PORT,
            shard: ShardId(0),
            kind: PortKind::Uplink,
            netns: Default::default(),
            ifname: first.name.clone(),
            mac: first.mac,
            addresses: self.config.underlay.clone(),
            gateways: Vec::new(),
            mtu: interfaces.map(|interface| interface.mtu).fold(first.mtu, u16::min),
            tap: crate::TapKind::Offload,
        };
        let stopped = || Stopped.to_string();
        let kept = self.kept(&mut registry, &info, Flows::Left);
        let answer = shard.ask(|reply| Command::AddUplink(port_config(&info), uplink, kept, reply));
        let added = answer.and_then(|answer| answer.recv().map_err(|_| Stopped)).map_err(|_| stopped())?;
        let restored = added.map_err(|error| format!("its sockets cannot be polled: {error}"))?;
        registry.note_restored(&restored);
        registry.ports.insert(info.id, info);
        registry.source_ports_in_use = Some(restored.source_ports);
        self.publish(&mut registry).map_err(|_| stopped())?;
        Ok(keeper)
    }

    /// Has the shard serve the port, and lists it.
    pub(crate) fn register(
        &self,
        registry: &mut Registry,
        info: &PortInfo,
        tap: Tap,
        flows: Flows,
    ) -> Result<(), AttachError> {
        let kept = self.kept(registry, info, flows);
        let config = port_config(info);
        let shard = &self.shards[usize::from(info.shard.0)];
        let answer = shard.ask(|reply| Command::AddPort(config, tap, kept, reply))?;
        let restored = answer.recv().map_err(|_| Stopped)?;
        registry.note_restored(&restored.map_err(|error| AttachError::Step("polling the device", error))?);
        registry.ports.insert(info.id, info.clone());
        Ok(())
    }

    /// Where a port's flows are kept; a port is served without that rather than not at all.
    fn kept(&self, registry: &mut Registry, info: &PortInfo, flows: Flows) -> Option<Kept> {
        let (state, shards) = (self.state.as_ref()?, self.shards.len());
        let kept = match flows {
            Flows::New => state.create(info, shards).map(|files| Kept { files, left: Left::default() }),
            Flows::Left => state.take_over(info, shards).map(|(files, left)| Kept { files, left }),
        };
        kept.inspect_err(|_| registry.unkept += 1).ok()
    }

    /// Undoes [`Dataplane::register`] and publishes tables without the port.
    fn unregister(&self, registry: &mut Registry, id: PortId) -> Result<(), Stopped> {
        let Some(info) = registry.ports.remove(&id) else { return Ok(()) };
        let answer = self.shards[usize::from(info.shard.0)].ask(|reply| Command::RemovePort(id, reply))?;
        answer.recv().map_err(|_| Stopped)?;
        self.publish(registry)
    }

    /// Builds the switch's tables from the policy and the ports, and waits until every shard has swapped.
    pub(crate) fn publish(&self, registry: &mut Registry) -> Result<(), Stopped> {
        let places: HashMap<IpAddr, (ShardId, PortId)> = registry
            .ports
            .values()
            .filter(|port| matches!(port.kind, PortKind::Pod { .. }))
            .flat_map(|port| port.addresses.iter().map(|address| (*address, (port.shard, port.id))))
            .collect();
        let place = |id| registry.ports.get(&id).map(|port| (port.shard, port.id));
        let attached = Attached {
            pods: Arc::new(places),
            host: place(HOST_PORT),
            uplink: place(UPLINK_PORT),
            announced: Arc::new(registry.announced.iter().copied().collect()),
            unclaimed: Arc::new(registry.unclaimed.clone()),
        };
        let (node, policy) = (&self.config.node_name, registry.policy.clone());
        let tables = Arc::new(match &registry.in_force {
            Some(last) => last.next(node, policy, attached),
            None => Tables::new(node, policy, attached),
        });
        registry.in_force = Some(tables.clone());
        if let Some(desk) = self.desk.as_ref().filter(|_| registry.policy.epoch > 0) {
            desk.set_tables(registry.policy.clone());
        }
        let asked = self
            .shards
            .iter()
            .map(|shard| shard.ask(|reply| Command::SetTables(tables.clone(), reply)))
            .collect::<Result<Vec<_>, _>>()?;
        // The old tables come back and are freed here, not by a thread that carries traffic.
        asked.into_iter().try_for_each(|answer| answer.recv().map(drop).map_err(|_| Stopped))
    }

    /// The gateways of the families that `addresses` has.
    fn gateways_for(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let has_family = |gateway: &&IpAddr| addresses.iter().any(|address| address.is_ipv4() == gateway.is_ipv4());
        self.config.gateways.iter().filter(has_family).copied().collect()
    }

    /// The source of the node's own packets to `destination`: the node's address of that family, which every node knows;
    /// else its gateway address.
    fn host_source(&self, destination: IpNet) -> Option<IpAddr> {
        let same_family = |address: &&IpAddr| address.is_ipv4() == destination.addr().is_ipv4();
        self.config.underlay.iter().chain(&self.config.gateways).find(same_family).copied()
    }
}

impl Drop for Dataplane {
    fn drop(&mut self) {
        self.uplink = Err(UplinkState::Off);
        for shard in &self.shards {
            // A shard that has ended already needs no telling.
            let _ = shard.commands.send(Command::Stop);
            let _ = shard.waker.wake();
        }
        for shard in self.shards.drain(..) {
            let _ = shard.thread.join();
        }
    }
}

/// The host port's number.
const HOST_PORT: PortId = PortId(0);
/// The uplink's number.
const UPLINK_PORT: PortId = PortId(1);

/// Tables before any have come: nobody is in them but the cluster DNS, which says so to whoever asks.
fn nothing_yet(config: &DataplaneConfig) -> policy::tables::Tables {
    let cluster_dns = config.cluster_dns.as_ref().map(|dns| dns.addresses.clone()).unwrap_or_default();
    let options = CompileOptions { cluster_dns, ..CompileOptions::default() };
    compile_with(&Cluster::default(), &options, 0).0
}

/// A port as the switch is told of it.
fn port_config(info: &PortInfo) -> PortConfig {
    PortConfig { id: info.id, kind: info.kind.clone(), mac: info.mac, addresses: info.addresses.clone(), mtu: info.mtu }
}
