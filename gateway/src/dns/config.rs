//! What a responder is told once.

use domain::base::Name;
use policy::names::PodRecords;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Seconds that an answer may be kept, unless told otherwise (as CoreDNS).
const TTL_DEFAULT_S: u32 = 5;

/// The zone of most clusters.
const ZONE_DEFAULT: &str = "cluster.local";

/// Longest zone: the longest name below it that the specification knows has some two hundred bytes, but no name of a cluster is
/// formed to its limits.
const ZONE_BYTES_MAX: usize = 128;

/// The zone is no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadZone(String);

impl fmt::Display for BadZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a DNS name of at most {ZONE_BYTES_MAX} bytes", self.0)
    }
}

impl std::error::Error for BadZone {}

/// How the cluster DNS answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// The cluster's zone, in lower case.
    pub zone: Name<Vec<u8>>,
    /// Which pods have names.
    pub pods: PodRecords,
    /// Seconds that an answer may be kept.
    pub ttl_s: u32,
    /// Addresses of the DNS itself (`ns.dns.<zone>`), used where there is no Service `kube-system/kube-dns`.
    pub addresses: Vec<IpAddr>,
}

impl DnsConfig {
    /// The zone `zone`, and otherwise the default.
    pub fn of_zone(zone: &str) -> Result<DnsConfig, BadZone> {
        let name = Name::from_str(&zone.to_ascii_lowercase()).ok();
        let name = name.filter(|name: &Name<Vec<u8>>| !name.is_root() && name.len() <= ZONE_BYTES_MAX);
        let zone = name.ok_or_else(|| BadZone(zone.to_owned()))?;
        Ok(DnsConfig { zone, pods: PodRecords::Disabled, ttl_s: TTL_DEFAULT_S, addresses: Vec::new() })
    }
}

impl Default for DnsConfig {
    fn default() -> DnsConfig {
        DnsConfig::of_zone(ZONE_DEFAULT).expect("the default zone is a name")
    }
}
