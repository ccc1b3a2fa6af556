//! Requests that instances refuse.
//!
//! A refusal may be the fault of the request, of the instance, or of another request in the same batch. So
//! the work is sent to one other instance: if that one answers, the first one has failed. If both refuse a
//! batch of several requests, each request is sent alone. A request that is refused again is answered with
//! the refusal. All these calls count as attempts.

use crate::Time;
use crate::action::Outcome;
use crate::arena::{BatchId, CallId, InstanceId};
use crate::engine::Engine;
use crate::store::{Owner, Part, Work};
use crate::task::Task;

impl Engine {
    /// A call was refused: its instance reports that the request is invalid. This is no failure of the
    /// instance, unless another one answers the same request.
    pub fn refused(&mut self, now: Time, call: CallId) {
        self.begin(now);
        let Some((instance, since)) = self.store.get(call).and_then(|work| work.running) else {
            self.counters.ignored += 1;
            return;
        };
        self.counters.refusals += 1;
        let mut work = self.end_call(call, instance);
        let first = work.refused_by.is_none();
        work.refused_by = work.refused_by.or(Some((instance, since)));
        work.avoid.add(instance);
        if work.cancelled || !self.is_needed(&work) {
            self.fail_unanswerable(work.owner);
        } else {
            self.refuse(work, first);
        }
        self.clean_up(work.owner);
        self.has_room(instance);
    }

    fn refuse(&mut self, work: Work, first: bool) {
        let left = self.config.max_attempts.saturating_sub(work.attempts);
        let parts = match work {
            Work { task: Task::Deployed, owner: Owner::Batch(batch), part, .. } => self.parts(batch, part),
            _ => Vec::new(),
        };
        // One attempt is reserved to send the requests of a batch alone.
        let needed = if parts.len() > 1 { 2 } else { 1 };
        let pool = &self.pools[work.task.role().pool()];
        if first && left >= needed && pool.in_rotation() > 1 {
            self.retry(work);
        } else if let (Owner::Batch(batch), 2.., 1..) = (work.owner, parts.len(), left) {
            self.counters.splits += 1;
            // A hedge of the whole batch would be refused, too.
            self.store[batch].hedged = true;
            for part in parts {
                self.retry(Work { part: Some(part), refused_by: None, ..work });
            }
        } else {
            self.refuse_finally(work);
        }
    }

    fn refuse_finally(&mut self, work: Work) {
        match (work.task, work.owner) {
            (Task::Deployed, Owner::Batch(batch)) => {
                self.store[batch].refused = true;
                self.each_unpredicted(batch, work.part, |engine, query| {
                    if !engine.store[query].answered {
                        engine.finish(query, Outcome::Refused);
                    }
                });
                self.finish_if_done(batch, None);
            }
            // The coded queries contain the refused query, so that the group cannot be used.
            (Task::Coded { .. }, Owner::Group(group)) => self.abandon_group(group),
            _ => self.fail_unanswerable(work.owner),
        }
    }

    /// Splits a batch, or a part of it, into its requests.
    fn parts(&self, batch: BatchId, part: Option<Part>) -> Vec<Part> {
        let queries = &self.store[batch].queries;
        let Part { from, to } = part.unwrap_or(Part { from: 0, to: queries.len() });
        let mut parts: Vec<Part> = Vec::new();
        for at in from..to {
            let same = at > from && self.store[queries[at]].request == self.store[queries[at - 1]].request;
            match parts.last_mut() {
                Some(last) if same => last.to = at + 1,
                _ => parts.push(Part { from: at, to: at + 1 }),
            }
        }
        parts
    }

    /// Counts a failure of the instance that refused a request which another one answered.
    pub(crate) fn count_false_refusal(
        &mut self,
        refused_by: Option<(InstanceId, Time)>,
        answered_by: InstanceId,
    ) {
        if let Some((instance, since)) = refused_by
            && instance != answered_by
        {
            self.count_failure(instance, since);
        }
    }
}
