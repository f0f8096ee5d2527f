//! Where intent comes from and how it reaches the node.
//!
//! - [`directory`] is the source: a watched folder of Kubernetes YAML, turned into generations of objects.
//! - [`controller`] plays the Kubernetes controllers for objects that a person wrote, as a pure function.
//! - [`ipam`] hands out addresses of ranges.

#![forbid(unsafe_code)]

pub mod controller;
pub mod directory;
pub mod ipam;
