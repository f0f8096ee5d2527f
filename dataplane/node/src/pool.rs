//! Frame buffers that are used again. A shard takes every buffer from its own pool and gets back the ones that it handed to
//! another shard, so that in steady state nothing is allocated.

use crossbeam_channel::{Receiver, Sender, bounded};
use wire::{FRAME_MAX_BYTES, Frame};

/// Buffers that a pool keeps when nobody uses them. Enough for a receive call whose 64 datagrams do not merge, and for what
/// waits in other shards' queues; at 64 KiB each the pages of 16 MiB at most stay resident.
const FREE_MAX: usize = 256;

/// The buffers of one shard.
pub(crate) struct Pool {
    free: Vec<Frame>,
    returns: Receiver<Frame>,
}

impl Pool {
    /// An empty pool, and where other shards give buffers back.
    pub(crate) fn new() -> (Pool, Sender<Frame>) {
        let (sender, returns) = bounded(FREE_MAX);
        (Pool { free: Vec::with_capacity(FREE_MAX), returns }, sender)
    }

    /// A buffer for the largest frame; its contents have no meaning.
    pub(crate) fn take(&mut self) -> Frame {
        if let Some(frame) = self.free.pop() {
            return frame;
        }
        self.returns.try_recv().unwrap_or_else(|_| Frame::with_capacity(FRAME_MAX_BYTES))
    }

    /// Gives a buffer of this pool back.
    pub(crate) fn put(&mut self, frame: Frame) {
        if self.free.len() < FREE_MAX {
            self.free.push(frame);
        }
    }
}
