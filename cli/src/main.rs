//! The `podplane` command: reads the command line, calls one command, turns its result into an exit code.
//!
//! Exit codes are a contract: 0 yes or done, 1 no or failed, 2 bad usage or bad input (clap itself uses 2 for bad usage).

#![forbid(unsafe_code)]

mod certificates;
mod commands;
mod follow;
mod grid;
mod intent;
mod junit;
mod manifests;
mod output;
mod source_args;

use clap::Parser;
use commands::Command;
use output::{Answer, Context, OutputFormat};
use std::process::ExitCode;

const EXAMPLES: &str = "\
Examples:
  podplane lab up                                   start a two-node lab from the bundled demo
  podplane lab matrix                               every pod to every pod, by real connections
  podplane policy matrix -f manifests/ --port TCP/8080
  podplane check -f manifests/                      what is wrong with these manifests?
  podplane completions bash > /etc/bash_completion.d/podplane

Exit codes: 0 yes or done, 1 no or failed, 2 bad usage or bad input.";

/// The network of a Kubernetes node in one userspace program.
#[derive(Parser)]
#[command(name = "podplane", version, after_help = EXAMPLES, arg_required_else_help = true)]
struct Cli {
    /// Output for people (text), for programs (json), or for CI (junit: `policy matrix --expect` only)
    #[arg(short, long, global = true, value_enum, default_value_t = OutputFormat::Text, value_name = "FORMAT")]
    output: OutputFormat,

    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let context = Context { output: cli.output };
    match commands::run(cli.command, &context) {
        Ok(Answer::Yes) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(1),
        Err(failure) => {
            output::report(&failure);
            failure.exit_code()
        }
    }
}
