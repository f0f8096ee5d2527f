//! What a forwarder is told when it starts.

use super::servers::{SERVERS_MAX, STUB_DOMAINS_MAX, is_own};
use domain::base::Name;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// Whom a forwarder asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ForwardConfig {
    /// Servers for all names.
    pub upstreams: Upstreams,
    /// Servers for the names of some zones; the longest zone counts.
    pub stub_domains: Vec<StubDomain>,
    /// Addresses at which the asker itself answers: never asked, or a question would go round.
    pub own: Vec<SocketAddr>,
}

/// Servers for all names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Upstreams {
    /// Nobody: such names are refused.
    #[default]
    None,
    /// These, in this order.
    Fixed(Vec<SocketAddr>),
    /// The `nameserver` lines of a resolv.conf, read again when it changes.
    ResolvConf(PathBuf),
}

/// A zone that has its own servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StubDomain {
    /// The zone: it and the names below it are asked there.
    pub zone: String,
    /// Its servers, in order.
    pub upstreams: Vec<SocketAddr>,
}

/// Why a configuration cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ForwardError {
    /// A server that cannot be asked.
    Server(SocketAddr, &'static str),
    /// A stub domain whose zone is no name, or that has no servers.
    StubDomain(String, &'static str),
    /// More servers or zones than are asked.
    TooMany(&'static str, usize),
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ForwardError::Server(address, why) => write!(f, "upstream {address}: {why}"),
            ForwardError::StubDomain(zone, why) => write!(f, "stub domain {zone:?}: {why}"),
            ForwardError::TooMany(what, most) => write!(f, "{what}: no more than {most}"),
        }
    }
}

impl std::error::Error for ForwardError {}

impl ForwardConfig {
    /// Whether everybody named here can be asked.
    pub fn check(&self) -> Result<(), ForwardError> {
        if let Upstreams::Fixed(addresses) = &self.upstreams {
            self.check_servers(addresses)?;
        }
        if self.stub_domains.len() > STUB_DOMAINS_MAX {
            return Err(ForwardError::TooMany("stub domains", STUB_DOMAINS_MAX));
        }
        for StubDomain { zone, upstreams } in &self.stub_domains {
            if Name::<Vec<u8>>::from_str(zone).is_err() {
                return Err(ForwardError::StubDomain(zone.clone(), "no DNS name"));
            }
            if upstreams.is_empty() {
                return Err(ForwardError::StubDomain(zone.clone(), "no server"));
            }
            self.check_servers(upstreams)?;
        }
        Ok(())
    }

    fn check_servers(&self, addresses: &[SocketAddr]) -> Result<(), ForwardError> {
        if addresses.len() > SERVERS_MAX {
            return Err(ForwardError::TooMany("upstreams of a zone", SERVERS_MAX));
        }
        for address in addresses {
            let wrong = match address.ip() {
                _ if address.port() == 0 => "port 0 is nobody's",
                ip if ip.is_unspecified() => "no address of a server",
                ip if ip.is_multicast() => "a multicast address",
                _ if is_own(&self.own, address) => "that is this server itself, so a question would go round",
                _ => continue,
            };
            return Err(ForwardError::Server(*address, wrong));
        }
        Ok(())
    }
}
