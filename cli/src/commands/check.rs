//! `podplane check`: validates manifests and says each problem by file, object and field.

use crate::certificates;
use crate::intent::{self, Intent};
use crate::manifests::ManifestArgs;
use crate::output::{self, Answer, Context, Failure};
use clap::Args;
use gateway::http::tls::check_routed;
use policy::cluster::Cluster;
use policy::objects::{Kind, Problem, Severity};
use policy::routes::{RouteOptions, compile_checked};
use serde::Serialize;
use std::fmt::Write;

/// Arguments of `podplane check`.
#[derive(Args)]
#[command(after_help = after_help())]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
}

/// Examples, exit codes, and the kinds as the parser knows them.
fn after_help() -> String {
    let kinds: String = Kind::ALL.iter().map(|kind| format!("  {kind} ({})\n", kind.api_version())).collect();
    format!(
        "\
Examples:
  podplane check -f manifests/
  kubectl get all,networkpolicy,clusternetworkpolicy -A -o yaml | podplane check -f -

Problems:
  warning     the object is in force as written, or is of a kind that podplane does not use
  closed      a policy is in force, but a rule of it holds a field that is not understood: it lets nothing through
  refused     the object is not in force; the message says what is instead
  unreadable  the document is neither YAML nor JSON

Exit codes: 0 nothing is refused, 1 an object is refused, 2 a file cannot be read or parsed.

Kinds:
{kinds}"
    )
}

/// What was found.
#[derive(Serialize)]
struct Findings<'a> {
    files: usize,
    objects: usize,
    problems: Vec<Finding<'a>>,
}

/// One problem.
#[derive(Serialize)]
struct Finding<'a> {
    severity: &'static str,
    file: &'a str,
    line: Option<u32>,
    column: Option<u32>,
    kind: Option<&'a str>,
    namespace: Option<&'a str>,
    name: Option<&'a str>,
    field: &'a str,
    message: &'a str,
    #[serde(skip)]
    problem: &'a Problem,
}

impl<'a> Finding<'a> {
    fn new(problem: &'a Problem) -> Finding<'a> {
        let object = problem.object.as_ref();
        Finding {
            severity: title(problem.severity),
            file: &problem.file,
            line: problem.position.map(|(line, _)| line),
            column: problem.position.map(|(_, column)| column),
            kind: object.map(|object| object.kind.as_str()),
            namespace: object.map(|object| object.namespace.as_str()),
            name: object.map(|object| object.name.as_str()),
            field: &problem.field,
            message: &problem.message,
            problem,
        }
    }
}

fn title(severity: Severity) -> &'static str {
    match severity {
        Severity::Warning => "warning",
        Severity::Closed => "closed",
        Severity::Refused => "refused",
        Severity::Unreadable => "unreadable",
    }
}

/// Validates the manifests.
pub(crate) fn run(args: CheckArgs, context: &Context) -> Result<Answer, Failure> {
    let mut intent = intent::load(&args.manifests.paths)?;
    for problem in problems_of_routes(&intent) {
        if !intent.problems.contains(&problem) {
            intent.problems.push(problem);
        }
    }
    let problems = intent.problems.iter().map(Finding::new).collect();
    context.show(&Findings { files: intent.files, objects: intent.objects, problems }, text)?;
    match intent.problems.iter().map(|problem| problem.severity).max() {
        Some(Severity::Unreadable) => {
            Err(Failure::BadInput("some of the manifests are neither YAML nor JSON (see above)".to_owned()))
        }
        Some(Severity::Refused) => Ok(Answer::No),
        _ => Ok(Answer::Yes),
    }
}

/// What is wrong with certificates and with what `podplane ingress` would serve by its defaults.
fn problems_of_routes(intent: &Intent) -> Vec<Problem> {
    let (cluster, _) = Cluster::from_objects(intent.filled.iter().cloned());
    let mut problems = certificates::problems(&cluster);
    problems.extend(compile_checked(&cluster, &RouteOptions::default(), &check_routed).problems);
    problems
}

fn text(findings: &Findings<'_>) -> String {
    let mut text = String::new();
    for finding in &findings.problems {
        let colour = match finding.problem.severity {
            Severity::Warning => output::Colour::Yellow,
            _ => output::Colour::Red,
        };
        let label = output::paint(finding.severity, colour);
        let _ = writeln!(text, "{label}: {}", finding.problem);
    }
    let count = |severity| findings.problems.iter().filter(|finding| finding.problem.severity == severity).count();
    let _ = writeln!(
        text,
        "{} objects in {} files: {} refused, {} with a closed rule, {} warnings",
        findings.objects,
        findings.files,
        count(Severity::Refused),
        count(Severity::Closed),
        count(Severity::Warning)
    );
    text
}
