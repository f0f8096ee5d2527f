//! The Kubernetes API server as the source of a cluster's intent.
//!
//! - [`connect`] finds the server and authenticates.

pub mod connect;
