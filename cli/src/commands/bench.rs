//! `podplane lab bench`: podplane next to the kernel's bridge and VXLAN in one run, and what many Services and policies cost.

use crate::output::{self, Answer, Context, Failure};
use clap::{Args, ValueEnum};
use lab::bench::{self, Options};

/// Arguments of `podplane lab bench`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane lab bench --quick
  podplane lab bench services
  podplane lab bench policies
  podplane lab bench dns
  podplane lab bench ingress
  podplane lab bench -o json > bench.json")]
pub(crate) struct BenchArgs {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    what: Vec<Part>,
    /// One round of one second each: enough to see whether something broke
    #[arg(long)]
    quick: bool,
    /// Rounds; medians of them are compared
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=100), conflicts_with = "quick")]
    rounds: Option<u16>,
    /// Seconds per measurement
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(1..=600), conflicts_with = "quick")]
    seconds: Option<u32>,
}

/// A part of the bench.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Part {
    /// Throughput, round trips and connections, next to the kernel's
    Traffic,
    /// Connections beside 1 and 10,000 Services; one change at 250,000 endpoints
    Services,
    /// 1,000 policies over 10,000 pods: compiling them, one change, flows beside few and many
    Policies,
    /// The cluster DNS next to unbound and dnsmasq
    Dns,
    /// Requests through the Ingress proxy, next to nginx and HAProxy
    Ingress,
}

/// Runs the bench.
pub(crate) fn run(args: BenchArgs, context: &Context) -> Result<Answer, Failure> {
    let mut options = if args.quick { Options::QUICK } else { Options::FULL };
    if let Some(rounds) = args.rounds {
        options.rounds = rounds.into();
    }
    if let Some(seconds) = args.seconds {
        options.seconds = seconds;
    }
    if !args.what.is_empty() {
        options.traffic = args.what.contains(&Part::Traffic);
        options.services = options.services.filter(|_| args.what.contains(&Part::Services));
        options.policies = options.policies.filter(|_| args.what.contains(&Part::Policies));
        options.names = args.what.contains(&Part::Dns);
        options.ingress = args.what.contains(&Part::Ingress);
    }
    let report = bench::run(options, &mut output::progress).map_err(|error| Failure::Failed(error.to_string()))?;
    context.show(&report, |report| report.table())?;
    Ok(Answer::Yes)
}
