//! The cluster DNS.

pub mod forward;
