//! Session affinity (S07, B23): which backend a client of a Service had last.
//!
//! sessionAffinity ClientIP keeps all flows of a client address to a Service on one backend, over every port and every address
//! of the Service. What is remembered is the backend's address, under the Service's name across epochs and the client's
//! address. It is used while the backend is a candidate for the flow at hand; otherwise the flow chooses as any other does, and
//! that is remembered. Each new flow begins the timeout anew; a client that was silent for as long chooses freely.
//!
//! **Limit.** At most `clients_max` are remembered, least recently used ones are forgotten first: a Service whose clients are
//! forgotten before their time loses affinity, not connections. Each shard remembers the clients that enter there.

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use policy::tables::ServiceId;
use std::net::IpAddr;
use std::time::Duration;
use wire::{FlowKey, Instant, Protocol};

/// Clients that a shard remembers, of all Services: 6 MiB.
pub(crate) const CLIENTS_MAX: u32 = 65_536;

const NONE: u32 = u32::MAX;

/// One client of one Service.
#[derive(Clone, Copy, Debug)]
struct Session {
    service: ServiceId,
    client: IpAddr,
    backend: IpAddr,
    last_flow: Instant,
    /// More recently used.
    newer: u32,
    /// Less recently used.
    older: u32,
}

/// What is remembered.
#[derive(Debug)]
pub(crate) struct Affinity {
    seed: u64,
    clients_max: usize,
    sessions: Vec<Session>,
    index: HashTable<u32>,
    newest: u32,
    oldest: u32,
}

impl Affinity {
    /// Nothing is remembered, and at most `clients_max` will be.
    pub(crate) fn new(seed: u64, clients_max: u32) -> Affinity {
        let clients_max = clients_max.max(1) as usize;
        Affinity { seed, clients_max, sessions: Vec::new(), index: HashTable::new(), newest: NONE, oldest: NONE }
    }

    /// The address of the backend that `client` had last, if that was less than `timeout` ago.
    pub(crate) fn find(&self, now: Instant, service: ServiceId, client: IpAddr, timeout: Duration) -> Option<IpAddr> {
        let at = *self.index.find(self.hash(service, client), |&at| self.is(at, service, client))?;
        let session = &self.sessions[at as usize];
        (now.saturating_since(session.last_flow) < timeout).then_some(session.backend)
    }

    /// A flow of `client` goes to the backend at `backend`.
    pub(crate) fn remember(&mut self, now: Instant, service: ServiceId, client: IpAddr, backend: IpAddr) {
        let hash = self.hash(service, client);
        let known = self.index.find(hash, |&at| self.is(at, service, client)).copied();
        let at = match known {
            Some(at) => {
                self.unlink(at);
                at
            }
            None => self.make_room(hash),
        };
        self.sessions[at as usize] = Session { service, client, backend, last_flow: now, newer: NONE, older: NONE };
        self.link(at);
    }

    /// A position for a session with hash `hash`, entered in the index: a fresh one, or that of the least recently used.
    fn make_room(&mut self, hash: u64) -> u32 {
        let at = if self.sessions.len() < self.clients_max {
            let unspecified = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);
            self.sessions.push(Session {
                service: ServiceId(0),
                client: unspecified,
                backend: unspecified,
                last_flow: Instant::ZERO,
                newer: NONE,
                older: NONE,
            });
            (self.sessions.len() - 1) as u32
        } else {
            let at = self.oldest;
            self.unlink(at);
            self.forget(at);
            at
        };
        let (sessions, seed) = (&self.sessions, self.seed);
        self.index.insert_unique(hash, at, |&at| {
            let session = &sessions[at as usize];
            hash_of(seed, session.service, session.client)
        });
        at
    }

    /// Takes a session out of the index.
    fn forget(&mut self, at: u32) {
        let (sessions, seed) = (&self.sessions, self.seed);
        let hash = |&at: &u32| {
            let session = &sessions[at as usize];
            hash_of(seed, session.service, session.client)
        };
        if let Entry::Occupied(entry) = self.index.entry(hash(&at), |&other| other == at, hash) {
            entry.remove();
        }
    }

    fn is(&self, at: u32, service: ServiceId, client: IpAddr) -> bool {
        let session = &self.sessions[at as usize];
        session.service == service && session.client == client
    }

    fn hash(&self, service: ServiceId, client: IpAddr) -> u64 {
        hash_of(self.seed, service, client)
    }

    fn link(&mut self, at: u32) {
        self.sessions[at as usize].older = self.newest;
        match self.newest {
            NONE => self.oldest = at,
            newest => self.sessions[newest as usize].newer = at,
        }
        self.newest = at;
    }

    fn unlink(&mut self, at: u32) {
        let Session { newer, older, .. } = self.sessions[at as usize];
        match newer {
            NONE => self.newest = older,
            newer => self.sessions[newer as usize].older = older,
        }
        match older {
            NONE => self.oldest = newer,
            older => self.sessions[older as usize].newer = newer,
        }
    }
}

fn hash_of(seed: u64, service: ServiceId, client: IpAddr) -> u64 {
    FlowKey::new(Protocol(0), client, 0, client, 0).hash_with(seed ^ service.0)
}

#[cfg(test)]
mod tests;
