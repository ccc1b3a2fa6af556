//! A driver for tests: virtual time, and a record of all that the engine said.
#![allow(dead_code)] // each test file uses its part

use parm_engine::{
    Action, Arrival, CallId, CodeRule, Completion, Config, Decode, Delay, Engine, Groups, InstanceId,
    Outcome, Policy, QueryId, Reason, Rejection, Roles, Task, Time, When,
};

pub(crate) const MS: Time = 1_000_000;

/// Coding with these k and r, groups of single queries that wait 10 ms, answered by what is first.
pub(crate) fn coded(k: usize, r: usize) -> Config {
    with_code(CodeRule::parity(k, r).unwrap())
}

pub(crate) fn with_code(code: CodeRule) -> Config {
    Config {
        policy: Policy::Coded {
            groups: Groups {
                code,
                version: 1,
                group_delay: 10 * MS,
                completion: Completion::Shorter,
                agreement: None,
            },
            hedge: None,
        },
        when: When::First,
        ..Config::default()
    }
}

pub(crate) fn grace(ms: Time) -> When {
    When::Grace(Delay::Fixed(ms * MS))
}

pub(crate) struct World {
    pub(crate) engine: Engine,
    pub(crate) now: Time,
    pub(crate) log: Vec<(Time, Action)>,
    /// All calls that were ever sent, in order.
    pub(crate) calls: Vec<(CallId, InstanceId, Task)>,
    /// False: what is rebuilt cannot be given.
    pub(crate) decodes: bool,
    /// To rebuild takes long: tests say when it is done.
    pub(crate) decodes_later: bool,
}

impl World {
    pub(crate) fn new(config: Config) -> Self {
        let engine = Engine::new(config).unwrap();
        Self { engine, now: 0, log: Vec::new(), calls: Vec::new(), decodes: true, decodes_later: false }
    }

    /// With so many instances for the deployed model and one for each of r parity models.
    pub(crate) fn apart(config: Config, deployed: usize, r: usize) -> Self {
        let mut world = Self::new(config);
        for _ in 0..deployed {
            world.join(Roles::DEPLOYED);
        }
        for parity in 0..r {
            world.join(Roles::parity(parity));
        }
        world
    }

    pub(crate) fn join(&mut self, roles: Roles) -> InstanceId {
        self.does(|engine, now| engine.join(now, roles, 1))
    }

    /// An event now.
    pub(crate) fn does<T>(&mut self, event: impl FnOnce(&mut Engine, Time) -> T) -> T {
        let result = event(&mut self.engine, self.now);
        while let Some(action) = self.engine.next_action() {
            if let Action::Dispatch { call, instance } = action {
                let task = self.engine.call(call).expect("a call that is sent runs").task;
                self.calls.push((call, instance, task));
            }
            if let Action::Rebuild { query, .. } = action
                && !self.decodes_later
            {
                self.engine.decoded(self.now, query, self.decodes);
            }
            self.log.push((self.now, action));
        }
        result
    }

    /// Goes on to a time in ms: all alarms of before go off at their time, those of then not yet.
    pub(crate) fn at(&mut self, ms: Time) -> &mut Self {
        self.at_ns(ms * MS)
    }

    pub(crate) fn at_ns(&mut self, ns: Time) -> &mut Self {
        while let Some(at) = self.engine.wake()
            && at < ns
        {
            self.now = at.max(self.now);
            self.tick();
        }
        self.now = ns;
        self
    }

    pub(crate) fn tick(&mut self) {
        self.does(Engine::tick);
    }

    pub(crate) fn arrive(&mut self, row: u64) -> QueryId {
        self.offer(Arrival::new(row)).unwrap()
    }

    pub(crate) fn offer(&mut self, arrival: Arrival) -> Result<QueryId, Rejection> {
        self.does(|engine, now| engine.arrive(now, arrival))
    }

    pub(crate) fn answer(&mut self, call: CallId) {
        self.does(|engine, now| engine.answered(now, call));
    }

    pub(crate) fn fail(&mut self, call: CallId) {
        self.does(|engine, now| engine.failed(now, call));
    }

    pub(crate) fn refuse(&mut self, call: CallId) {
        self.does(|engine, now| engine.refused(now, call));
    }

    /// A query of a request.
    pub(crate) fn arrive_of(&mut self, request: u64, row: u64) -> QueryId {
        self.offer(Arrival { request, ..Arrival::new(row) }).unwrap()
    }

    /// The last call that ran the deployed model on a row.
    pub(crate) fn call_of(&self, row: u64) -> CallId {
        let of = |call: &&(CallId, InstanceId, Task)| self.engine.rows(call.0).any(|other| other == row);
        self.calls
            .iter()
            .rev()
            .find(of)
            .unwrap_or_else(|| panic!("row {row} runs nowhere: {:#?}", self.log))
            .0
    }

    /// The calls that do such a task and run.
    pub(crate) fn running(&self, task: impl Fn(Task) -> bool) -> Vec<CallId> {
        let runs = self.calls.iter().filter(|call| task(call.2) && self.engine.call(call.0).is_some());
        runs.map(|call| call.0).collect()
    }

    /// The running calls of the deployed model for a row.
    pub(crate) fn running_of(&self, row: u64) -> Vec<CallId> {
        let has = |call: &CallId| self.engine.rows(*call).any(|other| other == row);
        self.running(|task| matches!(task, Task::Deployed | Task::Copy)).into_iter().filter(has).collect()
    }

    /// The running call of a parity, of the only group that has one.
    pub(crate) fn parity(&self, index: usize) -> CallId {
        let calls = self.running(|task| matches!(task, Task::Parity { parity, .. } if parity == index));
        assert_eq!(calls.len(), 1, "calls of parity {index}: {:#?}", self.log);
        calls[0]
    }

    pub(crate) fn sent(&self, task: impl Fn(Task) -> bool) -> usize {
        self.calls.iter().filter(|call| task(call.2)).count()
    }

    /// When a row was answered, in ms, and with what.
    pub(crate) fn answer_of(&self, row: u64) -> Option<(Time, Outcome)> {
        let mut found = self.log.iter().filter_map(|&(at, action)| match action {
            Action::Answer { row: of, outcome, .. } if of == row => Some((at / MS, outcome)),
            _ => None,
        });
        let answer = found.next();
        assert_eq!(found.next(), None, "row {row} was answered twice");
        answer
    }

    /// When a row was answered with its prediction, in ms.
    pub(crate) fn predicted(&self, row: u64) -> Option<Time> {
        self.answer_of(row)
            .and_then(|(at, outcome)| matches!(outcome, Outcome::Prediction { .. }).then_some(at))
    }

    pub(crate) fn rebuilt(&self, row: u64) -> Option<(Time, Decode)> {
        match self.answer_of(row) {
            Some((at, Outcome::Reconstructed(decode))) => Some((at, decode)),
            _ => None,
        }
    }

    pub(crate) fn defaulted(&self, row: u64) -> Option<(Time, Reason)> {
        match self.answer_of(row) {
            Some((at, Outcome::Default(reason))) => Some((at, reason)),
            _ => None,
        }
    }

    /// When a row was refused, in ms.
    pub(crate) fn refused(&self, row: u64) -> Option<Time> {
        self.answer_of(row).and_then(|(at, outcome)| (outcome == Outcome::Refused).then_some(at))
    }

    pub(crate) fn released(&self, row: u64) -> bool {
        let count = self.log.iter().filter(|(_, action)| *action == Action::Release { row }).count();
        assert!(count <= 1, "row {row} was released {count} times");
        count == 1
    }

    pub(crate) fn cancels(&self) -> usize {
        self.log.iter().filter(|(_, action)| matches!(action, Action::Cancel { .. })).count()
    }

    /// Nothing is held but instances.
    pub(crate) fn assert_empty(&mut self) {
        self.does(Engine::flush);
        let held = self.engine.held();
        assert_eq!((held.queries, held.batches, held.groups, held.works), (0, 0, 0, 0), "{:#?}", self.log);
    }
}
