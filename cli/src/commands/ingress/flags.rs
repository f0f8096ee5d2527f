//! The flags of `podplane ingress`, and what they mean for the proxy and for the compiler of routes.

use crate::commands::service_flags;
use crate::output::Failure;
use crate::source_args::SourceArgs;
use clap::Args;
use control::Stop;
use control::following::Following;
use control::kubernetes::PROXY_KINDS;
use control::kubernetes::write::{LeaseName, Publisher};
use gateway::http::{AccessLog, Config, HttpServer, ServerConfig};
use ipnet::IpNet;
use policy::routes::RouteOptions;
use std::net::SocketAddr;
use std::time::Duration;

/// Variable with the name of a pod.
const POD_NAME_VARIABLE: &str = "HOSTNAME";

/// Arguments of `podplane ingress`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane ingress -f manifests/ --http 0.0.0.0:80 --https 0.0.0.0:443
  podplane ingress -f cluster.yaml --http 127.0.0.1:8080 --https 127.0.0.1:8443 --access-log
  curl --resolve shop.example:8443:127.0.0.1 https://shop.example:8443/
  podplane ingress -f manifests/ --http [::]:80 --https [::]:443 --proxy-protocol --trusted-proxies 10.0.0.0/8
  podplane ingress --in-cluster --http [::]:80 --https [::]:443           the objects of the cluster that it runs in
  podplane ingress --in-cluster --http [::]:80 --https [::]:443 --publish-service podplane-system/podplane-ingress

Served are the Ingresses of IngressClasses whose spec.controller is that of --controller (and those without a class, if one of
these is the default class), and the HTTPRoutes of Gateways whose class is that of --gateway-controller. What manifests leave
out (addresses, EndpointSlices) is filled in as `podplane lab` would.

A file that changes takes effect within a second; nothing is restarted, and connections go on. Problems are told on standard
error, each once, and the rest is served. When the proxy is ready it prints one line with the real addresses (port 0 is a free
one). SIGTERM ends it: no new connections, requests under way are answered, WebSockets have until --drain-timeout.

Exit codes: 0 it was told to end, 1 something failed, 2 a path cannot be read or an address cannot be listened on.")]
pub(crate) struct IngressArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Where to serve HTTP; a Gateway listener of this port shares it, those of other ports have the same address
    #[arg(long, value_name = "ADDR:PORT")]
    http: SocketAddr,
    /// Where to serve HTTPS; a Gateway listener of this port shares it, those of other ports have the same address
    #[arg(long, value_name = "ADDR:PORT")]
    https: SocketAddr,
    /// spec.controller of the IngressClasses to serve
    #[arg(long, value_name = "NAME", default_value = "podplane.io/ingress")]
    controller: String,
    /// spec.controllerName of the GatewayClasses to serve
    #[arg(long, value_name = "NAME", default_value = "podplane.io/gateway")]
    gateway_controller: String,
    /// Secret with the certificate for hosts that have none of their own; without it, their TLS handshakes are refused
    #[arg(long, value_name = "NS/SECRET", value_parser = secret)]
    default_certificate: Option<(String, String)>,
    /// Node that the proxy runs on, for Services whose traffic policy is Local
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Print each request as a line of JSON on standard output
    #[arg(long)]
    access_log: bool,
    /// Proxies in front of this one: their X-Forwarded-* fields are believed, those of others are replaced
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = service_flags::range)]
    trusted_proxies: Vec<IpNet>,
    /// Connections of --trusted-proxies begin with a PROXY protocol header (version 1 or 2); without one they are closed.
    /// Other clients speak for themselves
    #[arg(long, requires = "trusted_proxies")]
    proxy_protocol: bool,
    /// How long requests and WebSockets may go on after SIGTERM
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    drain_timeout: u32,
    /// Threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
    /// Client connections in all; more are closed
    #[arg(long, value_name = "N", value_parser = positive)]
    max_connections: Option<usize>,
    /// Connections of one client address (IPv6: of one /64); more are closed. --trusted-proxies may have any number
    #[arg(long, value_name = "N", value_parser = positive)]
    max_connections_per_client: Option<usize>,
    /// Bytes of a request's head; more is answered with 431
    #[arg(long, value_name = "BYTES", value_parser = head_bytes)]
    max_head_bytes: Option<usize>,
    /// Bytes of a request's body; more is answered with 413 [default: any number]
    #[arg(long, value_name = "BYTES")]
    max_body_bytes: Option<u64>,
    /// Where to answer /healthz over HTTP: 200 while the proxy is ready, else 503; and /metrics for
    /// Prometheus (docs/metrics.md explains them) [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    pub(super) healthz_listen: Option<SocketAddr>,
    /// Write the status of what is served to the API server: clients reach the proxy at the addresses of this Service
    /// [default: nothing is written]
    #[arg(long, value_name = "NS/SERVICE", value_parser = namespaced, conflicts_with = "paths")]
    publish_service: Option<(String, String)>,
    /// Of several proxies, the one that holds this Lease writes
    #[arg(long, value_name = "NS/LEASE", value_parser = namespaced, default_value = "podplane-system/podplane-ingress")]
    lease: (String, String),
}

impl IngressArgs {
    /// Where the objects come from, and what ends the proxy.
    pub(super) fn open(&self) -> Result<(Following, Stop), Failure> {
        self.source.open(PROXY_KINDS, self.default_certificate.iter().cloned().collect())
    }

    /// Who writes status, if it is asked for.
    pub(super) fn publisher(&self) -> Result<Option<Publisher>, Failure> {
        let Some(service) = &self.publish_service else { return Ok(None) };
        let lease = LeaseName { namespace: self.lease.0.clone(), name: self.lease.1.clone() };
        let instance = std::env::var(POD_NAME_VARIABLE).ok().filter(|name| !name.is_empty());
        let instance = instance.unwrap_or_else(|| format!("pid-{}", std::process::id()));
        let started = Publisher::start(self.source.access(), lease, instance, service, &self.gateway_controller);
        started.map(Some).map_err(|error| Failure::Failed(format!("starting to write status: {error}")))
    }

    /// For the proxy.
    pub(super) fn server_config(&self) -> ServerConfig {
        let defaults = ServerConfig::new(self.http, self.https);
        let mut limits = defaults.proxy.limits;
        limits.head_bytes_max = self.max_head_bytes.unwrap_or(limits.head_bytes_max);
        limits.body_bytes_max = self.max_body_bytes;
        ServerConfig {
            proxy: Config {
                trusted_proxies: self.trusted_proxies.clone(),
                access_log: if self.access_log { AccessLog::Json } else { AccessLog::Off },
                limits,
                ..defaults.proxy
            },
            workers: self.workers.map_or(defaults.workers, usize::from),
            proxy_protocol: self.proxy_protocol,
            connections_max: self.max_connections.unwrap_or(defaults.connections_max),
            connections_per_client_max: self.max_connections_per_client.unwrap_or(defaults.connections_per_client_max),
            ..defaults
        }
    }

    /// For the compiler of routes; ports are those that `server` has.
    pub(super) fn route_options(&self, server: &HttpServer) -> RouteOptions {
        RouteOptions {
            http_port: server.http_address().port(),
            https_port: server.https_address().port(),
            controller: self.controller.clone(),
            gateway_controller: self.gateway_controller.clone(),
            node_name: self.node_name.clone(),
            default_certificate: self.default_certificate.clone(),
        }
    }

    pub(super) fn drain_timeout(&self) -> Duration {
        Duration::from_secs(u64::from(self.drain_timeout))
    }
}

/// `NAMESPACE/SECRET`.
fn secret(text: &str) -> Result<(String, String), String> {
    parts(text).ok_or_else(|| format!("{text:?} is not NAMESPACE/SECRET, such as default/shop-tls"))
}

/// `NAMESPACE/NAME`.
fn namespaced(text: &str) -> Result<(String, String), String> {
    parts(text).ok_or_else(|| format!("{text:?} is not NAMESPACE/NAME, such as podplane-system/podplane-ingress"))
}

fn parts(text: &str) -> Option<(String, String)> {
    let (namespace, name) = text.split_once('/')?;
    let is_whole = !namespace.is_empty() && !name.is_empty() && !name.contains('/');
    is_whole.then(|| (namespace.to_owned(), name.to_owned()))
}

fn positive(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|number| *number > 0).ok_or_else(|| format!("{text:?} is not a number above 0"))
}

/// As many bytes as the HTTP parser's buffer needs at least.
fn head_bytes(text: &str) -> Result<usize, String> {
    const LEAST: usize = 8192;
    let number = text.parse().ok().filter(|number| *number >= LEAST);
    number.ok_or_else(|| format!("{text:?} is not a number of bytes from {LEAST} on"))
}
