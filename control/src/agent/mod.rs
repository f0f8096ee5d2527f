//! The node process: takes generations of intent from its source, compiles them, puts them in force in the dataplane, and
//! serves the API.
//!
//! States: *waiting* until the source has this node's own Node object, then *ready* for good: the dataplane is started from
//! that object's addresses and pod ranges, and whatever happens to the source later, the last good tables stay in force.
//! The main thread waits for the source and for signals; the API has its own thread; the dataplane has its shards.
//! SIGTERM and SIGINT end it: the API stops, and with a state folder everything is left for the process that comes next (`restart`).
//! Without one, the other nodes are told, so that they take LoadBalancer addresses over, and the dataplane takes its interfaces and
//! routes away. What traffic from outside needs beside tables is in `outside`.

mod cni;
mod config;
mod dns;
mod identity;
mod intent;
mod leases;
mod mapped_ports;
mod outside;
mod ports;
mod restart;
#[cfg(test)]
mod tests;
mod views;
mod writes;

use crate::api::{ApiError, ErrorCode, Server};
use crate::directory::Directory;
use crate::ipam::gateway;
use crate::kubernetes::connect::AccessError;
use crate::kubernetes::{KubernetesSource, Monitor, NODE_KINDS, OpenError, SourceConfig};
use crate::log::{Level, event};
use crate::sandboxes::{self, Sandboxes};
use crate::source::{Digest, Generation, Origin, Source, Wake};
use crate::stop::Stop;
pub use config::{AgentConfig, HEALTHZ_LISTEN, HEARTBEAT_PORT, METRICS_LISTEN};
pub use dns::ClusterDns;
use intent::Intent;
pub use node::TapMode;
use node::{ClaimFailure, Dataplane, DataplaneConfig, StartError, Stopped};
use outside::Outside;
pub use overlay::vxlan::Vni;
use policy::cluster::Key;
use policy::compile::CompileOptions;
use policy::objects::{Problem, Severity};
use policy::tables::{NodeEntry, Tables};
use ports::Attachments;
use std::collections::HashSet;
use std::fmt;
use std::hash::BuildHasher;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, Instant, SystemTime};
use writes::Writes;

/// In the state folder: what the API server had.
const CACHE_FILE: &str = "kubernetes-objects";

/// What fails when there is no following the source, in messages.
const FOLLOWING: &str = "following the source of objects";

/// Why a node process ended.
#[derive(Debug)]
pub enum AgentError {
    /// The API socket cannot be served.
    Socket(PathBuf, io::Error),
    /// The configuration with which the API server is reached cannot be used.
    Access(AccessError),
    /// The source cannot be followed, or signals not received.
    System(&'static str, io::Error),
    /// The state folder cannot be used.
    State(PathBuf, io::Error),
    /// The dataplane did not start.
    Start(StartError),
    /// The dataplane ended by itself.
    Stopped(Stopped),
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AgentError::Socket(path, error) => write!(f, "API socket {}: {error}", path.display()),
            AgentError::Access(error) => error.fmt(f),
            AgentError::System(what, error) => write!(f, "{what}: {error}"),
            AgentError::State(path, error) => write!(f, "state folder {}: {error}", path.display()),
            AgentError::Start(error) => error.fmt(f),
            AgentError::Stopped(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for AgentError {}

/// What is in force.
struct InForce {
    tables: Arc<Tables>,
    generation: u64,
    digest: Digest,
    since: Instant,
    /// From the look at the source to every shard judging by the tables, and the part of it that compiling took.
    took: Duration,
    compile_took: Duration,
}

#[derive(Default)]
struct State {
    dataplane: Option<Arc<Dataplane>>,
    in_force: Option<InForce>,
    problems: Vec<Problem>,
    waiting_for: String,
    attachments: Attachments,
    stopping: bool,
}

/// What was put in force last. Who holds it puts the next tables in force.
#[derive(Default)]
struct Turn {
    /// Number, digest and problems of the last look at the source; `None` before the first that led to tables.
    source: Option<(u64, Digest, Vec<Problem>)>,
    /// Ports of this node that could not be had.
    failures: Vec<ClaimFailure>,
}

/// The node process as its API sees it.
pub(crate) struct Agent {
    config: AgentConfig,
    seed: u64,
    started: Instant,
    boot_id: String,
    sandboxes: Sandboxes,
    intent: Mutex<Intent>,
    turn: Mutex<Turn>,
    /// Pods whose attachments changed since the last turn.
    changed_pods: Mutex<Vec<Key>>,
    state: Mutex<State>,
    outside: Mutex<Outside>,
    writes: Mutex<Writes>,
    /// Tells how the API server is, if the objects come from one.
    monitor: OnceLock<Monitor>,
    /// Raised when tables come in force, a port was attached, or the process stops.
    changed: Condvar,
}

/// Runs a node process until it is told to stop. To be called from the main thread before there are others: the signals
/// are blocked for all.
pub fn run(config: AgentConfig) -> Result<(), AgentError> {
    let stop = Stop::on_signals().map_err(|error| AgentError::System("receiving signals", error))?;
    let mut source = open(&config)?;
    let socket = config.socket.clone();
    let agent = Arc::new(Agent::new(config)?);
    if let Source::Kubernetes(source) = &source {
        // Nobody else sets it.
        let _ = agent.monitor.set(source.monitor());
    }
    let metrics = agent.config.metrics_listen.and_then(listen_for_metrics);
    let server =
        Server::start(&socket, metrics, agent.clone()).map_err(|error| AgentError::Socket(socket.clone(), error))?;
    event(Level::Info, "started", &[("node", &agent.config.node_name), ("socket", &socket.display())]);
    agent.end_deleted();
    agent.serve_health_early();
    *agent.writes() = Writes::start(&agent.config).map_err(|error| AgentError::System("starting to write", error))?;
    let ended = agent.follow(&mut source, &stop);
    agent.stop();
    agent.close_to_outside();
    *agent.writes() = Writes::default();
    drop(server);
    let dataplane = agent.lock().dataplane.take();
    drop(dataplane);
    event(Level::Info, "stopped", &[("node", &agent.config.node_name)]);
    ended
}

/// Begins to follow the node's source.
fn open(config: &AgentConfig) -> Result<Source, AgentError> {
    let failed = |error| AgentError::System(FOLLOWING, error);
    match &config.origin {
        Origin::Directory(folder) => Ok(Source::Directory(Directory::open(folder).map_err(failed)?)),
        Origin::Kubernetes(access) => {
            let cache = config.state_dir.as_ref().map(|folder| folder.join(CACHE_FILE));
            let source = SourceConfig { cache, ..SourceConfig::new(access.clone(), NODE_KINDS) };
            let source = KubernetesSource::open(source).map_err(|error| match error {
                OpenError::Access(error) => AgentError::Access(error),
                OpenError::System(error) => failed(error),
            })?;
            Ok(Source::Kubernetes(source))
        }
    }
}

impl Agent {
    pub(crate) fn new(config: AgentConfig) -> Result<Agent, AgentError> {
        let seed = match &config.state_dir {
            Some(folder) => load_seed(folder).map_err(|error| AgentError::State(folder.clone(), error))?,
            None => random_seed(),
        };
        let waiting_for = format!("the first look at {}", config.origin);
        let state = Mutex::new(State { waiting_for, ..State::default() });
        let options = CompileOptions {
            external_ips: config.external_ips.clone(),
            node_port_addresses: config.nodeport_addresses.clone(),
            cluster_dns: config.cluster_dns.as_ref().map(|dns| dns.addresses.clone()).unwrap_or_default(),
        };
        let intent = Mutex::new(Intent::new(options));
        let boot_id = sandboxes::boot_id();
        let (sandboxes, dropped) = open_sandboxes(&config, &boot_id)?;
        dropped.iter().for_each(|what| event(Level::Warn, "sandbox", &[("what", what)]));
        let agent = Agent {
            config,
            seed,
            started: Instant::now(),
            boot_id,
            sandboxes,
            intent,
            turn: Mutex::default(),
            changed_pods: Mutex::default(),
            state,
            outside: Mutex::default(),
            writes: Mutex::default(),
            monitor: OnceLock::new(),
            changed: Condvar::new(),
        };
        agent.know_attached();
        Ok(agent)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Whoever panics with the lock held has not left a half-made change: every change is one assignment.
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn intent(&self) -> MutexGuard<'_, Intent> {
        self.intent.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes generation after generation until `stop` is readable.
    fn follow(&self, source: &mut Source, stop: &Stop) -> Result<(), AgentError> {
        loop {
            match source.refresh() {
                Some(generation) => self.apply(generation)?,
                None => self.retry(),
            }
            match source.wait(stop.as_fd()) {
                Ok(Wake::Look) => {}
                Ok(Wake::Stop) => return Ok(()),
                Err(error) => return Err(AgentError::System(FOLLOWING, error)),
            }
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        // Whoever panics with the lock held has put nothing in force, or all.
        self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn next_epoch(&self) -> u64 {
        self.lock().in_force.as_ref().map_or(1, |in_force| in_force.tables.epoch + 1)
    }

    /// Compiles a generation and puts it in force.
    pub(crate) fn apply(&self, generation: Generation) -> Result<(), AgentError> {
        let mut turn = self.turn();
        let compile_began = Instant::now();
        let (tables, contradictions) = self.intent().take(generation.files, self.next_epoch());
        let compile_took = compile_began.elapsed();
        turn.source = Some((generation.number, generation.digest, generation.problems));
        self.put_in_force(&mut turn, (tables, contradictions), (generation.began, compile_took))
    }

    /// Puts compiled tables in force. `began` is when the change was seen.
    fn put_in_force(
        &self,
        turn: &mut Turn,
        (tables, contradictions): (Tables, Vec<Problem>),
        (began, compile_took): (Instant, Duration),
    ) -> Result<(), AgentError> {
        let epoch = tables.epoch;
        let (number, digest, mut problems) = turn.source.clone().unwrap_or_default();
        problems.extend(contradictions);
        let own = tables.find_node(&self.config.node_name).map(|index| tables.node(index).clone());
        let dataplane = match own {
            Some(own) => self.dataplane(&own, &mut problems)?,
            None => {
                problems.push(self.problem(format!(
                    "there is no Node {}: the node waits for it, or keeps what it has in force",
                    self.config.node_name
                )));
                None
            }
        };
        self.write_of_cluster(&self.intent(), &tables, dataplane.as_deref(), &problems);
        let Some(dataplane) = dataplane else {
            self.report(problems);
            return Ok(());
        };
        let tables = Arc::new(tables);
        turn.failures = dataplane.set_policy(tables.clone()).map_err(AgentError::Stopped)?;
        let took = began.elapsed();
        let of_node = self.open_to_outside(&dataplane, &tables, &turn.failures, &self.intent());
        self.write_of_node(&of_node);
        problems.extend(of_node);
        self.report(problems);
        let (pods, nodes) = (tables.pod_count(), tables.nodes.len());
        let mut state = self.lock();
        state.dataplane = Some(dataplane);
        state.in_force =
            Some(InForce { tables, generation: number, digest, since: Instant::now(), took, compile_took });
        drop(state);
        self.changed.notify_all();
        let took_ms = took.as_millis();
        event(Level::Info, "in force", &[("epoch", &epoch), ("nodes", &nodes), ("pods", &pods), ("took_ms", &took_ms)]);
        self.configure_runtime();
        Ok(())
    }

    /// Tries again what could not be had of the node's ports, now that nothing else is to be done.
    fn retry(&self) {
        let _turn = self.turn();
        let (dataplane, tables) = {
            let state = self.lock();
            let Some(in_force) = &state.in_force else { return };
            let Some(dataplane) = &state.dataplane else { return };
            (dataplane.clone(), in_force.tables.clone())
        };
        if let Some((before, now)) = self.retry_outside(&dataplane, &tables) {
            let mut problems = self.lock().problems.clone();
            problems.retain(|problem| !before.contains(problem));
            self.write_of_node(&now);
            problems.extend(now);
            self.report(problems);
        }
        self.configure_runtime();
    }

    /// The dataplane of the node `own`: the running one, or a new one; `None` while the Node object is not enough for one.
    fn dataplane(&self, own: &NodeEntry, problems: &mut Vec<Problem>) -> Result<Option<Arc<Dataplane>>, AgentError> {
        let underlay = one_per_family(own.addresses.iter().copied());
        let gateways = one_per_family(own.pod_cidrs.iter().map(gateway));
        let running = self.lock().dataplane.clone();
        if let Some(running) = running {
            if running.config().underlay != underlay || running.config().gateways != gateways {
                problems.push(self.problem(format!(
                    "the addresses or pod ranges of Node {} have changed: restart the node process to take them over",
                    self.config.node_name
                )));
            }
            return Ok(Some(running));
        }
        if underlay.is_empty() || gateways.is_empty() {
            let field = if underlay.is_empty() { "InternalIP (status.addresses)" } else { "pod range (spec.podCIDRs)" };
            problems.push(self.problem(format!("Node {} has no {field}: the node waits", self.config.node_name)));
            return Ok(None);
        }
        let defaults = DataplaneConfig::new(&self.config.node_name, underlay, gateways);
        let config = DataplaneConfig {
            shards: self.config.shards,
            tap_mode: self.config.tap_mode,
            vni: self.config.vni,
            vxlan_port: self.config.vxlan_port,
            vtep_mac: own.vtep_mac.unwrap_or(defaults.vtep_mac),
            seed: self.seed,
            underlay_mtu: self.config.underlay_mtu,
            service_cidrs: self.config.service_cidrs.clone(),
            masquerade_all: self.config.masquerade_all,
            non_masquerade: self.config.non_masquerade_cidrs.clone(),
            trusted_dns: self.config.trusted_dns.clone(),
            cluster_dns: self.config.cluster_dns.as_ref().map(ClusterDns::of_node),
            snat_ports: self.config.snat_ports.clone(),
            state_dir: self.config.state_dir.clone(),
            ..defaults
        };
        let dataplane = Dataplane::start(config).map_err(AgentError::Start)?;
        event(Level::Info, "dataplane started", &[("pod_mtu", &dataplane.pod_mtu()), ("shards", &self.config.shards)]);
        self.take_over(&dataplane).map_err(AgentError::Stopped)?;
        Ok(Some(Arc::new(dataplane)))
    }

    /// A problem of this node itself.
    fn problem(&self, message: String) -> Problem {
        let origin = self.config.origin.to_string();
        Problem { severity: Severity::Warning, ..Problem::unreadable(&origin, message) }
    }

    /// Keeps the problems for the status, and logs those that came and how many went.
    fn report(&self, problems: Vec<Problem>) {
        let mut state = self.lock();
        let known: HashSet<&Problem> = state.problems.iter().collect();
        for problem in problems.iter().filter(|problem| !known.contains(problem)) {
            event(Level::Warn, "problem", &[("what", problem)]);
        }
        let left: HashSet<&Problem> = problems.iter().collect();
        let gone = state.problems.iter().filter(|problem| !left.contains(problem)).count();
        if gone > 0 {
            event(Level::Info, "problems solved", &[("solved", &gone), ("left", &problems.len())]);
        }
        if state.in_force.is_none() {
            state.waiting_for =
                problems.last().map_or_else(|| "the dataplane".to_owned(), |problem| problem.to_string());
        }
        state.problems = problems;
    }

    /// Ends every wait.
    fn stop(&self) {
        self.lock().stopping = true;
        self.changed.notify_all();
    }

    /// Whether tables are in force.
    pub(crate) fn check_ready(&self) -> Result<(), ApiError> {
        let state = self.lock();
        match &state.in_force {
            Some(_) if !state.stopping => Ok(()),
            Some(_) => Err(ApiError::new(ErrorCode::NotReady, "the node process is stopping")),
            None => Err(self.not_ready(&state)),
        }
    }

    /// What is waited for, in words.
    fn waiting_for(&self, state: &State) -> String {
        self.monitor.get().and_then(Monitor::waiting_for).unwrap_or_else(|| state.waiting_for.clone())
    }

    fn not_ready(&self, state: &State) -> ApiError {
        ApiError::new(ErrorCode::NotReady, format!("the node is not ready: {}", self.waiting_for(state)))
    }
}

/// A node that nobody can measure is a node all the same: what cannot be bound is told, and the rest goes on.
fn listen_for_metrics(address: SocketAddr) -> Option<TcpListener> {
    let told = |error| {
        let hint = "choose another address with --metrics-listen, or none";
        event(Level::Warn, "metrics are not served", &[("listen", &address), ("reason", &error), ("hint", &hint)]);
    };
    TcpListener::bind(address).map_err(told).ok()
}

/// The records in the state folder, and what of them was dropped.
fn open_sandboxes(config: &AgentConfig, boot_id: &str) -> Result<(Sandboxes, Vec<String>), AgentError> {
    let folder = config.state_dir.as_deref();
    Sandboxes::open(folder, boot_id, config.quarantine, SystemTime::now())
        .map_err(|error| AgentError::State(config.state_dir.clone().unwrap_or_default(), error))
}

/// The first address of each family.
fn one_per_family(addresses: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut chosen: Vec<IpAddr> = Vec::new();
    for address in addresses {
        if !chosen.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
            chosen.push(address);
        }
    }
    chosen
}

/// The seed of an earlier process, else a random one that is kept.
fn load_seed(folder: &Path) -> io::Result<u64> {
    std::fs::create_dir_all(folder)?;
    let path = folder.join("seed");
    if let Some(seed) = std::fs::read_to_string(&path).ok().and_then(|text| u64::from_str_radix(text.trim(), 16).ok()) {
        return Ok(seed);
    }
    let seed = random_seed();
    std::fs::write(&path, format!("{seed:016x}\n"))?;
    Ok(seed)
}

/// The standard library seeds its hashers from the system's randomness.
fn random_seed() -> u64 {
    std::hash::RandomState::new().hash_one(std::process::id())
}
