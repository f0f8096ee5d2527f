//! The Kubernetes API server as the source of a cluster's intent.
//!
//! ```text
//! connect ──> Link ──> reflector (one task for each resource) ──> Shared: Store ──> KubernetesSource::refresh ──> Generation
//!                      answer, lines: what was said                prune, policy::objects      (the thread that compiles)
//!                      backoff: when to ask again                  cache: the same on disk
//! ```
//!
//! In: where the server is ([`Access`](connect::Access)) and which kinds are needed. Out: a
//! [`Generation`](crate::source::Generation) whenever objects have changed, with one "file" for each object, and a
//! [`Kubernetes`](crate::api::Kubernetes) status. All requests are made on one thread of its own; the one that compiles never
//! waits for the server.
//!
//! - [`connect`] finds the server and authenticates; `request` sends, and sorts failures by what is to be done about them.
//! - `reflector` keeps one resource up to date; its table says what is done about whatever may happen.
//! - `store` has each object parsed by [`policy::objects`], as a file would be: same checks, same words. It holds what tells one
//!   form of an object from another, and hands the object itself on.
//! - `shared` says when something may be handed out: when everything that is needed was listed once, and from then on
//!   whatever changes. Changes that are not taken yet are kept by object, so a crowd of changes cannot pile up.
//! - `secrets` says which Secrets are asked for, `cache` has the objects outlive the process.
//!
//! [`write`] goes the other way: what objects should say, from what was compiled.
//!
//! What never happens: a server that goes away, or lies, does not take away what is in force.

mod answer;
mod backoff;
mod cache;
pub mod connect;
mod follower;
mod lines;
mod progress;
mod prune;
mod reflector;
mod request;
mod resource;
mod secrets;
mod shared;
mod source;
mod store;
pub mod write;

pub use resource::{DNS_KINDS, NODE_KINDS, PROXY_KINDS};
pub use source::{KubernetesSource, Monitor, OpenError, SourceConfig};

use std::time::Duration;

/// What stands in the place of a file where a problem of an object is told.
pub const NAME: &str = "Kubernetes API";

/// Objects in a page of a list: what the API's own clients ask for. A page takes the server a moment, and all of them in one
/// answer would take it, and us, the memory of the whole cluster.
const PAGE_OBJECTS: u32 = 500;

/// How long things may take. The defaults are for clusters; tests have less patience.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long the server may take to begin an answer, or to go on with one.
    pub patience: Duration,
    /// How long nothing may be heard of a watch before it is begun again. Servers send a bookmark about every minute.
    pub silence: Duration,
    /// How long the server is asked to keep a watch, at most.
    pub watch: Duration,
    /// A watch that has lived for so long shows that the server is well.
    pub healthy: Duration,
    /// First wait after a failure.
    pub backoff_first: Duration,
    /// Longest wait after failures.
    pub backoff_max: Duration,
    /// How often resources that the cluster does not have are looked for, at least.
    pub find: Duration,
    /// How often the cache on disk is written, if there is something to write.
    pub cache_every: Duration,
    /// How long the server may take to list everything before an old cache is put in force.
    pub cache_grace: Duration,
}

impl Default for Timing {
    fn default() -> Timing {
        Timing {
            patience: Duration::from_secs(30),
            silence: Duration::from_secs(100),
            watch: Duration::from_secs(600),
            healthy: Duration::from_secs(10),
            backoff_first: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
            find: Duration::from_secs(30),
            cache_every: Duration::from_secs(3),
            cache_grace: Duration::from_secs(5),
        }
    }
}
