//! ReferenceGrant: who may refer to objects of its namespace from other namespaces.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

/// Leave for objects of other namespaces to refer to objects of this one.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReferenceGrant {
    /// `gateway.networking.k8s.io/v1beta1`, or `v1`, which has the same fields.
    pub api_version: String,
    /// `ReferenceGrant`.
    pub kind: String,
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it grants.
    pub spec: Spec,
}

/// Each of `from` may refer to each of `to`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spec {
    /// Who refers: 1 to 16.
    pub from: Vec<From>,
    /// To what: 1 to 16.
    pub to: Vec<To>,
}

/// Objects that refer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct From {
    /// Empty for the core group.
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// Their namespace.
    pub namespace: String,
}

/// Objects that are referred to, in the namespace of the grant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct To {
    /// Empty for the core group.
    pub group: String,
    /// Their kind.
    pub kind: String,
    /// The only one; all of the kind if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl ReferenceGrant {
    /// Whether objects of kind `from.1` (group `from.0`) in namespace `from.2` may refer to object `to.2` of kind `to.1`
    /// (group `to.0`) in the namespace of the grant.
    pub fn allows(&self, from: (&str, &str, &str), to: (&str, &str, &str)) -> bool {
        let is_from = |entry: &From| (&*entry.group, &*entry.kind, &*entry.namespace) == from;
        let is_to = |entry: &To| {
            (&*entry.group, &*entry.kind) == (to.0, to.1)
                && entry.name.as_deref().is_none_or(|name| name.is_empty() || name == to.2)
        };
        self.spec.from.iter().any(is_from) && self.spec.to.iter().any(is_to)
    }
}
