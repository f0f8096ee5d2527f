//! What a node says about the API server that it follows.

use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A Kubernetes API server as a source of objects.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kubernetes {
    /// URL of the server.
    pub server: String,
    /// Whether everything that is needed was listed since the process started. From then on changes take effect one by one.
    pub synced: bool,
    /// What is in force until then, if there is a cache: objects as the server had them before.
    pub cached: Option<CachedObjects>,
    /// Milliseconds since anything was heard of the server; absent if nothing was heard at all.
    pub last_contact_ms: Option<u64>,
    /// Milliseconds since nothing could be followed any more: what is in force is at least that old. Absent while some
    /// resource is followed.
    pub lost_ms: Option<u64>,
    /// Objects that have changed and are not in force so far.
    pub pending: usize,
    /// What is wrong with the cache on disk.
    pub cache_problem: Option<String>,
    /// What is followed.
    pub resources: Vec<KubernetesResource>,
}

/// Objects that were read from the cache on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CachedObjects {
    /// Where they were.
    pub path: PathBuf,
    /// Milliseconds since they were written.
    pub age_ms: u64,
    /// Whether they are in force.
    pub in_force: bool,
}

/// Objects of one kind that are followed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KubernetesResource {
    /// As in the path of a request, such as `endpointslices`; a single object with its name: `secrets shop/tls`.
    pub resource: String,
    /// API group; empty for the core.
    pub group: String,
    /// `waiting`, `listing`, `watching`, `failing`, or `absent` if the cluster does not have the resource.
    pub state: String,
    /// Milliseconds since it is in this state.
    pub since_ms: u64,
    /// Why it fails.
    pub error: Option<String>,
    /// Objects that there are.
    pub objects: usize,
    /// resourceVersion up to which everything is known.
    pub resource_version: String,
    /// Complete lists.
    pub lists: u64,
    /// Watches that were begun.
    pub watches: u64,
    /// Events, bookmarks not among them.
    pub events: u64,
    /// Bookmarks.
    pub bookmarks: u64,
    /// Events that changed nothing that is used.
    pub unchanged: u64,
    /// Requests that gave no answer or an error.
    pub failures: u64,
    /// Answers and events that made no sense. After each everything is listed again.
    pub not_understood: u64,
}
