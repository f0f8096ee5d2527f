//! The anchor: process 1 of a lab. It owns the lab's namespaces, reaps what ends inside, and does nothing else.
//!
//! States: *starting* (private mounts, `/proc`, `lo`), *ready* (said on standard output), *recorded* (told on standard
//! input; its end before that ends the anchor), then waiting for signals. SIGTERM ends
//! the lab in order: every process gets SIGTERM, has [`STOP_DEADLINE`], and then the anchor ends. Whatever ends the anchor,
//! SIGKILL too, makes the kernel kill every process of the lab's PID namespace, and the network namespaces, TAPs and mounts
//! go with their last user. That is why nothing of a lab can be left behind.

use super::{detach, internal_command, preflight};
use crate::error::{LabError, Result};
use crate::record::ProcessId;
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getegid, geteuid, sethostname, setsid};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Stdio};
use std::time::Duration;

/// How long processes of the lab may take to end after SIGTERM.
pub const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// Folder of network namespace files in the run directory: a tmpfs inside the lab, empty outside.
pub const NETNS_DIR: &str = "netns";

/// Which namespaces a lab has of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// All but the user namespace.
    Root,
    /// The user namespace too.
    Rootless,
    /// As `Root`, but for the network namespace: that of whoever starts it leads to the other parts of the lab.
    Joined,
}

impl Boundary {
    const NAMES: [(Boundary, &str); 3] =
        [(Boundary::Root, "root"), (Boundary::Rootless, "rootless"), (Boundary::Joined, "joined")];

    fn name(self) -> &'static str {
        let mut names = Boundary::NAMES.iter();
        names.find(|(boundary, _)| *boundary == self).map_or("", |(_, name)| name)
    }

    fn of(name: &str) -> Option<Boundary> {
        let mut names = Boundary::NAMES.iter();
        names.find(|(_, own)| *own == name).map(|(boundary, _)| *boundary)
    }
}

/// What the anchor is told when it is recorded.
const COMMIT: &[u8; 1] = b"\n";

/// Log of the anchor in the run directory.
pub const ANCHOR_LOG: &str = "anchor.log";

/// An anchor that is ready and waits to be recorded. It ends if it is dropped before, or if this process dies: nobody would
/// know of it.
pub struct Pending {
    anchor: ProcessId,
    stdin: ChildStdin,
}

impl Pending {
    /// The anchor.
    pub fn anchor(&self) -> ProcessId {
        self.anchor
    }

    /// Tells the anchor that it is recorded and goes on by itself.
    pub fn commit(mut self) -> Result<()> {
        self.stdin.write_all(COMMIT).map_err(|e| LabError::io("the lab's anchor", e))
    }
}

/// Starts an anchor whose run directory is `run_dir` and waits until it is ready.
pub fn start(name: &str, run_dir: &Path, boundary: Boundary) -> Result<Pending> {
    preflight::check(boundary == Boundary::Rootless)?;
    let netns = run_dir.join(NETNS_DIR);
    fs::create_dir(&netns).map_err(|e| LabError::io(netns.display(), e))?;
    let log = run_dir.join(ANCHOR_LOG);
    let log = File::create(&log).map_err(|e| LabError::io(log.display(), e))?;
    let mut child = internal_command("anchor")?
        .arg(name)
        .arg(run_dir)
        .arg(boundary.name())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|e| LabError::io("cannot start the lab's anchor", e))?;
    let mut answer = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    let stdin = child.stdin.take().expect("stdin is piped");
    let read = BufReader::new(stdout).read_line(&mut answer);
    let _ = child.wait();
    match (read, answer.trim().parse().ok().and_then(ProcessId::of)) {
        (Ok(_), Some(anchor)) => Ok(Pending { anchor, stdin }),
        _ => {
            let reason = fs::read_to_string(run_dir.join(ANCHOR_LOG)).unwrap_or_default();
            let reason = reason.trim().trim_start_matches("error: ");
            Err(LabError::Failed(if reason.is_empty() {
                "the lab's anchor did not start".into()
            } else {
                reason.into()
            }))
        }
    }
}

/// Ends the lab of `anchor` and waits until its process is gone: in order if that works, by SIGKILL if not.
pub fn stop(anchor: ProcessId) -> Result<()> {
    for (signal, patience) in [(Signal::SIGTERM, STOP_DEADLINE * 2), (Signal::SIGKILL, STOP_DEADLINE)] {
        if !anchor.is_alive() {
            return Ok(());
        }
        match kill(Pid::from_raw(anchor.pid), signal) {
            Ok(()) | Err(Errno::ESRCH) => {}
            Err(e) => return Err(LabError::io(format_args!("cannot stop the lab (process {})", anchor.pid), e)),
        }
        if crate::wait::until(patience, || !anchor.is_alive()) {
            return Ok(());
        }
    }
    Err(LabError::Failed(format!("process {} of the lab does not end", anchor.pid)))
}

/// The process behind `lab internal anchor NAME RUN_DIR root|rootless|joined`: makes the namespaces, starts process 1 in them and
/// prints its process id as seen from outside.
pub fn run(args: &[String]) -> Result<i32> {
    let bad = || LabError::BadInput("anchor: NAME RUN_DIR root|rootless|joined".into());
    let [name, run_dir, boundary] = args else { return Err(bad()) };
    let boundary = Boundary::of(boundary).ok_or_else(bad)?;
    let (uid, gid) = (geteuid(), getegid());
    let mut flags =
        CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS;
    let rootless = boundary == Boundary::Rootless;
    flags.set(CloneFlags::CLONE_NEWUSER, rootless);
    flags.set(CloneFlags::CLONE_NEWNET, boundary != Boundary::Joined);
    unshare(flags).map_err(|e| preflight::explain_unshare(e, rootless))?;
    if rootless {
        for (file, content) in [
            ("/proc/self/setgroups", "deny".to_owned()),
            ("/proc/self/uid_map", format!("0 {uid} 1")),
            ("/proc/self/gid_map", format!("0 {gid} 1")),
        ] {
            fs::write(file, content).map_err(|e| LabError::io(file, e))?;
        }
    }
    let run_dir = PathBuf::from(run_dir);
    let log = File::options().append(true).open(run_dir.join(ANCHOR_LOG)).map_err(|e| LabError::io(ANCHOR_LOG, e))?;
    let mut command = internal_command("init")?;
    command.arg(name).arg(&run_dir);
    detach(&mut command, log)?;
    let mut child = command
        .stdin(Stdio::inherit())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| LabError::io("process 1 of the lab", e))?;
    let mut ready = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut ready).map_err(|e| LabError::io("process 1 of the lab", e))?;
    if ready.trim() != "ready" {
        let _ = child.wait();
        return Ok(1);
    }
    println!("{}", child.id());
    Ok(0)
}

/// Process 1 of the lab, behind `lab internal init NAME RUN_DIR`. Returns when the lab has ended.
pub fn run_init(args: &[String]) -> Result<i32> {
    let [name, run_dir] = args else {
        return Err(LabError::BadInput("init: NAME RUN_DIR".into()));
    };
    let signals: SigSet = [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block().map_err(|e| LabError::io("signals", e))?;
    // Not fatal: it already leads a process group of its own when the system has given it one.
    let _ = setsid();
    std::env::set_current_dir("/").map_err(|e| LabError::io("/", e))?;
    private_mounts(&Path::new(run_dir).join(NETNS_DIR))?;
    sethostname(format!("lab-{name}")).map_err(|e| LabError::io("hostname", e))?;
    crate::underlay::netlink::Netlink::open()
        .and_then(|mut netlink| netlink.set_up("lo"))
        .map_err(|e| LabError::io("lo", e))?;
    writeln!(io::stdout(), "ready").map_err(|e| LabError::io("standard output", e))?;
    let mut commit = [0; COMMIT.len()];
    if io::stdin().read_exact(&mut commit).is_err() {
        eprintln!("the command that started the lab is gone before it could be recorded");
        return Ok(1);
    }
    while signals.wait().map_err(|e| LabError::io("signals", e))? == Signal::SIGCHLD {
        reap();
    }
    // -1 is every process of the PID namespace but this one.
    let _ = kill(Pid::from_raw(-1), Signal::SIGTERM);
    crate::wait::until(STOP_DEADLINE, || !reap());
    Ok(0)
}

/// Cuts mounts off from the outside, gives the lab a place for its network namespaces and a `/proc` of its own.
fn private_mounts(netns: &Path) -> Result<()> {
    let none: Option<&str> = None;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|e| LabError::io("mount /", e))?;
    mount(Some("podplane-lab"), netns, Some("tmpfs"), quiet, Some("mode=0700"))
        .map_err(|e| LabError::io(format_args!("mount {}", netns.display()), e))?;
    // A container that hides parts of /proc does not let a user namespace mount another one. The old one then shows the
    // processes outside too; what the lab reads there (/proc/self, /proc/PID/ns by ids read there) works with both.
    if let Err(e) = mount(Some("proc"), "/proc", Some("proc"), quiet, none) {
        eprintln!("/proc stays that of the outside: {e}");
    }
    Ok(())
}

/// Takes leave of every child that has ended; says whether any is left.
fn reap() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return true,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return false,
        }
    }
}
