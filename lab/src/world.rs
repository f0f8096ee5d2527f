//! `world`, the host outside of the cluster: a network namespace on the underlay, a client for whatever asks from there, and
//! a server for pods that ask what is outside.
//!
//! ```text
//! RUN_DIR/netns/world   its network namespace
//! RUN_DIR/world.pid     its server: the built-in one, on TCP and UDP port 80 of its own addresses
//!               .log    the server's output
//! ```
//! Its server says whom it saw, so that a pod learns with which source address it leaves the cluster.

use crate::error::{LabError, Result};
use crate::namespaces::anchor::NETNS_DIR;
use crate::namespaces::{detach, enter, internal_command};
use crate::nodes::create_place;
use crate::process::LabProcess;
use crate::server::{self, Identity, ListenPort, ServerProtocol};
use nix::sys::signal::{SigSet, Signal};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

/// Its name, on the underlay and in what its server says.
const NAME: &str = "world";

/// How long its server may take to end after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(1);

/// Where its server listens: the port that needs no mention in a URL.
const PORTS: [ListenPort; 2] =
    [ListenPort { protocol: ServerProtocol::Tcp, port: 80 }, ListenPort { protocol: ServerProtocol::Udp, port: 80 }];

/// The file of its network namespace.
pub(crate) fn netns(run_dir: &Path) -> PathBuf {
    run_dir.join(NETNS_DIR).join(NAME)
}

/// The output of its server.
pub(crate) fn log(run_dir: &Path) -> PathBuf {
    run_dir.join("world.log")
}

fn pid_file(run_dir: &Path) -> PathBuf {
    run_dir.join("world.pid")
}

/// Whether its server runs.
pub(crate) fn is_running(run_dir: &Path) -> bool {
    LabProcess::running(&pid_file(run_dir)).is_some()
}

/// Joins it to the underlay and starts its server, whichever of them is not there.
pub(crate) fn start(run_dir: &Path, addresses: &[IpAddr]) -> Result<()> {
    create_place(run_dir, NAME, &netns(run_dir), addresses)?;
    if is_running(run_dir) {
        return Ok(());
    }
    let path = log(run_dir);
    let log = File::options().create(true).append(true).open(&path).map_err(|e| LabError::io(path.display(), e))?;
    let mut command = internal_command("world")?;
    command.arg(run_dir).args(addresses.iter().map(IpAddr::to_string));
    detach(&mut command, log)?;
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| LabError::io(NAME, e))?;
    let mut said = String::new();
    BufReader::new(child.stdout.take().expect("stdout is piped"))
        .read_line(&mut said)
        .map_err(|e| LabError::io(NAME, e))?;
    if said.trim() == "ready" {
        return Ok(());
    }
    let _ = child.wait();
    let log = std::fs::read_to_string(&path).unwrap_or_default();
    Err(LabError::Failed(format!(
        "the server of world did not start: {}",
        log.lines().last().unwrap_or("no reason given")
    )))
}

/// Ends its server.
pub(crate) fn stop(run_dir: &Path) -> Result<()> {
    LabProcess::running(&pid_file(run_dir)).map_or(Ok(()), |server| server.stop(STOP_DEADLINE))
}

/// The server, behind `lab internal world RUN_DIR ADDRESS...`.
pub(crate) fn run(args: &[String]) -> Result<i32> {
    let bad = || LabError::BadInput("world: RUN_DIR ADDRESS...".into());
    let [run_dir, addresses @ ..] = args else { return Err(bad()) };
    let addresses = addresses.iter().map(|text| text.parse()).collect::<std::result::Result<_, _>>();
    let run_dir = Path::new(run_dir);
    let signals: SigSet = [Signal::SIGTERM].into_iter().collect();
    signals.thread_block().map_err(|e| LabError::io("signals", e))?;
    let netns = netns(run_dir);
    enter::join_netns(&netns)?;
    LabProcess::write_own(&pid_file(run_dir))?;
    let identity = Identity { pod: NAME.into(), node: NAME.into(), addresses: addresses.map_err(|_| bad())? };
    for (port, error) in server::start(&identity, &PORTS) {
        eprintln!("cannot listen on {}/{}: {error}", port.protocol, port.port);
    }
    writeln!(std::io::stdout(), "ready").map_err(|e| LabError::io("standard output", e))?;
    signals.wait().map_err(|e| LabError::io("signals", e))?;
    Ok(0)
}
