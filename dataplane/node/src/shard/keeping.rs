//! Keeping the flows of a shard's ports where they outlive the process.
//!
//! Some milliseconds after traffic, the switch is asked which flows changed, and their records are written, those that lie side by
//! side in one call. A flow that came and went in between costs nothing; one that was opened in the last of them when the
//! process is killed begins anew. A process that is told to end writes what is left.
//!
//! The names that a pod has learned are written whole, and so not as often.

use super::Shard;
use crate::command::Kept;
use crate::state::PortFiles;
use std::io;
use std::time::Duration;
use switch::{PortId, RECORD_BYTES, Restored};

/// How old the records may be. A connection of one request is over by then, and has never been written.
const INTERVAL: Duration = Duration::from_millis(10);

/// How old the names may be. A pod with thousands of them costs a millisecond each time.
const NAMES_INTERVAL: Duration = Duration::from_millis(100);

/// Records that are written with one call.
const RUN_MAX: usize = 512;

/// Records of one port that lie side by side and are to be written.
#[derive(Default)]
pub(super) struct Run {
    port: Option<PortId>,
    first: u32,
    bytes: Vec<u8>,
}

impl Run {
    fn len(&self) -> usize {
        self.bytes.len() / RECORD_BYTES
    }

    fn goes_on_with(&self, port: PortId, position: u32) -> bool {
        self.port == Some(port) && self.first as usize + self.len() == position as usize && self.len() < RUN_MAX
    }

    /// Writes what there is, if anywhere.
    fn write<'a>(&mut self, find: impl FnOnce(PortId) -> Option<&'a PortFiles>) -> io::Result<()> {
        let files = self.port.take().filter(|_| !self.bytes.is_empty()).and_then(find);
        let result = files.map_or(Ok(()), |files| files.flows.write(self.first, &self.bytes));
        self.bytes.clear();
        result
    }
}

impl Shard {
    /// Has the port's flows kept from now on, and takes up those that there are.
    pub(super) fn keep_flows_of(&mut self, port: PortId, kept: Option<Kept>) -> Restored {
        let Some(Kept { files, left }) = kept else { return Restored::default() };
        self.kept.insert(port, files);
        self.keep_at.get_or_insert(self.now + INTERVAL);
        self.switch.restore_names(port, left.names.iter());
        self.switch.restore_flows(self.clock.now(), port, &left.records)
    }

    /// The port is gone.
    pub(super) fn forget_flows_of(&mut self, port: PortId) {
        if let Some(files) = self.kept.remove(&port) {
            files.remove();
        }
    }

    /// Writes what has changed, if it is time.
    pub(super) fn keep_flows(&mut self) {
        if self.keep_at.is_none_or(|at| self.now < at) {
            return;
        }
        self.keep_at = None;
        self.keep_records();
        if self.now >= self.names_after {
            self.names_after = self.now + NAMES_INTERVAL;
            self.keep_names();
        } else if self.switch.has_learned_names() {
            self.keep_at = Some(self.names_after);
        }
    }

    /// Writes all that has changed: nothing comes after it.
    pub(super) fn keep_everything(&mut self) {
        self.keep_records();
        self.keep_names();
    }

    fn keep_names(&mut self) {
        let Shard { switch, kept, flow_writes_failed, .. } = self;
        switch.take_learned_names(|port, names| {
            let file = kept.get(&port).and_then(|files| files.names.as_ref());
            if file.is_some_and(|file| file.write(names).is_err()) {
                *flow_writes_failed += 1;
            }
        });
    }

    /// Something may have changed.
    pub(super) fn keep_flows_soon(&mut self) {
        if self.keep_at.is_none() && !self.kept.is_empty() {
            self.keep_at = Some(self.now + INTERVAL);
        }
    }

    fn keep_records(&mut self) {
        let Shard { switch, kept, run, flow_writes_failed, .. } = self;
        let mut write = |run: &mut Run| {
            if run.write(|port| kept.get(&port)).is_err() {
                *flow_writes_failed += 1;
            }
        };
        switch.take_changed_records(|port, position, record| {
            if !run.goes_on_with(port, position) {
                write(run);
                (run.port, run.first) = (Some(port), position);
            }
            run.bytes.extend_from_slice(record);
        });
        write(run);
    }
}
