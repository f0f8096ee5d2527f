//! `podplane policy`: what the policies of manifests allow, from the compiled tables.

use crate::grid;
use crate::intent;
use crate::manifests::ManifestArgs;
use crate::output::{Answer, Context, Failure};
use clap::{Args, Subcommand, ValueEnum};
use policy::matrix::{self, Family, Matrix, Outcome};
use wire::Protocol;

/// Subcommands of `podplane policy`.
#[derive(Subcommand)]
pub(crate) enum PolicyCommand {
    /// Every pod to every pod
    Matrix(MatrixArgs),
}

/// Arguments of `podplane policy matrix`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane policy matrix -f manifests/
  podplane policy matrix -f manifests/ --port TCP/5432 --port UDP/53 --family 6 -o json

What the manifests leave open (nodes, addresses, the pods of a Deployment) is filled in as in a lab.")]
pub(crate) struct MatrixArgs {
    #[command(flatten)]
    manifests: ManifestArgs,
    /// Port to judge at every pod; may be repeated [default: the containerPorts of each pod, else TCP/80]
    #[arg(long = "port", value_name = "PROTO/PORT", value_parser = port)]
    ports: Vec<(Protocol, u16)>,
    /// Address family to judge [default: the first that both pods have]
    #[arg(long, value_enum)]
    family: Option<FamilyArg>,
}

/// An address family on the command line.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum FamilyArg {
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

/// Runs a policy command.
pub(crate) fn run(command: PolicyCommand, context: &Context) -> Result<Answer, Failure> {
    let PolicyCommand::Matrix(args) = command;
    let intent = intent::load_to_answer(&args.manifests.paths)?;
    context.show(&matrix::matrix(&intent.tables, &args.ports, args.family.map(Into::into)), text)?;
    Ok(Answer::Yes)
}

fn text(matrix: &Matrix) -> String {
    let mark = |outcome| if outcome == Outcome::Allow { '+' } else { '-' };
    let results = matrix
        .results
        .iter()
        .map(|cell| (cell.from.as_str(), cell.to.as_str(), format!("{}{}", mark(cell.outcome), cell.port)));
    let mut text = grid::matrix(&matrix.pods, results);
    text.push_str("\n+ allowed   - denied   (and the port)\n");
    text
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
