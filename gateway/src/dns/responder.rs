//! One query in, one answer out.
//!
//! In: the tables (none before the first sync), the bytes of a query. Out: the bytes of the answer, or who else is to be asked. What a
//! name stands for is looked up in `policy::names`; here it becomes records, after the Kubernetes DNS specification 1.1.0 and, where that
//! is silent, CoreDNS:
//!
//! - A name that exists and has no record of the type is answered without records and NOERROR; one that does not, with NXDOMAIN (D11).
//!   Both carry the SOA record that says how long that holds (RFC 2308).
//! - Addresses come in another order each time (D18): whoever takes the first one spreads its connections.
//! - Names come back in the case in which they were asked for (D09).
//! - An alias is followed as long as it stays in the zone, and at most [`ALIASES_MAX`] times.
//! - A reverse name of an address that is nobody's here is not the cluster's: an upstream may know it.
//! - ANY is answered with one small record (RFC 8482), zone transfers are refused.

use super::answer::{self, Answer, Start};
use super::config::DnsConfig;
use super::counters::DnsCounters;
use super::query::{Query, Unreadable, below};
use super::records::{Records, Rotation};
use super::{reverse, upstream};
use domain::base::iana::{Class, OptRcode, Rtype};
use domain::base::{Name, ToName};
use domain::rdata::Cname;
use policy::names::{Found, Stands, find};
use policy::tables::Tables;
use std::net::IpAddr;

/// ExternalNames that are followed inside the zone; a longer chain is most likely a circle. Resolvers give up between 8 and 16.
const ALIASES_MAX: usize = 8;

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
    rotation: Rotation,
    counters: DnsCounters,
}

impl Responder {
    /// A responder; the order of addresses in its answers follows from `seed`.
    pub fn new(config: DnsConfig, seed: u64) -> Responder {
        Responder { config, rotation: Rotation::new(seed), counters: DnsCounters::default() }
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
        self.counters.came(transport);
        answer.clear();
        let query = match Query::parse(query) {
            Ok(query) => query,
            Err(Unreadable::Silence) => {
                self.counters.silent += 1;
                return Response::Silence;
            }
            Err(Unreadable::Header(header, rcode)) => {
                self.counters.answered(rcode.into(), false);
                answer::refuse(header, rcode, answer);
                return Response::Answer;
            }
            Err(Unreadable::Question(query, rcode)) => {
                return self.fail(Answer::new(&query, transport, answer), rcode.into());
            }
        };
        let refusal = match query.edns {
            Some(edns) if edns.version > 0 => Some(OptRcode::BADVERS),
            _ if query.class != Class::IN => Some(OptRcode::REFUSED),
            _ if matches!(query.qtype, Rtype::AXFR | Rtype::IXFR) => Some(OptRcode::REFUSED),
            _ => None,
        };
        if let Some(rcode) = refusal {
            return self.fail(Answer::new(&query, transport, answer), rcode);
        }
        self.counters.asked(query.qtype);
        if let Some(below) = below(query.lower(), self.config.zone.as_slice()) {
            return match tables {
                Some(tables) => self.answer(tables, &query, below, Answer::new(&query, transport, answer)),
                None => self.fail(Answer::new(&query, transport, answer), OptRcode::SERVFAIL),
            };
        }
        let Some(addr) = reverse::parse(query.lower()) else { return self.forward() };
        match tables {
            Some(tables) if tables.names.holders(addr).next().is_some() => {
                self.answer_reverse(tables, &query, addr, Answer::new(&query, transport, answer))
            }
            Some(_) => self.forward(),
            None => self.fail(Answer::new(&query, transport, answer), OptRcode::SERVFAIL),
        }
    }

    /// Answers what is asked about a name of the zone; `front` is the part of the name in front of that.
    fn answer(&mut self, tables: &Tables, query: &Query<'_>, front: &[u8], mut answer: Answer<'_>) -> Response {
        let zone = query.name.slice_from(front.len());
        let start = Start { zone, serial: tables.epoch as u32, ttl_s: self.config.ttl_s };
        let mut owner: &Name<[u8]> = query.name;
        let mut found = find(tables, front, self.config.pods);
        let mut aliases = 0;
        while let Some(target) = alias(&found, query.qtype) {
            if aliases == ALIASES_MAX {
                return self.fail(answer, OptRcode::SERVFAIL);
            }
            aliases += 1;
            answer.push((owner, Class::IN, self.config.ttl_s, Cname::new(target)));
            let lower = target.to_canonical_name::<Vec<u8>>();
            let Some(front) = below(lower.as_slice(), self.config.zone.as_slice()) else {
                self.counters.chased += 1;
                return Response::Chase(lower);
            };
            (owner, found) = (target, find(tables, front, self.config.pods));
        }
        if let Found::Nothing(_) = found {
            self.counters.answered(OptRcode::NXDOMAIN, false);
            answer.finish_without(OptRcode::NXDOMAIN, Some(start));
            return Response::Answer;
        }
        let records = Records { tables, config: &self.config, start };
        let aliases = answer.len();
        records.push(query.qtype, owner, &found, &mut self.rotation, &mut answer);
        if answer.len() == aliases && !answer.is_truncated() {
            self.counters.answered(OptRcode::NOERROR, false);
            answer.finish_without(OptRcode::NOERROR, Some(start));
            return Response::Answer;
        }
        self.counters.answered(OptRcode::NOERROR, true);
        self.counters.truncated += u64::from(answer.is_truncated());
        answer.finish(|builder| records.help(query.qtype, &found, builder));
        Response::Answer
    }

    /// Answers what is asked about the reverse name of `addr`, which is somebody's here.
    fn answer_reverse(&mut self, tables: &Tables, query: &Query<'_>, addr: IpAddr, mut answer: Answer<'_>) -> Response {
        if query.qtype == Rtype::PTR {
            reverse::push_pointers(&tables.names, addr, query.name, &self.config, &mut answer);
        }
        let has_records = answer.len() > 0 || answer.is_truncated();
        self.counters.answered(OptRcode::NOERROR, has_records);
        self.counters.truncated += u64::from(answer.is_truncated());
        if has_records {
            answer.finish(|_| Ok(()));
        } else {
            let zone = reverse::zone(query.name);
            let start = Start { zone, serial: tables.epoch as u32, ttl_s: self.config.ttl_s };
            answer.finish_without(OptRcode::NOERROR, Some(start));
        }
        Response::Answer
    }

    /// Makes the answer to a query whole for which [`Responder::respond`] said [`Response::Chase`]: `answer` holds what it left
    /// there, `upstream` what an upstream said about the target, if anything.
    pub fn complete(&mut self, transport: Transport, query: &[u8], answer: &mut Vec<u8>, upstream: Option<&[u8]>) {
        let Ok(query) = Query::parse(query) else { return };
        let begun = std::mem::take(answer);
        let is_truncated = upstream::complete(&query, transport, &begun, upstream, answer);
        self.counters.truncated += u64::from(is_truncated);
    }

    /// What was done so far.
    pub fn counters(&self) -> DnsCounters {
        self.counters
    }

    fn fail(&mut self, answer: Answer<'_>, rcode: OptRcode) -> Response {
        self.counters.answered(rcode, false);
        answer.finish_without(rcode, None);
        Response::Answer
    }

    fn forward(&mut self) -> Response {
        self.counters.forwarded += 1;
        Response::Forward
    }
}

/// Where `found` leads instead of having records of the type itself.
fn alias<'a>(found: &Found<'a>, qtype: Rtype) -> Option<&'a Name<[u8]>> {
    let Found::Service(service) = found else { return None };
    let Stands::External(Some(target)) = &service.stands else { return None };
    let follows = !matches!(qtype, Rtype::CNAME | Rtype::ANY);
    Name::from_slice(target).ok().filter(|_| follows)
}

#[cfg(test)]
mod tests;
