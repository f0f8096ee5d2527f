//! The source as whoever compiles sees it.

use super::Timing;
use super::connect::{Access, AccessError, Connection};
use super::follower::Follower;
use super::request::Link;
use super::secrets::{References, SecretName};
use super::shared::Shared;
use crate::api::Kubernetes;
use crate::source::{DELAY_MAX, Generation, LOOK_EVERY, SETTLE, Wake};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use policy::objects::Kind;
use std::fmt;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

/// What is followed, and how.
#[derive(Clone, Debug)]
pub struct SourceConfig {
    /// Where the server is.
    pub access: Access,
    /// Kinds of objects that are needed: nothing is handed out before all of them were listed.
    pub kinds: Vec<Kind>,
    /// Secrets that are wanted whether an object names them or not: namespace and name.
    pub secrets: Vec<SecretName>,
    /// Where objects outlive the process; `None`: nowhere.
    pub cache: Option<PathBuf>,
    /// How long things may take.
    pub timing: Timing,
}

impl SourceConfig {
    /// Follows `kinds` without a cache.
    pub fn new(access: Access, kinds: &[Kind]) -> SourceConfig {
        SourceConfig { access, kinds: kinds.to_vec(), secrets: Vec::new(), cache: None, timing: Timing::default() }
    }
}

/// Why a source cannot be opened.
#[derive(Debug)]
pub enum OpenError {
    /// The configuration cannot be used; the text says which and why.
    Access(AccessError),
    /// The system does not give what is needed.
    System(io::Error),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::Access(error) => error.fmt(f),
            OpenError::System(error) => write!(f, "following the Kubernetes API: {error}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// A Kubernetes API server that is followed by a thread of its own. When it is dropped, the thread ends.
pub struct KubernetesSource {
    shared: Arc<Shared>,
    connection: Connection,
    runtime: Handle,
    /// Ends the thread by going away.
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl KubernetesSource {
    /// Reads the configuration and begins to follow the server, which need not be there.
    pub fn open(config: SourceConfig) -> Result<KubernetesSource, OpenError> {
        let runtime = Builder::new_current_thread()
            // For names that are resolved and programs that print credentials.
            .max_blocking_threads(4)
            .enable_all()
            .build()
            .map_err(OpenError::System)?;
        let connection = runtime.block_on(config.access.connect()).map_err(OpenError::Access)?;
        let SourceConfig { access, kinds, secrets, cache, timing } = config;
        let shared = Shared::new(&connection.server, cache.is_some(), References::new(secrets));
        let shared = Arc::new(shared.map_err(OpenError::System)?);
        let link = Arc::new(Link::new(access, connection.clone(), timing.patience));
        let follower = Follower { shared: shared.clone(), link, timing };
        let (stop, stopped) = oneshot::channel();
        let (handle, server) = (runtime.handle().clone(), connection.server.clone());
        let run = move || {
            runtime.block_on(async move {
                if let Some(path) = &cache {
                    follower.keep_cache(path, &server);
                }
                follower.follow(&kinds);
                // Whoever holds the other end says nothing; it goes away.
                let _ = stopped.await;
            });
            // A name that is being resolved is waited for by nobody.
            runtime.shutdown_background();
        };
        let thread = thread::Builder::new().name("kubernetes".to_owned()).spawn(run).map_err(OpenError::System)?;
        Ok(KubernetesSource { shared, connection, runtime: handle, stop: Some(stop), thread: Some(thread) })
    }

    /// What has changed since the last look; the first time there is something when everything was listed, or the cache is to
    /// be put in force.
    pub fn refresh(&mut self) -> Option<Generation> {
        self.shared.take()
    }

    /// Waits until something has changed and has settled, or until `stop` is readable; [`LOOK_EVERY`] at most.
    pub fn wait(&mut self, stop: BorrowedFd<'_>) -> io::Result<Wake> {
        let wake = self.shared.wake_fd();
        let ready = readable(&[wake, stop], LOOK_EVERY)?;
        if ready[1] {
            return Ok(Wake::Stop);
        }
        let began = Instant::now();
        let mut changes = self.shared.changes();
        // The descriptor stays readable until the look, so whether a burst goes on shows in the number of changes.
        while ready[0] && began.elapsed() < DELAY_MAX {
            if readable(&[stop], SETTLE)?[0] {
                return Ok(Wake::Stop);
            }
            let before = std::mem::replace(&mut changes, self.shared.changes());
            if before == changes {
                break;
            }
        }
        Ok(Wake::Look)
    }

    /// For the API.
    pub fn status(&self) -> Kubernetes {
        self.shared.status()
    }

    /// Who tells the status while the source itself is in use.
    pub fn monitor(&self) -> Monitor {
        Monitor(self.shared.clone())
    }

    /// The way to the server, and the runtime that it is to be used on. Both end with the source.
    pub fn connection(&self) -> (&Connection, &Handle) {
        (&self.connection, &self.runtime)
    }
}

impl Drop for KubernetesSource {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that has panicked has ended.
            let _ = thread.join();
        }
    }
}

/// Tells how a source is.
#[derive(Clone)]
pub struct Monitor(Arc<Shared>);

impl Monitor {
    /// How it is.
    pub fn status(&self) -> Kubernetes {
        self.0.status()
    }

    /// Why nothing was handed out so far, in words; `None` once something was.
    pub fn waiting_for(&self) -> Option<String> {
        self.0.waiting_for()
    }
}

/// Which of `fds` are readable, after `timeout` at the latest.
fn readable(fds: &[BorrowedFd<'_>], timeout: Duration) -> io::Result<Vec<bool>> {
    let mut polled: Vec<PollFd<'_>> = fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let timeout_ms = u16::try_from(timeout.as_millis()).unwrap_or(u16::MAX);
    match poll(&mut polled, PollTimeout::from(timeout_ms)) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(polled.iter().map(|fd| fd.any().unwrap_or(false)).collect()),
        Err(error) => Err(error.into()),
    }
}
