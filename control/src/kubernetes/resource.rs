//! The kinds of objects that are read from the API: where they are served, and whether every cluster has them.

use policy::objects::Kind;

/// Objects that a node compiles. It reads no Secrets and nothing of the Ingress proxy, so its role need not allow them.
pub const NODE_KINDS: &[Kind] = &[
    Kind::Node,
    Kind::Namespace,
    Kind::NetworkPolicy,
    Kind::ClusterNetworkPolicy,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Pod,
];

/// Objects that the Ingress and Gateway proxy compiles. Of Secrets those that the others name are read, and no others.
pub const PROXY_KINDS: &[Kind] = &[
    Kind::Node,
    Kind::Namespace,
    Kind::Service,
    Kind::EndpointSlice,
    Kind::IngressClass,
    Kind::Ingress,
    Kind::GatewayClass,
    Kind::Gateway,
    Kind::HTTPRoute,
    Kind::ReferenceGrant,
    Kind::Secret,
];

/// Objects that the cluster DNS answers from.
pub const DNS_KINDS: &[Kind] = &[Kind::Node, Kind::Namespace, Kind::Service, Kind::EndpointSlice, Kind::Pod];

/// Where objects of one kind are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Resource {
    pub(super) kind: Kind,
    /// As in the path.
    pub(super) plural: &'static str,
    /// API group; empty for the core.
    pub(super) group: &'static str,
    /// Versions of the group that will do, the preferred one first.
    pub(super) versions: &'static [&'static str],
    /// Whether a cluster has them only if somebody installed their definition.
    pub(super) is_custom: bool,
}

impl Resource {
    /// Where objects of `kind` are served; `None` if they are no cluster's.
    pub(super) fn of(kind: Kind) -> Option<Resource> {
        let built_in = |plural, group| Resource { kind, plural, group, versions: &["v1"], is_custom: false };
        let gateway = |plural| Resource {
            kind,
            plural,
            group: "gateway.networking.k8s.io",
            versions: &["v1", "v1beta1"],
            is_custom: true,
        };
        Some(match kind {
            Kind::Node => built_in("nodes", ""),
            Kind::Namespace => built_in("namespaces", ""),
            Kind::Pod => built_in("pods", ""),
            Kind::Service => built_in("services", ""),
            Kind::Secret => built_in("secrets", ""),
            Kind::EndpointSlice => built_in("endpointslices", "discovery.k8s.io"),
            Kind::NetworkPolicy => built_in("networkpolicies", "networking.k8s.io"),
            Kind::Ingress => built_in("ingresses", "networking.k8s.io"),
            Kind::IngressClass => built_in("ingressclasses", "networking.k8s.io"),
            Kind::GatewayClass => gateway("gatewayclasses"),
            Kind::Gateway => gateway("gateways"),
            Kind::HTTPRoute => gateway("httproutes"),
            Kind::ReferenceGrant => gateway("referencegrants"),
            Kind::ClusterNetworkPolicy => Resource {
                kind,
                plural: "clusternetworkpolicies",
                group: "policy.networking.k8s.io",
                versions: &["v1alpha2"],
                is_custom: true,
            },
            Kind::Deployment
            | Kind::ReplicaSet
            | Kind::StatefulSet
            | Kind::DaemonSet
            | Kind::Endpoints
            | Kind::IPAddressPool => return None,
        })
    }

    /// Path of a version of the group.
    pub(super) fn group_path(&self, version: &str) -> String {
        match self.group {
            "" => format!("/api/{version}"),
            group => format!("/apis/{group}/{version}"),
        }
    }
}

/// What of a resource is read: all objects, or one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Scope {
    All,
    One { namespace: String, name: String },
}

impl Scope {
    /// Path and query of a request for objects in this scope; `query` begins with nothing and has what else is asked for.
    pub(super) fn uri(&self, resource: &Resource, version: &str, query: &str) -> String {
        let group = resource.group_path(version);
        match self {
            Scope::All => format!("{group}/{}?{query}", resource.plural),
            Scope::One { namespace, name } => {
                let (namespace, name) = (percent(namespace), percent(name));
                format!(
                    "{group}/namespaces/{namespace}/{}?fieldSelector=metadata.name%3D{name}&{query}",
                    resource.plural
                )
            }
        }
    }
}

/// `text` as a part of a path or a query.
pub(super) fn percent(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_that_is_read_is_served_somewhere() {
        for kind in [NODE_KINDS, PROXY_KINDS, DNS_KINDS].concat() {
            let resource = Resource::of(kind).expect("a resource");
            let served = resource.versions.iter().map(|version| match resource.group {
                "" => (*version).to_owned(),
                group => format!("{group}/{version}"),
            });
            assert!(served.into_iter().all(|api_version| kind.accepts(&api_version)), "{kind}");
        }
    }

    #[test]
    fn one_object_is_asked_for_by_its_name_so_that_a_role_can_be_limited_to_it() {
        let secrets = Resource::of(Kind::Secret).unwrap();
        let scope = Scope::One { namespace: "shop".to_owned(), name: "a/b c".to_owned() };
        let uri = scope.uri(&secrets, "v1", "limit=1");
        assert_eq!(uri, "/api/v1/namespaces/shop/secrets?fieldSelector=metadata.name%3Da%2Fb%20c&limit=1");
        let slices = Resource::of(Kind::EndpointSlice).unwrap();
        assert_eq!(Scope::All.uri(&slices, "v1", "watch=1"), "/apis/discovery.k8s.io/v1/endpointslices?watch=1");
    }
}
