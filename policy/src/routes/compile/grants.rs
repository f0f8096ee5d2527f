//! ReferenceGrants: whether an object may refer to one of another namespace.

use crate::cluster::{Cluster, Key};
use crate::objects::gateway_api::GATEWAY_GROUP;
use std::sync::Arc;

/// Whether an object of kind `from` of the Gateway API in namespace `namespace` may refer to the object `to` of the core kind
/// `kind`: within a namespace always, into another one if a grant there says so.
pub(super) fn is_permitted(cluster: &Cluster, from: &str, namespace: &str, kind: &str, to: &Key) -> bool {
    let grants = cluster.reference_grants.range((to.0.clone(), Arc::from(""))..);
    let mut there = grants.take_while(|((other, _), _)| *other == to.0).map(|(_, grant)| &grant.object);
    *to.0 == *namespace || there.any(|grant| grant.allows((GATEWAY_GROUP, from, namespace), ("", kind, &to.1)))
}
