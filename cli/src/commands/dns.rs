//! `podplane dns`: the cluster DNS as a server of its own.

use crate::follow::Follow;
use crate::output::{self, Answer, Context, Failure, OutputFormat};
use crate::source_args::SourceArgs;
use clap::{Args, ValueEnum};
use control::kubernetes::DNS_KINDS;
use gateway::HealthServer;
use gateway::dns::forward::{DNS_PORT, ForwardConfig, Forwarder, StubDomain, Upstreams};
use gateway::dns::server::{Listener, Server};
use gateway::dns::{DnsConfig, PodRecords};
use policy::tables::Tables;
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

/// Where other names are asked when nothing else is said, as in CoreDNS's usual configuration.
const RESOLV_CONF: &str = "/etc/resolv.conf";

/// Arguments of `podplane dns`.
#[derive(Args)]
#[command(after_help = "Examples:
  podplane dns -f manifests/ --listen 127.0.0.1:5353
  dig @127.0.0.1 -p 5353 web.shop.svc.cluster.local
  podplane dns -f /etc/podplane/cluster --listen 10.0.0.2:53 --listen [fd00::2]:53 --upstream 9.9.9.9 --upstream 1.1.1.1
  podplane dns -f all.yaml --listen 127.0.0.1:5353 --stub-domain corp.example=192.0.2.53 --pods verified
  podplane dns --kubeconfig ~/.kube/config --listen 127.0.0.1:5353       the names of a running cluster

Prints one line when it serves. A PATH that changes takes effect within a second; a file that breaks, or a PATH that vanishes,
leaves in force what it last held. While nothing was read, names of the cluster are answered SERVFAIL. Names outside the cluster
are asked of the upstreams in their order, and remembered; without any they are refused. SIGTERM and SIGINT end it.

Exit codes: 0 it was told to stop, 1 it could not start or broke, 2 a PATH or an address cannot be used.")]
pub(crate) struct DnsArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Address to answer at, over UDP and TCP; may be repeated. Port 0 takes one that is free
    #[arg(long, value_name = "ADDR:PORT", required = true)]
    listen: Vec<SocketAddr>,
    /// Server for names outside the cluster, port 53 unless it says another; may be repeated [default: those of --resolv-conf]
    #[arg(long, value_name = "ADDR[:PORT]", value_parser = server, conflicts_with = "resolv_conf")]
    upstream: Vec<SocketAddr>,
    /// Server for the names of a zone alone; may be repeated, for one zone too
    #[arg(long, value_name = "ZONE=ADDR[:PORT]", value_parser = stub_domain)]
    stub_domain: Vec<(String, SocketAddr)>,
    /// The cluster's zone
    #[arg(long, value_name = "ZONE", default_value = "cluster.local", value_parser = zone)]
    zone: DnsConfig,
    /// Which pods have names such as 10-244-1-5.default.pod.cluster.local
    #[arg(long, value_enum, default_value_t = Pods::Disabled)]
    pods: Pods,
    /// File whose nameserver lines are the upstreams, watched [default: /etc/resolv.conf, if there is one]
    #[arg(long, value_name = "FILE")]
    resolv_conf: Option<PathBuf>,
    /// Where to answer /healthz over HTTP: 200 while names of the cluster are known, else 503; and /metrics for Prometheus
    /// (docs/metrics.md explains them) [default: nowhere]
    #[arg(long, value_name = "ADDR:PORT")]
    healthz_listen: Option<SocketAddr>,
}

/// Which pods have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pods {
    /// None.
    Disabled,
    /// Every address, whether a pod has it or not.
    Insecure,
    /// Pods that have the address.
    Verified,
}

impl From<Pods> for PodRecords {
    fn from(pods: Pods) -> PodRecords {
        match pods {
            Pods::Disabled => PodRecords::Disabled,
            Pods::Insecure => PodRecords::Insecure,
            Pods::Verified => PodRecords::Verified,
        }
    }
}

/// A server's address; the port of DNS if it says none.
pub(crate) fn server(text: &str) -> Result<SocketAddr, String> {
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    if let Ok(ip) = IpAddr::from_str(bare) {
        return Ok(SocketAddr::new(ip, DNS_PORT));
    }
    text.parse().map_err(|_| format!("{text:?} is not an address such as 9.9.9.9, 127.0.0.1:5353 or [2620:fe::fe]:53"))
}

/// `ZONE=ADDR[:PORT]`.
pub(crate) fn stub_domain(text: &str) -> Result<(String, SocketAddr), String> {
    let (zone, address) = text.split_once('=').ok_or_else(|| format!("{text:?} is not ZONE=ADDR[:PORT]"))?;
    Ok((zone.to_owned(), server(address)?))
}

fn zone(text: &str) -> Result<DnsConfig, String> {
    DnsConfig::of_zone(text).map_err(|error| error.to_string())
}

/// What is printed when the server answers.
#[derive(Serialize)]
struct Ready {
    /// Where, with the ports that were taken.
    listen: Vec<SocketAddr>,
    /// Where health and metrics are served.
    healthz: Option<SocketAddr>,
    zone: String,
    /// Services that have a name.
    names: usize,
}

impl Ready {
    fn text(&self) -> String {
        let listen: Vec<String> = self.listen.iter().map(ToString::to_string).collect();
        let (listen, zone) = (listen.join(", "), &self.zone);
        format!("serving DNS on {listen} (UDP, TCP), zone {zone}, {} names\n", self.names)
    }
}

/// Serves until the process is told to end.
pub(crate) fn run(args: DnsArgs, context: &Context) -> Result<Answer, Failure> {
    let mut follow = Follow::new(args.source.open(DNS_KINDS, Vec::new())?);
    let listeners = args.listen.iter().map(|address| Listener::bind(*address)).collect::<Result<Vec<_>, _>>();
    let listeners = listeners.map_err(|error| Failure::BadInput(format!("--listen {error}")))?;
    let own: Vec<SocketAddr> = listeners.iter().map(Listener::address).collect();
    let forward = args.forward(own.clone())?;
    let dns = args.dns(&own);
    let zone = args.zone.zone.to_string();
    let first = follow.first();
    let forwarder = Forwarder::with_report(forward, output::warn);
    let server = Server::start(listeners, dns, forwarder);
    let server = server.map_err(|error| Failure::Failed(format!("starting threads: {error}")))?;
    let health = args.healthz_listen.map(|address| {
        let unusable = |error| Failure::BadInput(format!("--healthz-listen {address}: {error}"));
        server.serve_health(address).map_err(unusable)
    });
    let health = health.transpose()?;
    let names = first.tables.as_deref().map_or(0, names);
    if first.tables.is_none() {
        output::warn("nothing was read yet: names of the cluster are answered SERVFAIL until something is");
    }
    let put_in_force = |tables: Option<Arc<Tables>>| {
        let is_ready = tables.is_some();
        server.set_tables(tables);
        if let Some(health) = &health {
            health.set_ready(is_ready);
        }
    };
    put_in_force(first.tables);
    let healthz = health.as_ref().map(HealthServer::address);
    say(&Ready { listen: server.addresses().to_vec(), healthz, zone, names }, context)?;
    follow.until_stopped(|update| put_in_force(update.tables))?;
    Ok(Answer::Yes)
}

/// Services that have a name.
fn names(tables: &Tables) -> usize {
    tables.names.services().count()
}

/// One line, whatever its form: whoever starts the server waits for it.
fn say(ready: &Ready, context: &Context) -> Result<(), Failure> {
    let line = match context.output {
        OutputFormat::Json => serde_json::to_string(ready).map_err(|error| Failure::Failed(error.to_string()))? + "\n",
        _ => ready.text(),
    };
    output::print(&line)
}

impl DnsArgs {
    /// How the cluster's names are answered.
    fn dns(&self, own: &[SocketAddr]) -> DnsConfig {
        let pods = self.pods.into();
        let addresses = own.iter().map(SocketAddr::ip).filter(|ip| !ip.is_unspecified()).collect();
        DnsConfig { pods, addresses, ..self.zone.clone() }
    }

    /// Who is asked for other names by a server that listens at `own`.
    fn forward(&self, own: Vec<SocketAddr>) -> Result<ForwardConfig, Failure> {
        let mut zones: BTreeMap<&str, Vec<SocketAddr>> = BTreeMap::new();
        for (zone, address) in &self.stub_domain {
            zones.entry(zone).or_default().push(*address);
        }
        let stub_domains = zones.into_iter().map(|(zone, upstreams)| StubDomain { zone: zone.to_owned(), upstreams });
        let upstreams = match &self.resolv_conf {
            Some(path) => {
                let unreadable = |error| Failure::BadInput(format!("--resolv-conf {}: {error}", path.display()));
                std::fs::metadata(path).map_err(unreadable)?;
                Upstreams::ResolvConf(path.clone())
            }
            None if !self.upstream.is_empty() => Upstreams::Fixed(self.upstream.clone()),
            None if Path::new(RESOLV_CONF).exists() => Upstreams::ResolvConf(RESOLV_CONF.into()),
            None => Upstreams::None,
        };
        let config = ForwardConfig { upstreams, stub_domains: stub_domains.collect(), own };
        config.check().map_err(|error| Failure::BadInput(error.to_string()))?;
        Ok(config)
    }
}
