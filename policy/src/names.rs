//! The names of the cluster DNS, compiled from Services, EndpointSlices and namespaces.
//!
//! In: the objects. Out: [`Names`], where the responder finds what a name stands for. Names are kept without the cluster's
//! zone, which is the responder's business.

/// What the names of a cluster stand for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {}
