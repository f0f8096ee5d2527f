//! What was counted. Every frame handed in raises exactly one of forwarded, answered, asked, dropped and held, so the sums balance. A
//! held frame leaves that count when it gets its fate.

use crate::{DropReason, Fate, NamesCount, PortId};

/// What kind of answer the switch itself gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum AnswerKind {
    /// An ARP reply.
    Arp,
    /// A neighbor advertisement.
    Neighbor,
    /// An echo reply of the gateway.
    Echo,
    /// ICMP time exceeded.
    TtlExceeded,
    /// ICMP fragmentation needed, ICMPv6 packet too big.
    TooBig,
    /// ICMP destination unreachable: no route or no such host.
    Unreachable,
    /// A TCP reset or ICMP port unreachable for a Service that cannot take the flow.
    Rejected,
    /// A TCP reset because the flow's backend went away.
    Reset,
    /// A TCP reset or ICMP port unreachable because every source port for the destination is in use.
    SourcePortsExhausted,
}

impl AnswerKind {
    /// Every kind, in the order of the enum.
    pub const ALL: &'static [AnswerKind] = &[
        AnswerKind::Arp,
        AnswerKind::Neighbor,
        AnswerKind::Echo,
        AnswerKind::TtlExceeded,
        AnswerKind::TooBig,
        AnswerKind::Unreachable,
        AnswerKind::Rejected,
        AnswerKind::Reset,
        AnswerKind::SourcePortsExhausted,
    ];

    /// The kind in kebab case, stable for scripts.
    pub const fn name(self) -> &'static str {
        match self {
            AnswerKind::Arp => "arp",
            AnswerKind::Neighbor => "neighbor",
            AnswerKind::Echo => "echo",
            AnswerKind::TtlExceeded => "ttl-exceeded",
            AnswerKind::TooBig => "too-big",
            AnswerKind::Unreachable => "unreachable",
            AnswerKind::Rejected => "rejected",
            AnswerKind::Reset => "reset",
            AnswerKind::SourcePortsExhausted => "source-ports-exhausted",
        }
    }
}

/// Frames and their bytes. A super-frame counts as one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// Frames.
    pub frames: u64,
    /// Bytes from the Ethernet header on, as the frame was handed in.
    pub bytes: u64,
}

impl Count {
    pub(crate) fn add(&mut self, bytes: usize) {
        self.frames += 1;
        self.bytes += bytes as u64;
    }

    fn subtract(&mut self, bytes: usize) {
        self.frames = self.frames.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes as u64);
    }

    fn merge(&mut self, other: Count) {
        self.frames += other.frames;
        self.bytes += other.bytes;
    }
}

/// The counters of one way into the switch: a port, the tunnel, the handover from other shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counters {
    /// Handed in here.
    pub received: Count,
    /// Of those, sent on.
    pub forwarded: Count,
    /// Of those, turned into an answer.
    pub answered: Count,
    /// Of those, queries and packets for the cluster DNS, which the shell has answered.
    pub asked: Count,
    /// Of those, discarded.
    pub dropped: Count,
    /// Of those, held at the moment.
    pub held: Count,
    /// Frames of any origin that were sent to this port, answers included. Not part of the balance.
    pub delivered: Count,
    drops: [u64; DropReason::COUNT],
    answers: [u64; AnswerKind::ALL.len()],
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            received: Count::default(),
            forwarded: Count::default(),
            answered: Count::default(),
            asked: Count::default(),
            dropped: Count::default(),
            held: Count::default(),
            delivered: Count::default(),
            drops: [0; DropReason::COUNT],
            answers: [0; AnswerKind::ALL.len()],
        }
    }
}

impl Counters {
    /// Counts the fate of a frame that was `bytes` long when it was handed in.
    pub(crate) fn count(&mut self, bytes: usize, fate: Fate, answer: Option<AnswerKind>) {
        self.received.add(bytes);
        self.count_fate(bytes, fate, answer);
    }

    /// Counts what became of a frame that was held; it was `bytes` long when it was handed in.
    pub(crate) fn count_released(&mut self, bytes: usize, fate: Fate, answer: Option<AnswerKind>) {
        self.held.subtract(bytes);
        self.count_fate(bytes, fate, answer);
    }

    #[inline]
    fn count_fate(&mut self, bytes: usize, fate: Fate, answer: Option<AnswerKind>) {
        match fate {
            Fate::Forward(_) => self.forwarded.add(bytes),
            Fate::Answer(_) => {
                self.answered.add(bytes);
                if let Some(kind) = answer {
                    self.answers[kind as usize] += 1;
                }
            }
            Fate::Ask(_) => self.asked.add(bytes),
            Fate::Held => self.held.add(bytes),
            Fate::Drop(reason) => {
                self.dropped.add(bytes);
                self.drops[reason as usize] += 1;
            }
        }
    }

    /// How often frames were discarded for `reason`.
    pub fn drops_of(&self, reason: DropReason) -> u64 {
        self.drops[reason as usize]
    }

    /// The reasons that occurred and how often.
    pub fn drops(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL.iter().map(|&r| (r, self.drops_of(r))).filter(|(_, n)| *n > 0)
    }

    /// How many answers of `kind` were given.
    pub fn answers_of(&self, kind: AnswerKind) -> u64 {
        self.answers[kind as usize]
    }

    /// The kinds of answers that were given and how often.
    pub fn answers(&self) -> impl Iterator<Item = (AnswerKind, u64)> + '_ {
        AnswerKind::ALL.iter().map(|&k| (k, self.answers_of(k))).filter(|(_, n)| *n > 0)
    }

    /// Whether everything that was handed in has one fate, and every drop and answer one kind.
    pub fn balance(&self) -> bool {
        let fates = [self.forwarded, self.answered, self.asked, self.dropped, self.held];
        self.received.frames == fates.iter().map(|count| count.frames).sum::<u64>()
            && self.received.bytes == fates.iter().map(|count| count.bytes).sum::<u64>()
            && self.dropped.frames == self.drops.iter().sum::<u64>()
            && self.answered.frames == self.answers.iter().sum::<u64>()
    }

    /// Adds `other` to these.
    pub fn merge(&mut self, other: &Counters) {
        self.received.merge(other.received);
        self.forwarded.merge(other.forwarded);
        self.answered.merge(other.answered);
        self.asked.merge(other.asked);
        self.dropped.merge(other.dropped);
        self.held.merge(other.held);
        self.delivered.merge(other.delivered);
        self.drops.iter_mut().zip(other.drops).for_each(|(mine, theirs)| *mine += theirs);
        self.answers.iter_mut().zip(other.answers).for_each(|(mine, theirs)| *mine += theirs);
    }
}

/// All counters of one switch.
#[derive(Clone, Debug, Default)]
pub struct SwitchCounters {
    /// One per attached port, in order of attachment slots.
    pub ports: Vec<(PortId, Counters)>,
    /// Frames from peers.
    pub tunnel: Counters,
    /// Frames that other shards handed over.
    pub handover: Counters,
    /// Ports that were detached, and frames of ports that never were attached.
    pub detached: Counters,
    /// What the shell discarded after or instead of the switch ([`crate::Switch::count_drop`]); outside the balance.
    pub shell: Vec<(DropReason, u64)>,
    /// Flows in the tables of all ports.
    pub flows: usize,
    /// What pods' DNS answers taught, for rules with domainNames.
    pub names: NamesCount,
}

impl SwitchCounters {
    /// Everything that entered, summed.
    pub fn total(&self) -> Counters {
        let mut total = Counters::default();
        for counters in self.ports.iter().map(|(_, c)| c).chain([&self.tunnel, &self.handover, &self.detached]) {
            total.merge(counters);
        }
        total
    }

    /// Whether each way into the switch balances.
    pub fn balance(&self) -> bool {
        self.ports.iter().map(|(_, c)| c).chain([&self.tunnel, &self.handover, &self.detached]).all(Counters::balance)
    }
}
