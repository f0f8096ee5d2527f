//! Long-lived processes of a lab, as files in the run directory say them.
//!
//! The processes live in the lab's PID namespace and are looked at from inside of it. Each writes its own file before it
//! starts to work: the number by which signals reach it, and the number by which `/proc` shows it. They differ only where
//! the lab could not mount a `/proc` of its own.

use crate::error::{LabError, Result};
use crate::record::ProcessId;
use crate::wait;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long the kernel may take to end a process.
const KILL_DEADLINE: Duration = Duration::from_secs(5);

/// Who a process of the lab is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LabProcess {
    /// Number in the lab's PID namespace.
    pub(crate) pid: i32,
    /// Number and start time in `/proc`.
    pub(crate) proc: ProcessId,
}

impl LabProcess {
    /// This process.
    pub(crate) fn own() -> Result<LabProcess> {
        let link = fs::read_link("/proc/self").map_err(|e| LabError::io("/proc/self", e))?;
        let proc = link.to_str().and_then(|pid| pid.parse().ok()).and_then(ProcessId::of);
        let proc = proc.ok_or_else(|| LabError::Failed("/proc/self: not a process".into()))?;
        Ok(LabProcess { pid: std::process::id() as i32, proc })
    }

    /// Writes this process to `path`, whole or not at all.
    pub(crate) fn write_own(path: &Path) -> Result<()> {
        let draft = path.with_extension("tmp");
        let bytes = serde_json::to_vec(&LabProcess::own()?).expect("a process is plain data");
        fs::write(&draft, bytes).and_then(|()| fs::rename(&draft, path)).map_err(|e| LabError::io(path.display(), e))
    }

    /// The running process that `path` names; `None` if there is none.
    pub(crate) fn running(path: &Path) -> Option<LabProcess> {
        let process: LabProcess = serde_json::from_slice(&fs::read(path).ok()?).ok()?;
        process.is_alive().then_some(process)
    }

    /// Whether it still runs.
    pub(crate) fn is_alive(&self) -> bool {
        self.proc.is_alive()
    }

    /// Ends it: SIGTERM, and SIGKILL after `patience`.
    pub(crate) fn stop(&self, patience: Duration) -> Result<()> {
        self.end_by(&[(Signal::SIGTERM, patience), (Signal::SIGKILL, KILL_DEADLINE)])
    }

    /// Ends it without a chance to do anything.
    pub(crate) fn kill(&self) -> Result<()> {
        self.end_by(&[(Signal::SIGKILL, KILL_DEADLINE)])
    }

    fn end_by(&self, signals: &[(Signal, Duration)]) -> Result<()> {
        for &(signal, patience) in signals {
            match kill(Pid::from_raw(self.pid), signal) {
                Err(Errno::ESRCH) => return Ok(()),
                Err(e) => return Err(LabError::io(format_args!("process {}", self.pid), e)),
                Ok(()) => {}
            }
            if wait::until(patience, || !self.is_alive()) {
                return Ok(());
            }
        }
        Err(LabError::Failed(format!("process {} does not end", self.pid)))
    }
}
