//! Answers: which query is answered with what, and when.

use std::cell::Cell;

use crate::Time;
use crate::action::{Action, Decode, Outcome, Reason};
use crate::arena::{BatchId, GroupId, InstanceId, QueryId};
use crate::config::When;
use crate::engine::Engine;
use crate::mask::Mask;
use crate::store::{Owner, Part, Slot, Work};
use crate::task::Task;
use crate::timers::{CHECK_AGAIN, Timer};

impl Engine {
    /// Records the predictions of a batch, or of a part of it.
    pub(crate) fn predicted(&mut self, batch: BatchId, work: &Work, instance: InstanceId, usable: bool) {
        if self.store[batch].answered {
            return;
        }
        self.store[batch].usable &= usable;
        let copy = work.task == Task::Copy;
        self.each_unpredicted(batch, work.part, |engine, query| {
            if !engine.store[query].answered {
                engine.finish(query, Outcome::Prediction { instance, copy });
            }
            engine.compare(query);
        });
        self.finish_if_done(batch, Some(instance));
    }

    /// Handles the end of a batch if all of its rows are predicted or refused. `answered_by` is the instance
    /// of the last answer, if that was not a refusal.
    pub(crate) fn finish_if_done(&mut self, batch: BatchId, answered_by: Option<InstanceId>) {
        let held = &mut self.store[batch];
        if held.left > 0 || std::mem::replace(&mut held.answered, true) {
            return;
        }
        let group = held.group;
        let fit = held.usable && !held.refused;
        self.answer_times.record(self.now, self.now - held.first_arrived);
        if let Some(instance) = answered_by {
            // This answer shows that running retries of refused work were refused wrongly.
            for at in 0..self.store[batch].works().len() {
                let work = self.store[self.store[batch].works()[at]];
                if work.part.is_none() {
                    self.count_false_refusal(work.refused_by, instance);
                }
            }
        }
        let Some((group, slot)) = group.filter(|_| fit) else { return };
        // A prediction that was requested while coding was off may be that of another version.
        if let Some(&first) = self.store[batch].queries.first()
            && !self.store[group].abandoned
        {
            self.keep_known(first);
        }
        if self.coding.as_ref().is_some_and(|coding| coding.rule().is_systematic()) {
            self.store[group].available |= 1 << slot;
            self.check_group(group);
        }
    }

    /// Marks each row of a batch, or of a part of it, that is not done yet as done, and calls a function with
    /// it.
    pub(crate) fn each_unpredicted(
        &mut self,
        batch: BatchId,
        part: Option<Part>,
        mut act: impl FnMut(&mut Self, QueryId),
    ) {
        let Part { from, to } = part.unwrap_or(Part { from: 0, to: usize::MAX });
        for position in from..to {
            let Some(&query) = self.store[batch].queries.get(position) else { return };
            if !std::mem::replace(&mut self.store[query].done, true) {
                self.store[batch].left -= 1;
                act(self, query);
            }
        }
    }

    /// Lets the driver compare a reconstruction with the prediction that has arrived.
    fn compare(&mut self, query: QueryId) {
        let held = &self.store[query];
        if let Some(decode) = held.rebuilt
            && !self.store[decode.group].abandoned
        {
            self.actions.push_back(Action::Compare { query, row: held.row, decode });
            if !self.config.shadow {
                self.counters.late_after_reconstruction += 1;
            }
        }
    }

    /// Keeps a query whose prediction is available, to complete a group.
    fn keep_known(&mut self, query: QueryId) {
        let Some(coding) = &self.coding else { return };
        let k = coding.rule().k();
        if !coding.completes() || !coding.is_on() || k < 2 {
            return;
        }
        self.store.hold(query);
        self.known.push_back(query);
        if self.known.len() > k
            && let Some(oldest) = self.known.pop_front()
        {
            self.release_query(oldest);
        }
    }

    pub(crate) fn approximated(&mut self, batch: BatchId, instance: InstanceId) {
        self.store[batch].approximated_by = Some(instance);
        self.each_query(batch, Self::try_fallback);
    }

    pub(crate) fn parity_answered(&mut self, group: GroupId, parity: usize) {
        let k = self.coding.as_ref().map_or(0, |coding| coding.rule().k());
        self.counters.parity_answers += 1;
        self.counters.parity_useless += u64::from(self.store[group].rebuildable() == 0);
        self.worker_answered(group, k + parity);
    }

    pub(crate) fn worker_answered(&mut self, group: GroupId, worker: usize) {
        self.store[group].available |= 1 << worker;
        self.check_group(group);
    }

    /// For codes that decode every query, records the time of the answer for the grace.
    pub(crate) fn record_coded(&mut self, group: GroupId) {
        if let Some(batch) = self.store[group].slots.first().and_then(Slot::batch) {
            self.answer_times.record(self.now, self.now - self.store[batch].first_arrived);
        }
    }

    /// Checks which queries of a group can be answered after an arrival.
    pub(crate) fn check_group(&mut self, group: GroupId) {
        // Later rows have at least as many absent slots; if the last row cannot be rebuilt, none can.
        let last = self.group_rows(group).saturating_sub(1);
        for slot in 0..self.store[group].slots.len() {
            let held = &self.store[group];
            if held.rebuildable() == 0 {
                return;
            }
            let available = held.available;
            if let Some(batch) = held.slots[slot].batch()
                && self.store[batch].open() > 0
                && self.can_rebuild(group, slot, last, available)
            {
                self.each_query(batch, Self::try_fallback);
            }
        }
    }

    pub(crate) fn each_query(&mut self, batch: BatchId, mut act: impl FnMut(&mut Self, QueryId)) {
        let mut position = 0;
        while let Some(&query) = self.store[batch].queries.get(position) {
            act(self, query);
            position += 1;
        }
    }

    /// The answer to a query in place of its prediction, if there is one.
    fn fallback(&mut self, query: QueryId) -> Option<Outcome> {
        let held = self.store.get(query)?;
        if !held.allow_reconstructed {
            return None;
        }
        if let Some(decode) = self.decode(query) {
            return Some(Outcome::Reconstructed(decode));
        }
        let batch = self.store.get(query)?.batch;
        self.store[batch].approximated_by.map(|instance| Outcome::Approximate { instance })
    }

    /// How to rebuild a query now, if that is possible.
    fn decode(&mut self, query: QueryId) -> Option<Decode> {
        let row = self.store[query].position;
        let (group, slot) = self.store[self.store[query].batch].group?;
        let available = self.store[group].available;
        if available == self.store[query].undecodable {
            return None;
        }
        self.can_rebuild(group, slot, row, available).then(|| {
            let absent = self.absent(group, row);
            Decode { group, slot, row, available, absent }
        })
    }

    /// True if these answers of a group suffice to rebuild one prediction.
    fn can_rebuild(&mut self, group: GroupId, slot: usize, row: usize, available: Mask) -> bool {
        let held = &self.store[group];
        if held.abandoned || held.filling {
            return false;
        }
        let absent = self.absent(group, row);
        self.coding.as_mut().is_some_and(|coding| {
            let absent = if coding.rule().is_systematic() { absent } else { 0 };
            coding.rebuilds(available | absent) >> slot & 1 == 1
        })
    }

    /// Answers a query in place of its prediction, if there is such an answer and it is time for it.
    pub(crate) fn try_fallback(&mut self, query: QueryId) {
        if self.store[query].answered || self.store[query].rebuilding.is_some() {
            return;
        }
        let Some(outcome) = self.fallback(query) else { return };
        let wait = match self.config.when {
            When::First => None,
            When::Grace(delay) => {
                let due = self.grace_due(self.store[query].arrived, delay.time(self.answer_times.value()));
                (due > self.now).then_some(Some(due))
            }
            When::Deadline => Some(None),
        };
        match wait {
            Some(due) if self.better_may_come(query) => {
                if let Some(due) = due
                    && !std::mem::replace(&mut self.store[query].grace_set, true)
                {
                    self.set_timer(due, Timer::Grace(query));
                }
            }
            _ if self.takes_fallback(query) => self.fall_back(query, outcome),
            _ => {}
        }
    }

    /// True if the prediction of a query may still arrive, or for a code that decodes every query, further
    /// answers.
    fn better_may_come(&self, query: QueryId) -> bool {
        let held = &self.store[query];
        let batch = &self.store[held.batch];
        let predicts = |work: &Work| work.task != Task::Approximate && work.covers(held.position);
        match batch.group {
            Some((group, _)) if !batch.sent => !self.store[group].works().is_empty(),
            _ => batch.works().iter().any(|&call| predicts(&self.store[call])),
        }
    }

    /// False if the policy `auto` may give no reconstruction now, and the prediction may still come.
    fn takes_fallback(&mut self, query: QueryId) -> bool {
        let takes = self.may_reconstruct() || !self.better_may_come(query);
        self.counters.reconstructions_unpaid += u64::from(!takes);
        takes
    }

    fn fall_back(&mut self, query: QueryId, outcome: Outcome) {
        let held = &mut self.store[query];
        match outcome {
            Outcome::Reconstructed(decode) if self.config.shadow => {
                self.counters.shadow += u64::from(held.rebuilt.is_none());
                held.rebuilt = held.rebuilt.or(Some(decode));
            }
            Outcome::Reconstructed(decode) => {
                if held.rebuilding.is_none() {
                    held.rebuilding = Some(decode);
                    if let Some(auto) = &mut self.auto {
                        auto.reconstructed();
                    }
                    self.actions.push_back(Action::Rebuild { query, row: held.row, decode });
                }
            }
            _ if self.config.shadow => {}
            _ => self.finish(query, outcome),
        }
    }

    pub(crate) fn grace_over(&mut self, query: QueryId) {
        if let When::Grace(delay) = self.config.when
            && self.auto.is_some()
            && self.better_may_come(query)
        {
            // Other queries may have got reconstructions meanwhile.
            let due = self.grace_due(self.store[query].arrived, delay.time(self.answer_times.value()));
            if due > self.now {
                self.set_timer(due.max(self.now.saturating_add(CHECK_AGAIN)), Timer::Grace(query));
                return;
            }
        }
        if let Some(outcome) = self.fallback(query)
            && self.takes_fallback(query)
        {
            let batch = self.store[query].batch;
            self.fall_back(query, outcome);
            self.clean_up(Owner::Batch(batch));
        }
    }

    pub(crate) fn deadline_passed(&mut self, query: QueryId) {
        let batch = self.store[query].batch;
        // A reconstruction that is still being decoded is too late.
        let pending = self.store[query].rebuilding.is_some();
        if !pending && let Some(outcome) = self.fallback(query) {
            self.fall_back(query, outcome);
        }
        if self.store.get(query).is_some_and(|held| !held.answered && (pending || held.rebuilding.is_none()))
        {
            self.finish(query, Outcome::Default(Reason::Deadline));
        }
        self.clean_up(Owner::Batch(batch));
    }

    /// Answers a query.
    pub(crate) fn finish(&mut self, query: QueryId, outcome: Outcome) {
        let held = &self.store[query];
        let late = self.now > held.deadline;
        self.actions.push_back(Action::Answer { query, row: held.row, outcome, late });
        let counters = &mut self.counters;
        counters.late += u64::from(late);
        let counter = match outcome {
            Outcome::Prediction { copy, .. } => {
                counters.copies_won += u64::from(copy);
                &mut counters.predictions
            }
            Outcome::Reconstructed(_) => &mut counters.reconstructed,
            Outcome::Approximate { .. } => &mut counters.approximate,
            Outcome::Default(Reason::Deadline) => &mut counters.default_deadline,
            Outcome::Default(Reason::Failed) => &mut counters.default_failed,
            Outcome::Refused => &mut counters.refused,
        };
        *counter += 1;
        self.close_query(query);
    }

    /// After work was given up: answers the queries of a batch that nothing can answer any more.
    pub(crate) fn fail_unanswerable_of(&mut self, batch: BatchId) {
        if self.store[batch].open() == 0 || self.store[batch].filling {
            return;
        }
        self.each_query(batch, |engine, query| {
            engine.try_fallback(query);
            let held = &engine.store[query];
            if held.answered || held.rebuilding.is_some() || engine.can_be_answered(query) {
                return;
            }
            let batch = engine.store[query].batch;
            if engine.store[batch].sent {
                engine.finish(query, Outcome::Default(Reason::Failed));
            } else {
                if let Some((group, _)) = engine.store[batch].group {
                    engine.store[group].abandoned = true;
                }
                engine.send_batch(batch);
            }
        });
    }

    /// True if waiting or running work can still answer a query.
    pub(crate) fn can_be_answered(&mut self, query: QueryId) -> bool {
        let held = &self.store[query];
        let allowed = held.allow_reconstructed && !self.config.shadow;
        let (batch, row) = (&self.store[held.batch], held.position);
        let answers = |work: &Work| (allowed || work.task != Task::Approximate) && work.covers(row);
        if batch.works().iter().any(|&call| answers(&self.store[call])) {
            return true;
        }
        let Some((group, slot)) = batch.group.filter(|_| allowed) else { return false };
        if self.store[group].filling {
            return !self.store[group].abandoned;
        }
        let undecodable = held.undecodable;
        let possible = self.possible(group, |_| true);
        possible != undecodable && self.can_rebuild(group, slot, row, possible)
    }

    /// The workers of a group whose answers are available, or may arrive by work for which `counts` is true.
    fn possible(&self, group: GroupId, counts: impl Fn(&Work) -> bool) -> Mask {
        let held = &self.store[group];
        let k = self.coding.as_ref().map_or(0, |coding| coding.rule().k());
        let coming =
            |works: &[_]| works.iter().map(|&call| self.store[call]).filter(&counts).collect::<Vec<_>>();
        let mut mask = held.available;
        for work in coming(held.works()) {
            match work.task {
                Task::Parity { parity, .. } => mask |= 1 << (k + parity),
                Task::Coded { worker, .. } => mask |= 1 << worker,
                _ => {}
            }
        }
        for (slot, holds) in held.slots.iter().enumerate() {
            if let Some(batch) = holds.batch() {
                let batch = &self.store[batch];
                if batch.sent && coming(batch.works()).iter().any(|work| work.task != Task::Approximate) {
                    mask |= 1 << slot;
                }
            }
        }
        mask
    }

    /// If coding can rebuild a batch without its own calls, from answers that are available or not late yet:
    /// the time until which this holds.
    pub(crate) fn covered_until(&mut self, batch: BatchId, delay: Time) -> Option<Time> {
        if !self.may_reconstruct() {
            return None;
        }
        let (group, slot) = self.store[batch].group?;
        let again = self.now.saturating_add(delay);
        if self.config.shadow || self.store[group].filling {
            return (!self.config.shadow).then_some(again);
        }
        let now = self.now;
        let late_at = Cell::new(again);
        let on_time = |work: &Work| {
            let late = work.running.map_or(again, |(_, since)| since.saturating_add(delay));
            if late > now && !matches!(work.owner, Owner::Batch(owner) if owner == batch) {
                late_at.set(late_at.get().min(late));
            }
            late > now
        };
        let possible = self.possible(group, on_time) & !(1 << slot);
        self.can_rebuild(group, slot, 0, possible).then(|| late_at.get())
    }
}
