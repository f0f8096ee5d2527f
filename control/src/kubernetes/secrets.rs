//! Which Secrets are read: those that Ingresses and Gateways name, and no others.
//!
//! A role that may list all Secrets is as good as one that may do anything; a process that only asks for objects by name can
//! be given just these (`resourceNames`).

use policy::objects::Kind;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Secrets that are followed: each is a connection of its own to the API server.
pub(super) const SECRETS_MAX: usize = 1000;

/// Namespace and name.
pub(super) type SecretName = (String, String);

/// Who names which Secrets.
#[derive(Debug, Default)]
pub(super) struct References {
    fixed: Vec<SecretName>,
    named: BTreeMap<(Kind, Box<str>), Vec<SecretName>>,
    has_changed: bool,
}

impl References {
    /// The Secrets `fixed`, and those that objects name.
    pub(super) fn new(fixed: Vec<SecretName>) -> References {
        References { fixed, named: BTreeMap::new(), has_changed: true }
    }

    /// An object is there in this form.
    pub(super) fn set(&mut self, kind: Kind, key: &str, named: Vec<SecretName>) {
        let name = (kind, key.into());
        let before = if named.is_empty() { self.named.remove(&name) } else { self.named.insert(name.clone(), named) };
        self.has_changed |= before.as_ref() != self.named.get(&name);
    }

    /// An object is gone.
    pub(super) fn remove(&mut self, kind: Kind, key: &str) {
        self.has_changed |= self.named.remove(&(kind, key.into())).is_some();
    }

    /// Whether other Secrets may be wanted than when this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.has_changed)
    }

    /// The Secrets that are wanted: the first [`SECRETS_MAX`] by name.
    pub(super) fn wanted(&self) -> BTreeSet<SecretName> {
        let all: BTreeSet<&SecretName> = self.fixed.iter().chain(self.named.values().flatten()).collect();
        all.into_iter().take(SECRETS_MAX).cloned().collect()
    }
}

/// The Secrets that an object names; nothing for kinds that name none.
pub(super) fn named_by(kind: Kind, object: &Value) -> Vec<SecretName> {
    let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
    let namespace = text(&object["metadata"]["namespace"]).unwrap_or_else(|| "default".to_owned());
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    match kind {
        Kind::Ingress => {
            let names = list(&object["spec"]["tls"]);
            names.iter().filter_map(|tls| Some((namespace.clone(), text(&tls["secretName"])?))).collect()
        }
        Kind::Gateway => {
            let listeners = list(&object["spec"]["listeners"]);
            let references = listeners.iter().flat_map(|listener| list(&listener["tls"]["certificateRefs"]));
            let secrets = references.filter(|reference| matches!(reference["kind"].as_str(), None | Some("Secret")));
            let secrets = secrets.filter(|reference| matches!(reference["group"].as_str(), None | Some("")));
            let names = secrets.filter_map(|reference| {
                Some((text(&reference["namespace"]).unwrap_or_else(|| namespace.clone()), text(&reference["name"])?))
            });
            names.collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn name(namespace: &str, name: &str) -> SecretName {
        (namespace.to_owned(), name.to_owned())
    }

    #[test]
    fn ingresses_and_gateways_name_secrets_and_nobody_else_does() {
        let ingress =
            json!({"metadata": {"namespace": "shop"}, "spec": {"tls": [{"secretName": "a"}, {"hosts": ["x"]}, 5]}});
        assert_eq!(named_by(Kind::Ingress, &ingress), [name("shop", "a")]);
        let gateway = json!({"metadata": {"namespace": "shop"}, "spec": {"listeners": [
            {"tls": {"certificateRefs": [{"name": "b"}, {"name": "c", "namespace": "other", "kind": "Secret", "group": ""}]}},
            {"tls": {"certificateRefs": [{"name": "d", "kind": "ConfigMap"}]}},
            {"name": "plain"},
        ]}});
        assert_eq!(named_by(Kind::Gateway, &gateway), [name("shop", "b"), name("other", "c")]);
        assert!(named_by(Kind::Service, &ingress).is_empty());
    }

    #[test]
    fn a_secret_is_wanted_as_long_as_somebody_names_it() {
        let mut references = References::new(vec![name("default", "fixed")]);
        assert!(references.take_changed());
        references.set(Kind::Ingress, "shop/one", vec![name("shop", "a")]);
        references.set(Kind::Ingress, "shop/two", vec![name("shop", "a")]);
        assert!(references.take_changed());
        references.set(Kind::Ingress, "shop/two", vec![name("shop", "a")]);
        assert!(!references.take_changed());
        references.remove(Kind::Ingress, "shop/one");
        assert!(references.wanted().contains(&name("shop", "a")));
        references.set(Kind::Ingress, "shop/two", Vec::new());
        assert_eq!(references.wanted().into_iter().collect::<Vec<_>>(), [name("default", "fixed")]);
    }
}
