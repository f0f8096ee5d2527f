//! Later fragments that overtook their first and wait for it, in order of arrival.

use super::Datagram;
use crate::later::Held;
use std::collections::VecDeque;
use std::time::Duration;
use wire::Instant;

/// Bytes that a port's waiting fragments may take, each counted with [`OVERHEAD_BYTES`]: four datagrams of 64 KiB whose
/// fragments all come in the wrong order.
pub(super) const BYTES_MAX: usize = 320 * 1024;

/// What a waiting fragment takes beside its bytes.
const OVERHEAD_BYTES: usize = 192;

/// How long a fragment waits. Packets overtake each other by milliseconds; a first fragment that is later than this was
/// lost, and with it the datagram.
pub(crate) const WAIT_MAX: Duration = Duration::from_secs(2);

/// The waiting fragments of one port.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    queue: VecDeque<(Datagram, Held)>,
    bytes: usize,
}

impl Waiting {
    /// Puts a fragment at the back. The oldest ones give way if there is no room; they are passed to `given_up`. False if it
    /// would not fit alone.
    pub(crate) fn push(&mut self, datagram: Datagram, held: Held, mut given_up: impl FnMut(Held)) -> bool {
        if cost(&held) > BYTES_MAX {
            return false;
        }
        while self.bytes + cost(&held) > BYTES_MAX {
            self.pop().into_iter().for_each(&mut given_up);
        }
        self.bytes += cost(&held);
        self.queue.push_back((datagram, held));
        true
    }

    /// Takes out all fragments of a datagram, in order of arrival.
    pub(crate) fn take(&mut self, datagram: &Datagram, mut taken: impl FnMut(Held)) {
        if !self.queue.iter().any(|(of, _)| of == datagram) {
            return;
        }
        for (of, held) in std::mem::take(&mut self.queue) {
            if of == *datagram {
                self.bytes -= cost(&held);
                taken(held);
            } else {
                self.queue.push_back((of, held));
            }
        }
    }

    /// Takes out the oldest fragment if its time is up.
    pub(crate) fn pop_overdue(&mut self, now: Instant) -> Option<Held> {
        if self.deadline()? <= now { self.pop() } else { None }
    }

    /// Takes out the oldest fragment.
    pub(crate) fn pop(&mut self) -> Option<Held> {
        let (_, held) = self.queue.pop_front()?;
        self.bytes -= cost(&held);
        Some(held)
    }

    /// When the time of the oldest fragment is up.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.queue.front().map(|(_, held)| held.since + WAIT_MAX)
    }
}

fn cost(held: &Held) -> usize {
    held.bytes.len() + OVERHEAD_BYTES
}
