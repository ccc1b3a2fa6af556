//! The journal of an engine's events and actions, as lines of JSON (parm-formats(5)). It shows the history of
//! a query or of a coding group.
//!
//! A driver keeps a [`Journal`] beside its engine, and reports events and actions to it. Calls and groups
//! have their own numbers here, from 0, which are not reused.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::Time;
use crate::action::{Action, Decode, Outcome, Reason};
use crate::arena::{CallId, GroupId};
use crate::auto::State;
use crate::engine::Engine;
use crate::mask::MAX_WORKERS;
use crate::task::Task;

/// A line of a journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// The time, in ns since the driver's origin.
    pub t_ns: Time,
    /// The event.
    #[serde(flatten)]
    pub event: Event,
}

/// An event of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A query arrived.
    Arrive {
        /// The query.
        query: u64,
    },
    /// Work was sent to an instance.
    Dispatch {
        /// The call.
        call: u64,
        /// The instance: [`crate::InstanceId::index`].
        instance: u64,
        /// The work of the call.
        #[serde(flatten)]
        work: Work,
    },
    /// A call was answered.
    Answered {
        /// The call.
        call: u64,
    },
    /// A call failed.
    Failed {
        /// The call.
        call: u64,
    },
    /// The answer of a call is no longer needed. Its end may follow.
    Cancelled {
        /// The call.
        call: u64,
    },
    /// A query was answered.
    Answer {
        /// The query.
        query: u64,
        /// The answer.
        #[serde(flatten)]
        given: Given,
    },
    /// The policy `auto` has another state.
    State {
        /// The state.
        state: State,
        /// The load that led to it: the average number of first calls that run.
        load: f64,
    },
}

/// The work of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "task", rename_all = "kebab-case")]
pub enum Work {
    /// Runs the deployed model on queries.
    Deployed {
        /// The queries.
        queries: Vec<u64>,
    },
    /// Runs the deployed model as a replica or a hedge.
    Copy {
        /// The queries.
        queries: Vec<u64>,
    },
    /// Runs the approximate model on queries.
    Approximate {
        /// The queries.
        queries: Vec<u64>,
    },
    /// Runs a parity model on the parity queries of a group.
    Parity {
        /// The group.
        group: u64,
        /// The parity.
        parity: u64,
        /// The queries of each slot.
        slots: Vec<Vec<u64>>,
    },
    /// Runs the deployed model on the coded queries of a group.
    Coded {
        /// The group.
        group: u64,
        /// The worker of the group.
        worker: u64,
        /// The queries of each slot.
        slots: Vec<Vec<u64>>,
    },
}

/// The answer to a query.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Given {
    /// Its prediction.
    Prediction,
    /// A reconstruction.
    Reconstructed {
        /// The group.
        group: u64,
        /// The queries whose predictions were available.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        queries: Vec<u64>,
        /// The parities whose outputs were available.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        parities: Vec<u64>,
        /// For a code without parity models: the workers whose outputs were available.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        workers: Vec<u64>,
    },
    /// The answer of the approximate model.
    Approximate,
    /// A default answer: its deadline had passed.
    Deadline,
    /// A default answer: all calls for it had failed, or were refused.
    Failed,
}

/// A group of which coded queries were sent.
#[derive(Debug)]
struct Group {
    number: u64,
    /// For each row: the slots with their queries.
    rows: Vec<Vec<(usize, u64)>>,
}

/// Makes the entries of a journal. It holds the running calls, and the rows and groups that the engine holds.
#[derive(Debug, Default)]
pub struct Journal {
    /// The numbers of queries by their rows.
    queries: HashMap<u64, u64>,
    calls: HashMap<CallId, u64>,
    groups: HashMap<GroupId, Group>,
    next_call: u64,
    next_group: u64,
}

impl Journal {
    /// An empty journal.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A query arrived, and the engine accepted it. `query` is its number, which is not reused as its row may be.
    pub fn arrived(&mut self, now: Time, row: u64, query: u64) -> Entry {
        self.queries.insert(row, query);
        Entry { t_ns: now, event: Event::Arrive { query } }
    }

    fn query(&self, row: u64) -> u64 {
        self.queries.get(&row).copied().unwrap_or(row)
    }

    /// A call was answered; none if it is not known any more.
    pub fn answered(&mut self, now: Time, call: CallId) -> Option<Entry> {
        self.calls.remove(&call).map(|call| Entry { t_ns: now, event: Event::Answered { call } })
    }

    /// A call failed; none if it is not known any more.
    pub fn failed(&mut self, now: Time, call: CallId) -> Option<Entry> {
        self.calls.remove(&call).map(|call| Entry { t_ns: now, event: Event::Failed { call } })
    }

    /// A call was cancelled, which makes no further entry.
    pub fn cancelled(&mut self, call: CallId) {
        self.calls.remove(&call);
    }

    /// The engine returned an action that the driver has not executed yet; none if it is not in the journal.
    pub fn action(&mut self, now: Time, engine: &Engine, action: &Action) -> Option<Entry> {
        let event = match *action {
            Action::Dispatch { call, instance } => {
                let task = engine.call(call)?.task;
                let work = self.work(engine, call, task);
                let number = self.next_call;
                self.next_call += 1;
                self.calls.insert(call, number);
                Event::Dispatch { call: number, instance: instance.index() as u64, work }
            }
            Action::Cancel { call, .. } => {
                let number = *self.calls.get(&call)?;
                if engine.call(call).is_none() {
                    self.calls.remove(&call);
                }
                Event::Cancelled { call: number }
            }
            Action::Answer { row, outcome, .. } => {
                let given = match outcome {
                    Outcome::Prediction { .. } => Given::Prediction,
                    Outcome::Reconstructed(decode) => self.reconstructed(engine, &decode),
                    Outcome::Approximate { .. } => Given::Approximate,
                    Outcome::Default(Reason::Deadline) => Given::Deadline,
                    Outcome::Default(Reason::Failed) | Outcome::Refused => Given::Failed,
                };
                Event::Answer { query: self.query(row), given }
            }
            Action::State { state, load } => Event::State { state, load },
            Action::Release { row } => {
                self.queries.remove(&row);
                return None;
            }
            Action::Drop { group } => {
                self.groups.remove(&group);
                return None;
            }
            _ => return None,
        };
        Some(Entry { t_ns: now, event })
    }

    fn work(&mut self, engine: &Engine, call: CallId, task: Task) -> Work {
        let queries = || engine.rows(call).map(|row| self.query(row)).collect();
        match task {
            Task::Deployed => Work::Deployed { queries: queries() },
            Task::Copy => Work::Copy { queries: queries() },
            Task::Approximate => Work::Approximate { queries: queries() },
            Task::Parity { group, parity } => {
                let (group, slots) = self.slots(engine, group, call);
                Work::Parity { group, parity: parity as u64, slots }
            }
            Task::Coded { group, worker } => {
                let (group, slots) = self.slots(engine, group, call);
                Work::Coded { group, worker: worker as u64, slots }
            }
        }
    }

    /// The number of a group, and the queries of each slot.
    fn slots(&mut self, engine: &Engine, id: GroupId, call: CallId) -> (u64, Vec<Vec<u64>>) {
        let group = self.group(engine, id, engine.call(call).map_or(0, |call| call.rows));
        let members = || group.rows.iter().flatten();
        let mut slots = vec![Vec::new(); members().map(|(slot, _)| slot + 1).max().unwrap_or(0)];
        for &(slot, query) in members() {
            // A known query is in every row.
            if slots[slot].last() != Some(&query) {
                slots[slot].push(query);
            }
        }
        (group.number, slots)
    }

    /// A group; if it is new here, it gets this number of rows.
    fn group(&mut self, engine: &Engine, id: GroupId, rows: usize) -> &Group {
        if !self.groups.contains_key(&id) {
            let members = |row| engine.members(id, row).map(|(slot, row)| (slot, self.query(row))).collect();
            let group = Group { number: self.next_group, rows: (0..rows).map(members).collect() };
            self.next_group += 1;
            self.groups.insert(id, group);
        }
        &self.groups[&id]
    }

    fn reconstructed(&mut self, engine: &Engine, decode: &Decode) -> Given {
        let group = self.group(engine, decode.group, decode.row + 1);
        let available = |worker: usize| decode.available.checked_shr(worker as u32).unwrap_or(0) & 1 == 1;
        let at_hand = (0..MAX_WORKERS).filter(|&worker| available(worker));
        let (mut queries, mut parities, mut workers) = (Vec::new(), Vec::new(), Vec::new());
        if let Some(code) = engine.code().filter(|code| code.is_systematic()) {
            let row = group.rows.get(decode.row).map_or(&[][..], Vec::as_slice);
            queries.extend(row.iter().filter(|(slot, _)| available(*slot)).map(|&(_, query)| query));
            parities.extend(
                at_hand.filter_map(|worker| worker.checked_sub(code.k())).map(|parity| parity as u64),
            );
        } else {
            workers.extend(at_hand.map(|worker| worker as u64));
        }
        Given::Reconstructed { group: group.number, queries, parities, workers }
    }
}
