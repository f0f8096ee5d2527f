//! `podplane policy diff`: which flows a change of manifests opens and closes.

use crate::intent::{self, Intent};
use crate::manifests;
use crate::output::{self, Answer, Colour, Context, Failure};
use clap::Args;
use policy::diff::{self, Change, Diff, Flows, Side};
use policy::workloads::Workloads;
use std::fmt::Write;
use std::path::PathBuf;

/// Pods without a counterpart that are told one by one.
const UNMATCHED_TOLD_MAX: usize = 10;

/// Arguments of `podplane policy diff`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane policy diff manifests-before/ manifests-after/
  podplane policy diff -f workloads/ policies-before/ policies-after/
  git show HEAD~1:policies.yaml | podplane policy diff -f workloads.yaml - policies.yaml -o json

OLD and NEW are each a file, a folder, or - for standard input (one of them); what -f names belongs to both sides.
Every flow between pods, between pods and nodes, and between pods and addresses outside is compared, for every port of TCP, UDP
and SCTP and for ICMP (which stands for all protocols without ports): nothing is sampled. Pods are matched by namespace and
name, then by workload. Pods that only one side has are listed; their flows are not counted as opened or closed.
What the manifests leave open is filled in as in a lab; what OLD was given, NEW keeps.

Exit codes: 0 no flow opens or closes; 1 some do; 2 bad usage or bad input, also when an object is refused (the answer is given
without it).")]
pub(crate) struct DiffArgs {
    /// What is in force
    #[arg(value_name = "OLD")]
    old: PathBuf,
    /// What is to be
    #[arg(value_name = "NEW")]
    new: PathBuf,
    /// Kubernetes YAML or JSON of both sides: a file, a folder, or - for standard input; may be repeated
    #[arg(short = 'f', long = "filename", value_name = "PATH")]
    common: Vec<PathBuf>,
}

/// Runs `podplane policy diff`.
pub(crate) fn run(args: DiffArgs, context: &Context) -> Result<Answer, Failure> {
    let all = args.common.iter().chain([&args.old, &args.new]);
    if all.filter(|path| path.as_os_str() == "-").count() > 1 {
        return Err(Failure::BadInput("-: standard input can be read only once".to_owned()));
    }
    let sources = [&args.old, &args.new].map(|own| {
        let paths: Vec<PathBuf> = args.common.iter().chain([own]).cloned().collect();
        manifests::read(&paths)
    });
    let [old, new] = sources;
    let old = intent::of_sources(&old?, &[])?;
    let new = intent::of_sources(&new?, &old.filled)?;
    old.refuse_unreadable()?;
    new.refuse_unreadable()?;
    Intent::warn_of_both(&old, &new);
    let workloads = [&old, &new].map(|side| Workloads::of(&side.filled));
    let found = diff::diff(
        Side { tables: &old.tables, workloads: &workloads[0] },
        Side { tables: &new.tables, workloads: &workloads[1] },
    );
    context.show(&found, text)?;
    old.must_be_complete()?;
    new.must_be_complete()?;
    Ok(if found.is_empty() { Answer::Yes } else { Answer::No })
}

fn text(diff: &Diff) -> String {
    let mut text = String::new();
    for (title, colour, changes) in [("opens", Colour::Yellow, &diff.opens), ("closes", Colour::Red, &diff.closes)] {
        for change in changes {
            let title = output::paint(title, colour);
            let _ = writeln!(text, "{title} {} -> {}: {}", change.from.text, change.to.text, flows(change));
            let _ = writeln!(text, "  now:    {}\n  before: {}", change.now, change.before);
        }
    }
    for (side, pods) in [("OLD", &diff.pods.only_old), ("NEW", &diff.pods.only_new)] {
        if !pods.is_empty() {
            let mut told: Vec<&str> = pods.iter().take(UNMATCHED_TOLD_MAX).map(String::as_str).collect();
            let more = format!("and {} more", pods.len() - told.len());
            if pods.len() > told.len() {
                told.push(&more);
            }
            let _ = writeln!(text, "only in {side}: {}", told.join(", "));
        }
    }
    if diff.is_empty() {
        text.push_str("no flow opens or closes\n");
    } else {
        let _ = writeln!(text, "flows open in {} ways and close in {}", diff.opens.len(), diff.closes.len());
    }
    text
}

/// `TCP 80, 443; UDP all ports; ICMP`, or `everything`.
fn flows(change: &Change) -> String {
    let is_whole = |flows: &Flows| flows.ports.is_empty() || flows.ports == ["1-65535"];
    let text = if change.flows.len() == 4 && change.flows.iter().all(is_whole) {
        "everything".to_owned()
    } else {
        let told = change.flows.iter().map(|flows| match flows.ports.as_slice() {
            [] => flows.protocol.clone(),
            [all] if all == "1-65535" => format!("{} (all ports)", flows.protocol),
            ports => format!("{} {}", flows.protocol, ports.join(", ")),
        });
        told.collect::<Vec<_>>().join("; ")
    };
    match change.family {
        Some(family) => format!("{text} (IPv{family} only)"),
        None => text,
    }
}
