//! The way out of the cluster and in from it: frames that the node's kernel sees as well.

pub(crate) mod status;
