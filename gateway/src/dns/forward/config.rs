//! What a forwarder is told when it starts.

use std::net::SocketAddr;
use std::path::PathBuf;

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
