//! The ports of one shard and what belongs to each: its flows, its fragment notes, its counters, its right to errors.

use crate::affinity::{self, Affinity};
use crate::answer::Bucket;
use crate::counters::Counters;
use crate::flows::FlowTable;
use crate::fragments::{Datagram, Fragments};
use crate::hits::Hits;
use crate::later::Later;
use crate::masquerade::Masquerades;
use crate::names::Names;
use crate::path::Context;
use crate::policy_hits::Tally;
use crate::recent::{Dropped, Recent};
use crate::retry::Retries;
use crate::{PortConfig, PortId, PortKind, SwitchConfig};
use hashbrown::HashMap;
use policy::tables::{Owner, PodIndex, Tables};
use std::net::IpAddr;
use wire::Instant;

/// One attached port.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) config: PortConfig,
    /// The pod that is attached, as the tables in force number it; `None` while they do not know it with all addresses of the port,
    /// and for other ports.
    pub(crate) pod: Option<PodIndex>,
    pub(crate) flows: FlowTable,
    pub(crate) fragments: Fragments,
    /// What the attached pod knows addresses by.
    pub(crate) names: Names,
    pub(crate) errors: Bucket,
    pub(crate) counters: Counters,
}

impl Port {
    fn new(config: PortConfig, switch: &SwitchConfig) -> Port {
        // Each port hashes differently, so a collision found on one is none on another.
        let seed = switch.seed ^ u64::from(config.id.0).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let flows_max = match config.kind {
            PortKind::Uplink => switch.uplink_flows_max,
            PortKind::Pod { .. } | PortKind::Host => switch.flows_per_port_max,
        };
        Port {
            config,
            pod: None,
            flows: FlowTable::new(seed, flows_max),
            fragments: Fragments::new(seed),
            names: Names::default(),
            errors: Bucket::default(),
            counters: Counters::default(),
        }
    }

    pub(crate) fn is_host(&self) -> bool {
        self.config.kind == PortKind::Host
    }

    pub(crate) fn is_uplink(&self) -> bool {
        self.config.kind == PortKind::Uplink
    }

    /// Whether `addr` is one of the attached side. Outside is whoever has no place here: it owns nothing.
    #[inline]
    pub(crate) fn owns(&self, addr: IpAddr) -> bool {
        !self.is_uplink() && self.config.addresses.contains(&addr)
    }

    /// The first address of the family of `addr`.
    pub(crate) fn address_like(&self, addr: IpAddr) -> Option<IpAddr> {
        self.config.addresses.iter().copied().find(|own| own.is_ipv4() == addr.is_ipv4())
    }

    /// Whether traffic may be judged at all: a pod needs an entry in the tables (N13), others need tables.
    pub(crate) fn is_ready(&self, cx: &Context<'_>) -> bool {
        match self.config.kind {
            PortKind::Pod { .. } => self.pod.is_some(),
            PortKind::Host | PortKind::Uplink => cx.epoch > 0,
        }
    }

    /// Finds the attached pod in `tables`. One of the same name with other addresses is another pod; and as long as an address is
    /// nobody's or another pod's, whoever is spoken to would judge the wrong pod.
    pub(crate) fn identify(&mut self, tables: &Tables) {
        let PortKind::Pod { namespace, name } = &self.config.kind else { return };
        let has_all =
            |pod: &PodIndex| self.config.addresses.iter().all(|addr| tables.owner(*addr) == Some(Owner::Pod(*pod)));
        self.pod = tables.find_pod(namespace, name).filter(has_all);
    }
}

/// All ports of a shard, by slot and by number.
#[derive(Debug)]
pub(crate) struct Ports {
    slots: Vec<Port>,
    by_id: HashMap<PortId, usize>,
    /// Whether changes of flows' records are noted.
    keeps_records: bool,
    pub(crate) shared: Shared,
}

/// What all ports of a shard share.
#[derive(Debug)]
pub(crate) struct Shared {
    /// Frames that leave later than they came.
    pub(crate) later: Later,
    /// Which backends clients had last.
    pub(crate) affinity: Affinity,
    /// Connection attempts that may be led to another backend.
    pub(crate) retries: Retries,
    /// Whom answers to the gateway's address are for.
    pub(crate) masquerades: Masquerades,
    /// How often Services were used.
    pub(crate) hits: Hits,
    /// How often policies decided.
    pub(crate) tally: Tally,
    /// The most recent drops.
    pub(crate) recent: Recent,
    /// What is known of the drop of the frame at hand beyond its bytes.
    pub(crate) noted: Option<Dropped>,
}

impl Ports {
    /// No port.
    pub(crate) fn new(switch: &SwitchConfig) -> Ports {
        let shared = Shared {
            later: Later::default(),
            affinity: Affinity::new(switch.seed, affinity::CLIENTS_MAX),
            retries: Retries::default(),
            masquerades: Masquerades::new(switch.seed),
            hits: Hits::default(),
            tally: Tally::default(),
            recent: Recent::new(switch.seed),
            noted: None,
        };
        Ports { slots: Vec::new(), by_id: HashMap::new(), keeps_records: false, shared }
    }

    /// Notes changes of flows' records at ports that are attached from here on.
    pub(crate) fn keep_records(&mut self) {
        self.keeps_records = true;
    }

    /// The port at `slot` and what it shares with the others.
    #[inline]
    pub(crate) fn split(&mut self, slot: usize) -> (&mut Port, &mut Shared) {
        (&mut self.slots[slot], &mut self.shared)
    }

    /// All ports and what they share.
    pub(crate) fn split_all(&mut self) -> (&mut [Port], &mut Shared) {
        (&mut self.slots, &mut self.shared)
    }

    /// Attaches a port; one of the same number is replaced.
    pub(crate) fn add(&mut self, config: PortConfig, switch: &SwitchConfig, tables: &Tables) -> Option<Port> {
        let replaced = self.remove(config.id);
        self.by_id.insert(config.id, self.slots.len());
        let mut port = Port::new(config, switch);
        port.identify(tables);
        if self.keeps_records {
            port.flows.keep_records();
        }
        self.slots.push(port);
        replaced
    }

    /// Detaches a port; slots may change.
    pub(crate) fn remove(&mut self, id: PortId) -> Option<Port> {
        let slot = self.by_id.remove(&id)?;
        let port = self.slots.swap_remove(slot);
        if let Some(moved) = self.slots.get(slot) {
            self.by_id.insert(moved.config.id, slot);
        }
        Some(port)
    }

    #[inline]
    pub(crate) fn find(&self, id: PortId) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    /// Whether the port `id` is at `slot`, as far as that exists.
    #[inline]
    pub(crate) fn is_at(&self, slot: usize, id: PortId) -> bool {
        self.slots.get(slot).is_some_and(|port| port.config.id == id)
    }

    pub(crate) fn is_uplink(&self, id: PortId) -> bool {
        self.find(id).is_some_and(|slot| self.at(slot).is_uplink())
    }

    #[inline]
    pub(crate) fn at(&self, slot: usize) -> &Port {
        &self.slots[slot]
    }

    #[inline]
    pub(crate) fn at_mut(&mut self, slot: usize) -> &mut Port {
        &mut self.slots[slot]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Port> {
        self.slots.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Port> {
        self.slots.iter_mut()
    }

    /// The first fragment of `datagram` has had its way through the port at `slot`: what waited for it there goes the same way,
    /// or is discarded if the first was refused.
    #[cold]
    pub(crate) fn settle(&mut self, now: Instant, slot: usize, datagram: Datagram, forwarded: bool) {
        let Ports { slots, shared, .. } = self;
        let fragments = &mut slots[slot].fragments;
        if !forwarded {
            fragments.note_refused(now, datagram);
        }
        fragments.waiting.take(&datagram, |held| shared.later.release(held));
    }

    /// The ports in order of their numbers.
    pub(crate) fn sorted(&self) -> Vec<&Port> {
        let mut ports: Vec<&Port> = self.slots.iter().collect();
        ports.sort_by_key(|port| port.config.id);
        ports
    }
}
