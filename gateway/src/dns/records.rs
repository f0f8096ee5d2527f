//! What a name stands for, as records (specification §2).

use super::answer::{Answer, NAME_SERVER, Start, Target};
use super::config::DnsConfig;
use domain::base::charstr::CharStr;
use domain::base::iana::{Class, Rtype};
use domain::base::message_builder::{AdditionalBuilder, PushError};
use domain::base::name::Chain;
use domain::base::rdata::ComposeRecordData;
use domain::base::{Name, RelativeName, ToName, ToRelativeName};
use domain::rdata::{A, Aaaa, Cname, Hinfo, Ns, Srv, Txt};
use policy::names::{Endpoints, Found, Host, NamedPort, PortHosts, ServiceKey, ServiceNames, Stands};
use policy::tables::Tables;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The version of the specification, as a string with its length in front, and how long it may be kept (§2.2).
const VERSION: &[u8] = b"\x051.1.0";
const VERSION_TTL_S: u32 = 28_800;

/// What an ANY query is answered with (RFC 8482 §4.2).
const ANY_CPU: &[u8] = b"RFC8482";

/// The labels of the DNS's own Service and its namespace, as Kubernetes calls them.
const DNS_SERVICE: &[u8] = b"\x08kube-dns\x0bkube-system";

/// Between the namespace of a Service and the zone.
const SVC: &[u8] = b"\x03svc";

/// Longest label (RFC 1035 §2.3.4), and its length in front.
const LABEL_BYTES_MAX: usize = 63;

/// All SRV records of a name have one priority; weights are shares of this.
const SRV_PRIORITY: u16 = 0;
const SRV_WEIGHTS: u16 = 100;

/// Where a list begins this time.
#[derive(Debug)]
pub(super) struct Rotation(u64);

impl Rotation {
    pub(super) fn new(seed: u64) -> Rotation {
        Rotation(seed)
    }

    /// A position in a list of `count`. SplitMix64, which takes any seed.
    fn next(&mut self, count: usize) -> usize {
        if count < 2 {
            return 0;
        }
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % count as u64) as usize
    }
}

/// The name of a Service.
type ServiceName<'a> = Chain<Chain<&'a RelativeName<[u8]>, &'a RelativeName<[u8]>>, &'a Name<[u8]>>;

/// The name of a Service in `zone`; `None` if it is too long to be one.
pub(super) fn service_name<'a>(key: &'a ServiceKey, zone: &'a Name<[u8]>) -> Option<ServiceName<'a>> {
    let svc = RelativeName::from_slice(SVC).expect("a constant label is valid");
    RelativeName::from_slice(key.wire()).ok()?.chain(svc).ok()?.chain(zone).ok()
}

/// The label of a host, with its length in front.
pub(super) struct HostLabel {
    bytes: [u8; 1 + LABEL_BYTES_MAX],
    len: usize,
}

impl HostLabel {
    pub(super) fn new(host: &Host) -> HostLabel {
        let mut label = HostLabel { bytes: [0; 1 + LABEL_BYTES_MAX], len: 0 };
        host.label(|text| {
            label.bytes[0] = text.len() as u8;
            label.bytes[1..=text.len()].copy_from_slice(text);
            label.len = 1 + text.len();
        });
        label
    }

    /// The host's name below its Service; `None` if it is too long to be one.
    pub(super) fn below<'a>(
        &'a self,
        service: &'a ServiceName<'a>,
    ) -> Option<Chain<&'a RelativeName<[u8]>, &'a ServiceName<'a>>> {
        RelativeName::from_slice(&self.bytes[..self.len]).ok()?.chain(service).ok()
    }
}

/// A kind of addresses, with their records.
trait Family: Copy {
    type Data: ComposeRecordData;
    fn of(addr: IpAddr) -> Option<Self>;
    fn data(self) -> Self::Data;
    /// What the name of a Service stands for.
    fn of_service(service: &ServiceNames) -> &[Self];
}

impl Family for Ipv4Addr {
    type Data = A;

    fn of(addr: IpAddr) -> Option<Ipv4Addr> {
        if let IpAddr::V4(addr) = addr { Some(addr) } else { None }
    }

    fn data(self) -> A {
        A::new(self)
    }

    fn of_service(service: &ServiceNames) -> &[Ipv4Addr] {
        match &service.stands {
            Stands::ClusterIps { v4, .. } => v4,
            Stands::Headless { .. } => &service.endpoints.v4,
            Stands::External(_) => &[],
        }
    }
}

impl Family for Ipv6Addr {
    type Data = Aaaa;

    fn of(addr: IpAddr) -> Option<Ipv6Addr> {
        if let IpAddr::V6(addr) = addr { Some(addr) } else { None }
    }

    fn data(self) -> Aaaa {
        Aaaa::new(self)
    }

    fn of_service(service: &ServiceNames) -> &[Ipv6Addr] {
        match &service.stands {
            Stands::ClusterIps { v6, .. } => v6,
            Stands::Headless { .. } => &service.endpoints.v6,
            Stands::External(_) => &[],
        }
    }
}

/// What the records of an answer are made from.
pub(super) struct Records<'a> {
    pub(super) tables: &'a Tables,
    pub(super) config: &'a DnsConfig,
    pub(super) start: Start<'a>,
}

impl Records<'_> {
    /// Adds the records of `owner`, which stands for `found`, that are of the type `qtype`.
    pub(super) fn push(
        &self,
        qtype: Rtype,
        owner: &Name<[u8]>,
        found: &Found<'_>,
        rotation: &mut Rotation,
        answer: &mut Answer<'_>,
    ) {
        let ttl_s = self.config.ttl_s;
        match (qtype, found) {
            (Rtype::A, _) => self.push_addresses::<Ipv4Addr>(owner, found, rotation, answer),
            (Rtype::AAAA, _) => self.push_addresses::<Ipv6Addr>(owner, found, rotation, answer),
            (Rtype::SRV, Found::Service(service)) => self.push_services(owner, service, None, rotation, answer),
            (Rtype::SRV, Found::Port(service, port)) => {
                self.push_services(owner, service, Some(port), rotation, answer);
            }
            (Rtype::CNAME, Found::Service(service)) => {
                if let Stands::External(Some(target)) = &service.stands
                    && let Ok(target) = Name::from_slice(target)
                {
                    answer.push((owner, Class::IN, ttl_s, Cname::new(target)));
                }
            }
            (Rtype::TXT, Found::Version) => {
                let text = Txt::from_octets(VERSION).expect("a constant string is valid");
                answer.push((owner, Class::IN, VERSION_TTL_S, text));
            }
            (Rtype::SOA, Found::Apex) => drop(answer.push(self.start.soa())),
            (Rtype::NS, Found::Apex) => {
                let server = RelativeName::from_slice(NAME_SERVER).expect("constant labels are valid");
                if let Ok(server) = server.chain(self.start.zone) {
                    answer.push((owner, Class::IN, ttl_s, Ns::new(server)));
                }
            }
            (Rtype::ANY, _) => {
                let text = |bytes| CharStr::from_octets(bytes).expect("a constant string is valid");
                answer.push((owner, Class::IN, ttl_s, Hinfo::new(text(ANY_CPU), text(&b""[..]))));
            }
            _ => {}
        }
    }

    /// Adds what the client would ask for next: the addresses of the hosts in SRV and NS records.
    pub(super) fn help(
        &self,
        qtype: Rtype,
        found: &Found<'_>,
        builder: &mut AdditionalBuilder<Target<'_>>,
    ) -> Result<(), PushError> {
        match (qtype, found) {
            (Rtype::SRV, Found::Service(service)) => self.help_services(service, None, builder),
            (Rtype::SRV, Found::Port(service, port)) => self.help_services(service, Some(port), builder),
            (Rtype::NS, Found::Apex) => {
                let server = RelativeName::from_slice(NAME_SERVER).expect("constant labels are valid");
                let Ok(server) = server.chain(self.start.zone) else { return Ok(()) };
                self.name_servers().try_for_each(|addr| self.help_address(&server, addr, builder))
            }
            _ => Ok(()),
        }
    }

    /// Addresses of one family, in another order each time.
    fn push_addresses<F: Family>(
        &self,
        owner: &Name<[u8]>,
        found: &Found<'_>,
        rotation: &mut Rotation,
        answer: &mut Answer<'_>,
    ) {
        match found {
            Found::Service(service) => {
                self.push_rotated(owner, F::of_service(service).iter().copied(), rotation, answer);
            }
            Found::Endpoint(_, hosts) => self.push_rotated(owner, hosts.iter().filter_map(F::of), rotation, answer),
            Found::Pod(addr) => self.push_rotated(owner, F::of(*addr).into_iter(), rotation, answer),
            Found::NameServer => {
                let servers: Vec<F> = self.name_servers().filter_map(F::of).collect();
                self.push_rotated(owner, servers.into_iter(), rotation, answer);
            }
            _ => {}
        }
    }

    fn push_rotated<F: Family>(
        &self,
        owner: &Name<[u8]>,
        addresses: impl Iterator<Item = F> + Clone,
        rotation: &mut Rotation,
        answer: &mut Answer<'_>,
    ) {
        let first = rotation.next(addresses.clone().count());
        for addr in addresses.clone().skip(first).chain(addresses.take(first)) {
            if !answer.push((owner, Class::IN, self.config.ttl_s, addr.data())) {
                return;
            }
        }
    }

    /// SRV records of all named ports, or of those called like one.
    fn push_services(
        &self,
        owner: &Name<[u8]>,
        service: &ServiceNames,
        asked: Option<&NamedPort>,
        rotation: &mut Rotation,
        answer: &mut Answer<'_>,
    ) {
        let Some(name) = service_name(&service.key, self.start.zone) else { return };
        match &service.stands {
            Stands::ClusterIps { ports, .. } => {
                let asked = || ports.iter().filter(|port| is_asked(port, asked));
                // Without name and protocol, ports of one number are one record.
                let is_told = |at: usize, number: u16| asked().take(at).any(|before| before.number == number);
                let ports = asked().enumerate().filter(|(at, port)| !is_told(*at, port.number));
                let weight = weight(ports.clone().count());
                for (_, port) in ports {
                    let data = Srv::new(SRV_PRIORITY, weight, port.number, &name);
                    answer.push((owner, Class::IN, self.config.ttl_s, data));
                }
            }
            Stands::Headless { ports } => {
                let asked = || ports.iter().filter(|ports| is_asked(&ports.port, asked));
                let is_told = |at: usize, number: u16, host: &Host| {
                    let mut alike = asked().take(at).filter(|before| before.port.number == number);
                    alike.any(|before| before.hosts.binary_search(host).is_ok())
                };
                let ports = asked().enumerate();
                let untold = |(at, ports): (usize, &PortHosts)| {
                    ports.hosts.iter().filter(|host| !is_told(at, ports.port.number, host)).count()
                };
                let weight = weight(ports.clone().map(untold).sum());
                for (at, PortHosts { port, hosts }) in ports {
                    let first = rotation.next(hosts.len());
                    let rotated = hosts[first..].iter().chain(&hosts[..first]);
                    for host in rotated.filter(|host| !is_told(at, port.number, host)) {
                        let label = HostLabel::new(host);
                        let Some(target) = label.below(&name) else { continue };
                        let data = Srv::new(SRV_PRIORITY, weight, port.number, target);
                        if !answer.push((owner, Class::IN, self.config.ttl_s, data)) {
                            return;
                        }
                    }
                }
            }
            Stands::External(_) => {}
        }
    }

    fn help_services(
        &self,
        service: &ServiceNames,
        asked: Option<&NamedPort>,
        builder: &mut AdditionalBuilder<Target<'_>>,
    ) -> Result<(), PushError> {
        let Some(name) = service_name(&service.key, self.start.zone) else { return Ok(()) };
        match &service.stands {
            Stands::ClusterIps { v4, v6, .. } => {
                let addresses = v4.iter().copied().map(IpAddr::from).chain(v6.iter().copied().map(IpAddr::from));
                addresses.into_iter().try_for_each(|addr| self.help_address(&name, addr, builder))
            }
            Stands::Headless { ports } => {
                let asked = || ports.iter().filter(|ports| is_asked(&ports.port, asked));
                for (position, PortHosts { hosts, .. }) in asked().enumerate() {
                    let is_told = |host| asked().take(position).any(|before| before.hosts.binary_search(host).is_ok());
                    for host in hosts.iter().filter(|host| !is_told(host)) {
                        self.help_host(host, &name, &service.endpoints, builder)?;
                    }
                }
                Ok(())
            }
            Stands::External(_) => Ok(()),
        }
    }

    fn help_host(
        &self,
        host: &Host,
        service: &ServiceName<'_>,
        endpoints: &Endpoints,
        builder: &mut AdditionalBuilder<Target<'_>>,
    ) -> Result<(), PushError> {
        let label = HostLabel::new(host);
        let Some(name) = label.below(service) else { return Ok(()) };
        endpoints.of_host(host).iter().try_for_each(|addr| self.help_address(&name, addr, builder))
    }

    fn help_address(
        &self,
        owner: &impl ToName,
        addr: IpAddr,
        builder: &mut AdditionalBuilder<Target<'_>>,
    ) -> Result<(), PushError> {
        match addr {
            IpAddr::V4(addr) => builder.push((owner, Class::IN, self.config.ttl_s, addr.data())),
            IpAddr::V6(addr) => builder.push((owner, Class::IN, self.config.ttl_s, addr.data())),
        }
    }

    /// Where the DNS itself is reached: at the ClusterIPs of its Service, or where it was told.
    fn name_servers(&self) -> impl Iterator<Item = IpAddr> {
        let service = self.tables.names.service(DNS_SERVICE);
        let (v4, v6) = service
            .map_or((&[][..], &[][..]), |service| (Ipv4Addr::of_service(service), Ipv6Addr::of_service(service)));
        let told = if v4.is_empty() && v6.is_empty() { &self.config.addresses[..] } else { &[] };
        v4.iter().copied().map(IpAddr::from).chain(v6.iter().copied().map(IpAddr::from)).chain(told.iter().copied())
    }
}

/// Whether `port` has the name and the protocol of `asked`.
fn is_asked(port: &NamedPort, asked: Option<&NamedPort>) -> bool {
    asked.is_none_or(|asked| (&port.name, port.protocol) == (&asked.name, asked.protocol))
}

/// Each of `count` records has the same share.
fn weight(count: usize) -> u16 {
    (SRV_WEIGHTS / u16::try_from(count.max(1)).unwrap_or(SRV_WEIGHTS)).max(1)
}
