//! Going into a lab: from any process outside to a command inside.
//!
//! [`command`] gives a command that runs `argv` inside; it can be used like any other. The process that it starts first is
//! `lab internal enter`: it joins the namespaces, starts `argv` (a process can join a PID namespace only for its children)
//! and gives back its exit status. If it dies, so does `argv`, by the parent death signal.

use super::internal_command;
use crate::error::{LabError, Result};
use crate::process::LabProcess;
use crate::underlay::INTERFACE;
use crate::underlay::netlink::Netlink;
use ipnet::IpNet;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use serde::{Deserialize, Serialize};
use std::fs::{self, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

/// Where in a lab to go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Room {
    /// The lab's own namespaces; its network namespace is the underlay.
    Lab,
    /// The client outside of the cluster: everything but the network namespace is the lab's own.
    World {
        /// The file of the network namespace.
        netns: PathBuf,
        /// An address that it takes on first, unless it has it.
        address: Option<IpAddr>,
    },
    /// A node: its network namespace, by its file, and the host name of its process, if that runs.
    Node {
        /// The file of the network namespace.
        netns: PathBuf,
        /// The file in which the process says who it is.
        process: PathBuf,
    },
    /// All namespaces of a pod, by the file in which its supervisor says its process id.
    Pod(PathBuf),
}

/// A command that runs `argv` in `room` of the lab whose anchor has the process id `anchor`.
pub fn command(anchor: i32, room: &Room, argv: &[String]) -> Result<Command> {
    let mut command = internal_command("enter")?;
    command
        .arg(anchor.to_string())
        .arg(serde_json::to_string(room).expect("a room is plain data"))
        .arg("--")
        .args(argv);
    Ok(command)
}

/// The process behind `lab internal enter ANCHOR ROOM -- ARGV...`; gives the exit code of `argv`.
pub fn run(args: &[String]) -> Result<i32> {
    let [anchor, room, separator, argv @ ..] = args else {
        return Err(LabError::BadInput("enter: ANCHOR ROOM -- COMMAND".into()));
    };
    let room: Room = serde_json::from_str(room).map_err(|e| LabError::BadInput(format!("enter: room: {e}")))?;
    let (Ok(anchor), "--", [program, arguments @ ..]) = (anchor.parse::<i32>(), separator.as_str(), argv) else {
        return Err(LabError::BadInput("enter: ANCHOR ROOM -- COMMAND".into()));
    };
    join(Path::new("/proc"), anchor, &["user", "mnt", "pid", "ipc", "uts", "net"])?;
    match &room {
        Room::Lab => {}
        Room::World { netns, address } => {
            join_netns(netns)?;
            if let Some(address) = address {
                Netlink::open()
                    .and_then(|mut netlink| netlink.add_address(INTERFACE, IpNet::from(*address)))
                    .map_err(|e| LabError::io(format_args!("world cannot take the address {address}"), e))?;
            }
        }
        Room::Node { netns, process } => {
            if let Some(process) = LabProcess::running(process) {
                join(Path::new("/proc"), process.proc.pid, &["uts"])?;
            }
            join_netns(netns)?;
        }
        Room::Pod(pid_file) => {
            let supervisor = LabProcess::running(pid_file)
                .ok_or_else(|| LabError::Failed("the pod does not run; see `podplane lab status`".into()))?;
            join(Path::new("/proc"), supervisor.proc.pid, &["ipc", "uts", "net", "pid_for_children", "mnt"])?;
        }
    }
    crate::first::obey_signals()?;
    // The helper that waits outside of the lab's PID namespace must not outlive its caller either.
    let mut child = helper(program, arguments).spawn().map_err(|e| LabError::io(program, e))?;
    let status = child.wait().map_err(|e| LabError::io(program, e))?;
    Ok(exit_code(status))
}

/// The exit code that a shell would give for `status`.
pub fn exit_code(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0))
}

/// The process behind `lab internal exec ARGV...`: asks to die with its parent, then becomes `argv`.
pub fn run_exec(args: &[String]) -> Result<i32> {
    let [program, arguments @ ..] = args else {
        return Err(LabError::BadInput("exec: COMMAND".into()));
    };
    die_with_parent()?;
    let error = Command::new(program).args(arguments).exec();
    Err(match error.kind() {
        io::ErrorKind::NotFound => LabError::BadInput(format!("{program}: command not found")),
        _ => LabError::io(program, error),
    })
}

/// Asks the kernel to end this process when its parent ends.
pub fn die_with_parent() -> Result<()> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| LabError::io("PR_SET_PDEATHSIG", e))
}

fn helper(program: &str, arguments: &[String]) -> Command {
    // /proc/self/exe is this binary wherever it lies, also when the pod's mount namespace hides its path.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("podplane").args(super::INTERNAL).arg("exec").arg(program).args(arguments);
    command
}

/// Joins namespaces of process `pid`; all are opened before the first is joined, because joining may hide them.
fn join(proc: &Path, pid: i32, names: &[&str]) -> Result<()> {
    let mut open = Vec::with_capacity(names.len());
    for name in names {
        let path = proc.join(pid.to_string()).join("ns").join(name);
        let file = File::open(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => LabError::Failed(format!("process {pid} of the lab is gone")),
            io::ErrorKind::PermissionDenied => {
                LabError::Failed(format!("the lab belongs to another user: {}: {e}", path.display()))
            }
            _ => LabError::io(path.display(), e),
        })?;
        // A process may not join the user namespace that it is in.
        if !is_own(&file, name) {
            open.push((path, file));
        }
    }
    for (path, file) in open {
        setns(&file, CloneFlags::empty()).map_err(|e| LabError::io(path.display(), e))?;
    }
    Ok(())
}

/// Whether this process is in the namespace `file`.
fn is_own(file: &File, name: &str) -> bool {
    let own = fs::metadata(Path::new("/proc/self/ns").join(name));
    own.is_ok_and(|own| file.metadata().is_ok_and(|theirs| (theirs.dev(), theirs.ino()) == (own.dev(), own.ino())))
}

/// Joins the network namespace at `path`. To stay where one is needs no capability.
pub(crate) fn join_netns(path: &Path) -> Result<()> {
    let file = File::open(path).map_err(|e| LabError::io(path.display(), e))?;
    if is_own(&file, "net") {
        return Ok(());
    }
    setns(&file, CloneFlags::CLONE_NEWNET).map_err(|e| LabError::io(path.display(), e))
}
