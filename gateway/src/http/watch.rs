//! What the byte side of a client connection and its worker tell each other.
//!
//! The byte side may travel to where an upgraded connection is joined, so these are atomics; all of them stay on one thread.

use super::inspector::Phase;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, Ordering};

/// Shared by the guard, the requests and the sweep of one connection.
#[derive(Debug, Default)]
pub(super) struct Watch {
    /// Grows when bytes have been read.
    progress: AtomicU32,
    phase: AtomicU8,
    tunnel: AtomicBool,
    refused: AtomicBool,
}

impl Watch {
    /// Bytes have been read, which ended in `phase`.
    pub(super) fn read(&self, phase: Phase) {
        self.progress.store(self.progress.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        let phase = match phase {
            Phase::Idle => 0,
            Phase::Head => 1,
            Phase::Body => 2,
        };
        self.phase.store(phase, Ordering::Relaxed);
    }

    /// A number that differs whenever bytes have been read.
    pub(super) fn progress(&self) -> u32 {
        self.progress.load(Ordering::Relaxed)
    }

    /// Whether a head has begun and not ended.
    pub(super) fn is_in_head(&self) -> bool {
        self.phase.load(Ordering::Relaxed) == 1
    }

    /// The connection changes its protocol: what follows is not HTTP.
    pub(super) fn begin_tunnel(&self) {
        self.tunnel.store(true, Ordering::Relaxed);
    }

    /// Whether what follows is not HTTP.
    pub(super) fn is_tunnel(&self) -> bool {
        self.tunnel.load(Ordering::Relaxed)
    }

    /// The guard has refused a message.
    pub(super) fn refuse(&self) {
        self.refused.store(true, Ordering::Relaxed);
    }

    /// Whether the guard has refused a message.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }
}
