//! A worker's coarse clock: limits of seconds, at the cost of a list entry instead of a timer for each request.
//!
//! The clock ticks ten times a second. A future under a limit leaves its waker in a list; each tick looks through the list. A
//! limit is thus kept to a tenth of a second, and never cut short.

use slab::Slab;
use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Time between two ticks. What limits of seconds are good for; a rule's own timeouts, which may be shorter, do not use this clock.
pub(super) const TICK: Duration = Duration::from_millis(100);

/// A moment, in ticks since the worker began. Wraps after 13 years.
pub(super) type Tick = u32;

/// The clock.
#[derive(Debug, Default)]
pub(super) struct Clock {
    now: Cell<Tick>,
    waiting: RefCell<Slab<(Tick, Waker)>>,
}

/// A limit ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elapsed;

impl Clock {
    /// The last tick.
    pub(super) fn now(&self) -> Tick {
        self.now.get()
    }

    /// The first tick that is at least `time` away.
    pub(super) fn after(&self, time: Duration) -> Tick {
        // One more than the quotient: part of the tick under way has gone by.
        let ticks = time.as_millis().div_ceil(TICK.as_millis()) + 1;
        self.now.get().saturating_add(Tick::try_from(ticks).unwrap_or(Tick::MAX))
    }

    /// Goes on by one tick and wakes what is due.
    pub(super) fn advance(&self) {
        let now = self.now.get().saturating_add(1);
        self.now.set(now);
        for (_, (until, waker)) in self.waiting.borrow().iter() {
            if *until <= now {
                waker.wake_by_ref();
            }
        }
    }

    /// An alarm in `limit` from now.
    pub(super) fn alarm(&self, limit: Duration) -> Alarm<'_> {
        Alarm { clock: self, limit, until: self.after(limit), slot: None }
    }

    /// The output of `future`, unless `limit` runs out first.
    pub(super) async fn within<F: Future>(&self, limit: Duration, future: F) -> Result<F::Output, Elapsed> {
        let mut future = pin!(future);
        let mut alarm = self.alarm(limit);
        poll_fn(|context| match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Ok(output)),
            Poll::Pending => alarm.poll(context).map(Err),
        })
        .await
    }
}

/// A limit of time that goes by. Its entry in the list of those who wait goes when it is dropped.
pub(super) struct Alarm<'a> {
    clock: &'a Clock,
    limit: Duration,
    until: Tick,
    slot: Option<usize>,
}

impl Alarm<'_> {
    /// Begins again.
    pub(super) fn restart(&mut self) {
        self.until = self.clock.after(self.limit);
        if let Some(slot) = self.slot {
            self.clock.waiting.borrow_mut()[slot].0 = self.until;
        }
    }

    /// Ready when the time is over.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Elapsed> {
        if self.clock.now() >= self.until {
            return Poll::Ready(Elapsed);
        }
        let mut waiting = self.clock.waiting.borrow_mut();
        match self.slot {
            Some(slot) => waiting[slot].1.clone_from(context.waker()),
            None => self.slot = Some(waiting.insert((self.until, context.waker().clone()))),
        }
        Poll::Pending
    }
}

impl Drop for Alarm<'_> {
    fn drop(&mut self) {
        if let Some(slot) = self.slot {
            self.clock.waiting.borrow_mut().remove(slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn what_is_ready_needs_no_place_in_the_list() {
        let clock = Clock::default();
        let limited = pin!(clock.within(Duration::ZERO, ready(7)));
        assert_eq!(poll(limited), Poll::Ready(Ok(7)));
        assert!(clock.waiting.borrow().is_empty());
    }

    #[test]
    fn a_limit_is_never_cut_short_and_leaves_the_list_when_it_ends() {
        let clock = Clock::default();
        clock.advance();
        {
            let mut limited = pin!(clock.within(Duration::from_millis(200), pending::<()>()));
            for _ in 0..3 {
                assert_eq!(poll(limited.as_mut()), Poll::Pending);
                assert_eq!(clock.waiting.borrow().len(), 1);
                clock.advance();
            }
            assert_eq!(poll(limited.as_mut()), Poll::Ready(Err(Elapsed)));
        }
        assert!(clock.waiting.borrow().is_empty());
    }
}
