//! The simulator: the whole scenario in one process, without privileges, on a virtual clock.
//!
//! Nodes are `switch::Switch` values, one per shard. Pods, and each node itself behind its host port, are TCP/IP stacks of their own
//! (smoltcp) with the built-in test servers. Nodes are joined by links that delay, lose, reorder, duplicate and corrupt by a seeded
//! generator. Tunnel datagrams are cut, wrapped, merged and verified by the same functions of `wire` and `overlay` that the
//! node process calls; what is simulated is only what a kernel does: sockets, TAP queues, the underlay.
//!
//! ```text
//! stack ── frames ──> Switch ──┬─> stack (same node)          time: events ordered by (time, order of arrival)
//!   ^                          ├─> another shard's Switch      chance: Random, forked from one seed
//!   └── Switch <── merge <── link <── cut and wrap             same seed, same calls: byte-identical captures
//! ```
//!
//! [`Sim::apply`] takes manifests through the lab's controller and the policy compiler, as `lab apply` does; changes are in force on all
//! nodes at once, between two events. Nothing here reads a clock, a file or the machine's randomness.

mod associations;
mod attached;
pub mod capture;
mod clients;
mod envelope;
mod events;
mod link;
mod node;
mod random;
mod scenario;
mod servers;
mod stack;
mod turn;

#[cfg(test)]
mod tests;

pub use clients::{Report, Task};
pub use link::{LinkConfig, LinkCounters};
pub use random::Random;

use crate::probe::{Outcome, ProbeProtocol};
use attached::Attached;
use capture::Capture;
use clients::Client;
use control::controller::LabNetwork;
use events::Events;
use link::Link;
use node::Node;
use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use switch::{ShardId, SwitchCounters};
use turn::Event;
use wire::{Frame, Instant};

/// What a simulation is made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SimConfig {
    /// Seed of everything that is left to chance.
    pub seed: u64,
    /// Shards per node.
    pub shards: u16,
    /// MTU of the underlay, as the nodes know it.
    pub underlay_mtu: u16,
    /// Every link at the start ([`Sim::set_link`]).
    pub link: LinkConfig,
    /// Flows that one port may hold.
    pub flows_per_port_max: u32,
    /// Where nodes, pods and Services get their addresses from.
    pub network: LabNetwork,
    /// Whether stacks leave segmentation and checksums to others, as a kernel does on an offloading TAP.
    pub offload: bool,
    /// Whether every node has an uplink, and [`Place::World`] is outside.
    pub world: bool,
}

impl Default for SimConfig {
    fn default() -> SimConfig {
        SimConfig {
            seed: 1,
            shards: 1,
            underlay_mtu: 1_500,
            link: LinkConfig::default(),
            flows_per_port_max: 4_096,
            network: LabNetwork::default(),
            offload: true,
            world: false,
        }
    }
}

/// Something that is attached to a switch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// A pod.
    Pod {
        /// metadata.namespace.
        namespace: String,
        /// metadata.name.
        name: String,
    },
    /// A node's own stack behind its host port.
    Node(String),
    /// The host outside the cluster, on the underlay with all nodes. What lies between it and them loses nothing.
    World,
}

impl Place {
    /// The pod `namespace`/`name`.
    pub fn pod(namespace: &str, name: &str) -> Place {
        Place::Pod { namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Pod { namespace, name } => write!(f, "{namespace}/{name}"),
            Place::Node(name) => write!(f, "node:{name}"),
            Place::World => f.write_str("world"),
        }
    }
}

/// Where frames are captured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CapturePoint {
    /// At a place's device, both ways.
    Place(Place),
    /// Between the nodes, as the frames leave.
    Underlay,
}

/// A frame at the moment when a switch gives it to a place.
#[derive(Clone, Copy, Debug)]
pub struct Delivery<'a> {
    /// Virtual time.
    pub at: Instant,
    /// Who gets it.
    pub to: &'a Place,
    /// The frame.
    pub frame: &'a Frame,
    /// Whether the switch itself made it (ICMP errors, resets, ARP), instead of forwarding it.
    pub is_answer: bool,
}

/// A frame at the moment when a place gives it to a switch.
#[derive(Clone, Copy, Debug)]
pub struct Sending<'a> {
    /// Virtual time.
    pub at: Instant,
    /// Who sends it.
    pub from: &'a Place,
    /// The node that it enters.
    pub node: &'a str,
    /// The frame.
    pub frame: &'a Frame,
}

/// Looks at everything that is sent.
pub type SendObserver = Box<dyn FnMut(&Sending<'_>)>;

/// Looks at every delivery; what it returns is kept as a violation ([`Sim::violations`]).
pub type Observer = Box<dyn FnMut(&Delivery<'_>) -> Result<(), String>>;

/// A task that was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct TaskId(usize);

/// Position of an attached place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct AttachedId(usize);

/// Position of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct NodeId(usize);

/// A cluster that runs on virtual time.
pub struct Sim {
    config: SimConfig,
    now: Instant,
    events: Events<Event>,
    random: Random,
    nodes: Vec<Node>,
    /// Never shrinks, so that an id stays what it is; what was detached is `None`.
    attached: Vec<Option<Attached>>,
    places: BTreeMap<Place, AttachedId>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    captures: BTreeMap<CapturePoint, Capture>,
    tasks: Vec<Report>,
    observer: Option<Observer>,
    send_observer: Option<SendObserver>,
    violations: Vec<String>,
    scenario: scenario::State,
}

impl Sim {
    /// A cluster without nodes at time zero.
    pub fn new(config: SimConfig) -> Sim {
        let random = Random::new(config.seed);
        Sim {
            config,
            now: Instant::ZERO,
            events: Events::new(),
            random,
            nodes: Vec::new(),
            attached: Vec::new(),
            places: BTreeMap::new(),
            links: BTreeMap::new(),
            captures: BTreeMap::new(),
            tasks: Vec::new(),
            observer: None,
            send_observer: None,
            violations: Vec::new(),
            scenario: scenario::State::default(),
        }
    }

    /// Virtual time.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// Everything that is attached.
    pub fn places(&self) -> impl Iterator<Item = &Place> {
        self.places.keys()
    }

    /// The pods.
    pub fn pods(&self) -> Vec<Place> {
        self.places.keys().filter(|place| matches!(place, Place::Pod { .. })).cloned().collect()
    }

    /// The addresses of a place; none if it is not attached.
    pub fn addresses(&self, place: &Place) -> &[IpAddr] {
        self.find(place).map_or(&[], |attached| &attached.addresses)
    }

    fn find(&self, place: &Place) -> Option<&Attached> {
        self.attached[self.places.get(place)?.0].as_ref()
    }

    /// Changes the link from node `from` to node `to`; no effect if one of them does not exist.
    pub fn set_link(&mut self, from: &str, to: &str, config: LinkConfig) {
        if let (Some(from), Some(to)) = (self.node_called(from), self.node_called(to)) {
            self.link(from, to).config = config;
        }
    }

    /// Changes all links, those of later nodes too.
    pub fn set_links(&mut self, config: LinkConfig) {
        self.config.link = config;
        self.links.values_mut().for_each(|link| link.config = config);
    }

    fn node_called(&self, name: &str) -> Option<NodeId> {
        self.nodes.iter().position(|node| node.name == name).map(NodeId)
    }

    fn link(&mut self, from: NodeId, to: NodeId) -> &mut Link {
        let (config, seed) = (self.config.link, self.config.seed);
        let purpose = (from.0 as u64) << 32 | to.0 as u64;
        self.links.entry((from, to)).or_insert_with(|| Link::new(config, Random::new(seed).fork(purpose)))
    }

    /// Captures at `point` from here on.
    pub fn start_capture(&mut self, point: CapturePoint) {
        self.captures.entry(point).or_default();
    }

    /// The pcap file of `point` so far; empty if nothing is captured there.
    pub fn capture(&self, point: &CapturePoint) -> &[u8] {
        self.captures.get(point).map_or(&[], Capture::as_bytes)
    }

    /// Lets `observer` look at every delivery.
    pub fn observe(&mut self, observer: Observer) {
        self.observer = Some(observer);
    }

    /// Lets `observer` look at every frame that a place sends.
    pub fn observe_sent(&mut self, observer: SendObserver) {
        self.send_observer = Some(observer);
    }

    /// What the observer and the simulator's own checks objected to.
    pub fn violations(&self) -> &[String] {
        &self.violations
    }

    /// Starts `task` at `place`, to end within `timeout`.
    ///
    /// # Panics
    /// If nothing is attached as `place`.
    pub fn start(&mut self, place: &Place, task: Task, timeout: Duration) -> TaskId {
        let id = *self.places.get(place).unwrap_or_else(|| panic!("{place} is not attached"));
        let task_id = TaskId(self.tasks.len());
        self.tasks.push(Report::default());
        let (now, deadline) = (self.now, self.now + timeout);
        let attached = self.attached[id.0].as_mut().expect("places lists what is attached");
        let port = attached.next_client_port();
        let client = Client::start(&mut attached.stack, now, task, port, deadline);
        attached.clients.push((task_id, client));
        self.wake(id, now);
        task_id
    }

    /// How a task stands.
    pub fn report(&self, task: TaskId) -> &Report {
        &self.tasks[task.0]
    }

    /// Runs until `task` has ended.
    pub fn finish(&mut self, task: TaskId) -> &Report {
        // A task ends by its deadline, and what wakes its stack then is among the events.
        while self.tasks[task.0].outcome.is_none() && self.step(Instant::from_nanos(u64::MAX)) {}
        &self.tasks[task.0]
    }

    /// One attempt from `from` to `to`, on its own; `to`'s port is ignored for ICMP.
    pub fn probe(&mut self, from: &Place, to: SocketAddr, protocol: ProbeProtocol, timeout: Duration) -> Report {
        let task = self.start(from, probe_task(to, protocol), timeout);
        self.finish(task).clone()
    }

    /// Every pod to every other pod that has an address of its family, all at once.
    pub fn matrix(&mut self, protocol: ProbeProtocol, port: u16, timeout: Duration) -> Vec<(Place, Place, Outcome)> {
        let pods = self.pods();
        let mut started = Vec::new();
        for (from, to) in pods.iter().flat_map(|from| pods.iter().map(move |to| (from, to))).filter(|(a, b)| a != b) {
            let address = self.addresses(to).first().copied();
            let task = address.map(|address| probe_task(SocketAddr::new(address, port), protocol));
            let id = task.map(|task| self.start(from, task, timeout));
            started.push((from.clone(), to.clone(), id));
        }
        let mut outcome =
            |id: Option<TaskId>| id.and_then(|id| self.finish(id).outcome).unwrap_or(Outcome::Unreachable);
        started.into_iter().map(|(from, to, id)| (from, to, outcome(id))).collect()
    }

    /// Runs for `duration` of virtual time.
    pub fn run_for(&mut self, duration: Duration) {
        let until = self.now + duration;
        while self.step(until) {}
        self.now = until;
    }

    /// The counters of every switch.
    pub fn counters(&self) -> Vec<(&str, ShardId, SwitchCounters)> {
        let shards = |node: &'_ Node| node.shards.iter().map(|s| (s.config().shard, s.counters())).collect::<Vec<_>>();
        self.nodes.iter().flat_map(|node| shards(node).into_iter().map(|(id, c)| (node.name.as_str(), id, c))).collect()
    }

    /// The counters of every link that was used: from, to, counters.
    pub fn link_counters(&self) -> Vec<(&str, &str, LinkCounters)> {
        let name = |id: NodeId| self.nodes[id.0].name.as_str();
        self.links.iter().map(|((from, to), link)| (name(*from), name(*to), link.counters)).collect()
    }

    /// Whether every frame that entered a switch has one fate, and every frame on the underlay one end.
    ///
    /// # Errors
    /// What does not balance.
    pub fn check_balance(&self) -> Result<(), String> {
        for (node, shard, counters) in self.counters() {
            if !counters.balance() {
                return Err(format!("the counters of {node}, shard {} do not balance: {counters:#?}", shard.0));
            }
        }
        for (from, to, c) in self.link_counters() {
            if c.sent + c.duplicated != c.arriving + c.lost + c.too_big {
                return Err(format!("the link from {from} to {to} does not balance: {c:?}"));
            }
        }
        for node in &self.nodes {
            node.check_balance()?;
        }
        Ok(())
    }
}

fn probe_task(to: SocketAddr, protocol: ProbeProtocol) -> Task {
    match protocol {
        ProbeProtocol::Tcp => Task::Connect { to },
        ProbeProtocol::Udp => Task::Datagram { to, payload_bytes: 4 },
        ProbeProtocol::Icmp => Task::Ping { to: to.ip(), payload_bytes: 56 },
        ProbeProtocol::Sctp => Task::Associate { to },
    }
}

impl fmt::Display for Sim {
    /// The state for a person who looks for the cause of a failure: places, counters, links.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, time {} us", self.config.seed, self.now.as_nanos() / 1_000)?;
        for (place, id) in &self.places {
            if let Some(attached) = &self.attached[id.0] {
                let node = &self.nodes[attached.node.0].name;
                writeln!(f, "  {place} on {node}, shard {}, addresses {:?}", attached.shard.0, attached.addresses)?;
                if attached.stack.overflows() > 0 {
                    writeln!(f, "    {} frames found its receive queue full", attached.stack.overflows())?;
                }
            }
        }
        for (node, shard, counters) in self.counters() {
            let total = counters.total();
            let (received, flows) = (total.received.frames, counters.flows);
            writeln!(f, "  {node} shard {}: {received} frames received, {flows} flows", shard.0)?;
            for (reason, count) in total.drops().chain(counters.shell.iter().copied()) {
                writeln!(f, "    {count} dropped: {}", reason.name())?;
            }
            for (kind, count) in total.answers() {
                writeln!(f, "    {count} answers: {}", kind.name())?;
            }
        }
        for node in &self.nodes {
            writeln!(f, "  {} kernel: {:?}", node.name, node.kernel)?;
        }
        for (from, to, counters) in self.link_counters() {
            writeln!(f, "  {from} -> {to}: {counters:?}")?;
        }
        Ok(())
    }
}
