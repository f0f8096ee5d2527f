//! Which flow a later fragment belongs to (S18, N25, B18).
//!
//! Only the first fragment has ports. When it has passed, its flow is noted under what all fragments of the datagram share;
//! later ones look there and go where the first went. If the first was refused, so are they. One that comes before its first
//! waits for it, for a short time and in bounded room ([`waiting`]); nothing is put together, every fragment goes on as it
//! came. What has passed of a datagram is remembered ([`coverage`]): a fragment that overlaps another or contradicts the
//! datagram's end is discarded, and with it the rest of the datagram (RFC 5722 §4, RFC 8200 §4.5); one that repeats what has
//! passed is discarded alone.
//!
//! The notes are a set-associative cache of fixed size: an old note gives way, so a flood of first fragments costs others
//! their datagrams in flight and no memory.

mod coverage;
mod waiting;

pub(crate) use waiting::{WAIT_MAX, Waiting};

use coverage::{Contradiction, Coverage};
use std::time::Duration;
use wire::{FlowKey, Fragment, Instant, Packet};

/// Notes of one port. At 64 KiB per datagram this covers 16 MiB in flight.
const SETS: usize = 64;
const WAYS: usize = 4;

/// How long the fragments of one datagram may be apart: the reassembly time of Linux (RFC 791 leaves 15 s to 255 s, RFC 8200
/// says 60 s).
const LIFETIME: Duration = Duration::from_secs(30);

/// What all fragments of a datagram share: addresses and protocol, without ports, and the identification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Datagram {
    ends: FlowKey,
    id: u32,
}

impl Datagram {
    /// The datagram that `packet` is a fragment of.
    pub(crate) fn of(packet: &Packet) -> Option<Datagram> {
        match packet.fragment {
            Fragment::Whole => None,
            Fragment::First { id } | Fragment::Later { id, .. } => {
                Some(Datagram { ends: FlowKey::new(packet.protocol, packet.src, 0, packet.dst, 0), id })
            }
        }
    }

    /// The datagram that `packet` is the first fragment of.
    #[inline]
    pub(crate) fn begun_by(packet: &Packet) -> Option<Datagram> {
        if let Fragment::First { .. } = packet.fragment { Datagram::of(packet) } else { None }
    }
}

/// Why a later fragment has no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoFlow {
    /// Its first fragment has not come yet.
    Early,
    /// Its first fragment was not forwarded.
    Refused,
    /// It does not fit to the fragments that have passed.
    Contradicts,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    datagram: Datagram,
    /// The flow of the first fragment; `None` if that was refused or the datagram contradicts itself.
    flow: Option<FlowKey>,
    passed: Coverage,
    noted: Instant,
}

/// The notes of one port and the fragments that wait there. They take memory from the first fragment on.
#[derive(Debug)]
pub(crate) struct Fragments {
    seed: u64,
    notes: Vec<Option<Note>>,
    pub(crate) waiting: Waiting,
}

impl Fragments {
    pub(crate) fn new(seed: u64) -> Fragments {
        Fragments { seed, notes: Vec::new(), waiting: Waiting::default() }
    }

    /// Notes that `packet`, a first fragment, is of flow `flow`.
    pub(crate) fn note(&mut self, now: Instant, packet: &Packet, flow: FlowKey) {
        let Some(datagram) = Datagram::of(packet) else { return };
        let passed = Coverage::begun(data_len(packet));
        *self.place(&datagram) = Some(Note { datagram, flow: Some(flow), passed, noted: now });
    }

    /// Notes that the first fragment of `datagram` was refused.
    pub(crate) fn note_refused(&mut self, now: Instant, datagram: Datagram) {
        *self.place(&datagram) = Some(Note { datagram, flow: None, passed: Coverage::begun(0), noted: now });
    }

    /// The flow of `packet`, a later fragment, which is taken to pass.
    pub(crate) fn find(&mut self, now: Instant, packet: &Packet) -> Result<FlowKey, NoFlow> {
        let (Some(datagram), Fragment::Later { offset_bytes, last, .. }) = (Datagram::of(packet), packet.fragment)
        else {
            return Err(NoFlow::Refused);
        };
        let set = self.set(&datagram);
        let ways = self.notes.get_mut(set..set + WAYS).unwrap_or_default();
        let Some(note) = ways.iter_mut().flatten().find(|note| note.datagram == datagram) else {
            return Err(NoFlow::Early);
        };
        // A complete datagram takes no more: this one begins another with the same identification.
        if now.saturating_since(note.noted) >= LIFETIME || note.passed.is_complete() {
            return Err(NoFlow::Early);
        }
        let flow = note.flow.ok_or(NoFlow::Refused)?;
        let end = offset_bytes.saturating_add(data_len(packet));
        match note.passed.add(offset_bytes, end, last) {
            Ok(()) => Ok(flow),
            Err(Contradiction::Repeated) => Err(NoFlow::Contradicts),
            Err(Contradiction::Inconsistent) => {
                note.flow = None;
                Err(NoFlow::Contradicts)
            }
        }
    }

    /// Whether the first fragment of the datagram of `packet` has passed.
    pub(crate) fn has_noted(&self, now: Instant, packet: &Packet) -> bool {
        self.noted(now, packet).is_some()
    }

    /// The flow of the datagram of `packet`, if its first fragment was forwarded. Nothing is taken to pass.
    pub(crate) fn noted_flow(&self, now: Instant, packet: &Packet) -> Option<FlowKey> {
        self.noted(now, packet)?.flow
    }

    fn noted(&self, now: Instant, packet: &Packet) -> Option<&Note> {
        let datagram = Datagram::of(packet)?;
        let set = self.set(&datagram);
        let ways = self.notes.get(set..set + WAYS)?;
        let note = ways.iter().flatten().find(|note| note.datagram == datagram)?;
        (now.saturating_since(note.noted) < LIFETIME).then_some(note)
    }

    /// Where the note of `datagram` is, or the oldest one that gives way to it.
    fn place(&mut self, datagram: &Datagram) -> &mut Option<Note> {
        if self.notes.is_empty() {
            self.notes = vec![None; SETS * WAYS];
        }
        let set = self.set(datagram);
        let ways = &self.notes[set..set + WAYS];
        let same = ways.iter().position(|note| note.is_some_and(|note| note.datagram == *datagram));
        let oldest = || (0..WAYS).min_by_key(|&way| ways[way].map(|note| note.noted)).unwrap_or(0);
        let way = same.unwrap_or_else(oldest);
        &mut self.notes[set + way]
    }

    fn set(&self, datagram: &Datagram) -> usize {
        let hash = datagram.ends.hash_with(self.seed ^ u64::from(datagram.id));
        (hash as usize % SETS) * WAYS
    }
}

/// Bytes of the datagram that a fragment carries.
fn data_len(packet: &Packet) -> u16 {
    (packet.end - u32::from(packet.l4_offset)) as u16
}

#[cfg(test)]
mod tests;
