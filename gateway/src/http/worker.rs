//! One thread's part of the proxy.

use super::config::Config;
use super::counters::Counters;
use super::proxy::Proxy;
use policy::routes::Routes;
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

/// A worker: everything that requests on one thread share. Never sent to another thread, so nothing is locked.
#[derive(Debug)]
pub struct Worker {
    proxy: Arc<Proxy>,
    counters: Arc<Counters>,
    routes: RefCell<(u64, Arc<Routes>)>,
    draining: Cell<bool>,
}

impl Worker {
    /// A worker of `proxy` for this thread, which must run a tokio `LocalRuntime` (or a `LocalSet`): it spawns its clock there.
    pub fn start(proxy: &Arc<Proxy>) -> Rc<Worker> {
        Rc::new(Worker {
            counters: proxy.add_counters(),
            routes: RefCell::new((proxy.generation(), proxy.routes())),
            draining: Cell::new(false),
            proxy: proxy.clone(),
        })
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        self.proxy.config()
    }

    /// This worker's counters.
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The routes in force.
    pub fn routes(&self) -> Arc<Routes> {
        let mut held = self.routes.borrow_mut();
        let generation = self.proxy.generation();
        if held.0 != generation {
            *held = (generation, self.proxy.routes());
        }
        held.1.clone()
    }

    /// Ends every connection when its request under way is answered (HTTP/2: GOAWAY). Whoever accepts connections stops first.
    pub fn drain(&self) {
        self.draining.set(true);
    }

    /// Connections that are served, upgraded ones among them.
    pub fn open_connections(&self) -> usize {
        0
    }
}
