//! An explanation for people: the answer first, then what it rests on, then every step.

use crate::grid::table;
use crate::output::{Colour, paint};
use lab::explain::{Candidate, Explanation, IngressRoute, Outcome, ServiceView, Side, Step};
use policy::explain::listed;
use std::fmt::Write;

/// `podplane explain`.
pub(super) fn explanation(explanation: &Explanation) -> String {
    let mut text = String::new();
    let Explanation { from, to, protocol, outcome, reason, .. } = explanation;
    let protocol = protocol.on_the_wire();
    let _ = writeln!(text, "{from} -> {to} ({protocol}): {}\n  {reason}", coloured(*outcome));
    let mut facts: Vec<[String; 3]> = Vec::new();
    if let Some(route) = &explanation.ingress_route {
        facts.push(route_fact(route));
    }
    if let Some(service) = &explanation.service {
        facts.push(service_fact(service));
    }
    facts.push(side("egress", &explanation.egress));
    facts.push(side("ingress", &explanation.ingress));
    let _ = write!(text, "\n{}", table(&facts));
    if let Some(service) = &explanation.service {
        let _ = write!(text, "\n{}", candidates(&service.candidates, explanation.backend.as_ref()));
    }
    match &explanation.each {
        None => text.push_str(&steps(&explanation.steps)),
        Some(each) => {
            for each in each {
                let backend = each.backend.as_ref().map_or_else(|| each.address.to_string(), name);
                let _ = writeln!(text, "\n{backend}: {}: {}", coloured(each.outcome), each.reason);
                let _ = write!(text, "{}", table(&[side("egress", &each.egress), side("ingress", &each.ingress)]));
                text.push_str(&steps(&each.steps));
            }
        }
    }
    text
}

fn coloured(outcome: Outcome) -> String {
    if outcome.is_yes() { outcome.to_string() } else { paint(&outcome.to_string(), Colour::Red) }
}

fn service_fact(service: &ServiceView) -> [String; 3] {
    let source =
        if service.source_nat { "the backend sees another source" } else { "the backend sees the client's source" };
    let affinity = match service.affinity_timeout_seconds {
        Some(seconds) => format!("affinity {} {seconds} s", service.affinity),
        None => format!("affinity {}", service.affinity),
    };
    let ServiceView { namespace, name, port, vip, kind, .. } = service;
    let vip = vip.map_or_else(|| "without an address".to_owned(), |vip| vip.to_string());
    ["service".to_owned(), format!("{namespace}/{name}"), format!("port {port}, {kind} {vip}, {affinity}, {source}")]
}

fn route_fact(route: &IngressRoute) -> [String; 3] {
    let IngressRoute { kind, ingress, field, host, path, path_type, tls_secret, .. } = route;
    let matched =
        if path_type.is_empty() { "default backend".to_owned() } else { format!("{host}{path} ({path_type})") };
    let tls = tls_secret.as_ref().map_or_else(String::new, |secret| format!(", certificate of Secret {secret}"));
    ["route".to_owned(), format!("{kind} {ingress}"), format!("{matched} at {field}{tls}")]
}

fn side(name: &str, side: &Side) -> [String; 3] {
    let selected = || format!("(selected by {})", listed(side.policies.clone()));
    let why = match (&side.rule, side.policies.is_empty()) {
        (Some(rule), false) => format!("{rule} {}", selected()),
        (Some(rule), true) => rule.clone(),
        (None, false) if side.tiers.is_empty() => format!("not judged {}", selected()),
        (None, false) => format!("no rule matches {}", selected()),
        (None, true) => "not isolated".to_owned(),
    };
    [name.to_owned(), side.verdict.to_owned(), why]
}

fn name(candidate: &Candidate) -> String {
    let address = std::net::SocketAddr::new(candidate.ip, candidate.port);
    match &candidate.pod {
        Some(pod) => format!("{pod} ({address})"),
        None => address.to_string(),
    }
}

fn candidates(candidates: &[Candidate], told: Option<&Candidate>) -> String {
    if candidates.is_empty() {
        return "no candidates\n".to_owned();
    }
    let yes_no = |yes: bool| if yes { "yes" } else { "no" }.to_owned();
    let mut rows = vec![["CANDIDATE", "ADDRESS", "NODE", "READY", "LOCAL"].map(str::to_owned)];
    rows.extend(candidates.iter().map(|candidate| {
        let mark = if told == Some(candidate) && candidates.len() > 1 { " *" } else { "" };
        [
            format!("{}{mark}", candidate.pod.as_deref().unwrap_or("-")),
            std::net::SocketAddr::new(candidate.ip, candidate.port).to_string(),
            candidate.node.clone().unwrap_or_else(|| "-".to_owned()),
            yes_no(candidate.ready),
            yes_no(candidate.local),
        ]
    }));
    table(&rows)
}

/// One line for each sentence: of a denial there may be many.
fn steps(steps: &[Step]) -> String {
    let mut rows = vec![["WHERE", "STAGE", "DECISION", "WHY"].map(str::to_owned)];
    for step in steps {
        let mut told = [step.place.clone(), step.stage.to_owned(), step.decision.clone()];
        for why in sentences(&step.why) {
            let [place, stage, decision] = std::mem::take(&mut told);
            rows.push([place, stage, decision, why]);
        }
    }
    format!("\n{}", table(&rows))
}

/// The sentences of `why`. One about two fields of a rule (`.from: ...; .ports: ...`) stays together.
fn sentences(why: &str) -> Vec<String> {
    let mut sentences: Vec<String> = Vec::new();
    for part in why.split("; ") {
        match sentences.last_mut() {
            Some(last) if part.starts_with('.') => last.push_str(&format!("; {part}")),
            _ => sentences.push(part.to_owned()),
        }
    }
    sentences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_that_fails_in_two_fields_is_one_sentence() {
        let why = "p is selected by a, b: a spec.egress[0].to: x is not in [y]; .ports: TCP 1 is not in [TCP 2]; b spec.egress: there is no rule";
        assert_eq!(
            sentences(why),
            [
                "p is selected by a, b: a spec.egress[0].to: x is not in [y]; .ports: TCP 1 is not in [TCP 2]",
                "b spec.egress: there is no rule"
            ]
        );
        assert_eq!(sentences("once"), ["once"]);
    }
}
