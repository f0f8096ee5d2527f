//! An object that something is written to, and where the API has it.

use policy::objects::{Kind, ObjectRef};
use std::fmt;

/// An object of the API.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// Its kind.
    pub kind: Kind,
    /// metadata.namespace; empty for kinds without one.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
}

impl Target {
    /// The object `namespace`/`name` of `kind`.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> Target {
        Target { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// The object of a problem, if it is of a kind that the API has.
    pub(super) fn of(object: &ObjectRef) -> Option<Target> {
        let kind = Kind::find(&object.kind)?;
        let is_whole = !object.name.is_empty() && kind.is_namespaced() != object.namespace.is_empty();
        (is_whole && collection(kind).is_some()).then(|| Target::new(kind, &object.namespace, &object.name))
    }

    /// Path of the object. Names of objects need no escapes (RFC 1123), and what has another name is nobody's object.
    pub(super) fn path(&self) -> String {
        let (group, plural) = collection(self.kind).expect("targets are of kinds that the API has");
        let Target { namespace, name, .. } = self;
        if self.kind.is_namespaced() {
            format!("{group}/namespaces/{namespace}/{plural}/{name}")
        } else {
            format!("{group}/{plural}/{name}")
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ObjectRef::new(self.kind.as_str(), &*self.namespace, &*self.name).fmt(f)
    }
}

/// Path of the group and name of the resource of a kind; `None` for kinds that no cluster has, or whose objects are not written about.
fn collection(kind: Kind) -> Option<(&'static str, &'static str)> {
    const CORE: &str = "/api/v1";
    const NETWORKING: &str = "/apis/networking.k8s.io/v1";
    const GATEWAY: &str = "/apis/gateway.networking.k8s.io/v1";
    Some(match kind {
        Kind::Namespace => (CORE, "namespaces"),
        Kind::Node => (CORE, "nodes"),
        Kind::Pod => (CORE, "pods"),
        Kind::Service => (CORE, "services"),
        Kind::EndpointSlice => ("/apis/discovery.k8s.io/v1", "endpointslices"),
        Kind::NetworkPolicy => (NETWORKING, "networkpolicies"),
        Kind::Ingress => (NETWORKING, "ingresses"),
        Kind::IngressClass => (NETWORKING, "ingressclasses"),
        Kind::ClusterNetworkPolicy => ("/apis/policy.networking.k8s.io/v1alpha2", "clusternetworkpolicies"),
        Kind::GatewayClass => (GATEWAY, "gatewayclasses"),
        Kind::Gateway => (GATEWAY, "gateways"),
        Kind::HTTPRoute => (GATEWAY, "httproutes"),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_where_the_api_has_them() {
        let path = |kind, namespace, name| Target::new(kind, namespace, name).path();
        assert_eq!(path(Kind::Node, "", "node1"), "/api/v1/nodes/node1");
        assert_eq!(path(Kind::Service, "shop", "web"), "/api/v1/namespaces/shop/services/web");
        assert_eq!(path(Kind::Ingress, "a", "b"), "/apis/networking.k8s.io/v1/namespaces/a/ingresses/b");
    }

    #[test]
    fn only_whole_names_of_kinds_that_the_api_has_are_written_about() {
        let target = |kind: &str, namespace: &str, name: &str| Target::of(&ObjectRef::new(kind, namespace, name));
        assert_eq!(target("Pod", "a", "b"), Some(Target::new(Kind::Pod, "a", "b")));
        for (kind, namespace, name) in [("Toaster", "a", "b"), ("Pod", "", "b"), ("Pod", "a", ""), ("Node", "a", "b")] {
            assert_eq!(target(kind, namespace, name), None, "{kind} {namespace}/{name}");
        }
        assert_eq!(target("IPAddressPool", "a", "b"), None);
    }
}
