//! What is written to the API server: annotations of the own Node, addresses of LoadBalancer Services, the status of Ingresses and of
//! the Gateway API, pod ranges where nobody else gives them, and Events about objects that are refused.
//!
//! In: [`Wanted`], whatever came out of the latest objects. Out: requests. Everything is a *wish* ([`wish`]): what an object should
//! say. A wish is fulfilled by reading the object, comparing, and patching what differs, with the resourceVersion that was read where
//! others write the same field. So a write that is not needed is not sent, one that met another writer is judged again by what that
//! one wrote, and what was missed while the server was gone is made up for. What is written once for the whole cluster is
//! written by one process: the one that holds the lease ([`election`]).
//!
//! The decisions are values without I/O: [`wish`] what to patch, [`desk`] what is due and when to try again, [`election`] who leads,
//! [`events`] what is told and how often, [`node`], [`balancers`], [`pod_cidrs`] and [`routes`] what is wished. [`send`] is one
//! request and [`Writer`] the thread that joins
//! them; [`Publisher`] is the writer of the proxy, as `agent::writes` has that of agents. Nothing here can hold up what is in force: a node forwards with and without it.

mod balancers;
mod desk;
mod election;
mod events;
mod node;
mod pod_cidrs;
mod publisher;
mod routes;
mod send;
mod target;
mod wish;
mod writer;

pub use balancers::Balancers;
pub use election::LeaseName;
pub use node::annotations_of_node;
pub use pod_cidrs::ClusterCidrs;
pub use publisher::Publisher;
pub use target::Target;
pub use wish::Wish;
pub use writer::{Writer, WriterConfig};

use policy::objects::Problem;
use std::collections::BTreeMap;

/// What objects should say.
pub type Wishes = BTreeMap<Target, Wish>;

/// Everything that one process wants to be written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// Whether the process may lead.
    pub is_candidate: bool,
    /// What it writes whoever leads.
    pub own: Wishes,
    /// What it writes while it leads.
    pub led: Wishes,
    /// Problems that are told as Events whoever leads.
    pub own_problems: Vec<Problem>,
    /// Problems that every process sees; the one that leads tells them.
    pub led_problems: Vec<Problem>,
}

#[cfg(test)]
mod tests;
