//! The Switch as its shell sees it: the ways in, each with its count, and what can be asked of it.

mod records;

use crate::counters::{AnswerKind, Counters, SwitchCounters};
use crate::fragments::{Datagram, WAIT_MAX};
use crate::later::{Held, Pending, Stage, WayIn};
use crate::names::{self, NamesCount};
use crate::path::{self, Context, Step, Stop};
use crate::path_mtu::PathMtus;
use crate::ports::{Port, Ports};
use crate::recent::Dropped;
use crate::retry::AttemptKey;
use crate::state::Side;
use crate::{
    Decider, DropReason, DropsSeen, Exit, Fate, FlowInfo, Origin, PolicyHits, PortConfig, PortId, Query, ServiceHits,
    SourcePool, SwitchConfig, Tables, dns,
};
use overlay::peers::PeerId;
use policy::tables::ServicePortId;
pub use records::KnownName;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;
use wire::{FlowKey, Frame, Instant, Packet};

/// Flows are forgotten at most this much later than they could be, so that a shell is not woken for every single one.
const EXPIRY_STEP: Duration = Duration::from_secs(1);

/// All forwarding state of one shard.
#[derive(Debug)]
pub struct Switch {
    config: SwitchConfig,
    tables: Arc<Tables>,
    /// Number of table swaps so far.
    epoch: u32,
    ports: Ports,
    path_mtus: PathMtus,
    tunnel: Counters,
    handover: Counters,
    detached: Counters,
    shell: [u64; DropReason::COUNT],
}

impl Switch {
    /// A switch without ports; everything is dropped until tables arrive.
    pub fn new(config: SwitchConfig) -> Switch {
        Switch {
            ports: Ports::new(&config),
            config,
            tables: Arc::new(Tables::empty()),
            epoch: 0,
            path_mtus: PathMtus::default(),
            tunnel: Counters::default(),
            handover: Counters::default(),
            detached: Counters::default(),
            shell: [0; DropReason::COUNT],
        }
    }

    /// The configuration it was made with.
    pub fn config(&self) -> &SwitchConfig {
        &self.config
    }

    /// The tables in force.
    pub fn tables(&self) -> &Arc<Tables> {
        &self.tables
    }

    /// Swaps the tables; gives back the old ones, to be freed elsewhere. Flows opened under other tables are judged again at
    /// their next packet.
    pub fn set_tables(&mut self, tables: Arc<Tables>) -> Option<Arc<Tables>> {
        let old = std::mem::replace(&mut self.tables, tables);
        let first = self.epoch == 0;
        self.path_mtus.forget_all();
        self.epoch = self.epoch.wrapping_add(1).max(1);
        self.ports.shared.tally.change(&old.policy, &self.tables.policy);
        for port in self.ports.iter_mut() {
            port.identify(&self.tables.policy);
        }
        self.ports.shared.hits.forget_gone(&self.tables.policy);
        (!first).then_some(old)
    }

    /// Attaches a port. One with the same number is replaced and its flows are forgotten.
    pub fn add_port(&mut self, port: PortConfig) {
        if let Some(replaced) = self.ports.add(port, &self.config, &self.tables.policy) {
            self.bury(replaced);
        }
    }

    /// Detaches a port and forgets its flows.
    pub fn remove_port(&mut self, port: PortId) {
        if let Some(removed) = self.ports.remove(port) {
            self.bury(removed);
        }
    }

    /// What a port leaves behind: its counters, and frames that wait for nothing any more.
    fn bury(&mut self, mut port: Port) {
        self.detached.merge(&port.counters);
        self.ports.shared.masquerades.release_all_of(port.config.id);
        while let Some(held) = port.fragments.waiting.pop() {
            self.give_up(&held, DropReason::PortGone);
        }
    }

    /// A frame that a pod sent.
    #[inline]
    pub fn from_pod(&mut self, now: Instant, port: PortId, frame: &mut Frame) -> Fate {
        let bytes = frame.len();
        let Some(slot) = self.ports.find(port) else {
            let fate = Fate::Drop(DropReason::PortGone);
            self.detached.count(bytes, fate, None);
            return fate;
        };
        let (cx, ports) = self.context(now);
        let step = match ports.at(slot).is_uplink() {
            true => path::from_uplink(&cx, ports, slot, frame),
            false => path::from_port(&cx, ports, slot, frame),
        };
        self.conclude(now, step, frame, bytes, WayIn::Port(port, slot))
    }

    /// A frame that the node itself sent on its host TAP.
    #[inline]
    pub fn from_host(&mut self, now: Instant, port: PortId, frame: &mut Frame) -> Fate {
        // The same stages; what differs is decided by the kind of the port.
        self.from_pod(now, port, frame)
    }

    /// A frame that the uplink's interface received from outside. The kernel has a copy of it; what is dropped as
    /// [`DropReason::LeftToKernel`] is its own business.
    #[inline]
    pub fn from_uplink(&mut self, now: Instant, port: PortId, frame: &mut Frame) -> Fate {
        self.from_pod(now, port, frame)
    }

    /// A tunnel datagram from underlay address `sender`: VXLAN header and inner frame. May hold a merged super-frame.
    #[inline]
    pub fn from_peer(&mut self, now: Instant, sender: IpAddr, frame: &mut Frame) -> Fate {
        let bytes = frame.len();
        let (cx, ports) = self.context(now);
        let step = path::from_peer(&cx, ports, sender, frame);
        self.conclude(now, step, frame, bytes, WayIn::Tunnel)
    }

    /// A frame that another shard handed over for a port of this one, as its [`Exit::Shard`] says.
    #[inline]
    pub fn to_port(&mut self, now: Instant, port: PortId, origin: Origin, frame: &mut Frame) -> Fate {
        let bytes = frame.len();
        let (cx, ports) = self.context(now);
        let step = path::from_shard(&cx, ports, port, origin, frame);
        self.conclude(now, step, frame, bytes, WayIn::Handover)
    }

    /// Puts the answer to `query` into `frame`, whatever that holds; the error says why the port does not get it. To be called at
    /// once or later, and no more than once for a query.
    pub fn answer(
        &mut self,
        now: Instant,
        query: &Query,
        message: &[u8],
        frame: &mut Frame,
    ) -> Result<Exit, DropReason> {
        let (cx, ports) = self.context(now);
        let slot = ports.find(query.port).ok_or(DropReason::PortGone)?;
        let port = ports.at_mut(slot);
        dns::answer(&cx, port, query, message, frame)?;
        port.counters.delivered.add(frame.len());
        Ok(Exit::Port(query.port))
    }

    /// Puts an IP packet of a connection with the cluster DNS into `frame`, whatever that holds; the error says why the port does not
    /// get it.
    pub fn deliver_packet(&mut self, port: PortId, packet: &[u8], frame: &mut Frame) -> Result<Exit, DropReason> {
        let slot = self.ports.find(port).ok_or(DropReason::PortGone)?;
        let port = self.ports.at_mut(slot);
        dns::deliver(port, packet, frame)?;
        port.counters.delivered.add(frame.len());
        Ok(Exit::Port(port.config.id))
    }

    /// What the cluster DNS says to the pod at `port` on a connection, which its packets do not show: to be called before they are
    /// delivered.
    pub fn hear_answer(&mut self, now: Instant, port: PortId, message: &[u8]) {
        let (cx, ports) = self.context(now);
        if let Some(slot) = ports.find(port) {
            names::hear_from_cluster_dns(&cx, ports.at_mut(slot), message);
        }
    }

    /// Whether [`Switch::release`] has something to give.
    #[inline]
    pub fn has_pending(&self) -> bool {
        self.ports.shared.later.has_pending()
    }

    /// The next frame that leaves later than it came: it is put into `frame`, whatever that held, and its fate says where it
    /// goes. To be called while [`Switch::has_pending`], before the shell sleeps; `None` if there is none.
    ///
    /// # Panics
    /// If the buffer of `frame` is smaller than the largest frame that was handed in.
    pub fn release(&mut self, now: Instant, frame: &mut Frame) -> Option<Fate> {
        let held = match self.ports.shared.later.take()? {
            Pending::Held(held) => held,
            Pending::Again(attempt) => return Some(self.try_again(now, attempt, frame)),
        };
        held.restore(frame);
        let (cx, ports) = self.context(now);
        let step = path::release(&cx, ports, held.stage, frame);
        let (fate, answer) = self.fate(now, step, frame, held.counted_bytes, held.way);
        self.counters_of(held.way).count_released(held.counted_bytes, fate, answer);
        self.count_delivery(fate, frame);
        self.record(now, fate, frame, held.way);
        Some(fate)
    }

    /// Sends the SYN of a connection attempt once more, to a backend that it has not been at. It was counted when it came; what
    /// becomes of it this time is counted at its Service.
    #[cold]
    fn try_again(&mut self, now: Instant, attempt: AttemptKey, frame: &mut Frame) -> Fate {
        let Some(syn) = self.ports.shared.retries.syn(&attempt) else { return Fate::Drop(DropReason::BackendGone) };
        syn.restore(frame);
        let stage = syn.stage;
        let (cx, ports) = self.context(now);
        let fate = match path::release(&cx, ports, stage, frame) {
            Ok(exit) => Fate::Forward(exit),
            Err(Stop::Answer(_, exit)) => Fate::Answer(exit),
            Err(Stop::Ask(query)) => Fate::Ask(query),
            Err(Stop::Drop(reason)) => Fate::Drop(reason),
            Err(Stop::Wait(_)) => Fate::Drop(DropReason::FragmentWithoutFirst),
        };
        if !matches!(fate, Fate::Forward(_)) {
            self.ports.shared.retries.let_go(&attempt);
        }
        self.record(now, fate, frame, WayIn::Handover);
        self.count_delivery(fate, frame);
        fate
    }

    /// No later than the next moment at which [`Switch::expire`] has a held frame to release or to give up; `None` if nothing
    /// is held. Traffic can bring it nearer, so a shell asks before it sleeps.
    #[inline]
    pub fn deadline(&self) -> Option<Instant> {
        self.ports.shared.later.deadline()
    }

    /// Counts a frame that the shell itself had to discard (transmit queue full, device gone, datagram truncated).
    pub fn count_drop(&mut self, reason: DropReason) {
        self.shell[reason as usize] += 1;
    }

    /// The underlay said that the way to `peer` takes inner packets of at most `mtu` bytes. Believed for ten minutes, or until the
    /// tables change; larger packets are answered meanwhile (O08).
    pub fn learn_path_mtu(&mut self, now: Instant, peer: PeerId, mtu: u16) {
        self.path_mtus.learn(now, peer, mtu);
    }

    /// Flows that leave the cluster may use these source ports of the node's own address from now on: the shell has taken them
    /// from the kernel for good. No effect on a shard without the uplink; ports are forgotten with it.
    pub fn grant_source_ports(&mut self, pool: SourcePool, ports: RangeInclusive<u16>) {
        if let Some(uplink) = self.uplink() {
            uplink.flows.source_ports.grant(pool, ports);
        }
    }

    /// Whether more source ports will be granted to `pool` when it wants them. Meanwhile flows that find none are dropped, as their
    /// senders try again; without, they are refused at once.
    pub fn set_source_ports_growing(&mut self, pool: SourcePool, grows: bool) {
        if let Some(uplink) = self.uplink() {
            uplink.flows.source_ports.set_growing(pool, grows);
        }
    }

    /// A pool that will soon have no port left for some destination, or has none. Each is told once, and again only after a
    /// grant to it. Cheap enough to be asked every turn.
    pub fn take_wanted_source_ports(&mut self) -> Option<SourcePool> {
        self.uplink()?.flows.source_ports.take_wanted()
    }

    fn uplink(&mut self) -> Option<&mut Port> {
        let (_, id) = self.tables.attached.uplink?;
        let slot = self.ports.find(id)?;
        Some(self.ports.at_mut(slot))
    }

    /// Removes flows whose time has come, at most `budget` entries looked at, and gives up frames that waited too long; returns
    /// when to call again, unless traffic brings [`Switch::deadline`] nearer.
    pub fn expire(&mut self, now: Instant, budget: usize) -> Option<Instant> {
        self.give_up_overdue(now);
        let mut left = budget;
        let mut next: Option<Instant> = None;
        let (slots, shared) = self.ports.split_all();
        for port in slots {
            port.flows.expire(now, &mut left);
            port.flows.forgotten.drain(..).for_each(|answers| shared.masquerades.release(&answers));
            next = [next, port.flows.next_expiry()].into_iter().flatten().min();
        }
        let soonest = if left == 0 { now } else { now + EXPIRY_STEP };
        [next.map(|at| at.max(soonest)), self.deadline()].into_iter().flatten().min()
    }

    /// Gives up the frames that have waited too long, and leads connection attempts that were not answered in time elsewhere.
    fn give_up_overdue(&mut self, now: Instant) {
        if self.deadline().is_none_or(|at| now < at) {
            return;
        }
        for attempt in self.ports.shared.retries.overdue(now) {
            let (cx, ports) = self.context(now);
            path::overdue(&cx, ports, &attempt);
        }
        let (mut overdue, mut next) = (Vec::new(), self.ports.shared.retries.deadline());
        for port in self.ports.iter_mut() {
            let waiting = &mut port.fragments.waiting;
            overdue.extend(std::iter::from_fn(|| waiting.pop_overdue(now)));
            next = [next, waiting.deadline()].into_iter().flatten().min();
        }
        self.ports.shared.later.set_deadline(next);
        for held in overdue {
            let is_kernels = matches!(held.stage, Stage::From(id) if self.ports.is_uplink(id));
            let reason = if is_kernels { DropReason::LeftToKernel } else { DropReason::FragmentWithoutFirst };
            self.give_up(&held, reason);
        }
    }

    /// A held frame is discarded.
    fn give_up(&mut self, held: &Held, reason: DropReason) {
        if !reason.is_noise() {
            self.record_drop(held.since, reason, &held.bytes, held.way);
        }
        self.counters_of(held.way).count_released(held.counted_bytes, Fate::Drop(reason), None);
    }

    /// The ports of this shard, in order of their numbers.
    pub fn ports(&self) -> Vec<PortConfig> {
        self.ports.sorted().into_iter().map(|port| port.config.clone()).collect()
    }

    /// Everything counted so far.
    pub fn counters(&self) -> SwitchCounters {
        SwitchCounters {
            ports: self.ports.sorted().into_iter().map(|port| (port.config.id, port.counters.clone())).collect(),
            tunnel: self.tunnel.clone(),
            handover: self.handover.clone(),
            detached: self.detached.clone(),
            shell: DropReason::ALL.iter().map(|&r| (r, self.shell[r as usize])).filter(|(_, n)| *n > 0).collect(),
            flows: self.ports.iter().map(|port| port.flows.len()).sum(),
            names: self.names_count(),
        }
    }

    /// How often each Service port was used that is or was known, in order of their names.
    pub fn service_hits(&self) -> Vec<(ServicePortId, ServiceHits)> {
        self.ports.shared.hits.all()
    }

    fn names_count(&self) -> NamesCount {
        let mut count = NamesCount::default();
        self.ports.iter().for_each(|port| count.add(port.names.count()));
        count
    }

    /// How often each rule and each NetworkPolicy's default deny decided, in order of their names; those that never did are missing.
    pub fn policy_hits(&self) -> Vec<(Decider, PolicyHits)> {
        self.ports.shared.tally.all(&self.tables.policy)
    }

    /// The most recent drops, and what policies in dry run would have dropped.
    pub fn drops_seen(&self, now: Instant) -> DropsSeen {
        self.ports.shared.recent.all(now)
    }

    /// The flows of every port, at most `max`.
    pub fn flows(&self, now: Instant, max: usize) -> Vec<FlowInfo> {
        let of_port = |port: &Port| {
            let id = port.config.id;
            port.flows
                .iter()
                .map(move |flow| FlowInfo {
                    port: id,
                    original: flow.original,
                    reply: flow.reply,
                    state: if flow.denied { "denied" } else { flow.state().name() },
                    original_count: flow.count(Side::Original),
                    reply_count: flow.count(Side::Reply),
                    idle: now.saturating_since(flow.last_packet()),
                    service: self.tables.name_of_service(&flow.original),
                    opener: self.tables.name_of(flow.original.src()),
                    answerer: self.tables.name_of(flow.reply.src()),
                })
                .collect::<Vec<_>>()
        };
        self.ports.sorted().into_iter().flat_map(of_port).take(max).collect()
    }

    #[inline]
    fn context(&mut self, now: Instant) -> (Context<'_>, &mut Ports) {
        let Switch { config, tables, epoch, ports, path_mtus, .. } = self;
        (Context { config, tables, epoch: *epoch, now, path_mtus }, ports)
    }

    /// Turns the end of a frame's way into its fate and counts it once.
    #[inline]
    fn conclude(&mut self, now: Instant, step: Step<Exit>, frame: &Frame, bytes: usize, way: WayIn) -> Fate {
        let (fate, answer) = self.fate(now, step, frame, bytes, way);
        self.counters_of(way).count(bytes, fate, answer);
        self.count_delivery(fate, frame);
        self.record(now, fate, frame, way);
        fate
    }

    #[inline]
    fn fate(
        &mut self,
        now: Instant,
        step: Step<Exit>,
        frame: &Frame,
        bytes: usize,
        way: WayIn,
    ) -> (Fate, Option<AnswerKind>) {
        match step {
            Ok(exit) => (Fate::Forward(exit), None),
            Err(Stop::Answer(kind, exit)) => (Fate::Answer(exit), Some(kind)),
            Err(Stop::Ask(query)) => (Fate::Ask(query), None),
            Err(Stop::Drop(reason)) => (Fate::Drop(reason), None),
            Err(Stop::Wait(stage)) => (self.hold(Held::new(now, way, stage, bytes, frame)), None),
        }
    }

    /// Keeps a later fragment at its stage until its first has passed there.
    #[cold]
    fn hold(&mut self, held: Held) -> Fate {
        let (Stage::From(id) | Stage::Into(id, _)) = held.stage;
        let datagram = Packet::check(&held.bytes).ok().and_then(|packet| Datagram::of(&packet));
        let (Some(slot), Some(datagram)) = (self.ports.find(id), datagram) else {
            return Fate::Drop(DropReason::PortGone);
        };
        self.ports.shared.later.add_deadline(held.since + WAIT_MAX);
        let mut given_up = Vec::new();
        let fits = self.ports.at_mut(slot).fragments.waiting.push(datagram, held, |held| given_up.push(held));
        for held in given_up {
            self.give_up(&held, DropReason::FragmentsWaiting);
        }
        if fits { Fate::Held } else { Fate::Drop(DropReason::FragmentsWaiting) }
    }

    /// Records a drop that somebody may miss.
    #[inline]
    fn record(&mut self, now: Instant, fate: Fate, frame: &Frame, way: WayIn) {
        if let Fate::Drop(reason) = fate
            && !reason.is_noise()
        {
            self.record_drop(now, reason, frame.bytes(), way);
        }
    }

    #[cold]
    fn record_drop(&mut self, now: Instant, reason: DropReason, bytes: &[u8], way: WayIn) {
        let noted = self.ports.shared.noted.take().filter(|noted| noted.reason == reason);
        let sender = if let WayIn::Port(id, _) = way { Some(id) } else { None };
        let dropped = match noted {
            Some(noted) => Dropped { sender, before: noted.before.or_else(|| self.before(now, &noted, way)), ..noted },
            None => {
                let flow = Packet::check(bytes).ok().map(|packet| packet.flow());
                Dropped { sender, port: sender, reason, dry_run: false, direction: None, flow, before: None }
            }
        };
        self.ports.shared.recent.add(now, dropped);
    }

    /// What the sender on this shard sent of a flow that was denied where it came in: its port has translated it.
    fn before(&mut self, now: Instant, dropped: &Dropped, way: WayIn) -> Option<FlowKey> {
        let (WayIn::Port(id, slot), Some(flow)) = (way, dropped.flow) else { return None };
        if !self.ports.is_at(slot, id) {
            return None;
        }
        let flows = &mut self.ports.at_mut(slot).flows;
        let hit = flows.find(now, &flow.reverse())?;
        Some(flows.get(hit).original).filter(|original| *original != flow)
    }

    #[inline]
    fn counters_of(&mut self, way: WayIn) -> &mut Counters {
        match way {
            WayIn::Port(id, slot) if self.ports.is_at(slot, id) => &mut self.ports.at_mut(slot).counters,
            WayIn::Port(id, _) => match self.ports.find(id) {
                Some(slot) => &mut self.ports.at_mut(slot).counters,
                None => &mut self.detached,
            },
            WayIn::Tunnel => &mut self.tunnel,
            WayIn::Handover => &mut self.handover,
        }
    }

    #[inline]
    fn count_delivery(&mut self, fate: Fate, frame: &Frame) {
        if let Fate::Forward(Exit::Port(port)) | Fate::Answer(Exit::Port(port)) = fate
            && let Some(slot) = self.ports.find(port)
        {
            self.ports.at_mut(slot).counters.delivered.add(frame.len());
        }
    }
}
