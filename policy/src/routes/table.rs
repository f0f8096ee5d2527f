//! The compiled form of HTTP routes.

use super::hosts::HostMap;
use super::lookup::{Listener, TlsName};
use crate::objects::ObjectRef;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// What a proxy's command line says that routes depend on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteOptions {
    /// Port on which plain HTTP of Ingresses is served; a Gateway listener with this port shares it.
    pub http_port: u16,
    /// Port on which HTTPS of Ingresses is served; a Gateway listener with this port shares it.
    pub https_port: u16,
    /// spec.controller of the IngressClasses that are served.
    pub controller: String,
    /// spec.controllerName of the GatewayClasses that are served.
    pub gateway_controller: String,
    /// Node on which the proxy runs, for Services whose traffic policy prefers or demands its own endpoints.
    pub node_name: Option<String>,
    /// Namespace and name of the Secret whose certificate is for TLS connections to `https_port` that no other one is for.
    pub default_certificate: Option<(String, String)>,
}

impl Default for RouteOptions {
    fn default() -> RouteOptions {
        RouteOptions {
            http_port: 80,
            https_port: 443,
            controller: "podplane.io/ingress".into(),
            gateway_controller: "podplane.io/gateway".into(),
            node_name: None,
            default_certificate: None,
        }
    }
}

/// All routes of one generation.
#[derive(Debug, Default)]
pub struct Routes {
    /// What is served, by port in order; the ports of the options are always among them.
    pub ports: Vec<PortRoutes>,
    /// Certificates that listeners refer to.
    pub certificates: Vec<Certificate>,
    /// All rules; ports refer to them by position.
    pub(super) rules: Vec<Rule>,
}

/// What is served on one port.
#[derive(Debug, Default)]
pub struct PortRoutes {
    /// The port.
    pub port: u16,
    /// Whether connections begin with a TLS handshake.
    pub tls: bool,
    pub(super) listeners: HostMap<Listener>,
    /// To whom hosts belong, on a port with TLS.
    pub(super) tls_names: HostMap<TlsName>,
    /// For hosts that belong to nobody.
    pub(super) default_certificate: Option<CertificateId>,
}

/// Position in [`Routes::certificates`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CertificateId(pub u32);

/// A certificate chain and its key, as a Secret of type kubernetes.io/tls has them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The Secret, `namespace/name` of kind Secret.
    pub secret: ObjectRef,
    /// tls.crt: PEM, the leaf first.
    pub chain_pem: Arc<[u8]>,
    /// tls.key: PEM.
    pub key_pem: Arc<[u8]>,
}

/// A request as routes see it.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Port that it came in on.
    pub port: u16,
    /// Server name of the TLS handshake, in lower case; `None` without TLS or without SNI.
    pub sni: Option<&'a str>,
    /// Host or :authority, without its port, in lower case; an IPv6 address keeps its brackets.
    pub host: &'a str,
    /// Method.
    pub method: &'a Method,
    /// Path as it was sent, without the query; begins with `/`.
    pub path: &'a str,
    /// Query without `?`.
    pub query: Option<&'a str>,
    /// Header fields.
    pub headers: &'a HeaderMap,
}

/// What a request is to.
#[derive(Clone, Copy, Debug)]
pub enum Found<'a> {
    /// This rule; `matched_prefix_bytes` is how much of the path a prefix match took, for prefix rewrites (0 for other matches).
    Rule {
        /// The rule.
        rule: &'a Rule,
        /// Bytes of the path that the matched prefix has, without a final slash.
        matched_prefix_bytes: usize,
    },
    /// No host, or no rule of the host, takes it: 404.
    Nothing,
    /// The TLS connection was opened for another listener's host: 421.
    Misdirected,
}

/// One rule (one path of an Ingress, one rule of an HTTPRoute, a default backend).
#[derive(Debug)]
pub struct Rule {
    /// Where it is written.
    pub source: RuleRef,
    /// Changes to the request, redirects, mirrors: in order.
    pub filters: Vec<Filter>,
    /// What becomes of the request.
    pub outcome: Outcome,
    /// Limits of time.
    pub timeouts: Timeouts,
}

/// Where a rule is written: for access logs and `explain`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRef {
    /// The Ingress or HTTPRoute.
    pub object: ObjectRef,
    /// Field of the rule there, such as `spec.rules[0].http.paths[1]`, `spec.defaultBackend`, `spec.rules[2]`.
    pub field: String,
    /// Host pattern that it is served under, as written; `*` for any.
    pub host: String,
    /// Path as written; empty where none is.
    pub path: String,
    /// `Exact`, `Prefix`, `ImplementationSpecific`, `PathPrefix`, `RegularExpression`; empty for a default backend.
    pub path_type: &'static str,
}

/// What becomes of a request that a rule takes.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It goes to a backend.
    Forward(Forward),
    /// It is answered with a redirect.
    Redirect(Redirect),
    /// It is answered with this status, because the rule leads nowhere.
    Status(u16, String),
}

/// The backends of a rule.
#[derive(Clone, Debug)]
pub struct Forward {
    /// Each with its weight; weight 0 gets nothing. The sum is above 0.
    pub targets: Vec<WeightedTarget>,
    /// Sum of the weights.
    pub weight_total: u64,
}

/// A backend with its share of the requests.
#[derive(Clone, Debug)]
pub struct WeightedTarget {
    /// Share of the requests.
    pub weight: u32,
    /// Changes that hold for this backend only.
    pub filters: Vec<Filter>,
    /// Where they go.
    pub target: Target,
}

/// Where requests go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The endpoints of a Service's port.
    Endpoints(Arc<Endpoints>),
    /// Nowhere: an Ingress' missing Service gives 503, an HTTPRoute's unresolved reference 500.
    Unresolved {
        /// Status of the answer.
        status: u16,
        /// Why, for people.
        why: String,
    },
}

/// The endpoints of a Service's port that a proxy may send to now: ready ones, or serving ones if all are terminating.
#[derive(Debug, PartialEq, Eq)]
pub struct Endpoints {
    /// Namespace of the Service.
    pub namespace: Arc<str>,
    /// Name of the Service.
    pub service: Arc<str>,
    /// Number of the Service's port.
    pub port: u16,
    /// How they are spoken to.
    pub protocol: BackendProtocol,
    /// Their addresses; empty: requests get 503.
    pub addresses: Vec<SocketAddr>,
}

/// appProtocol of a Service's port (KEP-3726), as a proxy reads it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BackendProtocol {
    /// HTTP/1.1.
    #[default]
    Http1,
    /// HTTP/2 with prior knowledge and without TLS: `kubernetes.io/h2c`, `grpc`.
    H2c,
    /// HTTP/1.1 over TLS, the certificate not verified: `https`.
    Https,
}

/// A change to a request or its answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Filter {
    /// To the request's header fields, before it is sent on.
    RequestHeaders(HeaderChanges),
    /// To the answer's header fields.
    ResponseHeaders(HeaderChanges),
    /// To the request's host and path.
    Rewrite {
        /// New host.
        host: Option<HostRewrite>,
        /// New path.
        path: Option<PathRewrite>,
    },
    /// A copy of the request goes there too; its answer is ignored.
    Mirror {
        /// Where.
        target: Target,
        /// Copied are `numerator` of `denominator` requests; the denominator is above 0.
        numerator: u32,
        /// See `numerator`.
        denominator: u32,
    },
}

/// Header fields that are set, added and removed, in this order (Gateway API HTTPHeaderFilter).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeaderChanges {
    /// Overwritten.
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Appended.
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// Removed.
    pub remove: Vec<HeaderName>,
}

/// The new host of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostRewrite(pub HeaderValue);

/// The new path of a request; the query stays.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PathRewrite {
    /// This one.
    Full(String),
    /// The matched prefix becomes this.
    Prefix(String),
}

/// A redirect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirect {
    /// `http` or `https`; `None` keeps that of the request.
    pub scheme: Option<&'static str>,
    /// New host; `None` keeps that of the request.
    pub host: Option<String>,
    /// New path; `None` keeps that of the request.
    pub path: Option<PathRewrite>,
    /// New port; `None`: the well-known one of `scheme` if that is given, else the listener's.
    pub port: Option<u16>,
    /// 301, 302, 303, 307 or 308.
    pub status: u16,
}

/// Limits of time of a rule; `None` leaves the proxy's defaults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timeouts {
    /// From the request's beginning to the answer's end. Zero: none.
    pub request: Option<Duration>,
    /// The same for one attempt at a backend. Zero: none.
    pub backend_request: Option<Duration>,
}
