//! What all workers share.

use super::config::Config;
use super::counters::{Counters, Counts};
use policy::routes::Routes;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The proxy: the routes in force and its configuration.
#[derive(Debug)]
pub struct Proxy {
    config: Config,
    /// Number of the routes in force. Workers compare it with the one that they hold, and lock only when it differs.
    generation: AtomicU64,
    routes: Mutex<Arc<Routes>>,
    counters: Mutex<Vec<Arc<Counters>>>,
}

impl Proxy {
    /// A proxy without routes: every request is answered with 404.
    pub fn new(config: Config) -> Arc<Proxy> {
        Arc::new(Proxy { config, generation: AtomicU64::new(0), routes: Mutex::default(), counters: Mutex::default() })
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

    /// Counters for one more worker.
    pub(super) fn add_counters(&self) -> Arc<Counters> {
        let counters = Arc::new(Counters::default());
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).push(counters.clone());
        counters
    }
}
