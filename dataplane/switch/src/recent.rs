//! The most recent drops, for people who ask what became of their packets (W03): one record per port, reason, addresses, protocol
//! and destination port, with how often and when. What a dry run would have dropped is recorded in the same shape (W04).
//!
//! **Room.** At most [`RECORDS_MAX`] records, of which at most [`RECORDS_PER_SENDER_MAX`] are of what one port sent, or of what came from
//! other nodes and shards (and as many of what a dry run would have dropped at a port): whoever sends to millions of destinations pushes
//! out its own records first, and the others' only when there are eight such senders. The least recent ones give way, and how many did is counted. All of the room is taken at the first drop; from
//! then on a drop costs no allocation.

#[cfg(test)]
mod tests;

use crate::{DropReason, PortId};
use hashbrown::hash_table::Entry;
use hashbrown::{HashMap, HashTable};
use policy::tables::Direction;
use std::net::IpAddr;
use std::time::Duration;
use wire::{FlowKey, Instant, Protocol};

/// Records of a shard: 300 KiB with their index. More than a person reads, and enough for what a node drops in a bad minute.
pub(crate) const RECORDS_MAX: usize = 1_024;

/// Records of what one port sent.
pub(crate) const RECORDS_PER_SENDER_MAX: usize = RECORDS_MAX / 8;

const NONE: u32 = u32::MAX;

/// Packets that were discarded for one reason, or would have been.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DropSeen {
    /// The port that judged them, or else that sent them; `None` for what came from other nodes or shards and reached no port.
    pub port: Option<PortId>,
    /// Why.
    pub reason: DropReason,
    /// Nothing was discarded: a policy in dry run would have done it. Then it is flows that are counted.
    pub dry_run: bool,
    /// At which end policy denies, if it does.
    pub direction: Option<Direction>,
    /// The last of them as it was when it was discarded; `None` if it was no IP packet.
    pub flow: Option<FlowKey>,
    /// The same as its sender sent it, if it was translated since and that is known here.
    pub before: Option<FlowKey>,
    /// How many.
    pub count: u64,
    /// Time since the first.
    pub first_ago: Duration,
    /// Time since the last.
    pub last_ago: Duration,
}

/// What policy was asked about a flow that it denies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Which rules.
    pub direction: Direction,
    /// Address of the pod that they are of.
    pub subject: IpAddr,
    /// The other end.
    pub peer: IpAddr,
    /// Protocol.
    pub protocol: Protocol,
    /// The receiver's port; 0 without ports.
    pub port: u16,
}

impl DropSeen {
    /// What policy was asked, if it was.
    pub fn asked(&self) -> Option<Asked> {
        let (direction, flow) = (self.direction?, self.flow?);
        let (subject, peer) = match direction {
            Direction::FromPod => (self.before.unwrap_or(flow).src(), flow.dst()),
            Direction::ToPod => (flow.dst(), flow.src()),
        };
        let port = if flow.protocol.has_ports() { flow.dst_port } else { 0 };
        Some(Asked { direction, subject, peer, protocol: flow.protocol, port })
    }
}

/// The most recent drops of a switch.
#[derive(Clone, Debug, Default)]
pub struct DropsSeen {
    /// The most recent first.
    pub records: Vec<DropSeen>,
    /// Records that gave way to others since the start.
    pub forgotten: u64,
}

/// What is told of a drop.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Dropped {
    /// The port that sent it, if one of this shard did; of a dry run the port that judged it.
    pub(crate) sender: Option<PortId>,
    pub(crate) port: Option<PortId>,
    pub(crate) reason: DropReason,
    pub(crate) dry_run: bool,
    pub(crate) direction: Option<Direction>,
    pub(crate) flow: Option<FlowKey>,
    pub(crate) before: Option<FlowKey>,
}

/// Who is to blame for a record, for the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Blame {
    sender: Option<PortId>,
    dry_run: bool,
}

impl Dropped {
    fn blame(&self) -> Blame {
        Blame { sender: self.sender, dry_run: self.dry_run }
    }

    /// The flow without what differs between connections of the same two ends.
    fn ends(&self) -> Option<FlowKey> {
        self.flow.map(|mut flow| {
            flow.src_port = 0;
            if !flow.protocol.has_ports() {
                flow.dst_port = 0;
            }
            flow.in_zone(0)
        })
    }

    fn is_same(&self, other: &Dropped) -> bool {
        (self.blame(), self.port) == (other.blame(), other.port)
            && self.reason == other.reason
            && self.ends() == other.ends()
    }

    fn hash(&self, seed: u64) -> u64 {
        let port = self.port.map_or(u64::from(NONE), |port| u64::from(port.0));
        let rest = port << 16 | (self.reason as u64) << 8 | u64::from(self.dry_run);
        let nothing = || FlowKey::new(Protocol(0), NOWHERE, 0, NOWHERE, 0);
        self.ends().unwrap_or_else(nothing).hash_with(seed ^ rest.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }
}

const NOWHERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED);

/// A record's neighbors in a list.
#[derive(Clone, Copy, Debug)]
struct Links {
    newer: u32,
    older: u32,
}

#[derive(Clone, Copy, Debug)]
struct Record {
    what: Dropped,
    count: u64,
    first: Instant,
    last: Instant,
    /// In the list of all, and in that of its sender.
    links: [Links; 2],
}

/// The two lists that a record is in.
const ALL: usize = 0;
const OWN: usize = 1;

/// Records in order of their last drop.
#[derive(Clone, Copy, Debug)]
struct List {
    newest: u32,
    oldest: u32,
    len: usize,
}

const EMPTY: List = List { newest: NONE, oldest: NONE, len: 0 };

/// All records of a shard.
#[derive(Debug)]
pub(crate) struct Recent {
    seed: u64,
    records: Vec<Record>,
    index: HashTable<u32>,
    all: List,
    by_sender: HashMap<Blame, List>,
    forgotten: u64,
}

impl Recent {
    /// No record.
    pub(crate) fn new(seed: u64) -> Recent {
        Recent {
            seed,
            records: Vec::new(),
            index: HashTable::new(),
            all: EMPTY,
            by_sender: HashMap::new(),
            forgotten: 0,
        }
    }

    /// Records a drop, or what would have been one.
    #[cold]
    pub(crate) fn add(&mut self, now: Instant, what: Dropped) {
        let hash = what.hash(self.seed);
        let records = &self.records;
        let known = self.index.find(hash, |&at| records[at as usize].what.is_same(&what)).copied();
        let at = match known {
            Some(at) => {
                self.unlink(at);
                let record = &mut self.records[at as usize];
                (record.count, record.last, record.what) = (record.count + 1, record.last.max(now), what);
                at
            }
            None => self.enter(hash, Record { what, count: 1, first: now, last: now, links: [UNLINKED; 2] }),
        };
        self.link(at);
    }

    /// All records at `now`.
    pub(crate) fn all(&self, now: Instant) -> DropsSeen {
        let mut records = Vec::with_capacity(self.all.len);
        let mut at = self.all.newest;
        while at != NONE {
            let Record { what, count, first, last, links } = &self.records[at as usize];
            let Dropped { port, reason, dry_run, direction, flow, before, .. } = *what;
            records.push(DropSeen {
                port,
                reason,
                dry_run,
                direction,
                flow,
                before,
                count: *count,
                first_ago: now.saturating_since(*first),
                last_ago: now.saturating_since(*last),
            });
            at = links[ALL].older;
        }
        DropsSeen { records, forgotten: self.forgotten }
    }

    /// Puts a record into the index, at a fresh position or in place of the least recent one.
    fn enter(&mut self, hash: u64, record: Record) -> u32 {
        if self.records.capacity() == 0 {
            self.records.reserve_exact(RECORDS_MAX);
            // Twice as large as it gets: what is removed leaves traces, which are swept in place as long as half of it is free.
            self.index.reserve(2 * RECORDS_MAX, |_| unreachable!("an empty index hashes nothing"));
            self.by_sender.reserve(2 * RECORDS_MAX);
        }
        let own = self.by_sender.get(&record.what.blame()).copied().unwrap_or(EMPTY);
        let at = if own.len >= RECORDS_PER_SENDER_MAX {
            self.forget(own.oldest)
        } else if self.records.len() >= RECORDS_MAX {
            self.forget(self.all.oldest)
        } else {
            self.records.push(record);
            (self.records.len() - 1) as u32
        };
        self.records[at as usize] = record;
        let (records, seed) = (&self.records, self.seed);
        self.index.insert_unique(hash, at, |&at| records[at as usize].what.hash(seed));
        at
    }

    /// Takes a record out; its position is free.
    fn forget(&mut self, at: u32) -> u32 {
        self.unlink(at);
        let (records, seed) = (&self.records, self.seed);
        let hash = |&at: &u32| records[at as usize].what.hash(seed);
        if let Entry::Occupied(entry) = self.index.entry(hash(&at), |&other| other == at, hash) {
            entry.remove();
        }
        self.forgotten += 1;
        at
    }

    /// Makes a record the most recent one.
    fn link(&mut self, at: u32) {
        link(&mut self.records, &mut self.all, ALL, at);
        let blame = self.records[at as usize].what.blame();
        link(&mut self.records, self.by_sender.entry(blame).or_insert(EMPTY), OWN, at);
    }

    fn unlink(&mut self, at: u32) {
        unlink(&mut self.records, &mut self.all, ALL, at);
        let blame = self.records[at as usize].what.blame();
        if let Some(list) = self.by_sender.get_mut(&blame) {
            unlink(&mut self.records, list, OWN, at);
            if list.len == 0 {
                self.by_sender.remove(&blame);
            }
        }
    }
}

const UNLINKED: Links = Links { newer: NONE, older: NONE };

fn link(records: &mut [Record], list: &mut List, which: usize, at: u32) {
    records[at as usize].links[which] = Links { newer: NONE, older: list.newest };
    match list.newest {
        NONE => list.oldest = at,
        newest => records[newest as usize].links[which].newer = at,
    }
    list.newest = at;
    list.len += 1;
}

fn unlink(records: &mut [Record], list: &mut List, which: usize, at: u32) {
    let Links { newer, older } = records[at as usize].links[which];
    match newer {
        NONE => list.newest = older,
        newer => records[newer as usize].links[which].older = older,
    }
    match older {
        NONE => list.oldest = newer,
        older => records[older as usize].links[which].newer = newer,
    }
    list.len -= 1;
}
