//! `podplane policy lint`: what looks wrong in policies.

use crate::intent;
use crate::manifests::ManifestArgs;
use crate::output::{self, Answer, Colour, Context, Failure};
use clap::Args;
use policy::lint::{self, Check, Finding, Level};
use serde::Serialize;
use std::fmt::Write;

/// Arguments of `podplane policy lint`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane policy lint -f manifests/
  podplane policy lint -f manifests/ --allow dry-run --allow rule-covered -o json
  kubectl get ns,pods,networkpolicies -A -o yaml | podplane policy lint -f -

What is looked for (ID is what --allow takes):
  selects-nothing         a policy that selects no pod
  peer-matches-nothing    a peer of a rule that matches no pod or node
  rule-covered            a rule that changes nothing, because another one does all that it does
  rule-shadowed           a rule that never decides, because an earlier one decides otherwise
  equal-priority          ClusterNetworkPolicies of one tier and priority that contradict each other
  named-port-nowhere      a port name that no pod concerned has
  egress-without-dns      pods that may connect somewhere but may not ask any DNS server
  ip-block-only-pods      an address block within the pods' own ranges
  ip-block-empty          an address block of which the exceptions leave nothing
  dry-run                 a policy that decides nothing because it is in dry run
  unknown-annotation      an annotation that looks like one of podplane's and is none

Findings hold for the pods of these manifests; what the manifests leave open is filled in as in a lab. Without a pod that is the
cluster's DNS (k8s-app=kube-dns in kube-system) one is assumed. Policies in dry run are judged as if they were in force.
`podplane check` tells what is not valid; this looks at what is.

Exit codes: 0 nothing found; 1 something found; 2 bad usage or bad input, also when an object is refused (the answer is given
without it).")]
pub(crate) struct LintArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Do not tell findings of this ID; may be repeated
    #[arg(long = "allow", value_name = "ID", value_parser = check)]
    allowed: Vec<Check>,
}

fn check(text: &str) -> Result<Check, String> {
    let found = Check::ALL.iter().copied().find(|check| check.id() == text);
    found.ok_or_else(|| {
        let known: Vec<&str> = Check::ALL.iter().map(|check| check.id()).collect();
        format!("expected one of {}", known.join(", "))
    })
}

/// What was found.
#[derive(Serialize)]
struct Findings {
    findings: Vec<Finding>,
}

/// Runs `podplane policy lint`.
pub(crate) fn run(args: LintArgs, context: &Context) -> Result<Answer, Failure> {
    let intent = intent::load_to_answer(&args.manifests.paths)?;
    let mut findings = lint::lint(&intent.filled);
    findings.retain(|finding| !args.allowed.contains(&finding.id));
    let found = Findings { findings };
    context.show(&found, text)?;
    intent.must_be_complete()?;
    Ok(if found.findings.is_empty() { Answer::Yes } else { Answer::No })
}

fn text(found: &Findings) -> String {
    let mut text = String::new();
    for finding in &found.findings {
        let label = match finding.severity {
            Level::Warning => output::paint("warning", Colour::Red),
            Level::Note => output::paint("note", Colour::Yellow),
        };
        let namespace = if finding.namespace.is_empty() { String::new() } else { format!("{}/", finding.namespace) };
        let Finding { id, file, kind, name, field, message, .. } = finding;
        let _ = writeln!(text, "{label}: {file}: {kind} {namespace}{name}: {field}: {message} [{}]", id.id());
    }
    let count = |level| found.findings.iter().filter(|finding| finding.severity == level).count();
    let _ = writeln!(text, "{} warnings, {} notes", count(Level::Warning), count(Level::Note));
    text
}
