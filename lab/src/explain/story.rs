//! A walk in words: what became of the connection, the one sentence why, and the steps.

use super::route::Sender;
use super::scene::Scene;
use super::{Asked, Outcome, Side, Step, seen};
use policy::explain::listed;
use policy::tables::{Backend, Choice, Frontend, FrontendKind, NodeIndex};
use std::net::IpAddr;
use switch::explain::{End, Entry, Probe, Walk, Way};
use switch::{AnswerKind, DropReason};
use wire::Protocol;

/// What is told about one connection.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub(super) outcome: Outcome,
    pub(super) reason: String,
    pub(super) source_nat: bool,
    pub(super) egress: Side,
    pub(super) ingress: Side,
    pub(super) steps: Vec<Step>,
    /// The switch at the uplink did not take it for its own.
    pub(super) left_to_kernel: bool,
}

/// `ADDRESS:PORT`, or the address alone where there are no ports.
fn end(addr: IpAddr, port: u16) -> String {
    if port == 0 { addr.to_string() } else { std::net::SocketAddr::new(addr, port).to_string() }
}

pub(super) fn step(
    place: impl Into<String>,
    stage: &'static str,
    decision: impl Into<String>,
    why: impl Into<String>,
) -> Step {
    Step { place: place.into(), stage, decision: decision.into(), why: why.into() }
}

/// Follows what the switches did.
pub(super) fn of_walk(
    asked: &Asked<'_>,
    probe: &Probe,
    walk: &Walk,
    frontend: Option<Frontend>,
    backend: Option<&Backend>,
) -> Told {
    let scene = asked.scene;
    let first = &walk.hops[0];
    let here = scene.node_name(first.node);
    let left_to_kernel = walk.end == End::Dropped(DropReason::LeftToKernel);
    // Where the flow leads once a Service is translated; nowhere if the Service takes none.
    let target = match (frontend, backend) {
        (_, Some(backend)) => Some((backend.addr, backend.port)),
        (Some(_), None) => None,
        (None, None) => Some((probe.dst.ip(), probe.dst.port()))
            .filter(|(addr, _)| !scene.tables.is_virtual(*addr) || asked.asks_cluster_dns(probe)),
    };
    let (src, _) = seen(walk);
    let source_nat = src != probe.src.ip();
    let egress = match target {
        Some((addr, port)) => asked.egress((addr, probe.protocol, port)),
        None => asked.unjudged_egress(),
    };
    let ingress = match target {
        Some((addr, port)) => asked.ingress(addr, (src, probe.protocol, port)),
        None => Side::open(),
    };
    let mut steps = vec![entered(asked, probe, &here, left_to_kernel)];
    if !left_to_kernel {
        steps.extend(service_step(asked, probe, frontend, backend, &here));
    }
    if let Some((addr, port)) = target.filter(|_| !left_to_kernel) {
        if source_nat {
            let why = source_nat_reason(asked, probe, addr);
            steps.push(step(&*here, "source-nat", format!("{} becomes {src}", probe.src.ip()), why));
        }
        if let Sender::Pod(pod) = asked.sender {
            steps.push(policy_step(&here, "egress-policy", &scene.pod_name(pod), &egress));
        }
        if !egress.is_denied() {
            steps.extend(way_steps(scene, walk, (addr, port)));
            let arrived = scene.node_name(walk.hops[walk.hops.len() - 1].node);
            let denied = End::Dropped(DropReason::DeniedByIngressPolicy);
            let judged = matches!(walk.end, End::Pod(_) | End::Asked(_)) || walk.end == denied;
            if let Some(pod) = scene.pod_at(addr).filter(|_| judged) {
                steps.push(policy_step(&arrived, "ingress-policy", &scene.pod_name(pod), &ingress));
            }
        }
    }
    let (outcome, reason) = ended(asked, probe, walk, frontend, target, (&egress, &ingress));
    let last = scene.node_name(walk.hops[walk.hops.len() - 1].node);
    let stage = match walk.end {
        End::Pod(_) | End::Host(_) => "deliver",
        End::Outside(_) => "route",
        End::Answered(_) | End::Asked(_) => "answer",
        End::Dropped(_) => "drop",
    };
    let why = match outcome {
        Outcome::Denied => "what policy denies is dropped without a word: no reset, no ICMP error".to_owned(),
        _ => reason.clone(),
    };
    steps.push(step(last, stage, outcome.to_string(), why));
    Told { outcome, reason, source_nat, egress, ingress, steps, left_to_kernel }
}

fn entered(asked: &Asked<'_>, probe: &Probe, here: &str, left_to_kernel: bool) -> Step {
    let (scene, src) = (asked.scene, probe.src.ip());
    let why = match probe.entry {
        Entry::Pod(pod) => format!("{} sends from its own address {src}", scene.pod_name(pod)),
        Entry::Host(_) if asked.is_host_network() => {
            format!("{} shares the network of {here} and is {here} to policies; it sends from {src}", asked.from)
        }
        Entry::Host(_) => format!("{here} itself sends from its address {src} through its TAP"),
        Entry::Uplink(_) => {
            format!("{} sends from outside; it comes in at the uplink of {here}", scene.owner_name(src))
        }
    };
    step(here, "enter", if left_to_kernel { "left to the kernel" } else { "accepted" }, why)
}

fn service_step(
    asked: &Asked<'_>,
    probe: &Probe,
    frontend: Option<Frontend>,
    backend: Option<&Backend>,
    here: &str,
) -> Option<Step> {
    let (tables, dst) = (&asked.scene.tables, probe.dst);
    if asked.asks_cluster_dns(probe) {
        let why = format!("{} is where every node answers the cluster DNS itself: no Service, no other node", dst.ip());
        return Some(step(here, "dns", "this node's own", why));
    }
    let Some(frontend) = frontend else {
        let why = format!("{} is an address of a Service that has no {} port {}", dst.ip(), probe.protocol, dst.port());
        return tables.is_virtual(dst.ip()).then(|| step(here, "service", "none", why));
    };
    let (node, client) = (asked.scene.fabric.node_of(probe.entry), switch::explain::client(probe.entry));
    let of = service_in_words(asked.scene, frontend);
    let kind = match frontend.kind {
        FrontendKind::HostPort => format!("{} of {}", end(dst.ip(), dst.port()), asked.scene.owner_name(dst.ip())),
        kind => format!("{kind} address {}", end(dst.ip(), dst.port())),
    };
    let Some(backend) = backend else {
        let why = asked.refusal(frontend, dst.ip(), probe.entry, probe.src.ip());
        let why = why.map_or(of, |(_, why)| why);
        return Some(step(here, "service", "none", format!("{kind}: {why}")));
    };
    let count = tables.candidates(frontend, dst.ip(), node, client).len();
    let candidates = if count == 1 {
        "the only candidate".to_owned()
    } else {
        format!("one of {count} candidates, by the flow's hash")
    };
    let kept = match tables.service_entry(frontend.service).affinity {
        Some(timeout) => format!("; the client keeps it for {} s (sessionAffinity ClientIP)", timeout.as_secs()),
        None => String::new(),
    };
    Some(step(here, "service", end(backend.addr, backend.port), format!("{of}: {kind}: {candidates}{kept}")))
}

fn service_in_words(scene: &Scene, frontend: Frontend) -> String {
    let port = scene.tables.service(frontend.service);
    let (namespace, name) = (&port.service.namespace, &port.service.name);
    match scene.tables.host_port(frontend.service) {
        Some(host_port) => format!("{} of Pod {namespace}/{name} is {}/{}", host_port.field, port.port, port.protocol),
        None => format!("Service {namespace}/{name} port {}/{}", port.port, port.protocol),
    }
}

/// Why a Service does not take a flow from `src` that enters on `node`.
pub(super) fn choice_in_words(
    scene: &Scene,
    frontend: Frontend,
    choice: Choice,
    node: Option<NodeIndex>,
    src: IpAddr,
) -> String {
    let service = scene.tables.service_entry(frontend.service);
    let of = service_in_words(scene, frontend);
    match choice {
        Choice::Backend(backend) => format!("{of} leads to {}", end(backend.addr, backend.port)),
        Choice::NoEndpoint => format!("{of} has no ready endpoint"),
        Choice::NoLocalEndpoint => {
            let field = match frontend.kind {
                FrontendKind::ClusterIp => "internalTrafficPolicy",
                _ => "externalTrafficPolicy",
            };
            let node = node.map_or_else(|| "that node".to_owned(), |node| scene.node_name(node));
            format!("{of} has {field} Local, and no ready endpoint on {node}")
        }
        Choice::SourceNotAllowed => {
            let ranges = service.source_ranges.iter().flatten().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            format!("{src} is not in spec.loadBalancerSourceRanges of {of} [{ranges}]")
        }
    }
}

fn source_nat_reason(asked: &Asked<'_>, probe: &Probe, target: IpAddr) -> String {
    let scene = asked.scene;
    if let (Sender::Pod(sender), Some(receiver)) = (asked.sender, scene.pod_at(target))
        && sender == receiver
    {
        return "a pod reaches itself through its Service: its answer has to come back through the switch".to_owned();
    }
    if !scene.is_inside(target) {
        return format!("{target} is outside of the cluster, where nobody knows the way back to {}", probe.src.ip());
    }
    if asked.masquerade_all {
        return "--masquerade-all".to_owned();
    }
    format!("the answers of {} have to come back through this node", scene.owner_name(target))
}

fn policy_step(place: &str, stage: &'static str, pod: &str, side: &Side) -> Step {
    let mut why = match (&side.rule, side.policies.is_empty()) {
        (_, false) if !side.tiers.is_empty() => {
            format!("{pod} is selected by {}: {}", listed(side.policies.clone()), tiers_in_words(side))
        }
        (Some(rule), false) => format!("{pod} is selected by {}: {rule}", listed(side.policies.clone())),
        (Some(rule), true) => rule.clone(),
        (None, _) => format!("no policy selects {pod} in this direction"),
    };
    why.push_str(&dry_run_in_words(side));
    step(place, stage, side.verdict, why)
}

/// What every tier decided, and of a denial why nothing accepted it.
fn tiers_in_words(side: &Side) -> String {
    let several = side.tiers.len() > 1;
    let mut unmatched = side.unmatched.clone();
    let mut told: Vec<String> = Vec::new();
    for view in &side.tiers {
        match (&view.rule, view.tier, view.decision) {
            // Every policy that isolates it, the nearest first.
            (_, "NetworkPolicy", "deny") => told.append(&mut unmatched),
            (Some(nearest), tier, "none") => {
                told.push(format!("no rule of the {tier} tier matches, the nearest: {nearest}"))
            }
            (Some(rule), "NetworkPolicy", _) if several => told.push(format!("{rule} (NetworkPolicy tier)")),
            (Some(rule), ..) => told.push(rule.clone()),
            (None, tier, _) => told.push(format!("no rule of the {tier} tier matches")),
        }
    }
    told.append(&mut unmatched);
    told.join("; ")
}

fn dry_run_in_words(side: &Side) -> String {
    let Some(dry_run) = &side.dry_run else { return String::new() };
    let rule = dry_run.rule.as_deref().unwrap_or("no policy says otherwise");
    match (dry_run.verdict == side.verdict, dry_run.verdict) {
        (true, _) => "; the policies in dry run would not change that".to_owned(),
        (false, "deny") => format!("; with the policies in dry run it would be denied: {rule}"),
        (false, _) => format!("; with the policies in dry run it would be allowed: {rule}"),
    }
}

/// Where the packet went, switch after switch.
fn way_steps(scene: &Scene, walk: &Walk, (addr, _): (IpAddr, u16)) -> Vec<Step> {
    let mut steps = Vec::new();
    for pair in walk.hops.windows(2) {
        let (from, to) = (scene.node_name(pair[0].node), scene.node_name(pair[1].node));
        let why = format!("{addr} ({}) lives on {to}", scene.owner_name(addr));
        steps.push(step(&*from, "route", format!("to {to}"), why));
        if let Way::Tunnel { .. } = pair[1].way {
            let underlay = |node: NodeIndex| scene.tables.node(node).addresses.first().map(ToString::to_string);
            let why = format!("VXLAN on the underlay, to {}", underlay(pair[1].node).unwrap_or_default());
            steps.push(step(format!("{from} -> {to}"), "tunnel", "encapsulated", why));
        }
    }
    let last = &walk.hops[walk.hops.len() - 1];
    let here = scene.node_name(last.node);
    match walk.end {
        End::Pod(pod) => steps.push(step(
            &*here,
            "route",
            format!("to the port of {}", scene.pod_name(pod)),
            format!("{addr} is its address"),
        )),
        End::Host(_) => {
            steps.push(step(&*here, "route", "to the node itself", format!("{addr} is an address of {here}")))
        }
        End::Outside(_) | End::Answered(_) | End::Asked(_) | End::Dropped(_) => {}
    }
    steps
}

/// What came of it, and why.
fn ended(
    asked: &Asked<'_>,
    probe: &Probe,
    walk: &Walk,
    frontend: Option<Frontend>,
    target: Option<(IpAddr, u16)>,
    (egress, ingress): (&Side, &Side),
) -> (Outcome, String) {
    let scene = asked.scene;
    let (dst, port) = (probe.dst.ip(), probe.dst.port());
    let here = scene.node_name(walk.hops[walk.hops.len() - 1].node);
    let to = target.map_or_else(|| end(dst, port), |(addr, port)| end(addr, port));
    let refusal = || frontend.and_then(|frontend| asked.refusal(frontend, dst, probe.entry, probe.src.ip()));
    let denied = |side: &Side| (Outcome::Denied, side.denial.clone());
    let rehearsed: String =
        [egress, ingress].iter().filter_map(|side| Some(format!("; {}", side.would_be_denial.as_ref()?))).collect();
    match walk.end {
        End::Pod(pod) => (Outcome::Delivered, format!("{} gets it at {to}{rehearsed}", scene.pod_name(pod))),
        End::Host(node) => (Outcome::Delivered, format!("{} itself gets it at {to}{rehearsed}", scene.node_name(node))),
        End::Outside(_) => {
            (Outcome::External, format!("it leaves the cluster through the uplink of {here}, to {to}{rehearsed}"))
        }
        End::Asked(node) => {
            let node = scene.node_name(node);
            (Outcome::Delivered, format!("{node} answers the cluster DNS at {to} itself{rehearsed}"))
        }
        End::Answered(AnswerKind::Echo) => (Outcome::Delivered, format!("{here} answers pings of {dst} itself")),
        End::Answered(AnswerKind::Rejected) => {
            let why = refusal().map_or_else(
                || format!("{dst} is an address of a Service that has no {} port {port}", probe.protocol),
                |(_, why)| why,
            );
            (Outcome::Rejected, format!("{why}: {}", how_refused(probe.protocol)))
        }
        End::Answered(AnswerKind::Unreachable) => {
            let why = match scene.is_inside(dst) {
                true => format!("nobody has the address {dst}"),
                false => format!("{here} has no way out of the cluster for {dst}"),
            };
            (Outcome::Rejected, format!("{why}: an ICMP error says so at once"))
        }
        End::Answered(kind) => (Outcome::Rejected, format!("{here} answers with an error: {}", kind.name())),
        End::Dropped(DropReason::DeniedByEgressPolicy) => denied(egress),
        End::Dropped(DropReason::DeniedByIngressPolicy) => denied(ingress),
        End::Dropped(DropReason::LeftToKernel) => match probe.entry {
            Entry::Uplink(node) if scene.tables.node(node).addresses.contains(&dst) => {
                (Outcome::Delivered, format!("no Service has {to} at {here}: its own kernel gets the packet"))
            }
            _ => {
                let why =
                    "only nodePorts and the Services' load balancer and external addresses are served to the outside";
                (Outcome::Dropped, format!("{here} does not take {} from outside: {why}", end(dst, port)))
            }
        },
        End::Dropped(reason) => match refusal() {
            Some((_, why)) => (Outcome::Dropped, format!("{why}: dropped without a word")),
            None => (Outcome::Dropped, format!("{here}: {} ({})", reason.explanation(), reason.name())),
        },
    }
}

fn how_refused(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::TCP => "refused at once with a reset",
        Protocol::SCTP => "refused at once with an abort",
        _ => "refused at once with ICMP port unreachable",
    }
}

/// A connection that no switch sees, with one step.
fn unseen(asked: &Asked<'_>, place: String, stage: &'static str, outcome: Outcome, reason: String) -> Told {
    let steps = vec![step(place, stage, outcome.to_string(), reason.clone())];
    let egress = asked.unjudged_egress();
    Told { outcome, reason, source_nat: false, egress, ingress: Side::open(), steps, left_to_kernel: false }
}

/// It does not touch the cluster's pod network.
pub(super) fn away(asked: &Asked<'_>, why: String) -> Told {
    unseen(asked, asked.from.clone(), "route", Outcome::External, why)
}

/// The pod's own kernel has it.
pub(super) fn itself(asked: &Asked<'_>, dst: IpAddr) -> Told {
    let reason = format!("{} gets it itself: {dst} is its own address, and its packets do not leave it", asked.from);
    unseen(asked, asked.from.clone(), "deliver", Outcome::Delivered, reason)
}

/// A node's own kernel has it.
pub(super) fn kernel(asked: &Asked<'_>, node: NodeIndex, why: String) -> Told {
    let reason = format!("{} itself gets it: {why}", asked.scene.node_name(node));
    unseen(asked, asked.scene.node_name(node), "deliver", Outcome::Delivered, reason)
}

/// There is no port to enter by.
pub(super) fn closed(asked: &Asked<'_>, probe: &Probe) -> Told {
    let node = asked.scene.fabric.node_of(probe.entry).map(|node| asked.scene.node_name(node));
    let reason = format!("{} has no port for packets of {}", node.as_deref().unwrap_or("no node"), asked.from);
    unseen(asked, node.unwrap_or_default(), "enter", Outcome::Dropped, reason)
}

/// The node's own relay has nobody to speak to.
pub(super) fn relay_refuses(asked: &Asked<'_>, node: NodeIndex, frontend: Frontend, choice: Choice) -> Told {
    let src = asked.sources.first().copied().unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let why = choice_in_words(asked.scene, frontend, choice, Some(node), src);
    let outcome = if choice == Choice::NoEndpoint { Outcome::Rejected } else { Outcome::Dropped };
    let reason =
        format!("{why}: {}", if outcome == Outcome::Rejected { "refused at once" } else { "dropped without a word" });
    unseen(asked, asked.scene.node_name(node), "service", outcome, reason)
}

/// The node's own relay speaks to `backend`; `walk` is its packet's way, if it leaves the node's kernel.
pub(super) fn of_relay(
    asked: &Asked<'_>,
    node: NodeIndex,
    dst: IpAddr,
    backend: &Backend,
    probe: &Probe,
    walk: Option<&Walk>,
    frontend: Frontend,
) -> Told {
    let here = asked.scene.node_name(node);
    let mut told = match walk {
        Some(walk) => of_walk(asked, probe, walk, None, None),
        None => kernel(asked, node, format!("{} is its own address", backend.addr)),
    };
    let asked_at = end(dst, asked.question.port);
    let relay = format!(
        "{asked_at} never leaves the kernel of {here}, so podplane listens there and passes on what it is sent"
    );
    let of = match (service_in_words(asked.scene, frontend), frontend.kind) {
        (of, FrontendKind::HostPort) => format!("{of}: {asked_at}"),
        (of, kind) => format!("{of}: {kind} address {asked_at}"),
    };
    let before = [
        step(&*here, "enter", "accepted by the relay", relay),
        step(&*here, "service", end(backend.addr, backend.port), of),
    ];
    told.steps.splice(0..0, before);
    // The backend sees the address from which the relay speaks.
    told.source_nat = true;
    told
}
