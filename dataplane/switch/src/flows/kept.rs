//! Which records of a table's flows have to be written, and how a table is taken up from records.

use super::record::{self, RECORD_BYTES, Read};
use super::{Flow, FlowTable, Hit, NONE};
use crate::state::State;
use wire::{FlowKey, Instant, Protocol};

/// What became of the records of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restored {
    /// Flows that were taken up.
    pub flows: usize,
    /// Records that hold no flow that could be.
    pub rejected: usize,
    /// Source ports of the node's own address that these flows have, to be taken from the kernel again.
    pub source_ports: Vec<(Protocol, u16)>,
}

impl FlowTable {
    /// From here on, changes of records are noted.
    pub(crate) fn keep_records(&mut self) {
        self.changes.get_or_insert_default();
    }

    /// Notes that something of a flow has changed that its record shows.
    pub(crate) fn note_changed(&mut self, hit: Hit) {
        self.note_change(hit.index);
    }

    pub(super) fn note_change(&mut self, index: u32) {
        let Some(changes) = &mut self.changes else { return };
        let flow = &mut self.flows[index as usize];
        let concerns = flow.recorded || flow.live && flow.state.is_kept();
        if concerns && !std::mem::replace(&mut flow.changed, true) {
            changes.push(index);
        }
    }

    /// Whether there are records to write.
    pub(crate) fn has_changes(&self) -> bool {
        self.changes.as_ref().is_some_and(|changes| !changes.is_empty())
    }

    /// Gives each position whose record has changed to `write`, with the record that belongs there; zeroes for none. In ascending
    /// order.
    pub(crate) fn take_changes(&mut self, mut write: impl FnMut(u32, &[u8; RECORD_BYTES])) {
        let Some(changes) = &mut self.changes else { return };
        changes.sort_unstable();
        for index in changes.drain(..) {
            let flow = &mut self.flows[index as usize];
            flow.changed = false;
            let is_kept = flow.live && flow.state.is_kept();
            let was_recorded = std::mem::replace(&mut flow.recorded, is_kept);
            match is_kept {
                true => write(index, &record::write(flow)),
                false if was_recorded => write(index, &[0; RECORD_BYTES]),
                // It came and went between two looks.
                false => {}
            }
        }
    }

    /// Takes up the flows of `records` in a table that has none, each at its position, if `accept` agrees.
    pub(crate) fn restore(&mut self, now: Instant, records: &[u8], mut accept: impl FnMut(&Flow) -> bool) -> Restored {
        assert!(self.flows.is_empty(), "a table is taken up before anything else happens to it");
        let mut restored = Restored::default();
        let (records, rest) = records.as_chunks::<RECORD_BYTES>();
        let fitting = records.len().min(self.flows_max);
        restored.rejected += records[fitting..].iter().filter(|bytes| bytes.iter().any(|byte| *byte != 0)).count();
        restored.rejected += usize::from(!rest.is_empty());
        for bytes in &records[..fitting] {
            match record::read(now, bytes) {
                Read::Flow(flow) if self.has_room_for(&flow) && accept(&flow) => {
                    if flow.leased {
                        self.source_ports.reserve(&flow.reply);
                        restored.source_ports.push((flow.reply.protocol, flow.reply.dst_port));
                    }
                    restored.flows += 1;
                    self.flows.push(Flow { recorded: true, ..*flow });
                    self.take_in(now, (self.flows.len() - 1) as u32);
                }
                read => {
                    let is_nothing = matches!(read, Read::Nothing);
                    restored.rejected += usize::from(!is_nothing);
                    self.leave_out(now, !is_nothing);
                }
            }
        }
        restored
    }

    fn has_room_for(&self, flow: &Flow) -> bool {
        let is_known = |key: &FlowKey| {
            let has_key = |packed: &u32| {
                let hit = super::unpack(*packed);
                self.flows[hit.index as usize].key(hit.side) == key
            };
            self.index.find(key.hash_with(self.seed), has_key).is_some()
        };
        flow.state.is_kept() && !is_known(&flow.original) && !is_known(&flow.reply)
    }

    /// The next position stays unused; a record that is there is to go.
    fn leave_out(&mut self, now: Instant, recorded: bool) {
        let none = FlowKey::new(Protocol(0), [0; 4].into(), 0, [0; 4].into(), 0);
        let index = self.flows.len() as u32;
        let unused = Flow { live: false, recorded, ..Flow::in_state(now, State::TcpClosed, none, none) };
        self.flows.push(Flow { next: std::mem::replace(&mut self.unused, index), ..unused });
        self.note_change(index);
        debug_assert!(self.unused != NONE);
    }
}

#[cfg(test)]
mod tests;
