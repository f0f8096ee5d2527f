//! Multi-node labs: Kubernetes YAML in, a cluster network with real pods out, on one machine.
//!
//! [`Lab`] is a lab on the network namespaces back end and everything that `podplane lab` does with it. What stands behind:
//!
//! - [`join`]: a lab whose parts run on several machines or in several containers
//! - [`record`]: what is known about a lab from outside, and who may change it
//! - [`namespaces`]: the anchor, process 1 of every lab, and the way in
//! - [`underlay`]: the network between the nodes
//! - `nodes`, `pods`, `world`: the processes of the lab; `converge` makes them what the cluster directory says
//! - `cluster`: manifests as given and as the controller completes them; `census`, `place`, `names`: what PLACE and HOST mean there
//! - [`server`], [`probe`], [`matrix`]: who answers, and who asks
//! - [`traffic`]: clients that no ordinary tool is
//! - [`internal`]: what runs inside of namespaces is our own binary again
//! - [`explain`]: what becomes of a connection, from objects alone
//! - [`bench`]: podplane next to the kernel's bridge and VXLAN

#![forbid(unsafe_code)]

pub mod bench;
mod census;
mod cluster;
mod converge;
mod crew;
pub mod error;
pub mod explain;
pub mod first;
pub mod internal;
mod join;
mod lab;
pub mod matrix;
mod names;
pub mod namespaces;
pub mod nodes;
mod place;
mod pods;
pub mod probe;
mod process;
pub mod record;
mod sctp;
pub mod server;
mod settings;
pub mod sim;
pub mod status;
pub mod traffic;
pub mod underlay;
mod wait;
mod world;

pub use cluster::{complete, publish, read};
pub use converge::UNMANAGED_ANNOTATION;
pub use join::{JoinOptions, join};
pub use lab::{Changed, Ending, Lab, Manifest, Member, NODES_MAX, NodeOptions, TapMode, UpOptions};
pub use pods::COMMAND_ANNOTATION;
