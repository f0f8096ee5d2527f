//! What becomes of a connection and why, from manifests alone: nothing is sent, nothing runs (W05, W06).
//!
//! In: completed objects, the flags of the nodes, a question (from where, to where). Out: an [`Explanation`]. The objects are
//! compiled as a node compiles them, [`switch::explain`] has one real switch per node, and the first packet of the connection
//! goes from its source's port through them to its end; for a Service once for every backend that it may reach. So a verdict
//! is what the same packet would meet on the wire; this module finds the names for it.
//!
//! What a switch never sees is known here: names ([`crate::names`]), what the kernels of nodes do among themselves, the
//! relay that serves nodePorts to the node itself (`route`), and what the proxy does with a request (`web`).

mod answer;
mod assume;
mod route;
mod scene;
mod story;
#[cfg(test)]
mod tests;
mod web;

pub use web::Url;

pub use answer::{Candidate, DryRun, Each, Explanation, IngressRoute, Outcome, ServiceView, Side, Step, TierView};

use crate::error::{LabError, Result};
use crate::names::{self, Meaning};
use crate::place::Place;
use crate::probe::ProbeProtocol;
use crate::settings::NodeOptions;
use control::controller::LabNetwork;
use policy::compile::CompileOptions;
use policy::objects::{Object, Problem, Sourced};
use policy::tables::{Backend, Choice, Client, Direction, Frontend, FrontendKind, NodeIndex};
use route::{Route, Sender};
use scene::Scene;
use std::net::{IpAddr, SocketAddr};
use story::Told;
use switch::explain::{Entry, Probe, Walk, client};
use wire::Protocol;

/// Backends of a Service that are followed; each costs a fresh pair of switches. More than an EndpointSlice of the API holds.
const WALKS_MAX: usize = 1_000;

/// The source port of a client where any will do.
const SOURCE_PORT: u16 = 40_000;

/// The port of DNS.
const DNS_PORT: u16 = 53;

/// A question.
#[derive(Clone, Debug)]
pub struct Question {
    /// PLACE that asks.
    pub from: String,
    /// The destination as it was written.
    pub to: String,
    /// Its HOST.
    pub host: String,
    /// Its port; 0 for ICMP.
    pub port: u16,
    /// Protocol.
    pub protocol: ProbeProtocol,
    /// What more a URL asks for.
    pub url: Option<Url>,
    /// Node on which a packet from outside enters, or on which a bare pod address lives.
    pub node: Option<String>,
    /// Whether to tell every candidate.
    pub each: bool,
    /// Whether endpoints without a pod are taken to have one. For manifests, from which pods may have been left out; a lab's
    /// objects are complete.
    pub assume_pods: bool,
}

/// Answers `question` about the cluster of the completed `objects`. The problems are those of compiling them.
pub fn explain(
    objects: &[Sourced<Object>],
    network: &LabNetwork,
    options: &NodeOptions,
    question: &Question,
) -> Result<(Explanation, Vec<Problem>)> {
    let fabric = switch::explain::Options {
        service_cidrs: network.services.clone(),
        non_masquerade: options.non_masquerade_cidrs.clone(),
        masquerade_all: options.masquerade_all,
    };
    let compile = options.compile_options();
    let mut assumed = scene::assumed(objects, question.assume_pods);
    let census = crate::census::Census::of(objects.iter().chain(&assumed).map(|sourced| &sourced.object));
    let mut place = Place::find(&question.from, &census)?;
    if let Some(name) = &question.node
        && !census.nodes.contains_key(name)
    {
        let known: Vec<&str> = census.nodes.keys().map(String::as_str).collect();
        return Err(LabError::BadInput(format!("--node {name}: no such node; there is: {}", known.join(", "))));
    }
    if let Place::Unlabelled { address, node } = &mut place {
        if let Some(name) = &question.node {
            *node = name.clone();
        }
        assumed.push(assume::pod(assume::NAMESPACE, &assume::name_of(*address), node, &[*address]));
    }
    let (scene, problems) = Scene::new(objects, assumed, &compile, &fabric);
    let entry = question.node.as_deref().and_then(|name| scene.tables.find_node(name));
    let (sender, sources) = Sender::find(&place, &scene, network, entry)?;
    let masquerade_all = options.masquerade_all;
    let asked = Asked {
        scene: &scene,
        compile,
        masquerade_all,
        question,
        sender,
        sources,
        from: place.to_string(),
        place: &place,
    };
    Ok((asked.answer(objects, network)?, problems))
}

/// A question whose sender is known.
struct Asked<'a> {
    scene: &'a Scene,
    compile: CompileOptions,
    masquerade_all: bool,
    question: &'a Question,
    sender: Sender,
    sources: Vec<IpAddr>,
    from: String,
    place: &'a Place,
}

/// One connection: to one address, and if that is a Service's to one of its backends.
struct Case {
    address: IpAddr,
    candidate: Option<Candidate>,
    told: Told,
}

impl Asked<'_> {
    fn answer(&self, objects: &[Sourced<Object>], network: &LabNetwork) -> Result<Explanation> {
        let Question { host, port, protocol, .. } = self.question;
        let wanted = (protocol.on_the_wire(), *port);
        let (name, addresses) = match names::find_host(host, wanted, self.place, &self.scene.census, network)? {
            Meaning::Address(addresses) => (None, addresses),
            Meaning::Nothing(why) => match self.question.url.as_ref().and_then(|_| web::published(objects, host)) {
                Some((addresses, why)) => (Some(found_name(host, &addresses, why)), addresses),
                None => return Ok(self.without_address(Outcome::Unresolved, why)),
            },
            Meaning::Name { name, addresses, why } => (Some(found_name(&name, &addresses, why)), addresses),
        };
        let reachable = |address: &&IpAddr| self.source_for(**address).is_some();
        let Some(first) = addresses.iter().find(reachable) else {
            let family = if addresses[0].is_ipv4() { "IPv4" } else { "IPv6" };
            let why = format!("{} has no {family} address and {} no other: nothing is sent", self.from, host);
            return Ok(self.without_address(Outcome::Dropped, why));
        };
        let same_family = addresses.iter().filter(|address| address.is_ipv4() == first.is_ipv4());
        let mut service = None;
        let mut cases = Vec::new();
        for address in same_family {
            let found = self.cases(*address, &mut service);
            cases.extend(found);
        }
        match &self.question.url {
            Some(url) => self.answer_url(objects, url, name, service, cases),
            None => Ok(self.put_together(name, service, cases)),
        }
    }

    /// Whether a pod asks that shares its node's network.
    fn is_host_network(&self) -> bool {
        matches!((self.place, self.sender), (Place::Pod { .. }, Sender::Node(_)))
    }

    fn source_for(&self, address: IpAddr) -> Option<IpAddr> {
        self.sources.iter().copied().find(|source| source.is_ipv4() == address.is_ipv4())
    }

    fn without_address(&self, outcome: Outcome, reason: String) -> Explanation {
        let stage = if outcome == Outcome::Unresolved { "name" } else { "enter" };
        let step = Step { place: "dns".into(), stage, decision: outcome.to_string(), why: reason.clone() };
        let (egress, ingress) = (self.unjudged_egress(), Side::open());
        let told =
            Told { outcome, reason, source_nat: false, egress, ingress, steps: vec![step], left_to_kernel: false };
        let cases = vec![Case { address: std::net::Ipv4Addr::UNSPECIFIED.into(), candidate: None, told }];
        Explanation { each: None, ..self.put_together(None, None, cases) }
    }

    /// The first case that does not get through stands for all: whoever asks wants to know that some connections fail.
    fn put_together(&self, name: Option<Step>, service: Option<ServiceView>, mut cases: Vec<Case>) -> Explanation {
        if let Some(name) = name {
            cases.iter_mut().for_each(|case| case.told.steps.insert(0, name.clone()));
        }
        let failed = cases.iter().position(|case| !case.told.outcome.is_yes());
        let through = cases.iter().filter(|case| case.told.outcome.is_yes()).count();
        let Question { to, port, protocol, each, .. } = self.question;
        let all = each.then(|| cases.iter().map(Case::each).collect());
        let total = cases.len();
        let shown = cases.swap_remove(failed.unwrap_or(0));
        let Told { outcome, mut reason, source_nat, egress, ingress, steps, .. } = shown.told;
        if failed.is_some() && through > 0 {
            reason = format!("{reason} ({through} of {total} would get through; --each tells all)");
        }
        if let Some(all) = service.as_ref().map(|service| service.candidates.len()).filter(|all| *all > WALKS_MAX) {
            reason = format!("{reason} (of {all} candidates {WALKS_MAX} were followed)");
        }
        let service = service.map(|service| ServiceView { source_nat, ..service });
        let (from, to, backend) = (self.from.clone(), to.clone(), shown.candidate);
        let (protocol, port, ingress_route) = (*protocol, *port, None);
        Explanation {
            from,
            to,
            protocol,
            port,
            outcome,
            reason,
            service,
            backend,
            egress,
            ingress,
            ingress_route,
            steps,
            each: all,
        }
    }

    /// Every connection that may come of asking `dst`.
    fn cases(&self, dst: IpAddr, service: &mut Option<ServiceView>) -> Vec<Case> {
        let Question { port, protocol, .. } = self.question;
        let wire = protocol.on_the_wire();
        let src = self.source_for(dst).expect("an address of its family was found above");
        match self.scene.route(self.sender, dst, (wire, *port), &self.compile) {
            Route::Itself => vec![self.case(dst, None, story::itself(self, dst))],
            Route::Away(why) => vec![self.case(dst, None, story::away(self, why))],
            Route::Kernel(node, why) => vec![self.case(dst, None, story::kernel(self, node, why))],
            Route::Relay(node, frontend, addr) => self.relayed(node, frontend, (dst, addr), service),
            Route::Switch(entry) => {
                let (src, dst) = (SocketAddr::new(src, SOURCE_PORT), SocketAddr::new(dst, *port));
                self.switched(Probe { entry, protocol: wire, src, dst }, service)
            }
        }
    }

    fn case(&self, address: IpAddr, candidate: Option<Candidate>, told: Told) -> Case {
        Case { address, candidate, told }
    }

    /// Through the switches, to every backend if it is a Service.
    fn switched(&self, probe: Probe, service: &mut Option<ServiceView>) -> Vec<Case> {
        let tables = &self.scene.tables;
        let (dst, src) = (probe.dst, probe.src.ip());
        let (node, client) = (self.scene.fabric.node_of(probe.entry), client(probe.entry));
        let found = tables.find_service(dst.ip(), probe.protocol, dst.port());
        let Some(frontend) = found.filter(|_| !self.asks_cluster_dns(&probe)) else {
            return vec![self.walked(&probe, None, None)];
        };
        let candidates: Vec<Backend> = match tables.admit(frontend, dst.ip(), node, client, src) {
            Ok(candidates) => candidates.iter().collect(),
            Err(_) => Vec::new(),
        };
        let mut view = self.service_view(frontend, dst.ip(), &candidates, node);
        let mut cases: Vec<Case> = Vec::new();
        for backend in candidates.iter().take(WALKS_MAX) {
            let leading = self.scene.fabric.source_port_to(&probe, frontend, (backend.addr, backend.port));
            // Without such a port, which takes very many backends, no client meets that one either.
            let Some(port) = leading else { continue };
            let probe = Probe { src: SocketAddr::new(src, port), ..probe };
            cases.push(self.walked(&probe, Some(frontend), Some(backend)));
        }
        if cases.is_empty() || cases.iter().all(|case| case.told.left_to_kernel) {
            view.iter_mut().for_each(|view| view.candidates.clear());
            cases = vec![self.walked(&probe, Some(frontend), None)];
        }
        *service = view;
        cases
    }

    /// Follows one packet; `backend` is where its Service leads it.
    fn walked(&self, probe: &Probe, frontend: Option<Frontend>, backend: Option<&Backend>) -> Case {
        let scene = self.scene;
        let node = scene.fabric.node_of(probe.entry);
        let candidate = frontend.zip(backend).map(|(frontend, backend)| scene.candidate(frontend, backend, node));
        let told = match scene.fabric.walk(probe) {
            Some(walk) => story::of_walk(self, probe, &walk, frontend, backend),
            None => story::closed(self, probe),
        };
        self.case(probe.dst.ip(), candidate, told)
    }

    /// Through the node's own relay: the backend is chosen by the tables as for any client inside, and reached from the host
    /// port with the node's address.
    fn relayed(
        &self,
        node: NodeIndex,
        frontend: Frontend,
        (dst, addr): (IpAddr, IpAddr),
        service: &mut Option<ServiceView>,
    ) -> Vec<Case> {
        let (tables, protocol) = (&self.scene.tables, self.question.protocol.on_the_wire());
        let src = self.source_for(dst).expect("an address of its family was found above");
        let admitted = tables.admit(frontend, addr, Some(node), Client::Inside, src);
        let candidates: Vec<Backend> = admitted.as_ref().map(|all| all.iter().collect()).unwrap_or_default();
        *service = self.service_view(frontend, dst, &candidates, Some(node));
        if let Err(choice) = admitted {
            return vec![self.case(dst, None, story::relay_refuses(self, node, frontend, choice))];
        }
        let to = |backend: &Backend| {
            let candidate = Some(self.scene.candidate(frontend, backend, Some(node)));
            let (src, to) = (SocketAddr::new(src, SOURCE_PORT), SocketAddr::new(backend.addr, backend.port));
            let probe = Probe { entry: Entry::Host(node), protocol, src, dst: to };
            let own = tables.node(node).addresses.contains(&backend.addr);
            let walk = if own { None } else { self.scene.fabric.walk(&probe) };
            self.case(dst, candidate, story::of_relay(self, node, dst, backend, &probe, walk.as_ref(), frontend))
        };
        candidates.iter().take(WALKS_MAX).map(to).collect()
    }

    /// `None` for a hostPort, which is no Service's.
    fn service_view(
        &self,
        frontend: Frontend,
        vip: IpAddr,
        candidates: &[Backend],
        node: Option<NodeIndex>,
    ) -> Option<ServiceView> {
        if frontend.kind == FrontendKind::HostPort {
            return None;
        }
        let port = self.scene.tables.service(frontend.service);
        let entry = &port.service;
        Some(ServiceView {
            namespace: entry.namespace.to_string(),
            name: entry.name.to_string(),
            port: port.port,
            vip: Some(vip),
            kind: frontend.kind.to_string(),
            candidates: candidates.iter().map(|backend| self.scene.candidate(frontend, backend, node)).collect(),
            source_nat: false,
            affinity: if entry.affinity.is_some() { "ClientIP" } else { "None" }.to_owned(),
            affinity_timeout_seconds: entry.affinity.map(|timeout| timeout.as_secs()),
        })
    }

    /// Whether a packet is for the DNS that every node answers itself to who is attached.
    fn asks_cluster_dns(&self, probe: &Probe) -> bool {
        let is_attached = matches!(probe.entry, Entry::Pod(_) | Entry::Host(_));
        let is_query = matches!(probe.protocol, Protocol::UDP | Protocol::TCP) && probe.dst.port() == DNS_PORT;
        is_attached && is_query && self.scene.tables.is_cluster_dns(probe.dst.ip())
    }

    /// What policy says of the sender's end about a flow to `to`; of a sender that is no pod of ours, nothing.
    fn egress(&self, to: (IpAddr, Protocol, u16)) -> Side {
        match self.sender {
            Sender::Pod(pod) => self.scene.judge(Direction::FromPod, pod, to),
            Sender::Node(_) | Sender::Outside(_) => Side::open(),
        }
    }

    fn unjudged_egress(&self) -> Side {
        match self.sender {
            Sender::Pod(pod) => self.scene.unjudged(Direction::FromPod, pod),
            Sender::Node(_) | Sender::Outside(_) => Side::open(),
        }
    }

    /// What policy says of the receiver's end about a flow from `from`.
    fn ingress(&self, receiver: IpAddr, (from, protocol, port): (IpAddr, Protocol, u16)) -> Side {
        match self.scene.pod_at(receiver) {
            Some(pod) => self.scene.judge(Direction::ToPod, pod, (from, protocol, port)),
            None => Side::open(),
        }
    }

    /// Why a Service takes no flow, in words.
    fn refusal(&self, frontend: Frontend, dst: IpAddr, entry: Entry, src: IpAddr) -> Option<(Choice, String)> {
        let node = self.scene.fabric.node_of(entry);
        let choice = self.scene.tables.admit(frontend, dst, node, client(entry), src).err()?;
        Some((choice, story::choice_in_words(self.scene, frontend, choice, node, src)))
    }
}

impl Case {
    fn each(&self) -> Each {
        let Told { outcome, reason, source_nat, egress, ingress, steps, .. } = self.told.clone();
        Each {
            backend: self.candidate.clone(),
            address: self.address,
            outcome,
            reason,
            source_nat,
            egress,
            ingress,
            steps,
        }
    }
}

/// The step in which a name was found.
fn found_name(name: &str, addresses: &[IpAddr], why: String) -> Step {
    let listed: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    Step { place: "dns".into(), stage: "name", decision: format!("{name} is {}", listed.join(", ")), why }
}

/// The end of a walk that a script may rely on, and the packet as its receiver sees it.
fn seen(walk: &Walk) -> (IpAddr, u16) {
    let key = walk.last_seen();
    (key.src(), key.src_port)
}
