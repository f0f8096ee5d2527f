//! Names that are not the cluster's: asked of other servers, and remembered.
//!
//! In: a query as a client sent it. Out: an answer to it, always; SERVFAIL if nothing better is to be had.
//!
//! States of a question: *remembered* (`cache`, found without waiting), *in flight* (`flights`: it is put to upstreams once,
//! however many ask it meanwhile), *answered*. Events: a query, a datagram, a deadline. How a flight goes: the servers of the
//! longest stub domain, else those for all names (`servers`), are asked one after another, each for at most [`ATTEMPT`], in
//! [`ROUNDS`] rounds, all within [`WHOLE`]; over UDP first (`exchange`), over TCP if the answer is longer than a datagram. A server
//! that does not answer rests: it is asked last for a while. One that answers SERVFAIL, REFUSED or NOTIMP is believed only if no
//! other one knows better, as glibc does.
//!
//! What is remembered (`stored`): answers by the least TTL of their records, at most an hour; that a name or type does not exist
//! by the SOA record (RFC 2308), at most half an hour, without one not at all; failures for a second (RFC 9520). TTLs are counted
//! down. Nothing is answered after its time.
//!
//! Limits: [`FLIGHTS_MAX`] questions in flight (one more is answered SERVFAIL), the cache's entries and bytes, servers and stub
//! domains. A query without RD asks what is known here: what is not remembered is refused.
//!
//! Loops: servers that are the asker itself are not taken. [`Forwarder::find_loops`] asks each server for a name that was just
//! made up; if that comes back as a query, the server leads here, is reported and not asked any more. A loop that comes to be
//! later waits for itself until [`WHOLE`] has passed, because a question is in flight only once.
//!
//! RFC 5452 (answers that are believed), 2308, 9520 (what is remembered), 6891 (EDNS).

mod cache;
mod config;
mod counters;
mod exchange;
mod flights;
mod ids;
pub(crate) mod invariants;
mod question;
mod servers;
mod stored;
#[cfg(test)]
mod tests;

pub use config::{ForwardConfig, ForwardError, StubDomain, Upstreams};
pub use counters::ForwardCounters;
pub use servers::{DNS_PORT, SERVERS_MAX, STUB_DOMAINS_MAX};

use super::{Target, Transport};
use cache::Cache;
use counters::Counters;
use domain::base::iana::{Rcode, Rtype};
use exchange::Attempt;
use flights::{Boarding, Flights};
use ids::Ids;
use question::{Key, Query, Unanswerable, bare_error};
use servers::{Looked, Server, Servers};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use stored::Stored;
use tokio::time::Instant as TokioInstant;

/// Longest wait for one server: three of them fit into [`WHOLE`].
pub const ATTEMPT: Duration = Duration::from_millis(1500);

/// Longest wait for all servers: stub resolvers ask again after five seconds, and an answer that comes before says more.
pub const WHOLE: Duration = Duration::from_millis(4500);

/// How often a server is asked the same question: a datagram may get lost.
const ROUNDS: usize = 2;

/// Questions in flight: each has a socket, and processes have 1,024 descriptors unless told otherwise.
pub const FLIGHTS_MAX: usize = 512;

/// Bytes of a label of the names that are made up.
const PROBE_LABEL_BYTES: usize = 14 + 32;

/// Asks other servers. A clone asks through the same cache; any thread may have one.
#[derive(Clone, Debug)]
pub struct Forwarder {
    shared: Arc<Shared>,
}

struct Shared {
    servers: Servers,
    cache: Cache,
    flights: Flights,
    ids: Ids,
    counters: Counters,
    probes: Mutex<Probes>,
    report: Box<dyn Fn(&str) + Send + Sync>,
    times: Times,
}

/// Names that were made up, in wire form, and who was asked for them.
type Probes = Vec<(Box<[u8]>, Arc<Server>)>;

/// How long is waited.
#[derive(Clone, Copy, Debug)]
struct Times {
    attempt: Duration,
    whole: Duration,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("servers", &self.servers).field("remembered", &self.cache.len()).finish()
    }
}

impl Forwarder {
    /// A forwarder that has not asked anything yet. The configuration must have passed [`ForwardConfig::check`]; servers that
    /// did not are asked all the same.
    pub fn new(config: ForwardConfig) -> Forwarder {
        Forwarder::with_report(config, |_| {})
    }

    /// The same; `report` gets a sentence whenever something is wrong that a person should know.
    pub fn with_report(config: ForwardConfig, report: impl Fn(&str) + Send + Sync + 'static) -> Forwarder {
        let times = Times { attempt: ATTEMPT, whole: WHOLE };
        Forwarder::build(config, times, Box::new(report))
    }

    fn build(config: ForwardConfig, times: Times, report: Box<dyn Fn(&str) + Send + Sync>) -> Forwarder {
        let shared = Shared {
            servers: Servers::new(&config),
            cache: Cache::new(),
            flights: Flights::default(),
            ids: Ids::default(),
            counters: Counters::default(),
            probes: Mutex::default(),
            report,
            times,
        };
        Forwarder { shared: Arc::new(shared) }
    }

    /// What was done so far.
    pub fn counters(&self) -> ForwardCounters {
        self.shared.counters.read()
    }

    /// Writes the answer to `query` into `answer`, whose content is replaced, if it is remembered or needs nobody's help;
    /// `false` if it has to be asked for, with [`Forwarder::resolve`]. Never waits. No answer at all (`answer` is empty) is for
    /// what is no query.
    pub fn find_cached(&self, query: &[u8], transport: Transport, answer: &mut Vec<u8>) -> bool {
        answer.clear();
        match Query::check(query, transport) {
            Err(Unanswerable::NoQuery) => true,
            Err(Unanswerable::Error(rcode)) => {
                bare_error(query, rcode, answer);
                true
            }
            Ok(checked) => self.find(&checked, &checked.key(), answer),
        }
    }

    /// The answer to `query`, remembered or asked for; empty for what is no query. To be called on a tokio runtime, which also
    /// goes on with the question if the future is dropped.
    pub async fn resolve(&self, query: &[u8], transport: Transport) -> Vec<u8> {
        let mut answer = Vec::with_capacity(512);
        let checked = match Query::check(query, transport) {
            Err(Unanswerable::NoQuery) => return answer,
            Err(Unanswerable::Error(rcode)) => {
                bare_error(query, rcode, &mut answer);
                return answer;
            }
            Ok(checked) => checked,
        };
        let key = checked.key();
        if self.find(&checked, &key, &mut answer) {
            return answer;
        }
        if !checked.wants_recursion() || self.is_probe(&key) {
            self.refuse(&checked, &mut answer);
            return answer;
        }
        match self.shared.flights.board(&key) {
            Boarding::Full => {
                self.shared.counters.full.add();
                checked.error(Rcode::SERVFAIL, &mut answer);
            }
            Boarding::Join(mut flight) => {
                self.shared.counters.joined.add();
                self.land(flight.landed().await, &checked, &mut answer);
            }
            Boarding::Begin(mut flight, captain) => {
                let (forwarder, question) = (self.clone(), Box::<[u8]>::from(checked.question));
                tokio::spawn(async move { captain.land(forwarder.fly(&question, &key).await) });
                self.land(flight.landed().await, &checked, &mut answer);
            }
        }
        answer
    }

    /// What an upstream says about the records of type `rtype` of `target`, for [`super::Responder::complete`].
    pub async fn chase(&self, target: &Target, rtype: Rtype) -> Vec<u8> {
        let mut query = Vec::with_capacity(question::HEADER_BYTES + question::QUESTION_BYTES_MAX);
        query.extend_from_slice(&[0, 0, question::RD, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        query.extend_from_slice(target.as_slice());
        query.extend_from_slice(&rtype.to_int().to_be_bytes());
        query.extend_from_slice(&[0, 1]);
        self.resolve(&query, Transport::Tcp).await
    }

    /// Asks every server for a name of its own that nobody has, to learn whether the question comes back here. Returns when all
    /// have answered or had their time.
    pub async fn find_loops(&self) {
        self.look();
        for server in self.shared.servers.all() {
            let name = self.make_probe(&server);
            let mut question = name.to_vec();
            // HINFO: nobody's cache has such a record, and nobody minds the question.
            question.extend_from_slice(&[0, 13, 0, 1]);
            let mut query = vec![0, 0, question::RD, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            query.extend_from_slice(&question);
            let Ok(checked) = Query::check(&query, Transport::Udp) else { continue };
            let (key, deadline) = (checked.key(), TokioInstant::now() + self.shared.times.attempt);
            // What it answers does not matter.
            let _ = self.attempt(server.address, &question, &key, deadline).run().await;
        }
    }

    /// Writes the answer that is remembered; whether there is one.
    fn find(&self, query: &Query<'_>, key: &Key, answer: &mut Vec<u8>) -> bool {
        let now = Instant::now();
        let Some(stored) = self.shared.cache.find(key, now) else { return false };
        self.shared.counters.cached.add();
        stored.write(query, now, answer);
        true
    }

    fn refuse(&self, query: &Query<'_>, answer: &mut Vec<u8>) {
        self.shared.counters.refused.add();
        query.error(Rcode::REFUSED, answer);
    }

    /// Gives a client what a flight brought.
    fn land(&self, landed: Option<Landed>, query: &Query<'_>, answer: &mut Vec<u8>) {
        match landed {
            Some(Landed::Answer(stored)) => stored.write(query, Instant::now(), answer),
            Some(Landed::Nobody) => self.refuse(query, answer),
            // The runtime is going down.
            None => query.error(Rcode::SERVFAIL, answer),
        }
    }

    /// Puts a question to upstreams.
    async fn fly(&self, question: &[u8], key: &Key) -> Landed {
        if self.look() {
            let forwarder = self.clone();
            tokio::spawn(async move { forwarder.find_loops().await });
        }
        let landed = self.ask(question, key).await;
        if let Landed::Answer(stored) = &landed {
            self.shared.cache.insert(key, stored.clone(), Instant::now());
        }
        landed
    }

    async fn ask(&self, question: &[u8], key: &Key) -> Landed {
        let times = self.shared.times;
        let whole = TokioInstant::now() + times.whole;
        let mut declined = None;
        for round in 0..ROUNDS {
            let servers = self.shared.servers.of(key.name(), Instant::now());
            if servers.is_empty() {
                return Landed::Nobody;
            }
            if round == 0 {
                self.shared.counters.asked.add();
            }
            for server in servers {
                let deadline = (TokioInstant::now() + times.attempt).min(whole);
                match self.attempt(server.address, question, key, deadline).run().await {
                    Err(_) => server.handle_failure(Instant::now()),
                    Ok(stored) => {
                        server.handle_answer();
                        if ![Rcode::SERVFAIL, Rcode::REFUSED, Rcode::NOTIMP].contains(&stored.rcode()) {
                            return Landed::Answer(Arc::new(stored));
                        }
                        declined.get_or_insert(stored);
                    }
                }
                if TokioInstant::now() >= whole {
                    break;
                }
            }
            if declined.is_some() || TokioInstant::now() >= whole {
                break;
            }
        }
        let failure = || {
            self.shared.counters.failed.add();
            let asked = stored::ask(question, 0, key, false);
            Stored::failure(&asked, Instant::now())
        };
        Landed::Answer(Arc::new(declined.unwrap_or_else(failure)))
    }

    fn attempt<'a>(
        &'a self,
        server: SocketAddr,
        question: &'a [u8],
        key: &'a Key,
        deadline: TokioInstant,
    ) -> Attempt<'a> {
        let Shared { ids, counters, .. } = &*self.shared;
        Attempt { server, question, key, deadline, ids, counters }
    }

    /// Looks whether the resolv.conf names others; whether it does.
    fn look(&self) -> bool {
        match self.shared.servers.look(Instant::now()) {
            Looked::Same => false,
            Looked::Changed => true,
            Looked::Nobody(why) => {
                (self.shared.report)(&format!("{why}: names outside the cluster are refused"));
                false
            }
        }
    }

    fn probes(&self) -> MutexGuard<'_, Probes> {
        // Every change is one assignment.
        self.shared.probes.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Makes up a name to ask `server` for.
    fn make_probe(&self, server: &Arc<Server>) -> Box<[u8]> {
        let ids = &self.shared.ids;
        let label = format!("podplane-loop-{:016x}{:016x}", ids.next_u64(), ids.next_u64());
        assert_eq!(label.len(), PROBE_LABEL_BYTES, "the length goes in front");
        let mut name = vec![PROBE_LABEL_BYTES as u8];
        name.extend_from_slice(label.as_bytes());
        name.push(0);
        let name: Box<[u8]> = name.into();
        let mut probes = self.probes();
        // The last one for each server is enough.
        probes.retain(|(_, other)| other.address != server.address);
        probes.push((name.clone(), server.clone()));
        name
    }

    /// Whether a query is for a name that was made up here: then the server that was asked for it leads here.
    fn is_probe(&self, key: &Key) -> bool {
        if key.name().len() != PROBE_LABEL_BYTES + 2 {
            return false;
        }
        let mut probes = self.probes();
        let Some(position) = probes.iter().position(|(name, _)| **name == *key.name()) else { return false };
        let (_, server) = probes.remove(position);
        drop(probes);
        server.handle_loop();
        self.shared.counters.loops.add();
        let address = server.address;
        (self.shared.report)(&format!(
            "loop: what upstream {address} is asked comes back to this server, so it is not asked any more; name another one"
        ));
        true
    }
}

/// What a flight brought.
#[derive(Clone, Debug)]
enum Landed {
    Answer(Arc<Stored>),
    /// Nobody is to be asked.
    Nobody,
}
