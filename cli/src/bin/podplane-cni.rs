//! The CNI plugin: a container runtime runs it for each sandbox. All of it is in the crate `cni`.

use std::process::ExitCode;

fn main() -> ExitCode {
    cni::main()
}
