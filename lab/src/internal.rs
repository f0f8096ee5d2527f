//! The hidden subcommands of the `podplane` binary: what a lab starts inside of namespaces is this binary again, which
//! needs no unsafe code between fork and exec and no second file to install.

use crate::bench;
use crate::error::{LabError, Result};
use crate::namespaces::{anchor, enter};

/// Runs `podplane lab internal ARGS...`; gives the exit code.
pub fn run(args: &[String]) -> Result<i32> {
    match args {
        [subcommand, rest @ ..] => match subcommand.as_str() {
            "anchor" => anchor::run(rest),
            "init" => anchor::run_init(rest),
            "bench" => bench::peer::run(rest),
            "enter" => enter::run(rest),
            "exec" => enter::run_exec(rest),
            _ => Err(LabError::BadInput(format!("lab internal: {subcommand:?} is not a subcommand"))),
        },
        [] => Err(LabError::BadInput("lab internal: no subcommand".into())),
    }
}
