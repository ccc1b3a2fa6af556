//! Timers: a heap from which what became pointless is not removed one by one, but swept when it is
//! more than half.
//!
//! Of what was measured, an ordered set with exact removal costs nearly twice as much for each timer,
//! and a wheel a fraction, but holds what is pointless until it is due: with deadlines much longer
//! than calls, most of what was ever set.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::Time;
use crate::arena::{BatchId, CallId, GroupId, InstanceId, QueryId};

/// The shortest time between two checks of the same thing, so that a driver does not wake all the time.
pub(crate) const CHECK_AGAIN: Time = 1_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// A batch has waited long enough for more queries.
    Batch(BatchId),
    /// A group has waited long enough for more batches.
    Group(GroupId),
    /// The answer of a query is late enough for a reconstruction.
    Grace(QueryId),
    /// A query must be answered.
    Deadline(QueryId),
    /// A batch is late enough to be sent a second time.
    Hedge(BatchId),
    /// A call times out.
    Call(CallId),
    /// An ejected instance is due for a probe, or its probe times out.
    Heal(InstanceId),
}

/// The number of timers below which nothing is swept.
const FEW: usize = 1024;

#[derive(Debug)]
pub(crate) struct Timers {
    heap: BinaryHeap<Reverse<(Time, Timer)>>,
    sweep_at: usize,
}

impl Timers {
    pub(crate) fn new() -> Self {
        Self { heap: BinaryHeap::new(), sweep_at: FEW }
    }

    pub(crate) fn set(&mut self, at: Time, timer: Timer) {
        self.heap.push(Reverse((at, timer)));
    }

    pub(crate) fn first(&self) -> Option<(Time, Timer)> {
        self.heap.peek().map(|entry| entry.0)
    }

    pub(crate) fn pop(&mut self) -> Option<(Time, Timer)> {
        self.heap.pop().map(|entry| entry.0)
    }

    pub(crate) fn is_large(&self) -> bool {
        self.heap.len() >= self.sweep_at
    }

    /// Removes all that is not live. Called when [`Timers::is_large`], it costs a constant for each
    /// timer that was ever set.
    pub(crate) fn sweep(&mut self, live: impl Fn(Timer) -> bool) {
        self.heap.retain(|entry| live(entry.0.1));
        self.sweep_at = (2 * self.heap.len()).max(FEW);
    }

    pub(crate) fn len(&self) -> usize {
        self.heap.len()
    }
}
