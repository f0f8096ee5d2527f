//! What all workers share.

use super::config::{AccessLog, Config};
use super::counters::{Counters, Counts};
use super::log::LogQueue;
use policy::routes::Routes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The proxy: the routes in force and its configuration.
#[derive(Debug)]
pub struct Proxy {
    config: Config,
    log: Option<LogQueue>,
    /// Number of the routes in force. Workers compare it with the one that they hold, and lock only when it differs.
    generation: AtomicU64,
    routes: Mutex<Arc<Routes>>,
    counters: Mutex<Vec<Arc<Counters>>>,
}

impl Proxy {
    /// A proxy without routes: every request is answered with 404.
    pub fn new(config: Config) -> Arc<Proxy> {
        let log = match config.access_log {
            AccessLog::Off => None,
            AccessLog::Json => Some(LogQueue::start(std::io::stdout())),
        };
        Arc::new(Proxy {
            config,
            log,
            generation: AtomicU64::new(0),
            routes: Mutex::default(),
            counters: Mutex::default(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Puts `routes` in force for every request that begins after this. Requests and upgraded connections under way go on.
    pub fn set_routes(&self, routes: Arc<Routes>) {
        *self.routes.lock().unwrap_or_else(PoisonError::into_inner) = routes;
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// The routes in force.
    pub fn routes(&self) -> Arc<Routes> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The counters, summed over all workers.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for counters in self.counters.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            counters.add_to(&mut counts);
        }
        counts
    }

    /// Number of the routes in force.
    pub(super) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The access log, if there is one.
    pub(super) fn log(&self) -> Option<&LogQueue> {
        self.log.as_ref()
    }

    /// Counters for one more worker, and how many there were before.
    pub(super) fn add_counters(&self) -> (usize, Arc<Counters>) {
        let mut all = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let counters = Arc::new(Counters::default());
        all.push(counters.clone());
        (all.len() - 1, counters)
    }
}
