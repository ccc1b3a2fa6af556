//! What the driver does with actions, and what it checks of each.

use std::collections::BTreeSet;

use parm_engine::{Action, CallId, Decode, GroupId, InstanceId, Outcome, QueryId, Reason, Role, Task, Time};
use rand::RngExt;

use crate::driver::{Driver, Instance, Running};
use crate::field;
use crate::scenario::Facts;

impl Driver {
    pub(crate) fn perform(&mut self) {
        while let Some(action) = self.engine.next_action() {
            match action {
                Action::Dispatch { call, instance } => self.dispatch(call, instance),
                Action::Cancel { call, instance } => self.cancelled(call, instance),
                Action::Rebuild { query, row, decode } => {
                    assert!(!self.held(row).over, "row {row} is rebuilt after its answer");
                    assert_eq!(self.decode(decode), Some(field::query(row)), "row {row}: {decode:?}");
                    let usable = self.rng.random_bool(0.95);
                    if self.rng.random_bool(0.3) {
                        self.decoding.push((query, usable));
                    } else {
                        self.engine.decoded(self.now, query, usable);
                    }
                }
                Action::Answer { query, row, outcome, late } => self.answered(query, row, outcome, late),
                Action::Compare { row, decode, .. } => {
                    let prediction = self.held(row).prediction.expect("what is compared is there");
                    let rebuilt = self.decode(decode);
                    assert_eq!(Some(prediction), rebuilt, "row {row}: {decode:?}");
                    let agree = self.rng.random_bool(0.8);
                    self.compared.push(agree);
                }
                Action::Release { row } => {
                    let held = self.held(row);
                    assert!(held.over, "row {row} is released before its answer");
                    held.released = true;
                }
                Action::Drop { group } => drop(self.groups.remove(&group)),
                Action::Probe { instance } => self.instance(instance).probing = true,
                Action::Ejected { instance } => {
                    let instance = self.instance(instance);
                    assert!(!instance.out && !instance.leaving);
                    instance.out = true;
                }
                Action::Healed { instance } => {
                    let instance = self.instance(instance);
                    assert!(instance.out);
                    (instance.out, instance.probing) = (false, false);
                }
                Action::State { .. } => {}
                Action::CodingOff { .. } => assert!(self.engine.coding_off().is_some() || self.version == 1),
            }
        }
    }

    pub(crate) fn instance(&mut self, id: InstanceId) -> &mut Instance {
        self.instances.iter_mut().find(|instance| instance.id == id).expect("it is there")
    }

    fn dispatch(&mut self, call: CallId, id: InstanceId) {
        let Some(of) = self.engine.call(call) else { panic!("call {call:?} was sent and is gone") };
        assert_eq!(of.instance, id);
        let role = of.task.role();
        let instance = self.instance(id);
        assert!(!instance.out && !instance.leaving, "work for an instance out of rotation");
        instance.running += 1;
        assert!(instance.running <= instance.capacity, "more than an instance has room for");
        assert!(instance.has(role), "{role:?} at {:?}", instance.roles);
        let rows: Vec<u64> = self.engine.rows(call).collect();
        let version = self.version;
        let answers = match of.task {
            Task::Deployed | Task::Copy | Task::Approximate => {
                assert_eq!(rows.len(), of.rows);
                rows.iter().map(|&row| field::times(version, field::query(row))).collect()
            }
            Task::Parity { group, parity } => self.encode(group, self.facts.k + parity, of.rows),
            Task::Coded { group, worker } => self.encode(group, worker, of.rows),
        };
        for &row in &rows {
            self.held(row);
        }
        self.see_one_class(rows.iter().copied());
        self.running.push(Running { call, instance: id, task: of.task, rows, answers });
    }

    /// Batches and groups hold queries of one class.
    fn see_one_class(&self, rows: impl Iterator<Item = u64>) {
        let classes: BTreeSet<u64> = rows.map(|row| self.rows[row as usize].class).collect();
        assert!(classes.len() <= 1, "queries of the classes {classes:?} are together");
    }

    /// Encodes a group for a worker, and gives what its model, of the first version, makes of it.
    fn encode(&mut self, group: GroupId, worker: usize, rows: usize) -> Vec<u64> {
        let Facts { k, systematic, .. } = self.facts;
        assert!(rows > 0);
        let mut members = Vec::new();
        for row in 0..rows {
            let mut slots = vec![None; k];
            for (slot, member) in self.engine.members(group, row) {
                assert!(slots[slot].replace(member).is_none());
            }
            members.push(slots);
        }
        for &member in members.iter().flatten().flatten() {
            assert!(!self.held(member).uncoded, "row {member} is coded");
        }
        self.see_one_class(members.iter().flatten().flatten().copied());
        let encode = |slots: &Vec<Option<u64>>| {
            let terms = slots.iter().enumerate().filter_map(|(slot, member)| {
                Some(field::times(field::weight(k, systematic, worker, slot), field::query((*member)?)))
            });
            terms.fold(0, |sum, term| field::times(sum + term, 1))
        };
        let outputs = members.iter().map(encode).collect();
        let known = self.groups.entry(group).or_default();
        assert!(known.members.is_empty() || known.members == members, "a group changed its members");
        known.members = members;
        outputs
    }

    /// Rebuilds one prediction; none if the answers that are said to be at hand do not give it.
    fn decode(&self, decode: Decode) -> Option<u64> {
        let Facts { k, systematic, .. } = self.facts;
        let group = &self.groups[&decode.group];
        let members = &group.members[decode.row];
        let mut equations = Vec::new();
        for (slot, member) in members.iter().enumerate() {
            assert_eq!(member.is_none(), decode.absent >> slot & 1 == 1);
        }
        for worker in (0..128).filter(|worker| decode.available >> worker & 1 == 1) {
            let answer = if systematic && worker < k {
                // A batch that is shorter has nothing in this row.
                let Some(member) = members[worker] else { continue };
                assert!(!self.unfit.contains(&member), "row {member} rebuilds others");
                self.rows[member as usize].prediction.expect("an available slot has its prediction")
            } else {
                group.outputs[&worker][decode.row]
            };
            let weights = (0..k).map(|slot| field::weight(k, systematic, worker, slot));
            equations.push(weights.chain([answer]).collect::<Vec<_>>());
        }
        for slot in (0..k).filter(|slot| decode.absent >> slot & 1 == 1) {
            equations.push((0..k).map(|other| u64::from(slot == other)).chain([0]).collect());
        }
        field::solve(equations, k, decode.slot)
    }

    fn cancelled(&mut self, call: CallId, id: InstanceId) {
        if self.engine.call(call).is_none() {
            // Given up: it is off its instance.
            if let Some(at) = self.running.iter().position(|running| running.call == call) {
                self.running.remove(at);
                self.past.push(call);
                self.instance(id).running -= 1;
                self.forget_those_who_left();
            }
        } else {
            let at = self.running.iter().position(|running| running.call == call);
            let at = at.expect("what is cancelled runs");
            assert_eq!(self.running[at].instance, id);
            // It is broken off, or goes on to its end.
            if self.rng.random_bool(0.5) {
                self.running.remove(at);
                self.past.push(call);
                self.instance(id).running -= 1;
                self.forget_those_who_left();
                self.engine.cancelled(self.now, call);
            }
        }
    }

    fn answered(&mut self, query: QueryId, row: u64, outcome: Outcome, late: bool) {
        let (now, Facts { shadow, approximate, .. }) = (self.now, self.facts);
        let held = self.held(row);
        assert_eq!(held.query, query);
        assert!(!std::mem::replace(&mut held.over, true), "row {row} is answered twice, or was cancelled");
        if held.deadline < Time::MAX {
            assert_eq!(late, now > held.deadline, "row {row}");
        }
        let (allowed, deadline, prediction) = (held.allowed, held.deadline, held.prediction);
        match outcome {
            Outcome::Prediction { .. } => {
                let right = [1, 2].map(|version| field::times(version, field::query(row)));
                assert!(prediction.is_some_and(|prediction| right.contains(&prediction)), "row {row}");
            }
            Outcome::Reconstructed(decode) => {
                assert!(allowed && !shadow, "row {row} is answered with a reconstruction");
                let right = field::query(row);
                assert_eq!(self.decode(decode), Some(right), "row {row} is rebuilt wrongly: {decode:?}");
            }
            Outcome::Approximate { .. } => assert!(allowed && approximate && !shadow),
            Outcome::Default(Reason::Deadline) => {
                assert!(deadline == Time::MAX || now >= deadline, "row {row} is given up early");
            }
            Outcome::Default(Reason::Failed) => assert!(prediction.is_none()),
            Outcome::Refused => {
                assert!(prediction.is_none() && self.rows[row as usize].refused > 0, "row {row}");
            }
        }
    }

    pub(crate) fn check_bounds(&mut self) {
        let held = self.engine.held();
        assert!(held.queries <= self.facts.max_queries, "{held:?}");
        assert!(held.batches <= held.queries && held.groups <= held.batches, "{held:?}");
        assert_eq!(held.instances, self.instances.len(), "{held:?}");
        for role in [Role::Deployed, Role::Approximate, Role::Parity(0), Role::Parity(1), Role::Parity(2)] {
            // Some may be idle because all that waits has failed there, as far as that is remembered.
            let may_be_idle =
                4.min(self.facts.max_attempts - 1) + usize::from(self.facts.max_calls.is_some());
            let idle = |instance: &&Instance| instance.could_take(role);
            let idle = self.instances.iter().filter(idle).count();
            assert!(
                idle <= may_be_idle || self.engine.waiting(role) == 0,
                "work waits, and {idle} instances for {role:?}"
            );
        }
        let live = 3 * held.queries + 2 * held.batches + held.groups + held.works + held.instances;
        self.peak = self.peak.max(live);
        assert!(held.timers <= 1024.max(2 * self.peak) + 100, "{held:?}");
    }
}
