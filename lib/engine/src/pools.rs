//! Pools: for each role, the work that waits and the instances that can take it.

use std::collections::BTreeSet;

use crate::Time;
use crate::arena::{CallId, InstanceId};
use crate::percentile::Percentile;
use crate::store::Work;

/// The order of queued work: redundant, priority, position.
type QueueKey = (bool, u8, u64, CallId);

/// The work that waits for one role, and the instances that have it.
///
/// The counts are those of the sets: `redundant` of the redundant work in the queue, `ejected` of the members
/// that are out of rotation.
#[derive(Debug)]
pub(crate) struct Pool {
    queue: BTreeSet<QueueKey>,
    redundant: usize,
    /// The instances with room, the next one first.
    ready: BTreeSet<(u64, InstanceId)>,
    members: usize,
    ejected: usize,
    /// The median time of its calls.
    median: Percentile,
    /// The time that only one of a hundred calls is faster than.
    fastest: Option<Time>,
    /// The time that one of twenty calls exceeds.
    late: Option<Time>,
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self {
            queue: BTreeSet::new(),
            redundant: 0,
            ready: BTreeSet::new(),
            members: 0,
            ejected: 0,
            median: Percentile::new(0.5),
            fastest: None,
            late: None,
        }
    }

    /// Work that waits.
    pub(crate) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Work that waits and is redundant.
    pub(crate) fn redundant(&self) -> usize {
        self.redundant
    }

    /// Queues work.
    pub(crate) fn push(&mut self, call: CallId, work: &Work) {
        if self.queue.insert(key(call, work)) && work.redundant {
            self.redundant += 1;
        }
    }

    /// Takes work out of the queue, if it waits there.
    pub(crate) fn remove(&mut self, call: CallId, work: &Work) {
        if self.queue.remove(&key(call, work)) && work.redundant {
            self.redundant -= 1;
        }
    }

    /// The work that waits, the next one first.
    pub(crate) fn queue(&self) -> impl Iterator<Item = CallId> + '_ {
        self.queue.iter().map(|key| key.3)
    }

    /// Of the redundant work with the lowest priority, the oldest.
    pub(crate) fn oldest_redundant(&self) -> Option<CallId> {
        let &(true, lowest, _, any) = self.queue.last()? else { return None };
        // Orders begin at 1.
        self.queue.range((true, lowest, 0, any)..).next().map(|key| key.3)
    }

    /// The redundant work that would be sent last.
    pub(crate) fn last_redundant(&self) -> Option<CallId> {
        self.queue.last().filter(|key| key.0).map(|key| key.3)
    }

    /// The instances with room, the next one first.
    pub(crate) fn ready(&self) -> impl Iterator<Item = InstanceId> + '_ {
        self.ready.iter().map(|&(_, instance)| instance)
    }

    /// An instance has its place among those with room by another key now, or has none.
    pub(crate) fn set_ready(&mut self, instance: InstanceId, before: Option<u64>, now: Option<u64>) {
        if let Some(before) = before {
            self.ready.remove(&(before, instance));
        }
        if let Some(now) = now {
            self.ready.insert((now, instance));
        }
    }

    /// An instance joined.
    pub(crate) fn join(&mut self) {
        self.members += 1;
    }

    /// An instance left, in rotation or out of it.
    pub(crate) fn leave(&mut self, was_out: bool) {
        self.members -= 1;
        self.ejected -= usize::from(was_out);
    }

    /// A member is out of rotation.
    pub(crate) fn eject(&mut self) {
        self.ejected += 1;
    }

    /// A member is in rotation again.
    pub(crate) fn heal(&mut self) {
        self.ejected -= 1;
    }

    /// Members in rotation.
    pub(crate) fn in_rotation(&self) -> usize {
        self.members - self.ejected
    }

    /// True if one more member may be out of rotation, where this share of them may be.
    pub(crate) fn may_eject(&self, share: f64) -> bool {
        self.ejected < self.most_out(share)
    }

    /// True if too many members are out of rotation.
    pub(crate) fn has_too_many_out(&self, share: f64) -> bool {
        self.ejected > self.most_out(share)
    }

    fn most_out(&self, share: f64) -> usize {
        (self.members as f64 * share) as usize
    }

    /// True if an instance may take work: it has not failed it, or no other instance may be left that has
    /// not.
    pub(crate) fn may_give(&self, work: &Work, instance: InstanceId) -> bool {
        !work.avoid.has(instance) || self.in_rotation() <= work.avoid.count()
    }

    /// The median time of calls, if it is known.
    pub(crate) fn median(&self) -> Option<Time> {
        self.median.value()
    }

    /// True if a call that took so long is slow beside the others.
    pub(crate) fn is_slow(&self, time: Time) -> bool {
        self.median.value().is_some_and(|median| time > crate::auto::SLOW * median)
    }

    /// The time that a call takes at least, if it is known.
    pub(crate) fn fastest(&self) -> Option<Time> {
        self.fastest
    }

    /// The time after which a call is late, if it is known.
    pub(crate) fn late(&self) -> Option<Time> {
        self.late
    }

    /// A call took so long; the median of all.
    pub(crate) fn record(&mut self, now: Time, time: Time) -> Time {
        if self.median.record(now, time) {
            (self.fastest, self.late) = (self.median.at(0.01), self.median.at(0.95));
        }
        self.median.value().unwrap_or(time)
    }
}

fn key(call: CallId, work: &Work) -> QueueKey {
    (work.redundant, work.priority, work.seq, call)
}
