//! Kubernetes objects from text: YAML (several documents) or JSON, single objects or lists, in the exact shapes of the
//! Kubernetes API.
//!
//! In: the name of a source (for messages) and its text. Out: typed, validated objects with the place they came from,
//! and every problem found, by file, object and field. A bad object is refused alone; the rest of the text goes on. The
//! text decides nothing about this program: depth, aliases and expansion are bounded, and no input makes it panic.
//!
//! A policy that holds a field this program does not know may mean less than it seems to allow, so it is kept but the rule
//! around the field is closed: see [`CLOSED_ANNOTATION`].

mod annotations;
mod closing;
pub mod cluster_network_policy;
mod decode;
pub(crate) mod document;
pub mod gateway_api;
mod object;
mod pool;
mod problem;
mod reader;
mod validate;
mod words;

pub use annotations::{DRY_RUN_ANNOTATION, ESTABLISHED_ANNOTATION, is_dry_run, keeps_established};
pub use closing::CLOSED_ANNOTATION;
pub(crate) use closing::closed_rules;
pub use cluster_network_policy::ClusterNetworkPolicy;
pub use gateway_api::{Gateway, GatewayClass, HTTPRoute, ReferenceGrant};
pub use object::{Kind, Object, ObjectRef, Source, Sourced};
pub use pool::{AddressRange, IPAddressPool, IPAddressPoolSpec, ServiceAllocation};
pub use problem::{Problem, Severity};

use std::sync::Arc;

/// Annotation on a Node with the MAC address of its VTEP, for peers that do not derive it from the node's name.
pub const VTEP_MAC_ANNOTATION: &str = "podplane.io/vtep-mac";

/// Annotation on a Node with the addresses of its VTEP, one per family, separated by commas. For people and other programs: peers
/// take the addresses of the Node's status.
pub const VTEP_ADDRESSES_ANNOTATION: &str = "podplane.io/vtep-addresses";

/// Annotation on a Service: milliseconds after which a SYN that its backend has not answered is sent to another one (S29).
pub const CONNECT_RETRY_ANNOTATION: &str = "podplane.io/connect-retry-ms";

/// Annotation on a Service that was loadBalancerSourceRanges before there was a field; used where the field is empty.
pub const SOURCE_RANGES_ANNOTATION: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";

/// What a text holds.
#[derive(Debug, Default)]
pub struct Parsed {
    /// The objects that passed validation, in the order of the text.
    pub objects: Vec<Sourced<Object>>,
    /// What is wrong or was skipped, in the order of the text.
    pub problems: Vec<Problem>,
}

/// What is let through that the API server would refuse.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leniency {
    /// Endpoints of EndpointSlices at loopback addresses. What runs beside its backends on one machine, without a cluster, reaches them
    /// there; a node would send such packets nowhere.
    pub loopback_endpoints: bool,
}

/// Reads one object, or one list, that is a JSON value already, such as an API server sends. What is wrong with it is told as
/// for text.
pub fn read_value(source: &Source, value: serde_json::Value) -> Parsed {
    let mut parsed = Parsed::default();
    decode::decode(source, value, Leniency::default(), &mut parsed);
    parsed
}

/// Reads every object of `text`. `source_name` is a file name or the like; it appears in problems and in
/// [`Source::file`].
pub fn parse(source_name: &str, text: &str) -> Parsed {
    parse_with(source_name, text, Leniency::default())
}

/// The same, not as strict as the API server.
pub fn parse_with(source_name: &str, text: &str, leniency: Leniency) -> Parsed {
    let file: Arc<str> = source_name.into();
    let mut parsed = Parsed::default();
    for document in document::split(text) {
        let source = Source { file: file.clone(), document: document.index };
        match document.content {
            Ok(value) => decode::decode(&source, value, leniency, &mut parsed),
            Err(error) => parsed.problems.push(Problem::syntax(&source, error)),
        }
    }
    parsed
}

#[cfg(test)]
mod tests;
