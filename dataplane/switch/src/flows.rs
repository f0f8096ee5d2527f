//! The flow table of one port: its conntrack.
//!
//! A flow is known by two keys: the 5-tuple of the opener's packets as they enter this port's table, and the 5-tuple of the
//! answerer's packets as they enter it. Together they are the translation as well: a packet that matches one key leaves as
//! the reverse of the other. An index maps the hash of either key to the flow's position; flows lie in one growing vector.
//!
//! **Lifetime.** Each state has a queue. A flow is at the back of its state's queue when it enters the state. When it
//! reaches the front and its time is up it is removed; if packets have refreshed it meanwhile it goes to the back again. So a
//! packet costs no list operation, a flow is removed between one and two timeouts after its last packet, and a flow whose
//! time is up is never found, removed or not.
//!
//! **Records.** A table may be told to note which flows changed in a way that their records ([`record`]) show, for a shell that keeps
//! those where they outlive the process. A flow has a record while it is in a state that cannot be begun anew unseen
//! ([`State::is_kept`]), at its own position: so a table is taken up again record by record, and nothing is ever rearranged.
//! Counts are not recorded, because they change with every packet.
//!
//! **Limit.** The table holds at most `flows_max`. A new flow then takes the place of the first flow that is not spared
//! ([`State::spared`]), in the order of [`State`]: ended and half-open ones first. With none it is refused.

mod kept;
mod record;

use crate::Origin;
use crate::place::Place;
use crate::source_ports::SourcePorts;
use crate::state::{Side, State};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
pub use kept::Restored;
pub use record::RECORD_BYTES;
use wire::{FlowKey, Instant, Packet};

const NONE: u32 = u32::MAX;

/// Queue entries looked at for room before a new flow is refused, per state.
const EVICTION_LOOK_MAX: usize = 8;

/// Flows looked at for one that has ended when every source port to a destination is in use.
const RECLAIM_LOOK_MAX: u16 = 64;

/// Distance between two of those looks: a prime, so that they fall everywhere.
const RECLAIM_STEP: u16 = 1_021;

/// One conversation.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    /// The opener's packets as they enter the table.
    pub(crate) original: FlowKey,
    /// The answerer's packets as they enter the table.
    pub(crate) reply: FlowKey,
    /// Where the end that is not this port's lives.
    pub(crate) far: Place,
    /// Where the opener's packets entered the node, if its address does not say where it lives.
    pub(crate) origin: Origin,
    /// Whether the destination port of the answers was leased ([`FlowTable::lease`]).
    pub(crate) leased: bool,
    /// Tables under which the flow was judged; 0 for one that was taken up from a record.
    pub(crate) epoch: u32,
    /// Whether the attached side opened it; otherwise it came in.
    pub(crate) opened_here: bool,
    /// Whether its destination was a Service's.
    pub(crate) service: bool,
    /// Whether its answers are known to [`crate::masquerade`] as well.
    pub(crate) masqueraded: bool,
    /// Whether it is a connection attempt that may be led to another backend.
    pub(crate) watched: bool,
    /// Whether policy cut it. It is kept, so that what its ends still send to each other is not taken for another flow that
    /// happens to be allowed.
    pub(crate) denied: bool,
    /// Whether a policy in dry run would deny it; that has been counted.
    pub(crate) would_deny: bool,
    /// Whether its answers say who has a name ([`crate::names`]).
    pub(crate) teaches: bool,
    fins: u8,
    state: State,
    live: bool,
    /// Whether it is among the changed ones of its table.
    changed: bool,
    /// Whether there is a record at its position.
    recorded: bool,
    opened: Instant,
    last_packet: Instant,
    /// When it was put at the back of its queue.
    queued: Instant,
    /// Frames and bytes by side.
    counts: [(u64, u64); 2],
    prev: u32,
    next: u32,
}

// The memory target of a flow is 256 bytes including its two index entries.
const _: () = assert!(size_of::<Flow>() <= 256);

impl Flow {
    /// A flow that `packet` opens at `now`.
    pub(crate) fn new(now: Instant, packet: &Packet, original: FlowKey, reply: FlowKey) -> Flow {
        Flow::in_state(now, State::opened_by(packet), original, reply)
    }

    /// A flow that is in `state` from `now` on and was judged under no tables.
    fn in_state(now: Instant, state: State, original: FlowKey, reply: FlowKey) -> Flow {
        Flow {
            original,
            reply,
            far: Place::Nowhere(crate::DropReason::NoRoute),
            origin: Origin::Port,
            leased: false,
            epoch: 0,
            opened_here: true,
            service: false,
            masqueraded: false,
            watched: false,
            denied: false,
            would_deny: false,
            teaches: false,
            fins: 0,
            state,
            live: true,
            changed: false,
            recorded: false,
            opened: now,
            last_packet: now,
            queued: now,
            counts: [(0, 0); 2],
            prev: NONE,
            next: NONE,
        }
    }

    pub(crate) fn key(&self, side: Side) -> &FlowKey {
        match side {
            Side::Original => &self.original,
            Side::Reply => &self.reply,
        }
    }

    /// Whether the two directions are anything but the reverse of each other.
    pub(crate) fn is_translated(&self) -> bool {
        self.original != self.reply.reverse()
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    pub(crate) fn count(&self, side: Side) -> (u64, u64) {
        self.counts[side as usize]
    }

    pub(crate) fn opened(&self) -> Instant {
        self.opened
    }

    pub(crate) fn last_packet(&self) -> Instant {
        self.last_packet
    }

    fn is_over(&self, now: Instant) -> bool {
        now.saturating_since(self.last_packet) >= self.state.timeout()
    }
}

/// A flow that was found and the side on which the key matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    index: u32,
    pub(crate) side: Side,
}

/// Why a flow was not inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum InsertError {
    /// The table is full of flows that are spared.
    Full,
    /// Another flow has one of its keys.
    KeyTaken,
}

#[derive(Clone, Copy, Debug)]
struct Queue {
    front: u32,
    back: u32,
}

/// All flows of one port.
#[derive(Debug)]
pub(crate) struct FlowTable {
    seed: u64,
    flows_max: usize,
    flows: Vec<Flow>,
    /// First of the unused positions, chained by `next`.
    unused: u32,
    len: usize,
    /// Position and side, packed.
    index: HashTable<u32>,
    queues: [Queue; State::ALL.len()],
    /// Answers of masqueraded flows that were removed, until somebody forgets them elsewhere.
    pub(crate) forgotten: Vec<FlowKey>,
    /// What flows that leave with the node's own address have for source ports.
    pub(crate) source_ports: SourcePorts,
    /// Positions of flows whose records have to be written, if anybody keeps them.
    changes: Option<Vec<u32>>,
}

fn pack(index: u32, side: Side) -> u32 {
    index << 1 | side as u32
}

fn unpack(packed: u32) -> Hit {
    Hit { index: packed >> 1, side: if packed & 1 == 0 { Side::Original } else { Side::Reply } }
}

impl FlowTable {
    /// An empty table for at most `flows_max` flows (bounded by 2^30 so that positions can be packed).
    pub(crate) fn new(seed: u64, flows_max: u32) -> FlowTable {
        FlowTable {
            seed,
            flows_max: flows_max.min(1 << 30) as usize,
            flows: Vec::new(),
            unused: NONE,
            len: 0,
            index: HashTable::new(),
            queues: [Queue { front: NONE, back: NONE }; State::ALL.len()],
            forgotten: Vec::new(),
            source_ports: SourcePorts::default(),
            changes: None,
        }
    }

    /// Number of flows.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The flow of packets with `key`. A flow whose time is up is removed instead.
    #[inline]
    pub(crate) fn find(&mut self, now: Instant, key: &FlowKey) -> Option<Hit> {
        let flows = &self.flows;
        let packed = *self.index.find(key.hash_with(self.seed), |&packed| {
            let hit = unpack(packed);
            flows[hit.index as usize].key(hit.side) == key
        })?;
        let hit = unpack(packed);
        if self.flows[hit.index as usize].is_over(now) {
            self.remove(hit);
            return None;
        }
        Some(hit)
    }

    #[inline]
    pub(crate) fn get(&self, hit: Hit) -> &Flow {
        &self.flows[hit.index as usize]
    }

    #[inline]
    pub(crate) fn get_mut(&mut self, hit: Hit) -> &mut Flow {
        &mut self.flows[hit.index as usize]
    }

    /// Counts a packet of the flow and moves its state.
    #[inline]
    pub(crate) fn see(&mut self, now: Instant, hit: Hit, packet: &Packet, bytes: usize) {
        let flow = &mut self.flows[hit.index as usize];
        flow.last_packet = now;
        let count = &mut flow.counts[hit.side as usize];
        count.0 += 1;
        count.1 += bytes as u64;
        let after = flow.state.after(packet, hit.side, &mut flow.fins);
        if after != flow.state {
            self.set_state(now, hit, after);
        }
    }

    /// Ends a connection whose opener is told so.
    pub(crate) fn close(&mut self, now: Instant, hit: Hit) {
        let flow = &mut self.flows[hit.index as usize];
        flow.last_packet = now;
        let closed = flow.state.closed();
        self.set_state(now, hit, closed);
    }

    fn set_state(&mut self, now: Instant, hit: Hit, state: State) {
        self.unqueue(hit.index);
        self.flows[hit.index as usize].state = state;
        self.queue(now, hit.index);
        self.note_change(hit.index);
    }

    /// Counts a packet that belongs to the flow without being one of its own: a later fragment, a related error.
    pub(crate) fn see_related(&mut self, hit: Hit, bytes: usize) {
        let count = &mut self.flows[hit.index as usize].counts[hit.side as usize];
        count.0 += 1;
        count.1 += bytes as u64;
    }

    /// Notes that the ends of a denied flow have not given up yet.
    pub(crate) fn see_denied(&mut self, now: Instant, hit: Hit) {
        self.flows[hit.index as usize].last_packet = now;
    }

    /// The key of the answers of a flow `original` to open, whose destination port is a source port that no other flow to that
    /// destination has; `reply` says the rest. When all are in use, that of a connection that has ended is taken. `None` if
    /// there is none.
    pub(crate) fn lease(&mut self, now: Instant, original: &FlowKey, mut reply: FlowKey) -> Option<FlowKey> {
        // An echo keeps its identifier if it can; a port is not to be guessed.
        let is_echo = !original.protocol.has_ports();
        let start = if is_echo { original.src_port } else { original.hash_with(!self.seed) as u16 };
        if let Some(port) = self.source_ports.lease(&reply, start) {
            reply.dst_port = port;
            return Some(reply);
        }
        for look in 0..RECLAIM_LOOK_MAX {
            reply.dst_port = self.source_ports.next_granted(&reply, start.wrapping_add(look * RECLAIM_STEP))?;
            match self.find(now, &reply) {
                Some(hit) if !self.get(hit).state.is_ended() => continue,
                Some(hit) => self.remove(hit),
                // Its time was up, and looking for it removed it.
                None => {}
            }
            if let Some(port) = self.source_ports.lease(&reply, reply.dst_port) {
                reply.dst_port = port;
                return Some(reply);
            }
        }
        None
    }

    /// Takes in a flow; the hit is its opener's side. A flow that is refused gives its leased port back.
    pub(crate) fn insert(&mut self, now: Instant, flow: Flow) -> Result<Hit, InsertError> {
        let refused = if self.find(now, &flow.original).is_some()
            || self.find(now, &flow.reply).is_some()
            || flow.original == flow.reply
        {
            Some(InsertError::KeyTaken)
        } else if self.len >= self.flows_max && !self.evict(now) {
            Some(InsertError::Full)
        } else {
            None
        };
        if let Some(error) = refused {
            if flow.leased {
                self.source_ports.release(&flow.reply);
            }
            return Err(error);
        }
        let index = match self.unused {
            NONE => {
                self.flows.push(flow);
                (self.flows.len() - 1) as u32
            }
            index => {
                let Flow { next, changed, recorded, .. } = self.flows[index as usize];
                self.unused = next;
                self.flows[index as usize] = Flow { changed, recorded, ..flow };
                index
            }
        };
        self.take_in(now, index);
        Ok(Hit { index, side: Side::Original })
    }

    fn take_in(&mut self, now: Instant, index: u32) {
        self.len += 1;
        self.enter(index, Side::Original);
        self.enter(index, Side::Reply);
        self.queue(now, index);
    }

    /// Forgets a flow.
    pub(crate) fn remove(&mut self, hit: Hit) {
        debug_assert!(self.flows[hit.index as usize].live, "a hit is used before its flow is removed");
        self.leave(hit.index, Side::Original);
        self.leave(hit.index, Side::Reply);
        self.unqueue(hit.index);
        let flow = &mut self.flows[hit.index as usize];
        if flow.leased {
            self.source_ports.release(&flow.reply);
        }
        if flow.masqueraded {
            self.forgotten.push(flow.reply);
        }
        flow.live = false;
        flow.next = self.unused;
        self.unused = hit.index;
        self.len -= 1;
        self.note_change(hit.index);
    }

    /// Removes flows whose time is up, looking at no more than `budget`, which is lowered by what was looked at.
    pub(crate) fn expire(&mut self, now: Instant, budget: &mut usize) {
        for state in State::ALL {
            while *budget > 0 {
                let front = self.queues[state as usize].front;
                if front == NONE || now.saturating_since(self.flows[front as usize].queued) < state.timeout() {
                    break;
                }
                *budget -= 1;
                if self.flows[front as usize].is_over(now) {
                    self.remove(Hit { index: front, side: Side::Original });
                } else {
                    self.unqueue(front);
                    self.queue(now, front);
                }
            }
        }
    }

    /// When the first flow reaches the end of its time, as far as it is known without looking at every one.
    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        State::ALL
            .iter()
            .filter_map(|&state| {
                let front = self.queues[state as usize].front;
                (front != NONE).then(|| self.flows[front as usize].queued + state.timeout())
            })
            .min()
    }

    /// All flows, in no order of meaning but the same in every run.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Flow> {
        self.flows.iter().filter(|flow| flow.live)
    }

    /// Makes room for one flow; false if every flow looked at is spared.
    fn evict(&mut self, now: Instant) -> bool {
        for state in State::ALL {
            let mut candidate = self.queues[state as usize].front;
            for _ in 0..EVICTION_LOOK_MAX {
                if candidate == NONE {
                    break;
                }
                let flow = &self.flows[candidate as usize];
                if now.saturating_since(flow.last_packet) >= state.spared() {
                    self.remove(Hit { index: candidate, side: Side::Original });
                    return true;
                }
                candidate = flow.next;
            }
        }
        false
    }

    fn enter(&mut self, index: u32, side: Side) {
        let (flows, seed) = (&self.flows, self.seed);
        let hash = flows[index as usize].key(side).hash_with(seed);
        self.index.insert_unique(hash, pack(index, side), |&packed| {
            let hit = unpack(packed);
            flows[hit.index as usize].key(hit.side).hash_with(seed)
        });
    }

    fn leave(&mut self, index: u32, side: Side) {
        let (flows, seed) = (&self.flows, self.seed);
        let hash = flows[index as usize].key(side).hash_with(seed);
        let hash_of = |packed: &u32| {
            let hit = unpack(*packed);
            flows[hit.index as usize].key(hit.side).hash_with(seed)
        };
        if let Entry::Occupied(entry) = self.index.entry(hash, |&packed| packed == pack(index, side), hash_of) {
            entry.remove();
        }
    }

    fn queue(&mut self, now: Instant, index: u32) {
        let state = self.flows[index as usize].state;
        let back = self.queues[state as usize].back;
        let flow = &mut self.flows[index as usize];
        flow.queued = now;
        flow.prev = back;
        flow.next = NONE;
        match back {
            NONE => self.queues[state as usize].front = index,
            back => self.flows[back as usize].next = index,
        }
        self.queues[state as usize].back = index;
    }

    fn unqueue(&mut self, index: u32) {
        let Flow { state, prev, next, .. } = self.flows[index as usize];
        match prev {
            NONE => self.queues[state as usize].front = next,
            prev => self.flows[prev as usize].next = next,
        }
        match next {
            NONE => self.queues[state as usize].back = prev,
            next => self.flows[next as usize].prev = prev,
        }
    }
}

#[cfg(test)]
mod tests;
