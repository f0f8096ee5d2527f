//! One Service in the DNS: what its name stands for, and those below it.
//!
//! The records of a Service with ClusterIPs, of a headless one and of an ExternalName are those of §2.3, §2.4 and §2.5 of the
//! specification. Endpoints of a Service with ClusterIPs have names and reverse names too, as with CoreDNS.

use super::dashed::Dashed;
use super::parse_dashed;
use crate::cluster::Key;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use wire::Protocol;

/// Longest label of a name (RFC 1035 §2.3.4).
const LABEL_BYTES_MAX: usize = 63;

/// A Service's name and its namespace's, once for everything that refers to them.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServiceKey {
    /// metadata.namespace.
    pub namespace: Arc<str>,
    /// metadata.name.
    pub name: Arc<str>,
    wire: Box<[u8]>,
}

impl ServiceKey {
    /// `None` if one of the names is no label: then nobody can ask for it.
    pub(super) fn new((namespace, name): &Key) -> Option<ServiceKey> {
        let mut wire = Vec::with_capacity(namespace.len() + name.len() + 2);
        push_label(&mut wire, name)?;
        push_label(&mut wire, namespace)?;
        Some(ServiceKey { namespace: namespace.clone(), name: name.clone(), wire: wire.into() })
    }

    /// The labels of the Service and its namespace, each with its length in front, in lower case.
    pub fn wire(&self) -> &[u8] {
        &self.wire
    }
}

fn push_label(wire: &mut Vec<u8>, label: &str) -> Option<()> {
    if label.is_empty() || label.len() > LABEL_BYTES_MAX || label.contains('.') {
        return None;
    }
    wire.push(label.len() as u8);
    wire.extend(label.bytes().map(|byte| byte.to_ascii_lowercase()));
    Some(())
}

/// A Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceNames {
    /// Which one.
    pub key: Arc<ServiceKey>,
    /// What its name stands for.
    pub stands: Stands,
    /// Its ready endpoints; none of an ExternalName.
    pub endpoints: Endpoints,
}

/// What the name of a Service stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stands {
    /// Its ClusterIPs (§2.3).
    ClusterIps {
        /// Those of IPv4.
        v4: Box<[Ipv4Addr]>,
        /// Those of IPv6.
        v6: Box<[Ipv6Addr]>,
        /// Its ports that have a name.
        ports: Box<[NamedPort]>,
    },
    /// Its endpoints (§2.4).
    Headless {
        /// The named ports of its endpoints, with the hosts that have them.
        ports: Box<[PortHosts]>,
    },
    /// Another name (§2.5), as labels with their lengths in front, the root's too. `None` where spec.externalName is no name, or an IP address,
    /// which an alias cannot lead to.
    External(Option<Box<[u8]>>),
}

/// A port with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamedPort {
    /// Its name, in lower case.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number.
    pub number: u16,
}

/// A named port of a headless Service's endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortHosts {
    /// The port; the number is the endpoints' own, which differs between slices if the targetPort has a name.
    pub port: NamedPort,
    /// Who has it: each host once, in order.
    pub hosts: Arc<[Host]>,
}

/// What an endpoint is called below its Service.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Host {
    /// The hostname of an endpoint or of several, in lower case.
    Named(Arc<str>),
    /// An endpoint without one: its address, spelled with dashes.
    Dashed(IpAddr),
}

impl Host {
    /// Calls `with` with the label.
    pub fn label<R>(&self, with: impl FnOnce(&[u8]) -> R) -> R {
        match self {
            Host::Named(name) => with(name.as_bytes()),
            Host::Dashed(addr) => with(&Dashed::new(*addr)),
        }
    }
}

/// The ready endpoints of a Service: addresses in order, each once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// Those of IPv4.
    pub v4: Box<[Ipv4Addr]>,
    /// Those of IPv6.
    pub v6: Box<[Ipv6Addr]>,
    /// Endpoints that have a hostname, in order of it and of the address.
    named: Box<[(Arc<str>, IpAddr)]>,
    /// Positions in `named` in order of the address.
    by_addr: Box<[u32]>,
}

impl Endpoints {
    /// Endpoints at `addresses`, some of which have hostnames (in lower case), in whatever order and as often as they come.
    pub(crate) fn new(mut addresses: Vec<IpAddr>, mut named: Vec<(Arc<str>, IpAddr)>) -> Endpoints {
        addresses.sort_unstable();
        addresses.dedup();
        named.sort_unstable();
        named.dedup();
        let mut by_addr: Box<[u32]> = (0..named.len() as u32).collect();
        by_addr.sort_by_key(|at| named[*at as usize].1);
        let v4 = addresses.iter().filter_map(|addr| if let IpAddr::V4(addr) = addr { Some(*addr) } else { None });
        let v6 = addresses.iter().filter_map(|addr| if let IpAddr::V6(addr) = addr { Some(*addr) } else { None });
        Endpoints { v4: v4.collect(), v6: v6.collect(), named: named.into(), by_addr }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }

    /// Whether one of them is at `addr`.
    pub fn contains(&self, addr: IpAddr) -> bool {
        match addr {
            IpAddr::V4(addr) => self.v4.binary_search(&addr).is_ok(),
            IpAddr::V6(addr) => self.v6.binary_search(&addr).is_ok(),
        }
    }

    /// All addresses, in order.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.v4.iter().copied().map(IpAddr::from).chain(self.v6.iter().copied().map(IpAddr::from))
    }

    /// Endpoints called `hostname`, which is in lower case, with their addresses.
    pub fn named(&self, hostname: &[u8]) -> &[(Arc<str>, IpAddr)] {
        let start = self.named.partition_point(|(name, _)| name.as_bytes() < hostname);
        let count = self.named[start..].iter().take_while(|(name, _)| name.as_bytes() == hostname).count();
        &self.named[start..start + count]
    }

    /// What the endpoint at `addr` is called: its hostnames, or its address if it has none; nothing if there is no such endpoint.
    pub fn hosts_at(&self, addr: IpAddr) -> impl Iterator<Item = Host> {
        let start = self.by_addr.partition_point(|at| self.named[*at as usize].1 < addr);
        let named =
            self.by_addr[start..].iter().map(|at| &self.named[*at as usize]).take_while(move |(_, at)| *at == addr);
        let is_unnamed = self.contains(addr) && named.clone().next().is_none();
        named.map(|(name, _)| Host::Named(name.clone())).chain(is_unnamed.then_some(Host::Dashed(addr)))
    }

    /// The addresses of the endpoint called `label`, which is in lower case; none if there is no such endpoint.
    pub fn find(&self, label: &[u8]) -> HostAddresses<'_> {
        let named = self.named(label);
        if !named.is_empty() {
            return HostAddresses::Named(named);
        }
        let spelled = parse_dashed(label).filter(|addr| *Dashed::new(*addr) == *label);
        HostAddresses::Dashed(spelled.filter(|addr| self.hosts_at(*addr).any(|host| host == Host::Dashed(*addr))))
    }

    /// The addresses of a host.
    pub fn of_host(&self, host: &Host) -> HostAddresses<'_> {
        match host {
            Host::Named(name) => HostAddresses::Named(self.named(name.as_bytes())),
            Host::Dashed(addr) => HostAddresses::Dashed(Some(*addr)),
        }
    }
}

/// The addresses of one host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostAddresses<'a> {
    /// Those of all endpoints with its hostname.
    Named(&'a [(Arc<str>, IpAddr)]),
    /// Its only one.
    Dashed(Option<IpAddr>),
}

impl HostAddresses<'_> {
    /// Whether there is none, and so no such host.
    pub fn is_empty(&self) -> bool {
        self.iter().next().is_none()
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + Clone {
        let (named, dashed) = match *self {
            HostAddresses::Named(named) => (named, None),
            HostAddresses::Dashed(addr) => (&[][..], addr),
        };
        named.iter().map(|(_, addr)| *addr).chain(dashed)
    }
}

impl ServiceNames {
    /// Every address that leads back to it: ClusterIPs and those of endpoints, in order, each once.
    pub(super) fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> = self.endpoints.addresses().collect();
        if let Stands::ClusterIps { v4, v6, .. } = &self.stands {
            addresses.extend(v4.iter().copied().map(IpAddr::from));
            addresses.extend(v6.iter().copied().map(IpAddr::from));
        }
        addresses.sort_unstable();
        addresses.dedup();
        addresses
    }

    /// Whether `addr` is one of its ClusterIPs.
    pub fn has_cluster_ip(&self, addr: IpAddr) -> bool {
        match (&self.stands, addr) {
            (Stands::ClusterIps { v4, .. }, IpAddr::V4(addr)) => v4.contains(&addr),
            (Stands::ClusterIps { v6, .. }, IpAddr::V6(addr)) => v6.contains(&addr),
            _ => false,
        }
    }

    /// Whether its name exists: that of a headless Service without ready endpoints does not (§2.4.1).
    pub fn exists(&self) -> bool {
        !matches!(self.stands, Stands::Headless { .. }) || !self.endpoints.is_empty()
    }

    /// A named port of `protocol`, called `name` if that is given.
    pub fn port(&self, protocol: Protocol, name: Option<&[u8]>) -> Option<&NamedPort> {
        let is_it =
            |port: &NamedPort| port.protocol == protocol && name.is_none_or(|name| port.name.as_bytes() == name);
        match &self.stands {
            Stands::ClusterIps { ports, .. } => ports.iter().find(|port| is_it(port)),
            Stands::Headless { ports } => ports.iter().map(|ports| &ports.port).find(|port| is_it(port)),
            Stands::External(_) => None,
        }
    }
}
