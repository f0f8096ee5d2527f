//! A lab in parts: one node, or the world outside, on this machine or in this container, the others elsewhere.
//!
//! What joins the parts is the network that the machines have anyway, and a cluster directory that all of them see and that
//! `podplane lab controller` writes. Here is a lab as any other, with a record and a run directory, so the same commands work on
//! it; only its network namespace is the one that it was started in, and of the nodes and pods in the cluster directory it runs
//! its own.
//!
//! [`join`] stays in the foreground: it follows the cluster directory, and every [`LOOK_EVERY`] starts again what has died. SIGTERM
//! ends it and everything that it started. As process 1 of a container it also takes leave of orphans. A node has an anchor
//! below it, for namespaces and mounts of its own. The world is a host without pods: it makes none, needs no capability, and the
//! process that joins is its anchor.

use crate::error::{LabError, Result};
use crate::lab::{Lab, make_room};
use crate::namespaces::anchor::{self, Boundary, NETNS_DIR};
use crate::record::{LabLock, LabPaths, ProcessId, Record};
use crate::settings::{Member, NodeOptions, Settings, TapMode};
use crate::underlay::UnderlayKind;
use crate::{nodes, world};
use control::Stop;
use control::directory::Directory;
#[cfg(doc)]
use control::source::LOOK_EVERY;
use control::source::Wake;
use ipnet::IpNet;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// What joins, and whom.
#[derive(Clone, Debug)]
pub struct JoinOptions {
    /// Name of the lab, for other commands on this machine.
    pub name: String,
    /// The part that runs here.
    pub member: Member,
    /// The cluster directory.
    pub cluster_dir: PathBuf,
    /// Networks that join the parts, one per family; none: those of the address plan.
    pub underlay_ranges: Vec<IpNet>,
    /// How a node opens TAPs.
    pub tap_mode: TapMode,
    /// What else it is told.
    pub node_options: NodeOptions,
}

/// Runs the part until `stop` is readable; then nothing is left of it. `say` is told what goes wrong meanwhile.
pub fn join(options: &JoinOptions, stop: &Stop, say: &mut dyn FnMut(&str)) -> Result<()> {
    let paths = LabPaths::new(&options.name)?;
    let failed = |e| LabError::io(options.cluster_dir.display(), e);
    let mut directory = Directory::open(&options.cluster_dir).map_err(failed)?;
    let lab = start(options, &paths)?;
    let mut told = String::new();
    loop {
        directory.refresh();
        let problem = lab.converge(None).err().map(|error| error.to_string()).unwrap_or_default();
        if !problem.is_empty() && problem != told {
            say(&problem);
        }
        told = problem;
        reap();
        if paths.running().is_err() {
            return Err(LabError::Failed("the lab was ended by somebody else".into()));
        }
        if directory.wait(stop.as_fd()).map_err(failed)? == Wake::Stop {
            return end(options, &paths);
        }
    }
}

fn start(options: &JoinOptions, paths: &LabPaths) -> Result<Lab> {
    let settings = Settings {
        // The controller says how many there are.
        nodes: 0,
        tap_mode: options.tap_mode,
        underlay: UnderlayKind::default(),
        node_options: options.node_options.clone(),
        member: Some(options.member.clone()),
        underlay_ranges: options.underlay_ranges.clone(),
    };
    let lock = paths.lock()?;
    make_room(paths)?;
    let run_dir = paths.run_dir();
    let started = link(&options.cluster_dir, &run_dir).and_then(|()| settings.write(&run_dir)).and_then(|()| {
        match options.member {
            Member::Node(_) => Lab::anchored(paths, &lock, Boundary::Joined),
            Member::World => outside(paths, &lock),
        }
    });
    if started.is_err() {
        if let Ok(Some(record)) = paths.read()
            && record.anchor.pid != std::process::id() as i32
        {
            anchor::stop(record.anchor)?;
        }
        lock.remove()?;
    }
    started
}

/// Has the lab find the cluster directory where it looks for its own.
fn link(cluster_dir: &Path, run_dir: &Path) -> Result<()> {
    let link = nodes::cluster_dir(run_dir);
    let linked = std::path::absolute(cluster_dir).and_then(|target| symlink(target, &link));
    linked.map_err(|e| LabError::io(link.display(), e))
}

/// A lab with nothing but the world, in the namespaces of this process.
fn outside(paths: &LabPaths, lock: &LabLock) -> Result<Lab> {
    let run_dir = paths.run_dir();
    let netns = run_dir.join(NETNS_DIR);
    let made = fs::create_dir(&netns).and_then(|()| {
        let pid = std::process::id();
        symlink(format!("/proc/{pid}/ns/net"), world::netns(&run_dir))?;
        ProcessId::of(pid as i32).ok_or_else(|| io::Error::other("/proc does not show this process"))
    });
    let anchor = made.map_err(|e| LabError::io(netns.display(), e))?;
    let record = Record { name: paths.name().to_owned(), anchor, rootless: false };
    lock.write(&record)?;
    Lab::open(paths.name())
}

fn end(options: &JoinOptions, paths: &LabPaths) -> Result<()> {
    match options.member {
        Member::Node(_) => Lab::down(&options.name),
        Member::World => {
            world::stop(&paths.run_dir())?;
            // Whoever else has it is `podplane lab down`, which waits for the end of this process.
            paths.try_lock().map_or(Ok(()), LabLock::remove)
        }
    }
}

/// Takes leave of every child that has ended. None of them is waited for elsewhere: that is done when it is started.
fn reap() {
    while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}
