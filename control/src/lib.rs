//! Where intent comes from and how it reaches the node.
//!
//! - [`source`] is what a node follows: generations of objects, from either of two places.
//! - [`directory`] is a watched folder of Kubernetes YAML.
//! - [`kubernetes`] is the API server of a real cluster.
//! - [`manifests`] is the source of commands that run by themselves: files and folders as a person wrote them, watched.
//! - [`following`] is either of the two for such commands: manifests, or an API server.
//! - [`controller`] plays the Kubernetes controllers for objects that a person wrote, as a pure function.
//! - [`ipam`] hands out addresses of ranges to pods and Services, [`pools`] those that Services have for the outside.
//! - [`announce`] decides which node answers for a LoadBalancer address, and hears which nodes live.
//! - [`installation`] puts the CNI plugin and its configuration where container runtimes look for them.
//! - [`resolv_conf`] says what a pod's resolver is told.
//! - [`sandboxes`] is what outlives the process about attached pods: the leases of their addresses.
//! - [`agent`] is the node process: source, compiler, dataplane and API put together.
//! - [`cleanup`] takes away what a node process leaves for the next one.
//! - [`api`] is how others talk to it: HTTP and JSON over a unix socket.

#![forbid(unsafe_code)]

pub mod agent;
pub mod announce;
pub mod api;
pub mod cleanup;
pub mod controller;
pub mod directory;
pub mod following;
mod hash;
mod health;
mod holder;
pub mod installation;
pub mod ipam;
pub mod kubernetes;
mod log;
pub mod manifests;
mod metrics;
pub mod pools;
pub mod resolv_conf;
pub mod sandboxes;
pub mod source;
mod stop;

pub use stop::Stop;
