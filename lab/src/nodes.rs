//! Nodes of the lab: network namespaces on the underlay, and in each a `podplane node` process.
//!
//! ```text
//! RUN_DIR/netns/node-NAME   the node's network namespace
//! RUN_DIR/nodes/NAME.sock   API of its node process
//!               NAME.log    its output
//!               NAME.pid    its process
//!               NAME.state/ its state directory
//! ```

use crate::error::{LabError, Result};
use crate::namespaces::anchor::NETNS_DIR;
use crate::namespaces::{detach, internal_command, netns as namespace, own_binary};
use crate::process::LabProcess;
use crate::settings::Settings;
use crate::{underlay, wait};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// How long a node process may take to end after SIGTERM.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// How long a process may take to say who it is: it has to be loaded and to join a namespace.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// Directory of the node processes' files.
pub(crate) fn nodes_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("nodes")
}

/// The file of a node's network namespace.
pub(crate) fn netns(run_dir: &Path, node: &str) -> PathBuf {
    run_dir.join(NETNS_DIR).join(format!("node-{node}"))
}

/// The socket of a node process's API.
pub fn socket(run_dir: &Path, node: &str) -> PathBuf {
    nodes_dir(run_dir).join(format!("{node}.sock"))
}

/// The output of a node process.
pub fn log(run_dir: &Path, node: &str) -> PathBuf {
    nodes_dir(run_dir).join(format!("{node}.log"))
}

pub(crate) fn pid_file(run_dir: &Path, node: &str) -> PathBuf {
    nodes_dir(run_dir).join(format!("{node}.pid"))
}

/// The cluster directory that all nodes read.
pub fn cluster_dir(run_dir: &Path) -> PathBuf {
    run_dir.join("cluster")
}

/// Makes the network namespace of `name` and joins it to the underlay, unless it is there.
pub(crate) fn create_place(run_dir: &Path, name: &str, netns: &Path, addresses: &[IpAddr]) -> Result<()> {
    if netns.exists() {
        return Ok(());
    }
    namespace::create(netns)?;
    underlay::join(run_dir, name, netns, addresses).inspect_err(|_| {
        let _ = namespace::remove(netns);
    })
}

/// Makes the node's namespace and starts its process, whichever of them is not there.
pub(crate) fn start(run_dir: &Path, node: &str, addresses: &[IpAddr]) -> Result<()> {
    create_place(run_dir, node, &netns(run_dir, node), addresses)?;
    if is_running(run_dir, node) {
        return Ok(());
    }
    let log = log(run_dir, node);
    let log = File::options().create(true).append(true).open(&log).map_err(|e| LabError::io(log.display(), e))?;
    let mut command = internal_command("node")?;
    command.arg(run_dir).arg(node);
    detach(&mut command, log)?;
    let _ = fs::remove_file(pid_file(run_dir, node));
    let mut child = command.spawn().map_err(|e| LabError::io(format_args!("node {node}"), e))?;
    // Until its file is there, a process that starts looks like one that has ended.
    wait::until(START_DEADLINE, || is_running(run_dir, node) || !matches!(child.try_wait(), Ok(None)));
    Ok(())
}

/// The process behind `lab internal node RUN_DIR NODE`: joins the node's namespaces and becomes `podplane node`.
pub(crate) fn run(args: &[String]) -> Result<i32> {
    let [run_dir, node] = args else {
        return Err(LabError::BadInput("node: RUN_DIR NODE".into()));
    };
    let run_dir = Path::new(run_dir);
    let netns = netns(run_dir, node);
    let namespace = File::open(&netns).map_err(|e| LabError::io(netns.display(), e))?;
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|e| LabError::io(netns.display(), e))?;
    unshare(CloneFlags::CLONE_NEWUTS).map_err(|e| LabError::io("hostname", e))?;
    nix::unistd::sethostname(node).map_err(|e| LabError::io("hostname", e))?;
    LabProcess::write_own(&pid_file(run_dir, node))?;
    let settings = Settings::read(run_dir)?;
    let error = Command::new(own_binary()?)
        .args(["node", "--node-name", node, "--tap-mode", settings.tap_mode.as_str()])
        .args(settings.node_options.args())
        .arg("--cluster-dir")
        .arg(cluster_dir(run_dir))
        .arg("--socket")
        .arg(socket(run_dir, node))
        .arg("--state-dir")
        .arg(nodes_dir(run_dir).join(format!("{node}.state")))
        .exec();
    Err(LabError::io(format_args!("node {node}"), error))
}

/// Whether the node's process runs.
pub(crate) fn is_running(run_dir: &Path, node: &str) -> bool {
    LabProcess::running(&pid_file(run_dir, node)).is_some()
}

/// Ends the node's process and takes it off the underlay. Its log stays.
pub(crate) fn stop(run_dir: &Path, node: &str) -> Result<()> {
    if let Some(process) = LabProcess::running(&pid_file(run_dir, node)) {
        process.stop(STOP_DEADLINE)?;
    }
    underlay::leave(node);
    let netns = netns(run_dir, node);
    namespace::remove(&netns).map_err(|e| LabError::io(netns.display(), e))?;
    for path in [pid_file(run_dir, node), socket(run_dir, node)] {
        let _ = fs::remove_file(path);
    }
    Ok(())
}

/// How a node's process is ended before it is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// By SIGTERM.
    Terminated,
    /// By SIGKILL: it cannot do anything any more.
    Killed,
}

/// Ends the node's process and starts it again on what it has left. Its pods and their interfaces are not touched.
pub(crate) fn restart(run_dir: &Path, node: &str, ending: Ending) -> Result<()> {
    if let Some(process) = LabProcess::running(&pid_file(run_dir, node)) {
        match ending {
            Ending::Terminated => process.stop(STOP_DEADLINE)?,
            Ending::Killed => process.kill()?,
        }
    }
    start(run_dir, node, &[])
}

/// Names of the nodes that have a namespace.
pub(crate) fn existing(run_dir: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(run_dir.join(NETNS_DIR)) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.strip_prefix("node-").map(str::to_owned)).collect()
}
