//! The kinds of objects that podplane understands, and how one is named.

use super::cluster_network_policy::ClusterNetworkPolicy;
use super::gateway_api::{GATEWAY_GROUP, Gateway, GatewayClass, HTTPRoute, ReferenceGrant};
use super::pool::IPAddressPool;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::core::v1::{Endpoints, Namespace, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass, NetworkPolicy};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, Serializer};
use std::fmt;
use std::sync::Arc;

/// Under which MetalLB has its IPAddressPool.
const METALLB_API_VERSION: &str = "metallb.io/v1beta1";

/// Where an object was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name of the file or other source.
    pub file: Arc<str>,
    /// Position of its document there, from 1; 0 if it has no documents.
    pub document: u32,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.document {
            0 => f.write_str(&self.file),
            document => write!(f, "{} (document {document})", self.file),
        }
    }
}

/// An object with the place that it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Sourced<T> {
    /// Where it was read.
    pub source: Source,
    /// The object.
    pub object: T,
}

/// An object's full name. The namespace is empty for objects that have none. Displayed as `Pod default/web` or
/// `Node node1`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// `kind` as written; also of kinds that podplane does not understand.
    pub kind: String,
    /// metadata.namespace.
    pub namespace: String,
    /// metadata.name.
    pub name: String,
}

impl ObjectRef {
    /// The object `namespace`/`name` of `kind`.
    pub fn new(kind: impl Into<String>, namespace: impl Into<String>, name: impl Into<String>) -> ObjectRef {
        ObjectRef { kind: kind.into(), namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        match (self.namespace.as_str(), self.name.as_str()) {
            ("", "") => Ok(()),
            ("", name) => write!(f, " {name}"),
            (namespace, "") => write!(f, " {namespace}/?"),
            (namespace, name) => write!(f, " {namespace}/{name}"),
        }
    }
}

macro_rules! kinds {
    ($($kind:ident, $api_version:literal, $namespaced:literal;)*) => {
        /// The kinds that podplane understands.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind {
            $(#[doc = concat!("`", $api_version, "` ", stringify!($kind), ".")] $kind,)*
        }

        impl Kind {
            /// All of them.
            pub const ALL: &[Kind] = &[$(Kind::$kind,)*];

            /// As written in `kind`.
            pub fn as_str(self) -> &'static str {
                match self { $(Kind::$kind => stringify!($kind),)* }
            }

            /// As written in `apiVersion`.
            pub fn api_version(self) -> &'static str {
                match self { $(Kind::$kind => $api_version,)* }
            }

            /// Whether objects of this kind live in a namespace.
            pub fn is_namespaced(self) -> bool {
                match self { $(Kind::$kind => $namespaced,)* }
            }
        }

        /// An object of one of the kinds that podplane understands, in the API's own type. Serializes as that type does,
        /// `apiVersion` and `kind` included. Cheap to clone.
        #[derive(Clone, Debug, PartialEq)]
        pub enum Object {
            $(#[doc = concat!("`", $api_version, "` ", stringify!($kind), ".")] $kind(Arc<$kind>),)*
        }

        impl Object {
            /// Its kind.
            pub fn kind(&self) -> Kind {
                match self { $(Object::$kind(_) => Kind::$kind,)* }
            }

            /// Its metadata.
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(Object::$kind(object) => &object.metadata,)* }
            }

            /// Its metadata, to change in this copy alone.
            pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Object::$kind(object) => &mut Arc::make_mut(object).metadata,)* }
            }
        }

        impl Serialize for Object {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Object::$kind(object) => (**object).serialize(serializer),)* }
            }
        }

        $(impl From<$kind> for Object {
            fn from(object: $kind) -> Object {
                Object::$kind(Arc::new(object))
            }
        })*
    };
}

kinds! {
    Namespace, "v1", false;
    Node, "v1", false;
    Pod, "v1", true;
    Deployment, "apps/v1", true;
    ReplicaSet, "apps/v1", true;
    StatefulSet, "apps/v1", true;
    DaemonSet, "apps/v1", true;
    Service, "v1", true;
    EndpointSlice, "discovery.k8s.io/v1", true;
    NetworkPolicy, "networking.k8s.io/v1", true;
    ClusterNetworkPolicy, "policy.networking.k8s.io/v1alpha2", false;
    Endpoints, "v1", true;
    IPAddressPool, "podplane.io/v1alpha1", true;
    Ingress, "networking.k8s.io/v1", true;
    IngressClass, "networking.k8s.io/v1", false;
    Secret, "v1", true;
    GatewayClass, "gateway.networking.k8s.io/v1", false;
    Gateway, "gateway.networking.k8s.io/v1", true;
    HTTPRoute, "gateway.networking.k8s.io/v1", true;
    ReferenceGrant, "gateway.networking.k8s.io/v1beta1", true;
}

impl Kind {
    /// The kind written `kind`.
    pub fn find(kind: &str) -> Option<Kind> {
        Kind::ALL.iter().copied().find(|candidate| candidate.as_str() == kind)
    }

    /// Whether objects of this kind may say `api_version`: [`Self::api_version`], what another project calls the same, or
    /// another version of the Gateway API with the same fields.
    pub fn accepts(self, api_version: &str) -> bool {
        let is_same = || match self {
            Kind::IPAddressPool => api_version == METALLB_API_VERSION,
            Kind::GatewayClass | Kind::Gateway | Kind::HTTPRoute | Kind::ReferenceGrant => {
                matches!(api_version.split_once('/'), Some((GATEWAY_GROUP, "v1" | "v1beta1")))
            }
            _ => false,
        };
        api_version == self.api_version() || is_same()
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Object {
    /// Its full name.
    pub fn reference(&self) -> ObjectRef {
        let metadata = self.metadata();
        ObjectRef {
            kind: self.kind().as_str().to_owned(),
            namespace: metadata.namespace.clone().unwrap_or_default(),
            name: metadata.name.clone().unwrap_or_default(),
        }
    }
}
