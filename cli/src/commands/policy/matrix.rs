//! `podplane policy matrix`: every pod to every pod, and with `--expect` whether that is as expected.

use crate::grid;
use crate::intent;
use crate::junit::{self, TestCase};
use crate::manifests::{self, ManifestArgs};
use crate::output::{self, Answer, Colour, Context, Failure, OutputFormat};
use clap::{Args, ValueEnum};
use policy::matrix::expect::{self, Checked, Mismatch, Report};
use policy::matrix::{self, Family, Matrix, Outcome};
use serde::Serialize;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use wire::Protocol;

/// Arguments of `podplane policy matrix`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane policy matrix -f manifests/
  podplane policy matrix -f manifests/ --port TCP/5432 --port UDP/53 --family 6 -o json
  podplane policy matrix -f manifests/ -o json > expected.json     a saved matrix is a test:
  podplane policy matrix -f manifests/ --expect expected.json
  podplane policy matrix -f manifests/ --expect expected.yaml -o junit > report.xml

What the manifests leave open (nodes, addresses, the pods of a Deployment) is filled in as in a lab.

--expect FILE is a saved matrix, or a list such as
  - {from: shop/frontend-*, to: shop/db-0, port: 5432, outcome: deny}
  - {from: '*/*', to: shop/*, protocol: UDP, port: 53, outcome: allow}
in YAML or JSON. In names * stands for any characters; protocol is TCP, UDP, SCTP or ICMP (no port) [default: TCP]. Every pair
of different pods that an entry names must have its outcome, and there must be one.

Exit codes: 0 done, or all as expected; 1 something is not as expected; 2 bad usage or bad input, also when an object is refused
(the answer is given without it).")]
pub(crate) struct MatrixArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Port to judge at every pod; may be repeated [default: the containerPorts of each pod, else TCP/80]
    #[arg(long = "port", value_name = "PROTO/PORT", value_parser = port, conflicts_with = "expect")]
    ports: Vec<(Protocol, u16)>,
    /// Address family to judge [default: the first that both pods have]
    #[arg(long, value_enum)]
    family: Option<FamilyArg>,
    /// Compare with these expectations: a file, or - for standard input
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
}

impl MatrixArgs {
    /// Whether the answer is a list of tests.
    pub(crate) fn has_expectations(&self) -> bool {
        self.expect.is_some()
    }
}

/// An address family on the command line.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum FamilyArg {
    /// IPv4
    #[value(name = "4")]
    V4,
    /// IPv6
    #[value(name = "6")]
    V6,
}

impl From<FamilyArg> for Family {
    fn from(family: FamilyArg) -> Family {
        match family {
            FamilyArg::V4 => Family::V4,
            FamilyArg::V6 => Family::V6,
        }
    }
}

fn port(text: &str) -> Result<(Protocol, u16), String> {
    let (protocol, number) = text.split_once('/').ok_or("expected PROTO/PORT, such as TCP/8080")?;
    let protocol = match protocol.to_ascii_uppercase().as_str() {
        "TCP" => Protocol::TCP,
        "UDP" => Protocol::UDP,
        "SCTP" => Protocol::SCTP,
        _ => return Err(format!("{protocol:?} is not TCP, UDP or SCTP")),
    };
    match number.parse() {
        Ok(number) if number > 0 => Ok((protocol, number)),
        _ => Err(format!("{number:?} is not a port (1 to 65535)")),
    }
}

/// Runs `podplane policy matrix`.
pub(crate) fn run(args: MatrixArgs, context: &Context) -> Result<Answer, Failure> {
    let family = args.family.map(Family::from);
    let Some(file) = args.expect else {
        let intent = intent::load_to_answer(&args.manifests.paths)?;
        context.show(&matrix::matrix(&intent.tables, &args.ports, family), grid)?;
        intent.must_be_complete()?;
        return Ok(Answer::Yes);
    };
    if file.as_os_str() == "-" && args.manifests.paths.iter().any(|path| path.as_os_str() == "-") {
        return Err(Failure::BadInput("--expect -: standard input is already the manifests".to_owned()));
    }
    let (name, expectations) = read_expectations(&file)?;
    let intent = intent::load_to_answer(&args.manifests.paths)?;
    let report = expect::check(&intent.tables, &expectations, family);
    match context.output {
        OutputFormat::Junit => output::print(&tests(&name, &report))?,
        _ => context.show(&Expected { file: &name, report: &report }, differences)?,
    }
    intent.must_be_complete()?;
    Ok(if report.failed == 0 { Answer::Yes } else { Answer::No })
}

fn read_expectations(file: &Path) -> Result<(String, Vec<expect::Expectation>), Failure> {
    let source = manifests::read_one(file)?;
    let expectations =
        expect::parse(&source.text).map_err(|message| Failure::BadInput(format!("{}: {message}", source.name)))?;
    Ok((source.name, expectations))
}

fn grid(matrix: &Matrix) -> String {
    let mark = |outcome| if outcome == Outcome::Allow { '+' } else { '-' };
    let results = matrix
        .results
        .iter()
        .map(|cell| (cell.from.as_str(), cell.to.as_str(), format!("{}{}", mark(cell.outcome), cell.port)));
    let mut text = grid::matrix(&matrix.pods, results);
    text.push_str("\n+ allowed   - denied   (and the port)\n");
    text
}

/// The report of one file.
#[derive(Serialize)]
struct Expected<'a> {
    file: &'a str,
    #[serde(flatten)]
    report: &'a Report,
}

/// What is not as expected, and how much is.
fn differences(expected: &Expected<'_>) -> String {
    let mut text = String::new();
    for checked in expected.report.results.iter().filter(|checked| !checked.passed) {
        let _ =
            writeln!(text, "{} {}: {}", output::paint("not as expected:", Colour::Red), title(checked), why(checked));
        for line in examples(checked) {
            let _ = writeln!(text, "  {line}");
        }
    }
    let _ = writeln!(text, "{}: {} as expected, {} not", expected.file, expected.report.passed, expected.report.failed);
    text
}

fn tests(file: &str, report: &Report) -> String {
    let cases = report.results.iter().map(|checked| TestCase {
        name: title(checked),
        failure: (!checked.passed).then(|| (why(checked), examples(checked).join("\n"))),
    });
    junit::document("podplane policy matrix", file, &cases.collect::<Vec<_>>())
}

fn title(checked: &Checked) -> String {
    let verb = word(checked.expected);
    let port = if checked.protocol.has_ports() { format!("/{}", checked.port) } else { String::new() };
    format!("{} -> {} {}{port} {verb}", checked.from, checked.to, checked.protocol)
}

fn why(checked: &Checked) -> String {
    if let Some(message) = &checked.message {
        return message.clone();
    }
    let other = word(if checked.expected == Outcome::Allow { Outcome::Deny } else { Outcome::Allow });
    match checked.connections {
        1 => format!("is {other}"),
        all => format!("{} of {all} connections are {other}", checked.mismatches),
    }
}

fn examples(checked: &Checked) -> Vec<String> {
    let line = |found: &Mismatch| format!("{} -> {}: {}", found.from, found.to, found.reason);
    let mut lines: Vec<String> = checked.examples.iter().map(line).collect();
    let more = checked.mismatches - checked.examples.len();
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

fn word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Allow => "allowed",
        Outcome::Deny => "denied",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_a_protocol_and_a_number() {
        assert_eq!(port("TCP/8080"), Ok((Protocol::TCP, 8080)));
        assert_eq!(port("udp/53"), Ok((Protocol::UDP, 53)));
        for wrong in ["8080", "TCP/0", "TCP/70000", "ICMP/1", "TCP/http", ""] {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }
}
