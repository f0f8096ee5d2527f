//! The CNI plugin `podplane-cni` (specification 0.3.1 to 1.1.0): what a container runtime runs when a sandbox comes and goes.
//!
//! It is thin: the node process does everything that needs privilege or knowledge. [`environment`] and [`configuration`] check what the
//! runtime says, [`commands`] asks the node process over its socket ([`agent`]) and says the answer in the form of the version that is
//! spoken ([`result`]), or an error with a code of the specification ([`failure`]). Only DEL works alone ([`absent`]): a sandbox must be
//! able to end while the node process is down (P08). [`api`] is what goes over the socket, for both ends.
//!
//! It starts in a few milliseconds and links nothing that it does not need: no runtime, no parser of command lines.

#![forbid(unsafe_code)]

mod absent;
mod agent;
pub mod api;
mod commands;
mod configuration;
mod environment;
mod failure;
mod link;
pub mod mark;
mod result;
mod version;

pub use version::SUPPORTED;

use failure::Failure;
use std::io::{Read, Write};
use std::process::ExitCode;

/// Largest configuration: a runtime writes a few kilobytes, GC the list of all attachments.
const CONFIGURATION_BYTES_MAX: u64 = 64 << 20;

/// What `podplane-cni` does: reads the environment and standard input, answers on standard output.
pub fn main() -> ExitCode {
    let get = |name: &str| std::env::var_os(name);
    let read = || {
        let mut text = Vec::new();
        let read = std::io::stdin().lock().take(CONFIGURATION_BYTES_MAX).read_to_end(&mut text);
        read.map(|_| text).map_err(|error| Failure::io(format!("standard input cannot be read: {error}")))
    };
    let (answer, code) = match read().and_then(|text| commands::run(&get, &text)) {
        Ok(answer) => (answer, ExitCode::SUCCESS),
        Err(failure) => (failure.to_json(), ExitCode::FAILURE),
    };
    let mut out = std::io::stdout().lock();
    match out.write_all(answer.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => code,
        // Nobody reads; the exit code is all that is left to say.
        Err(_) => ExitCode::FAILURE,
    }
}
