//! One query in, one answer out.
//!
//! In: the tables (none before the first sync), the bytes of a query. Out: the bytes of the answer, or who else is to be asked. After
//! the Kubernetes DNS specification 1.1.0.

use super::DnsCounters;
use domain::base::iana::Rcode;
use domain::base::{Message, MessageBuilder, Name, ParsedName};
use policy::tables::Tables;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// Seconds that an answer may be kept, unless told otherwise (as CoreDNS).
const TTL_DEFAULT_S: u32 = 5;

/// The zone of most clusters.
const ZONE_DEFAULT: &str = "cluster.local";

/// The zone is no name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadZone(String);

impl fmt::Display for BadZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a DNS name", self.0)
    }
}

impl std::error::Error for BadZone {}

/// Which pods have names (`1-2-3-4.<namespace>.pod.<zone>`, D10).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PodRecords {
    /// None.
    #[default]
    Disabled,
    /// Every address in every namespace, whether a pod has it or not.
    Insecure,
    /// Pods that have that address in that namespace.
    Verified,
}

/// What a responder is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsConfig {
    /// The cluster's zone.
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
        let zone = Name::from_str(zone).map_err(|_| BadZone(zone.to_owned()))?;
        Ok(DnsConfig { zone, pods: PodRecords::Disabled, ttl_s: TTL_DEFAULT_S, addresses: Vec::new() })
    }
}

impl Default for DnsConfig {
    fn default() -> DnsConfig {
        DnsConfig::of_zone(ZONE_DEFAULT).expect("the default zone is a name")
    }
}

/// How a query came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// In a datagram: answers are short.
    Udp,
    /// On a connection, without the length in front.
    Tcp,
}

/// The name that an ExternalName leads to, outside of the cluster.
pub type Target = Name<Vec<u8>>;

/// What is to be done with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    /// `answer` is to be sent.
    Answer,
    /// The name is not the cluster's: an upstream is to be asked, with the query as it came. `answer` is empty.
    Forward,
    /// An ExternalName leads out of the cluster. `answer` holds the beginning; the target's records of the queried type are to be
    /// asked for, and [`Responder::complete`] makes the answer whole.
    Chase(Target),
    /// Nothing is to be sent. `answer` is empty.
    Silence,
}

/// Answers queries about the cluster.
#[derive(Debug)]
pub struct Responder {
    config: DnsConfig,
    counters: DnsCounters,
}

impl Responder {
    /// A responder; the order of addresses in its answers follows from `seed`.
    pub fn new(config: DnsConfig, seed: u64) -> Responder {
        let _ = seed;
        Responder { config, counters: DnsCounters::default() }
    }

    /// Answers `query` into `answer`, whose content is replaced. `tables` is `None` until everything is known for the first
    /// time: what the cluster's names are cannot be said then (D15).
    pub fn respond(
        &mut self,
        tables: Option<&Tables>,
        transport: Transport,
        query: &[u8],
        answer: &mut Vec<u8>,
    ) -> Response {
        match transport {
            Transport::Udp => self.counters.udp += 1,
            Transport::Tcp => self.counters.tcp += 1,
        }
        answer.clear();
        let parsed = Message::from_octets(query).ok().filter(|message| !message.header().qr());
        let question = parsed.as_ref().and_then(|message| message.sole_question().ok());
        let (Some(message), Some(question)) = (&parsed, question) else {
            self.counters.silent += 1;
            return Response::Silence;
        };
        let name: &ParsedName<_> = question.qname();
        if !name.ends_with(&self.config.zone) {
            self.counters.forwarded += 1;
            return Response::Forward;
        }
        let rcode = if tables.is_none() { Rcode::SERVFAIL } else { Rcode::NXDOMAIN };
        let builder = MessageBuilder::from_target(answer).expect("memory grows");
        builder.start_answer(message, rcode).expect("memory grows");
        Response::Answer
    }

    /// Makes the answer to a query whole for which [`Responder::respond`] said [`Response::Chase`]: `answer` holds what it left
    /// there, `upstream` what an upstream said about the target, if anything.
    pub fn complete(&mut self, transport: Transport, query: &[u8], answer: &mut Vec<u8>, upstream: Option<&[u8]>) {
        let _ = (transport, query, answer, upstream);
    }

    /// What was done so far.
    pub fn counters(&self) -> DnsCounters {
        self.counters
    }
}
