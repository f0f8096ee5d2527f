//! Network namespaces as files: created, entered by a thread for one job, and removed.
//!
//! A network namespace belongs to a thread, not to a process, so work inside one runs on a thread of its own that ends with
//! the job. The files are bind mounts below the run directory, in the lab's mount namespace only.

use crate::error::{LabError, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use std::fs::{self, File};
use std::io;
use std::path::Path;

/// Creates a network namespace with `lo` up and binds it to `path`.
pub fn create(path: &Path) -> Result<()> {
    File::create_new(path).map_err(|e| LabError::io(path.display(), e))?;
    let made = on_a_thread(|| {
        unshare(CloneFlags::CLONE_NEWNET)?;
        let none: Option<&str> = None;
        mount(Some("/proc/thread-self/ns/net"), path, none, MsFlags::MS_BIND, none)?;
        // As container runtimes do: a container that lacks CAP_NET_BIND_SERVICE has pods on port 80 too. Not worth failing
        // for where /proc/sys is read-only.
        let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
        crate::underlay::netlink::Netlink::open()?.set_up("lo")
    });
    made.map_err(|e| {
        let _ = remove(path);
        LabError::io(format_args!("network namespace {}", path.display()), e)
    })
}

/// Binds the network namespace of this process to `path`, unless that is there.
pub fn bind_own(path: &Path) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    let none: Option<&str> = None;
    let bound = File::create_new(path).and_then(|_| {
        mount(Some("/proc/thread-self/ns/net"), path, none, MsFlags::MS_BIND, none)?;
        // As in `create`.
        let _ = fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0");
        Ok(())
    });
    bound.map_err(|e| {
        let _ = remove(path);
        LabError::io(format_args!("network namespace {}", path.display()), e)
    })
}

/// Runs `job` in the network namespace at `path`.
pub fn within<T: Send>(path: &Path, job: impl FnOnce() -> io::Result<T> + Send) -> Result<T> {
    let namespace = File::open(path).map_err(|e| LabError::io(path.display(), e))?;
    on_a_thread(|| {
        setns(&namespace, CloneFlags::CLONE_NEWNET)?;
        job()
    })
    .map_err(|e| LabError::io(format_args!("in {}", path.display()), e))
}

/// Lets go of the namespace at `path`; the kernel frees it with its last user. Removing what is gone is not an error.
pub fn remove(path: &Path) -> io::Result<()> {
    match umount2(path, MntFlags::MNT_DETACH) {
        // EINVAL: the file is there and nothing is mounted on it.
        Err(nix::Error::ENOENT | nix::Error::EINVAL) | Ok(()) => {}
        Err(e) => return Err(e.into()),
    }
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn on_a_thread<T: Send>(job: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, job)?;
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}
