//! Namespaces: making them, entering them, and process 1 of a lab.
//!
//! ```text
//! lab up ── lab internal anchor ──unshare: user?, mnt, pid, ipc, uts, net──> lab internal init    process 1, "the anchor"
//!                                                                             ├─ podplane node ... (own net namespace)
//!                                                                             └─ lab internal pod  (own net, uts, ipc, mnt)
//!                                                                                 └─ process 1 of the pod: its command
//! any lab command ── lab internal enter ──setns──> the command, inside
//! ```
//! Entering and leaving is done by running our own binary again: a fresh process has one thread, which is what the kernel
//! asks for before it lets a process change its user or mount namespace, and needs no unsafe code between fork and exec.
//! Everything is a descendant of the anchor or becomes its child, so the kernel ends all of it when the anchor ends.

pub mod anchor;
pub mod enter;
pub mod netns;
mod preflight;

use crate::error::{LabError, Result};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

/// The hidden subcommands of the `podplane` binary that leads to [`crate::internal::run`].
pub const INTERNAL: [&str; 2] = ["lab", "internal"];

/// Our own binary.
pub fn own_binary() -> Result<PathBuf> {
    std::env::current_exe().map_err(|e| LabError::io("cannot find the podplane binary", e))
}

/// A command that runs our own binary with a hidden subcommand.
pub fn internal_command(subcommand: &str) -> Result<Command> {
    let mut command = Command::new(own_binary()?);
    command.args(INTERNAL).arg(subcommand);
    Ok(command)
}

/// Cuts a long-lived process off from the terminal and session of the command that starts it: no input, `log` as output.
pub fn detach(command: &mut Command, log: std::fs::File) -> Result<()> {
    let second = log.try_clone().map_err(|e| LabError::io("log file", e))?;
    command.stdin(Stdio::null()).stdout(log).stderr(second).process_group(0);
    Ok(())
}
