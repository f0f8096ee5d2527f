//! Gateway: where traffic comes in.

use super::{GatewayAddress, GatewayStatus, LocalReference, ObjectReference, RouteGroupKind, SecretReference};
use crate::objects::words::words;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Ports and hosts on which traffic comes in.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Gateway {
    /// `gateway.networking.k8s.io/v1`, or `v1beta1`, which has the same fields.
    pub api_version: String,
    /// `Gateway`.
    pub kind: String,
    /// Standard metadata.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it asks for.
    pub spec: Spec,
    /// What implementations note about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<GatewayStatus>,
}

/// What a Gateway asks for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    /// The GatewayClass that it is of.
    pub gateway_class_name: String,
    /// Where it listens: 1 to 64, each with a name of its own.
    pub listeners: Vec<Listener>,
    /// Addresses that it asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub addresses: Option<Vec<GatewayAddress>>,
    /// What is put on objects that an implementation makes for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub infrastructure: Option<Infrastructure>,
    /// Namespaces whose ListenerSets may add listeners; none if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_listeners: Option<AllowedListeners>,
    /// TLS of the Gateway as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<GatewayTls>,
}

/// A port, and the hosts that are served there.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Listener {
    /// Its name, a DNS subdomain.
    pub name: String,
    /// Host, or `*.` and a suffix for all below it; every host if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hostname: Option<String>,
    /// 1 to 65535.
    pub port: i32,
    /// `HTTP`, `HTTPS`, `TLS`, `TCP`, `UDP`, or one of an implementation with a prefix.
    pub protocol: String,
    /// How TLS ends; a listener of protocol HTTPS is nothing without it, but the schema lets it be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<ListenerTls>,
    /// Routes that may attach; HTTPRoutes of the Gateway's namespace if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_routes: Option<AllowedRoutes>,
}

/// TLS of a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ListenerTls {
    /// See [`ListenerTls::mode`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<TlsMode>,
    /// Secrets of type kubernetes.io/tls.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate_refs: Option<Vec<SecretReference>>,
    /// Settings of the implementation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<BTreeMap<String, String>>,
}

impl ListenerTls {
    /// Terminate if not given.
    pub fn mode(&self) -> TlsMode {
        self.mode.unwrap_or(TlsMode::Terminate)
    }
}

/// Where TLS ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum TlsMode {
    /// At the Gateway.
    Terminate,
    /// At the backend.
    Passthrough,
}

words!(TlsMode: Terminate, Passthrough);

/// Routes that may attach to a listener.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AllowedRoutes {
    /// Their namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<RouteNamespaces>,
    /// Their kinds; those that the protocol has if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kinds: Option<Vec<RouteGroupKind>>,
}

/// Namespaces of routes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct RouteNamespaces {
    /// See [`Listener::from`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<FromNamespaces>,
    /// Labels of the namespaces, for `Selector`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<LabelSelector>,
}

impl Listener {
    /// Namespaces whose routes may attach: `Same` if not given.
    pub fn from(&self) -> FromNamespaces {
        let namespaces = self.allowed_routes.as_ref().and_then(|routes| routes.namespaces.as_ref());
        namespaces.and_then(|namespaces| namespaces.from).unwrap_or(FromNamespaces::Same)
    }
}

/// Namespaces, seen from a Gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum FromNamespaces {
    /// All of them.
    All,
    /// Those with the labels that are asked for.
    Selector,
    /// That of the Gateway.
    Same,
    /// None of them; only for ListenerSets.
    None,
}

words!(FromNamespaces: All, Selector, Same, None);

/// What is put on objects that an implementation makes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Infrastructure {
    /// Labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// Settings of the implementation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters_ref: Option<LocalReference>,
}

/// Who may add listeners.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct AllowedListeners {
    /// Namespaces of ListenerSets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<RouteNamespaces>,
}

/// TLS of a Gateway as a whole.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct GatewayTls {
    /// As a client of backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backend: Option<BackendTls>,
    /// As a server of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub frontend: Option<FrontendTls>,
}

/// TLS as a client of backends.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct BackendTls {
    /// The certificate that is shown to backends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_certificate_ref: Option<SecretReference>,
}

/// TLS as a server of clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FrontendTls {
    /// For ports that are not listed.
    pub default: TlsSettings,
    /// For single ports.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_port: Option<Vec<PortTls>>,
}

/// TLS of one port.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PortTls {
    /// The port.
    pub port: i32,
    /// What holds there.
    pub tls: TlsSettings,
}

/// What is asked of clients.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TlsSettings {
    /// Certificates of clients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<ClientValidation>,
}

/// How certificates of clients are checked.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClientValidation {
    /// Who may have signed them: 1 to 16 objects.
    pub ca_certificate_refs: Vec<ObjectReference>,
    /// AllowValidOnly if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<ClientValidationMode>,
}

/// What becomes of clients without a valid certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum ClientValidationMode {
    /// They are refused.
    AllowValidOnly,
    /// They are served.
    AllowInsecureFallback,
}

words!(ClientValidationMode: AllowValidOnly, AllowInsecureFallback);
