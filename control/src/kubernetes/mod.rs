//! The Kubernetes API server as the source of a cluster's intent.
//!
//! - [`connect`] finds the server and authenticates.

pub mod connect;

/// What stands in the place of a file where a problem of an object is told.
pub const NAME: &str = "Kubernetes API";
