//! The processes of a pod.
//!
//! The *supervisor* (`lab internal pod DIR`) joins the pod's network namespace, makes its other namespaces, covers the files
//! in `/etc` and starts the pod's process 1 in a PID namespace of the pod. Other commands enter the pod through the
//! supervisor's namespaces. It ends with process 1, and SIGTERM to it stops the pod.
//!
//! *Process 1* (`lab internal pod-main DIR`) is the built-in test server, or starts the annotated command and reaps. When it
//! ends, the kernel ends every process of the pod; when the supervisor dies it is killed.

use super::{PodSpec, Readiness, files};
use crate::error::{LabError, Result};
use crate::namespaces::enter::{die_with_parent, exit_code};
use crate::namespaces::{INTERNAL, detach, internal_command};
use crate::process::LabProcess;
use crate::server::{self, Identity};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sethostname};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How long a pod's processes may take to end after SIGTERM. Kubernetes waits 30 s; nobody waits that long for a lab.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(1);

/// How long a command may take until it answers its readinessProbe; then the lab goes on without it.
const READY_DEADLINE: Duration = Duration::from_secs(10);

/// Starts the pod of `dir` and waits until its namespaces stand and its command runs.
pub(crate) fn start(run_dir: &Path, pod: &PodSpec) -> Result<()> {
    let dir = pod.dir(run_dir);
    let log = dir.join("log");
    let log = File::options().create(true).append(true).open(&log).map_err(|e| LabError::io(log.display(), e))?;
    let mut command = internal_command("pod")?;
    command.arg(&dir).arg(pod.netns(run_dir));
    detach(&mut command, log)?;
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|e| LabError::io(pod.full_name(), e))?;
    let mut ready = String::new();
    let stdout = child.stdout.take().expect("stdout is piped");
    BufReader::new(stdout).read_line(&mut ready).map_err(|e| LabError::io(pod.full_name(), e))?;
    if ready.trim() == "ready" {
        return Ok(());
    }
    let _ = child.wait();
    let log = fs::read_to_string(dir.join("log")).unwrap_or_default();
    Err(LabError::Failed(format!(
        "pod {} did not start: {}",
        pod.full_name(),
        log.lines().last().unwrap_or("no reason given").trim_start_matches("error: ")
    )))
}

/// Stops the pod of `dir`, if it runs.
pub(crate) fn stop(dir: &Path) -> Result<()> {
    match LabProcess::running(&dir.join("pid")) {
        Some(supervisor) => supervisor.stop(STOP_DEADLINE * 2),
        None => Ok(()),
    }
}

/// The supervisor.
pub(crate) fn run_supervisor(args: &[String]) -> Result<i32> {
    let [dir, netns] = args else {
        return Err(LabError::BadInput("pod: DIR NETNS".into()));
    };
    let dir = PathBuf::from(dir);
    let pod = read_spec(&dir)?;
    let signals: SigSet = [Signal::SIGCHLD, Signal::SIGTERM].into_iter().collect();
    signals.thread_block().map_err(|e| LabError::io("signals", e))?;
    let namespace = File::open(netns).map_err(|e| LabError::io(netns, e))?;
    setns(&namespace, CloneFlags::CLONE_NEWNET).map_err(|e| LabError::io(netns, e))?;
    let own = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWPID;
    unshare(own).map_err(|e| LabError::io("namespaces of the pod", e))?;
    // A hostNetwork pod has its node's name.
    sethostname(if pod.host_network { &pod.node } else { &pod.hostname }).map_err(|e| LabError::io("hostname", e))?;
    let _ = fs::remove_file(dir.join("exit"));
    LabProcess::write_own(&dir.join("pid"))?;
    cover_files(&dir)?;
    let mut child = Command::new("/proc/self/exe")
        .arg0("podplane")
        .args(INTERNAL)
        .arg("pod-main")
        .arg(&dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| LabError::io("process 1 of the pod", e))?;
    let mut ready = String::new();
    BufReader::new(child.stdout.take().expect("stdout is piped"))
        .read_line(&mut ready)
        .map_err(|e| LabError::io("process 1 of the pod", e))?;
    if ready.trim() == "ready" {
        println!("ready");
    }
    let first = Pid::from_raw(child.id() as i32);
    loop {
        match signals.wait().map_err(|e| LabError::io("signals", e))? {
            Signal::SIGTERM => stop_first(first),
            _ => {
                if let Some(status) = child.try_wait().map_err(|e| LabError::io("process 1 of the pod", e))? {
                    let code = exit_code(status);
                    let _ = fs::write(dir.join("exit"), code.to_string());
                    return Ok(code);
                }
            }
        }
    }
}

/// SIGTERM, and SIGKILL if that does not end it in time. Leaves taking notice of the end to the caller's SIGCHLD.
fn stop_first(first: Pid) {
    let _ = kill(first, Signal::SIGTERM);
    let ended = crate::wait::until(STOP_DEADLINE, || {
        let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
        !matches!(nix::sys::wait::waitid(nix::sys::wait::Id::Pid(first), look), Ok(WaitStatus::StillAlive))
    });
    if !ended {
        let _ = kill(first, Signal::SIGKILL);
    }
}

fn read_spec(dir: &Path) -> Result<PodSpec> {
    let path = dir.join("pod.json");
    let bytes = fs::read(&path).map_err(|e| LabError::io(path.display(), e))?;
    serde_json::from_slice(&bytes).map_err(|e| LabError::Failed(format!("{}: {e}", path.display())))
}

/// Binds the pod's files over those of the machine, inside of this mount namespace.
fn cover_files(dir: &Path) -> Result<()> {
    let none: Option<&str> = None;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(|e| LabError::io("mount /", e))?;
    for (file, target) in files::BOUND {
        match mount(Some(&dir.join(file)), target, none, MsFlags::MS_BIND, none) {
            // A machine without such a file gives nothing to bind over, and a pod can do without.
            Err(Errno::ENOENT) => eprintln!("{target}: not on this machine, so the pod has none"),
            result => result.map_err(|e| LabError::io(format_args!("mount {target}"), e))?,
        }
    }
    Ok(())
}

/// Process 1 of the pod.
pub(crate) fn run_main(args: &[String]) -> Result<i32> {
    let [dir] = args else {
        return Err(LabError::BadInput("pod-main: DIR".into()));
    };
    die_with_parent()?;
    let signals: SigSet = [Signal::SIGCHLD, Signal::SIGTERM].into_iter().collect();
    signals.thread_block().map_err(|e| LabError::io("signals", e))?;
    let pod = read_spec(Path::new(dir))?;
    let none: Option<&str> = None;
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    // Both are a convenience (ps, /sys/class/net) that a locked-down container may refuse.
    let _ = mount(Some("proc"), "/proc", Some("proc"), quiet, none);
    let _ = mount(Some("sysfs"), "/sys", Some("sysfs"), quiet | MsFlags::MS_RDONLY, none);
    match &pod.command {
        Some(command) => run_command(command, &pod, Path::new(dir), &signals),
        None => run_server(&pod, &signals),
    }
}

fn run_server(pod: &PodSpec, signals: &SigSet) -> Result<i32> {
    let identity = Identity { pod: pod.full_name(), node: pod.node.clone(), addresses: pod.addresses.clone() };
    for (port, error) in server::start(&identity, &pod.ports) {
        eprintln!("cannot listen on {}/{}: {error}", port.protocol, port.port);
    }
    say_ready()?;
    while signals.wait().map_err(|e| LabError::io("signals", e))? == Signal::SIGCHLD {}
    Ok(0)
}

/// Variables by which a command finds this program, what the cluster is and where it runs.
fn variables(pod: &PodSpec, dir: &Path) -> Result<[(&'static str, PathBuf); 3]> {
    let program = std::env::current_exe().map_err(|e| LabError::io("/proc/self/exe", e))?;
    let run_dir = dir.ancestors().nth(2).unwrap_or(Path::new("/"));
    Ok([
        ("PODPLANE", program),
        ("PODPLANE_CLUSTER_DIR", crate::nodes::cluster_dir(run_dir)),
        ("PODPLANE_NODE", PathBuf::from(&pod.node)),
    ])
}

/// Waits until the command answers its readinessProbe, for as long as it runs and not for ever.
fn wait_until_ready(command: Pid, readiness: &Readiness) {
    let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    let runs = || matches!(nix::sys::wait::waitid(nix::sys::wait::Id::Pid(command), look), Ok(WaitStatus::StillAlive));
    if !crate::wait::until(READY_DEADLINE, || answers(readiness).unwrap_or(false) || !runs()) {
        eprintln!("the readinessProbe at port {} is not answered", readiness.port);
    }
}

/// Whether a connection is taken, and a request answered with a success (200 to 399, as for the kubelet).
fn answers(Readiness { port, path }: &Readiness) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port))?;
    let Some(path) = path else { return Ok(true) };
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    let status: Option<u16> = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok(status.is_some_and(|status| (200..400).contains(&status)))
}

fn run_command(command: &str, pod: &PodSpec, dir: &Path, signals: &SigSet) -> Result<i32> {
    let log = std::io::stderr();
    let output = std::os::fd::AsFd::as_fd(&log).try_clone_to_owned().map_err(|e| LabError::io("log", e))?;
    let child = Command::new("sh")
        .arg("-c")
        .arg(command)
        .current_dir("/")
        .envs(variables(pod, dir)?)
        .stdin(Stdio::null())
        .stdout(output)
        .spawn()
        .map_err(|e| LabError::io("sh", e))?;
    let child = Pid::from_raw(child.id() as i32);
    if let Some(readiness) = &pod.readiness {
        wait_until_ready(child, readiness);
    }
    say_ready()?;
    loop {
        if signals.wait().map_err(|e| LabError::io("signals", e))? == Signal::SIGTERM {
            // -1 is every other process of the pod.
            let _ = kill(Pid::from_raw(-1), Signal::SIGTERM);
        }
        if let Some(code) = reap(child) {
            return Ok(code);
        }
    }
}

/// Takes leave of every process that has ended; gives the exit code of `main` if it is among them.
fn reap(main: Pid) -> Option<i32> {
    let mut code = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == main => code = Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == main => code = Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return code,
            Ok(_) | Err(_) => {}
        }
    }
}

fn say_ready() -> Result<()> {
    writeln!(std::io::stdout(), "ready").map_err(|e| LabError::io("standard output", e))
}
