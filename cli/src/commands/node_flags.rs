//! The flags of a node process, whatever its objects come from: `podplane node` and `podplane agent` have the same.

use super::dns_flags::DnsFlags;
use super::service_flags::{self, ServiceFlags};
use crate::output::{Answer, Failure};
use clap::{Args, ValueEnum};
use control::agent::{self, AgentConfig, AgentError};
use control::pools::AddressPool;
use control::source::Origin;
use ipnet::IpNet;
use policy::objects::AddressRange;
use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// How a node process works.
#[derive(Args)]
pub(crate) struct NodeFlags {
    /// Folder for state that outlives the process
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Seconds that an address rests when its sandbox has gone, before another one may get it; early only if no other is free
    #[arg(long, value_name = "SECONDS", default_value_t = control::sandboxes::QUARANTINE.as_secs())]
    address_quarantine: u64,
    /// Threads that carry traffic
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    shards: u16,
    /// Kind of TAP: with offloads, plain, or what the kernel grants
    #[arg(long, value_enum, default_value_t = TapMode::Auto)]
    tap_mode: TapMode,
    /// VXLAN network identifier, the same on all nodes
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..1 << 24))]
    vni: u32,
    /// UDP port of the overlay, the same on all nodes
    #[arg(long, value_name = "PORT", default_value_t = 4789, value_parser = clap::value_parser!(u16).range(1..))]
    vxlan_port: u16,
    /// Service ranges that the node itself reaches through podplane; may be repeated [default: 10.96.0.0/16 and
    /// fd00:10:96::/112]
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    service_cidr: Vec<ipnet::IpNet>,
    /// MTU of the underlay, or `auto`: that of the interface with the node's address
    #[arg(long, value_name = "BYTES", default_value_t = UnderlayMtu(None))]
    underlay_mtu: UnderlayMtu,
    #[command(flatten)]
    services: ServiceFlags,
    #[command(flatten)]
    dns: DnsFlags,
    /// Name servers whose answers say who has a name in domainNames of ClusterNetworkPolicies, beside pods of namespace
    /// kube-system with the label k8s-app=kube-dns (a node-local cache, for example: --trusted-dns 169.254.20.10). Their answers
    /// over UDP are read; who controls such a server decides which addresses those rules open
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',', value_parser = service_flags::range)]
    trusted_dns: Vec<IpNet>,
    /// Source ports for connections that leave the cluster with the node's address [default: ports that no program gets by
    /// chance first, more as they are needed]
    #[arg(long, value_name = "FIRST-LAST", value_parser = port_range)]
    snat_ports: Option<RangeInclusive<u16>>,
    /// UDP port on which nodes tell each other that they live while there are LoadBalancer addresses to announce, the same
    /// on all nodes
    #[arg(long, value_name = "PORT", default_value_t = agent::HEARTBEAT_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    heartbeat_port: u16,
    /// Where load balancers ask over HTTP (/healthz) whether this node takes traffic, or `none`; 503 while the Node is being
    /// deleted. /readyz says whether it forwards, /livez whether the process lives
    #[arg(long, value_name = "ADDR:PORT", default_value_t = Listen(Some(agent::HEALTHZ_LISTEN)))]
    healthz_listen: Listen,
    /// Where metrics are served over HTTP (/metrics, docs/metrics.md explains them), or `none`
    #[arg(long, value_name = "ADDR:PORT", default_value_t = Listen(Some(agent::METRICS_LISTEN)))]
    metrics_listen: Listen,
    /// Folder in which the container runtime looks for network configurations: it gets 05-podplane.conflist when the node
    /// forwards [default: none is written]
    #[arg(long, value_name = "DIR")]
    cni_conf_dir: Option<PathBuf>,
}

/// What an agent gives to the whole cluster.
#[derive(Args, Default)]
#[command(next_help_heading = "For the whole cluster, by the agent that leads")]
pub(crate) struct ClusterFlags {
    /// Addresses for Services of type LoadBalancer that have none: ranges or CIDRs; may be repeated, with a name for each pool
    #[arg(long, value_name = "[NAME=]RANGE,...", value_parser = pool)]
    load_balancer_pool: Vec<Pool>,
    /// Ranges from which nodes without spec.podCIDRs get theirs (IPv4: /24, IPv6: /64), where the controller manager gives
    /// none
    #[arg(long, value_name = "CIDR,...", value_parser = ranges)]
    cluster_cidr: Vec<Ranges>,
}

/// A pool, if it is one: variables of manifests may be empty.
type Pool = Option<AddressPool>;

/// Ranges of one flag.
#[derive(Clone, Debug)]
struct Ranges(Vec<IpNet>);

/// `[NAME=]RANGE,...`, or nothing.
fn pool(text: &str) -> Result<Pool, String> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let (name, ranges) = text.split_once('=').unwrap_or(("default", text));
    let parse = |range: &str| range.trim().parse::<AddressRange>().map(|range| (range.first, range.last));
    let ranges = ranges.split(',').map(parse).collect::<Result<Vec<_>, String>>()?;
    Ok(Some(AddressPool { name: name.to_owned(), ranges, auto_assign: true, avoid_buggy_ips: false, only_for: None }))
}

/// `CIDR,...`, or nothing.
fn ranges(text: &str) -> Result<Ranges, String> {
    let texts = text.split(',').map(str::trim).filter(|text| !text.is_empty());
    texts.map(service_flags::range).collect::<Result<Vec<IpNet>, String>>().map(Ranges)
}

/// Where to listen, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listen(Option<SocketAddr>);

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Listen, String> {
        if text == "none" {
            return Ok(Listen(None));
        }
        let wrong = |_| format!("{text:?} is not an address with a port such as 0.0.0.0:10256 or [::]:10256, nor none");
        text.parse().map(|listen| Listen(Some(listen))).map_err(wrong)
    }
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(listen) => listen.fmt(f),
            None => f.write_str("none"),
        }
    }
}

/// The MTU of the underlay, if it is not the interface's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct UnderlayMtu(Option<u16>);

/// IPv6 wants 1280 bytes of every link (RFC 8200 section 5), and the overlay has up to 70 of its own.
const UNDERLAY_MTU_MIN: u16 = 1350;

impl FromStr for UnderlayMtu {
    type Err = String;

    fn from_str(text: &str) -> Result<UnderlayMtu, String> {
        if text == "auto" {
            return Ok(UnderlayMtu(None));
        }
        let number = text.parse().ok().filter(|mtu| *mtu >= UNDERLAY_MTU_MIN);
        let wrong = || format!("{text:?} is not a number of bytes from {UNDERLAY_MTU_MIN} on, nor auto");
        number.map(|mtu| UnderlayMtu(Some(mtu))).ok_or_else(wrong)
    }
}

impl fmt::Display for UnderlayMtu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(mtu) => mtu.fmt(f),
            None => f.write_str("auto"),
        }
    }
}

/// `FIRST-LAST`, both included.
fn port_range(text: &str) -> Result<RangeInclusive<u16>, String> {
    let parts = text.split_once('-').and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
    match parts {
        Some((first, last)) if 0 < first && first <= last => Ok(first..=last),
        _ => Err(format!("{text:?} is not a range of ports such as 40000-59999")),
    }
}

/// Kind of TAP.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum TapMode {
    /// Offloads if the kernel grants them.
    Auto,
    /// Offloads or nothing.
    Offload,
    /// No offloads.
    Plain,
}

impl NodeFlags {
    /// Runs a node process until it is told to stop.
    pub(crate) fn run(
        self,
        node_name: &str,
        origin: Origin,
        socket: &Path,
        cluster: ClusterFlags,
    ) -> Result<Answer, Failure> {
        let cluster_dns = self.dns.cluster_dns(self.services.cluster_dns.as_ref()).map_err(Failure::BadInput)?;
        let defaults = AgentConfig::new(node_name, origin, socket);
        let config = AgentConfig {
            state_dir: self.state_dir,
            quarantine: Duration::from_secs(self.address_quarantine),
            shards: self.shards,
            tap_mode: match self.tap_mode {
                TapMode::Auto => agent::TapMode::Auto,
                TapMode::Offload => agent::TapMode::Offload,
                TapMode::Plain => agent::TapMode::Plain,
            },
            vni: agent::Vni::new(self.vni).expect("clap checked the range"),
            vxlan_port: self.vxlan_port,
            service_cidrs: if self.service_cidr.is_empty() {
                defaults.service_cidrs.clone()
            } else {
                self.service_cidr
            },
            underlay_mtu: self.underlay_mtu.0,
            nodeport_addresses: self.services.nodeport_addresses,
            external_ips: self.services.external_ips,
            masquerade_all: self.services.masquerade_all,
            non_masquerade_cidrs: self.services.non_masquerade_cidrs,
            trusted_dns: self.trusted_dns,
            cluster_dns,
            snat_ports: self.snat_ports,
            heartbeat_port: self.heartbeat_port,
            healthz_listen: self.healthz_listen.0,
            metrics_listen: self.metrics_listen.0,
            cni_conf_dir: self.cni_conf_dir,
            load_balancer_pools: cluster.load_balancer_pool.into_iter().flatten().collect(),
            cluster_cidrs: cluster.cluster_cidr.into_iter().flat_map(|ranges| ranges.0).collect(),
            ..defaults
        };
        agent::run(config).map_err(|error| match error {
            AgentError::Access(_) | AgentError::Socket(..) | AgentError::State(..) => {
                Failure::BadInput(error.to_string())
            }
            _ => Failure::Failed(error.to_string()),
        })?;
        Ok(Answer::Yes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_have_names_and_ranges_and_a_variable_without_value_is_none() {
        let named = pool("public=192.0.2.10-192.0.2.20,2001:db8::/126").unwrap().unwrap();
        assert_eq!(named.to_string(), "public (192.0.2.10-192.0.2.20, 2001:db8::-2001:db8::3)");
        assert_eq!(pool("192.0.2.0/30").unwrap().unwrap().to_string(), "default (192.0.2.0-192.0.2.3)");
        assert_eq!(pool(""), Ok(None));
        assert!(pool("public=everything").unwrap_err().contains("\"everything\" is neither a CIDR"));
        assert_eq!(ranges("10.244.0.0/16, fd00::/48").unwrap().0.len(), 2);
        assert!(ranges("").unwrap().0.is_empty() && ranges("x").is_err());
    }

    #[test]
    fn the_underlay_s_mtu_is_a_number_or_found_out() {
        assert_eq!("auto".parse(), Ok(UnderlayMtu(None)));
        assert_eq!("9000".parse(), Ok(UnderlayMtu(Some(9000))));
        for wrong in ["", "1349", "70000", "x"] {
            assert!(wrong.parse::<UnderlayMtu>().unwrap_err().contains("nor auto"), "{wrong}");
        }
    }
}
