//! Which backend a node process reaches through a claimed port: the rules of a nodePort at the client's own node.

use policy::tables::{Choice, Client, FlowHash, Frontend, NodeFrontend, NodeIndex, ServiceId, ServicePortId, Tables};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};
use switch::ServiceHits;
use wire::{FlowKey, Protocol};

/// Clients with session affinity that are remembered. They are this machine's own addresses, so that a Service has few.
const REMEMBERED_MAX: usize = 4_096;

/// Counts of ports that are no Service's any more are forgotten once there are so many of them.
const GONE_MAX: usize = 1_024;

/// Chooses by the tables in force.
pub(crate) struct Chooser {
    tables: Arc<Tables>,
    node: Option<NodeIndex>,
    seed: u64,
    remembered: HashMap<(ServiceId, IpAddr), Remembered>,
    hits: BTreeMap<ServicePortId, ServiceHits>,
}

/// The backend of a client, for session affinity ClientIP.
struct Remembered {
    backend: IpAddr,
    last: Instant,
    timeout: Duration,
}

impl Chooser {
    /// Knows no Service yet.
    pub(crate) fn new(seed: u64) -> Chooser {
        Chooser { tables: Arc::default(), node: None, seed, remembered: HashMap::new(), hits: BTreeMap::new() }
    }

    /// The tables in force.
    pub(crate) fn tables(&self) -> &Tables {
        &self.tables
    }

    /// How often the ports of Services were asked for.
    pub(crate) fn hits(&self) -> Vec<(ServicePortId, ServiceHits)> {
        self.hits.iter().map(|(id, hits)| (*id, *hits)).collect()
    }

    /// Puts other tables in force; `node` is this node's name.
    pub(crate) fn set_tables(&mut self, tables: Arc<Tables>, node: &str) {
        self.node = tables.find_node(node);
        if self.hits.len() > tables.service_ports.len() + GONE_MAX {
            let known: HashSet<ServicePortId> = tables.service_ports.iter().map(|port| port.id).collect();
            self.hits.retain(|id, _| known.contains(id));
        }
        self.tables = tables;
    }

    /// The backend for a client that asked `asked`; `None` if the Service has none, or there is no such Service.
    pub(crate) fn choose(
        &mut self,
        now: Instant,
        protocol: Protocol,
        client: SocketAddr,
        asked: SocketAddr,
    ) -> Option<SocketAddr> {
        let (frontend, _) = self.find(protocol, asked)?;
        let port = self.tables.service(frontend.service).id;
        let chosen = self.pick(now, protocol, client, asked);
        let hits = self.hits.entry(port).or_default();
        match chosen {
            Some(_) => hits.opened += 1,
            None => hits.refused += 1,
        }
        chosen
    }

    fn pick(&mut self, now: Instant, protocol: Protocol, client: SocketAddr, asked: SocketAddr) -> Option<SocketAddr> {
        let (frontend, at) = self.find(protocol, asked)?;
        let entry = self.tables.service_entry(frontend.service);
        let (id, affinity) = (entry.id, entry.affinity);
        // At its own node a process reaches all endpoints, as kube-proxy's rules for local traffic say.
        let candidates = self.tables.admit(frontend, at, self.node, Client::Inside, client.ip()).ok()?;
        let remembered = affinity.and_then(|timeout| {
            let remembered = self.remembered.get(&(id, client.ip()))?;
            let is_fresh = now.saturating_duration_since(remembered.last) < timeout;
            candidates.find(remembered.backend).filter(|_| is_fresh)
        });
        let backend = match remembered {
            Some(backend) => backend,
            None => {
                let key = FlowKey::new(protocol, client.ip(), client.port(), at, asked.port());
                let hash = FlowHash::new(&key, self.seed);
                match self.tables.choose(frontend, at, self.node, Client::Inside, client.ip(), &hash) {
                    Choice::Backend(backend) => backend,
                    _ => return None,
                }
            }
        };
        if let Some(timeout) = affinity {
            self.remember(id, client.ip(), Remembered { backend: backend.addr, last: now, timeout });
        }
        Some(SocketAddr::new(backend.addr, backend.port))
    }

    /// Whether clients at `frontend` are to be refused.
    pub(crate) fn lacks_endpoint(&self, frontend: &NodeFrontend) -> bool {
        let NodeFrontend { addr, kind, service, .. } = *frontend;
        let admitted = self.tables.admit(Frontend { service, kind }, addr, self.node, Client::Inside, addr);
        matches!(admitted, Err(Choice::NoEndpoint))
    }

    /// The same for a client that asked `asked`, which is no Service's port perhaps.
    pub(crate) fn refuses(&self, protocol: Protocol, client: SocketAddr, asked: SocketAddr) -> bool {
        self.find(protocol, asked).is_some_and(|(frontend, at)| {
            let admitted = self.tables.admit(frontend, at, self.node, Client::Inside, client.ip());
            matches!(admitted, Err(Choice::NoEndpoint))
        })
    }

    /// Whether a client that asked `asked` may go on speaking to `backend`.
    pub(crate) fn is_backend(&self, protocol: Protocol, asked: SocketAddr, backend: SocketAddr) -> bool {
        self.find(protocol, asked)
            .is_some_and(|(frontend, _)| self.tables.is_backend(frontend.service, backend.ip(), backend.port()))
    }

    /// The Service at an address of this machine: its own, or as a nodePort or hostPort that of the node.
    fn find(&self, protocol: Protocol, asked: SocketAddr) -> Option<(Frontend, IpAddr)> {
        let at = |address| self.tables.find_service(address, protocol, asked.port()).map(|found| (found, address));
        let own = || {
            let mut own = self.tables.node_port_addresses(self.node?);
            own.find(|address| address.is_ipv4() == asked.is_ipv4())
        };
        // A hostPort is served whatever addresses nodePorts are served on.
        let host_port = || {
            let own = self.tables.node(self.node?).addresses.iter();
            let mut found = own.filter(|own| own.is_ipv4() == asked.is_ipv4()).filter_map(|own| at(*own));
            found.find(|(frontend, _)| self.tables.host_port(frontend.service).is_some_and(|port| port.everywhere))
        };
        at(asked.ip()).or_else(|| at(own()?)).or_else(host_port)
    }

    fn remember(&mut self, service: ServiceId, client: IpAddr, entry: Remembered) {
        let now = entry.last;
        if self.remembered.len() >= REMEMBERED_MAX && !self.remembered.contains_key(&(service, client)) {
            self.remembered.retain(|_, old| now.saturating_duration_since(old.last) < old.timeout);
            if self.remembered.len() >= REMEMBERED_MAX
                && let Some(oldest) = self.remembered.iter().min_by_key(|(_, old)| old.last).map(|(key, _)| *key)
            {
                self.remembered.remove(&oldest);
            }
        }
        self.remembered.insert((service, client), entry);
    }
}
