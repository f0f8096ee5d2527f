//! What was said against what was experienced.

use super::experience::{Arrival, Experience, place};
use super::world::{Question, SERVER_PORT};
use control::controller::LabNetwork;
use lab::NodeOptions;
use lab::explain::{Each, Explanation, Outcome};
use lab::probe::{self, ProbeProtocol};
use lab::sim::{Place, Sim};
use policy::cluster::Cluster;
use policy::compile::compile;
use policy::matrix::{self, Family};
use std::net::IpAddr;
use switch::DropReason;

/// What is said about the question, before anything is sent.
pub(super) fn explain(sim: &Sim, question: &Question) -> Result<Explanation, String> {
    let asked = lab::explain::Question {
        from: question.from.clone(),
        to: question.to.to_string(),
        host: question.to.ip().to_string(),
        port: question.to.port(),
        protocol: question.protocol,
        url: None,
        node: None,
        each: true,
        assume_pods: false,
    };
    let said = lab::explain::explain(sim.objects(), &LabNetwork::default(), &NodeOptions::default(), &asked);
    said.map(|(said, _)| said).map_err(|why| format!("{question:?}: {why}"))
}

/// Compares; gives what of it came about, in a word or two.
pub(super) fn compare(
    sim: &Sim,
    question: &Question,
    said: &Explanation,
    experienced: &Experience,
) -> Result<String, String> {
    let cases = said.each.as_deref().ok_or("every candidate was asked for")?;
    let fitting = cases.iter().map(|case| fits(sim, question, case, experienced));
    let fitting: Vec<Result<(), String>> = fitting.collect();
    let Some(case) = cases.iter().zip(&fitting).find_map(|(case, fits)| fits.is_ok().then_some(case)) else {
        let why: Vec<&str> = fitting.iter().filter_map(|fits| fits.as_ref().err()).map(String::as_str).collect();
        return Err(format!("nothing that was said came about: {}", why.join("; ")));
    };
    if question.protocol != ProbeProtocol::Icmp {
        compare_with_matrix(sim, question, case)?;
    }
    let outcome = case.outcome;
    Ok(match outcome {
        Outcome::Denied if case.egress.verdict == "deny" => format!("{outcome} at egress, {}", question.protocol),
        Outcome::Denied => format!("{outcome} at ingress, {}", question.protocol),
        _ => format!("{outcome}, {}", question.protocol),
    })
}

/// Whether `case` is what came about.
fn fits(sim: &Sim, question: &Question, case: &Each, experienced: &Experience) -> Result<(), String> {
    let drops: Vec<DropReason> = experienced.drops.keys().copied().collect();
    let left_to_kernel = case.steps.iter().any(|step| step.decision == "left to the kernel");
    let nothing_arrived = || match &experienced.arrived {
        Some(Arrival { at, .. }) => Err(format!("it was to be {}, and {at} got it", case.outcome)),
        None => Ok(()),
    };
    let silent = || match experienced.refused.is_some() || experienced.echoed {
        true => Err(format!("it was to be {}, and a switch answered", case.outcome)),
        false => Ok(()),
    };
    match case.outcome {
        // A raw socket has its own copy, and the switch does not count what it does with it otherwise.
        Outcome::Delivered | Outcome::Dropped if left_to_kernel => {
            nothing_arrived()?;
            silent()?;
            expect_drops(&drops, &[DropReason::LeftToKernel])
        }
        Outcome::Delivered if case.steps.last().is_some_and(|step| step.stage == "answer") => {
            nothing_arrived()?;
            if experienced.echoed { Ok(()) } else { Err("no echo came back".into()) }
        }
        Outcome::Delivered | Outcome::External => arrived(sim, question, case, experienced),
        Outcome::Denied => {
            nothing_arrived()?;
            silent()?;
            let reason = match case.egress.verdict {
                "deny" => DropReason::DeniedByEgressPolicy,
                _ if case.ingress.verdict == "deny" => DropReason::DeniedByIngressPolicy,
                _ => return Err("it was to be denied, and neither end denies".into()),
            };
            expect_drops(&drops, &[reason])
        }
        Outcome::Rejected => {
            nothing_arrived()?;
            if experienced.refused.is_some() { Ok(()) } else { Err("it was to be rejected, and no answer came".into()) }
        }
        Outcome::Dropped => {
            nothing_arrived()?;
            silent()?;
            let denied = [DropReason::DeniedByEgressPolicy, DropReason::DeniedByIngressPolicy];
            match drops.as_slice() {
                [] => Err("it was to be dropped, and no switch did".into()),
                all if all.iter().any(|reason| denied.contains(reason)) => Err(format!("policy dropped it: {all:?}")),
                all => {
                    let named =
                        DropReason::ALL.iter().find(|reason| case.reason.contains(&format!("({})", reason.name())));
                    named.map_or(Ok(()), |named| expect_drops(all, &[*named]))
                }
            }
        }
        Outcome::Unresolved => Err("an address needs no resolving".into()),
    }
}

fn expect_drops(found: &[DropReason], wanted: &[DropReason]) -> Result<(), String> {
    if found == wanted { Ok(()) } else { Err(format!("dropped for {found:?}, and it was to be for {wanted:?}")) }
}

/// The packet came where it was to come, with the source address that it was to have; and if somebody listens there, the answer
/// came back.
fn arrived(sim: &Sim, question: &Question, case: &Each, experienced: &Experience) -> Result<(), String> {
    let Some(arrival) = &experienced.arrived else {
        return Err(format!("it was to be {}, and nobody got it: {:?}", case.outcome, experienced.drops));
    };
    let wanted = match &case.backend {
        Some(backend) => (backend.ip, backend.port),
        None => (question.to.ip(), question.to.port()),
    };
    if (arrival.dst.ip(), arrival.dst.port()) != wanted {
        return Err(format!("it came to {}, and it was to come to {wanted:?}", arrival.dst));
    }
    let last = case.steps.last().ok_or("no step")?;
    let place_wanted = match (case.outcome, owner(sim, wanted.0)) {
        (Outcome::External, _) => Place::World,
        (_, Some(pod)) => pod,
        // An address of a node: its own stack, on which pods of the host network live too.
        (_, None) => Place::Node(last.place.clone()),
    };
    if arrival.at != place_wanted {
        return Err(format!("{} got it, and it was to be {place_wanted}", arrival.at));
    }
    if let Some(pod) = case.backend.as_ref().and_then(|backend| backend.pod.as_ref())
        && owner(sim, wanted.0).is_some_and(|owner| owner.to_string() != *pod)
    {
        return Err(format!("{wanted:?} was said to be {pod}"));
    }
    let from = place(&question.from);
    let kept = sim.addresses(&from).contains(&arrival.src);
    if case.outcome == Outcome::Delivered && kept == case.source_nat {
        return Err(format!("the source was {}, and source_nat was {}", arrival.src, case.source_nat));
    }
    let listens = matches!(place_wanted, Place::Pod { .. }) && [SERVER_PORT, 0].contains(&wanted.1);
    let report = &experienced.report;
    if listens && report.outcome != Some(probe::Outcome::Connected) {
        return Err(format!("it came to {place_wanted}, and no answer came back: {:?}", experienced.drops));
    }
    if listens && report.server.as_ref().is_some_and(|server| *server != place_wanted.to_string()) {
        return Err(format!("{:?} answered for {place_wanted}", report.server));
    }
    Ok(())
}

/// The pod that has an address for itself.
fn owner(sim: &Sim, addr: IpAddr) -> Option<Place> {
    sim.pods().into_iter().find(|pod| sim.addresses(pod).contains(&addr))
}

/// From a pod to a pod without a Service, the matrix says the same.
fn compare_with_matrix(sim: &Sim, question: &Question, case: &Each) -> Result<(), String> {
    let Some(to) = owner(sim, question.to.ip()).filter(|_| matches!(place(&question.from), Place::Pod { .. })) else {
        return Ok(());
    };
    if to == place(&question.from) {
        return Ok(());
    }
    let (cluster, _) = Cluster::from_objects(sim.objects().iter().cloned());
    let (tables, _) = compile(&cluster, 1);
    let family = if question.to.is_ipv4() { Family::V4 } else { Family::V6 };
    let ports = [(question.protocol.on_the_wire(), question.to.port())];
    let all = matrix::matrix(&tables, &ports, Some(family));
    let cell = all.results.iter().find(|cell| cell.from == question.from && cell.to == to.to_string());
    let allowed = cell.ok_or("the matrix leaves the pair out")?.outcome == matrix::Outcome::Allow;
    match (allowed, case.outcome) {
        (true, Outcome::Delivered) | (false, Outcome::Denied) => Ok(()),
        (allowed, outcome) => Err(format!("{outcome}, and the matrix says {}", if allowed { "allow" } else { "deny" })),
    }
}
