//! Frames that the switch sends later than they came: copies of their bytes, and how they go on.
//!
//! A frame is *held* when what it depends on has not come yet. It counts as held from then on, at the way that it came in
//! by; when it is *released* it goes through the stage that held it once more and gets its fate there, and when its time is
//! up it is given up and counted as dropped. So the counters balance at every moment. The SYN of a connection attempt that is led
//! to another backend leaves once more and is not counted again. The shell asks
//! [`crate::Switch::has_pending`] and takes released frames from [`crate::Switch::release`].

use crate::retry::AttemptKey;
use crate::{Origin, PortId};
use std::collections::VecDeque;
use wire::{Frame, Instant, Offload};

/// The way that a frame came in by: whose counters have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WayIn {
    /// The attached side of a port sent it; the second is the port's slot at that time.
    Port(PortId, usize),
    /// A peer sent it.
    Tunnel,
    /// Another shard handed it over.
    Handover,
}

/// The stage that holds a frame, and where it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// On its way from the attached side of this port.
    From(PortId),
    /// On its way to the attached side of this port, from where it entered the node.
    Into(PortId, Origin),
}

/// A frame that waits, or that is released and has not been taken yet.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) way: WayIn,
    pub(crate) stage: Stage,
    pub(crate) since: Instant,
    /// Length of the frame when it was handed in; [`Held::bytes`] may have lost an encapsulation.
    pub(crate) counted_bytes: usize,
    pub(crate) bytes: Box<[u8]>,
    offload: Offload,
}

impl Held {
    pub(crate) fn new(now: Instant, way: WayIn, stage: Stage, counted_bytes: usize, frame: &Frame) -> Held {
        Held { way, stage, since: now, counted_bytes, bytes: frame.bytes().into(), offload: frame.offload }
    }

    /// Makes `frame` the frame that was held.
    pub(crate) fn restore(&self, frame: &mut Frame) {
        frame.set_bytes(&self.bytes);
        frame.offload = self.offload;
    }
}

/// What leaves next.
#[derive(Debug)]
pub(crate) enum Pending {
    /// A held frame.
    Held(Held),
    /// The SYN of a connection attempt, once more.
    Again(AttemptKey),
}

/// Released frames in order, and when the next held one is given up.
#[derive(Debug, Default)]
pub(crate) struct Later {
    released: VecDeque<Pending>,
    /// No later than the first deadline of what is held; `None` if nothing is.
    deadline: Option<Instant>,
}

impl Later {
    #[inline]
    pub(crate) fn has_pending(&self) -> bool {
        !self.released.is_empty()
    }

    pub(crate) fn release(&mut self, held: Held) {
        self.released.push_back(Pending::Held(held));
    }

    /// The SYN of `attempt` is sent once more.
    pub(crate) fn try_again(&mut self, attempt: AttemptKey) {
        self.released.push_back(Pending::Again(attempt));
    }

    pub(crate) fn take(&mut self) -> Option<Pending> {
        self.released.pop_front()
    }

    #[inline]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Something is held that is given up at `at`.
    pub(crate) fn add_deadline(&mut self, at: Instant) {
        self.deadline = Some(self.deadline.map_or(at, |known| known.min(at)));
    }

    /// Everything held was looked at; the first deadline is `at`.
    pub(crate) fn set_deadline(&mut self, at: Option<Instant>) {
        self.deadline = at;
    }
}
