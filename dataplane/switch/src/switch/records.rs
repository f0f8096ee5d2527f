//! What outlives the switch: a shell keeps the records of flows and the names that pods know, and gives them to the switch that comes
//! after.

use super::Switch;
use crate::flows::{RECORD_BYTES, Restored};
use crate::{PortId, masquerade};
use std::net::IpAddr;
use wire::Instant;

/// Until when an address has a name.
pub type KnownName<'a> = (Instant, IpAddr, &'a str);

impl Switch {
    /// Notes from here on which records change. To be called before ports are attached.
    pub fn keep_records(&mut self) {
        self.ports.keep_records();
    }

    /// Gives every record that has changed since the last call to `write`: the port, the position among that port's records, and
    /// the record, of zeroes where there is none any more. Ports come in no order, the records of one in ascending order.
    ///
    /// A flow has a record once it is established, and for as long as it could not be begun anew without its ends noticing; a
    /// packet that changes nothing about that costs nothing here.
    pub fn take_changed_records(&mut self, mut write: impl FnMut(PortId, u32, &[u8; RECORD_BYTES])) {
        for port in self.ports.iter_mut().filter(|port| port.flows.has_changes()) {
            let id = port.config.id;
            port.flows.take_changes(|position, record| write(id, position, record));
        }
    }

    /// Takes up the flows of `records` at a port that was just attached: whatever one before it had left at its positions. They are
    /// judged at their next packet, as after any change of tables. Time must run on from that of the switch before.
    pub fn restore_flows(&mut self, now: Instant, port: PortId, records: &[u8]) -> Restored {
        let Some(slot) = self.ports.find(port) else { return Restored::default() };
        let config = &self.config;
        let (port, shared) = self.ports.split(slot);
        let id = port.config.id;
        port.flows.restore(now, records, |flow| {
            !flow.masqueraded || masquerade::restore(&mut shared.masquerades, config, id, &flow.reply)
        })
    }

    /// Whether [`Switch::take_learned_names`] has something to give.
    pub fn has_learned_names(&self) -> bool {
        self.ports.iter().any(|port| port.names.has_news())
    }

    /// Gives the names that the pods at ports know of which something was learned since the last call: all of a port, until when
    /// an address has a name.
    pub fn take_learned_names(&mut self, mut write: impl FnMut(PortId, &mut dyn Iterator<Item = KnownName<'_>>)) {
        for port in self.ports.iter_mut() {
            let id = port.config.id;
            if let Some(mut names) = port.names.take_news() {
                write(id, &mut names);
            }
        }
    }

    /// Has the pod at a port know names that it knew before.
    pub fn restore_names<'a>(&mut self, port: PortId, names: impl Iterator<Item = KnownName<'a>>) {
        if let Some(slot) = self.ports.find(port) {
            self.ports.at_mut(slot).names.restore(names);
        }
    }
}
