//! How often the ports of Services were used, for people: flows opened, refused, and led to another backend. Kept under names
//! that hold over table swaps.

use hashbrown::HashMap;
use policy::tables::{ServicePortId, Tables};

/// Ports that are no Service's any more are forgotten once there are this many of them more than there are Service ports.
const GONE_MAX: usize = 1_024;

/// What happened at one port of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ServiceHits {
    /// Flows that were sent to a backend. Two for a connection that was retried.
    pub opened: u64,
    /// Flows that were refused or dropped because no backend took them, or the client is not allowed.
    pub refused: u64,
    /// Of those opened, flows that took the place of one whose backend did not answer (S29).
    pub retried: u64,
}

impl ServiceHits {
    /// Adds those of another shard.
    pub fn merge(&mut self, other: ServiceHits) {
        self.opened += other.opened;
        self.refused += other.refused;
        self.retried += other.retried;
    }
}

/// Counts by Service port.
#[derive(Debug, Default)]
pub(crate) struct Hits {
    ports: HashMap<ServicePortId, ServiceHits>,
}

impl Hits {
    /// Counts a flow that was sent to a backend, in place of another one if it is `retried`.
    pub(crate) fn open(&mut self, port: ServicePortId, retried: bool) {
        let hits = self.of(port);
        hits.opened += 1;
        hits.retried += u64::from(retried);
    }

    pub(crate) fn of(&mut self, port: ServicePortId) -> &mut ServiceHits {
        self.ports.entry(port).or_default()
    }

    /// Forgets ports that `tables` do not have, if there are many. Ports that come back soon keep their counts.
    pub(crate) fn forget_gone(&mut self, tables: &Tables) {
        if self.ports.len() > tables.service_ports.len() + GONE_MAX {
            let known: hashbrown::HashSet<ServicePortId> = tables.service_ports.iter().map(|port| port.id).collect();
            self.ports.retain(|id, _| known.contains(id));
        }
    }

    /// All counts, in order of the ports' names.
    pub(crate) fn all(&self) -> Vec<(ServicePortId, ServiceHits)> {
        let mut all: Vec<_> = self.ports.iter().map(|(id, hits)| (*id, *hits)).collect();
        all.sort_unstable_by_key(|(id, _)| *id);
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_that_are_gone_are_forgotten_when_there_are_many() {
        let mut hits = Hits::default();
        for port in 0..GONE_MAX as u64 {
            hits.of(ServicePortId(port)).opened += 1;
        }
        hits.forget_gone(&Tables::default());
        assert_eq!(hits.all().len(), GONE_MAX);
        hits.of(ServicePortId(u64::MAX)).refused += 1;
        hits.forget_gone(&Tables::default());
        assert_eq!(hits.all().len(), 0);
    }
}
