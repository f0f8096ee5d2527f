//! The side of the backends: connections to them, kept and shared; requests written, answers read.

mod connect;
mod download;
mod http1;
mod pool;
mod sending;

pub(super) use connect::{BackendIo, Connector};
pub(super) use download::{Download, Truncated};
pub(super) use http1::{Answer, Failure, Http1};
pub(super) use pool::{Backend, BackendKey, Backends, Lease, Shared};
pub(super) use sending::{Head, Length, Sending};
