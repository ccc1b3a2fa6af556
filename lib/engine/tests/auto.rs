//! The policy `auto`: its states, its limits, and what it does when calls are late.

mod common;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use common::{MS, World, grace};
use parm_engine::journal::{Event, Journal};
use parm_engine::{
    Action, Arrival, Auto, CallId, CodeRule, Completion, Config, ConfigError, Counters, Delay, Ejection,
    Engine, Groups, Hedge, InstanceId, Policy, Roles, State, Task, Time, When,
};

const SECOND: Time = 1000 * MS;

fn auto(max_reconstructed: f64, max_calls: f64) -> Config {
    let groups = Groups {
        code: CodeRule::parity(2, 1).unwrap(),
        version: 1,
        group_delay: 20 * MS,
        completion: Completion::Known,
        agreement: None,
    };
    let hedge = Hedge { delay: Delay::Fixed(40 * MS), budget: 0.05, burst: 10.0 };
    let policy = Policy::Auto(Auto { groups: Some(groups), hedge, max_reconstructed, max_calls });
    Config { policy, when: grace(36), ..Config::default() }
}

/// Pooled instances whose calls take 30 ms, and arrivals at equal intervals.
struct Fleet {
    engine: Engine,
    now: Time,
    ends: BinaryHeap<Reverse<(Time, CallId)>>,
    states: Vec<(Time, State)>,
    /// The time of a call, by its number.
    service: fn(u64) -> Time,
    calls: u64,
    rows: u64,
    ids: Vec<InstanceId>,
    /// An instance that answers nothing any more.
    hung: Option<InstanceId>,
}

impl Fleet {
    fn new(config: Config, instances: usize) -> Self {
        let mut engine = Engine::new(config).unwrap();
        let ids: Vec<InstanceId> = (0..instances).map(|_| engine.join(0, Roles::pooled(1), 1)).collect();
        let service = |_| 30 * MS;
        Self {
            engine,
            now: 0,
            ends: BinaryHeap::new(),
            states: Vec::new(),
            service,
            calls: 0,
            rows: 0,
            ids,
            hung: None,
        }
    }

    fn perform(&mut self) {
        while let Some(action) = self.engine.next_action() {
            match action {
                Action::Dispatch { instance, .. } if self.hung == Some(instance) => self.calls += 1,
                Action::Dispatch { call, .. } => {
                    self.calls += 1;
                    self.ends.push(Reverse((self.now + (self.service)(self.calls), call)));
                }
                Action::Rebuild { query, .. } => self.engine.decoded(self.now, query, true),
                Action::State { state, .. } => self.states.push((self.now, state)),
                _ => {}
            }
        }
    }

    /// So many queries a second for a time.
    fn run(&mut self, rate: u64, time: Time) -> &mut Self {
        let (end, gap) = (self.now + time, SECOND / rate);
        let mut next = self.now + gap;
        while self.now < end {
            let ended = self.ends.peek().map_or(Time::MAX, |end| end.0.0);
            let timer = self.engine.wake().unwrap_or(Time::MAX);
            self.now = next.min(ended).min(timer);
            if self.now == ended {
                let call = self.ends.pop().unwrap().0.1;
                self.engine.answered(self.now, call);
            } else if self.now == next {
                // It is rejected if too many are held.
                let _ = self.engine.arrive(self.now, Arrival::new(self.rows));
                self.rows += 1;
                next += gap;
            } else {
                self.engine.tick(self.now);
            }
            self.perform();
        }
        self
    }

    fn state(&self) -> State {
        self.engine.state().unwrap().0
    }

    fn counters(&self) -> &Counters {
        self.engine.counters()
    }
}

#[test]
fn the_state_follows_the_load() {
    for (rate, state) in
        [(60, State::Replicate), (270, State::Coded), (520, State::Hedge), (700, State::None)]
    {
        let mut fleet = Fleet::new(auto(0.01, 2.0), 18);
        assert_eq!(fleet.run(rate, 20 * SECOND).state(), state, "{rate} queries a second");
        let load = fleet.engine.state().unwrap().1;
        let expected = (rate as f64 * 0.03).min(18.0);
        assert!(
            (load / expected - 1.0).abs() < 0.1,
            "{load} of {expected}: what is redundant does not count"
        );
    }
}

#[test]
fn the_states_are_left_at_once_and_entered_after_a_while() {
    let mut fleet = Fleet::new(auto(0.01, 2.0), 18);
    fleet.run(60, 10 * SECOND).run(520, 10 * SECOND).run(60, 20 * SECOND);
    let changes: Vec<(u64, State)> = fleet.states.iter().map(|&(at, state)| (at / SECOND, state)).collect();
    let after = |from: u64, state: State| {
        let at = changes.iter().find(|&&(at, of)| at >= from && of == state).map(|&(at, _)| at - from);
        at.unwrap_or_else(|| panic!("{state:?} is not entered after {from} s: {changes:?}"))
    };
    assert!(after(10, State::Hedge) <= 6, "{changes:?}");
    assert!((3..=10).contains(&after(20, State::Replicate)), "{changes:?}");
    assert_eq!(fleet.counters().state_changes, fleet.states.len() as u64);
}

#[test]
fn a_load_at_the_bound_of_two_states_does_not_make_the_policy_flap() {
    // The load crosses the bound between coding and hedging each second.
    let mut fleet = Fleet::new(auto(0.01, 2.0), 18);
    fleet.run(470, 20 * SECOND);
    let before = fleet.counters().state_changes;
    for _ in 0..60 {
        fleet.run(480, SECOND).run(495, SECOND);
    }
    let changes = fleet.counters().state_changes - before;
    assert!(changes <= 2, "{changes} changes in two minutes: {:?}", fleet.states);
}

/// So many instances, which had so little to do for ten seconds that the state is the one with copies.
fn replicating(instances: usize) -> World {
    let mut world = World::new(auto(0.01, 2.0));
    for _ in 0..instances {
        world.join(Roles::pooled(1));
    }
    for row in 0..10 {
        world.at(row * SECOND / MS).arrive(row);
        for call in world.running(|_| true) {
            world.answer(call);
        }
    }
    assert_eq!(world.engine.state().unwrap().0, State::Replicate);
    world
}

#[test]
fn one_instance_stays_free_of_redundant_work() {
    let mut world = replicating(4);
    world.calls.clear();
    world.at(20_000).arrive(100);
    world.arrive(101);
    world.arrive(102);
    let running = |task: Task| world.running(|other| other == task).len();
    assert_eq!((running(Task::Deployed), running(Task::Copy)), (3, 1), "the second copy waits");
}

#[test]
fn a_copy_that_waits_is_sent_to_the_last_free_instance_when_the_call_is_late() {
    let mut world = replicating(2);
    world.at(20_000).arrive(100);
    assert_eq!(world.running(|task| task == Task::Copy).len(), 0);
    world.at(20_041);
    assert!(!world.running(|task| task == Task::Copy).is_empty(), "the call is late");
    let copy = world.running(|task| task == Task::Copy)[0];
    world.at(20_070).answer(copy);
    assert_eq!(world.predicted(100), Some(20_070));
}

/// Every tenth call takes 100 ms.
fn often_slow(call: u64) -> Time {
    if call.is_multiple_of(10) { 100 * MS } else { 30 * MS }
}

/// Every 77th call takes 100 ms.
fn seldom_slow(call: u64) -> Time {
    if call.is_multiple_of(77) { 100 * MS } else { 30 * MS }
}

#[test]
fn reconstructions_keep_their_limit() {
    for (limit, least) in [(0.0, 0.0), (0.01, 0.005), (0.03, 0.01)] {
        let mut config = auto(limit, 2.0);
        if let Policy::Auto(auto) = &mut config.policy {
            auto.hedge = Hedge { budget: 0.0, burst: 1.0, ..auto.hedge };
        }
        let mut fleet = Fleet::new(config, 18);
        fleet.service = seldom_slow;
        fleet.run(270, 240 * SECOND);
        let Counters { queries, reconstructed, reconstructions_unpaid, .. } = *fleet.counters();
        let bounds =
            least * queries as f64..=limit * queries as f64 + 30.0 * f64::from(u8::from(limit > 0.0));
        assert!(bounds.contains(&(reconstructed as f64)), "{limit}: {reconstructed} of {queries}");
        assert_eq!(reconstructions_unpaid > 0, limit == 0.01, "{limit}: {reconstructions_unpaid}");
    }
}

#[test]
fn a_lost_prediction_is_rebuilt_whatever_the_limit() {
    let mut world = World::apart(Config { max_attempts: 1, ..auto(0.0, 2.0) }, 12, 1);
    // The load of coding: eight of twelve instances.
    for row in 0..3000_u64 {
        world.at(10 + row * 4).arrive(row);
        let due: Vec<CallId> =
            row.checked_sub(8).map(|old| world.running_of(old)).into_iter().flatten().collect();
        for call in due {
            world.answer(call);
        }
        for call in world.running(|task| matches!(task, Task::Parity { .. })) {
            world.answer(call);
        }
    }
    assert_eq!(world.engine.state().unwrap().0, State::Coded);
    let failed = world.running_of(2999);
    assert_eq!(failed.len(), 1);
    world.fail(failed[0]);
    let partner = world.running_of(2998);
    world.answer(partner[0]);
    // Its group may have waited for another query.
    world.at(12_030);
    for call in world.running(|task| matches!(task, Task::Parity { .. })) {
        world.answer(call);
    }
    assert!(world.rebuilt(2999).is_some(), "{:?}", world.answer_of(2999));
    assert_eq!(world.engine.counters().reconstructed, 1);
}

#[test]
fn additional_calls_keep_their_limit() {
    for (limit, state) in [(1.0, State::Hedge), (1.5, State::Coded), (2.0, State::Replicate)] {
        let mut fleet = Fleet::new(auto(0.01, limit), 18);
        fleet.service = often_slow;
        fleet.run(60, 60 * SECOND);
        let Counters { batches, calls, .. } = *fleet.counters();
        assert!(
            calls as f64 <= limit * batches as f64 + 100.0,
            "{limit}: {calls} calls for {batches} batches"
        );
        assert!(fleet.states.iter().all(|&(_, of)| of <= state), "{limit}: {:?}", fleet.states);
    }
}

#[test]
fn where_more_calls_are_slow_than_may_be_rebuilt_there_are_copies_instead_of_groups() {
    let mut fleet = Fleet::new(auto(0.01, 2.0), 18);
    fleet.service = often_slow;
    assert_eq!(fleet.run(200, 60 * SECOND).state(), State::Replicate);
    assert_eq!(Fleet::new(auto(0.2, 2.0), 18).run(200, 60 * SECOND).state(), State::Coded);
}

/// 20 ms, and for 7 % of the calls more, up to 39 ms.
fn with_a_tail(call: u64) -> Time {
    let above = (call * 37 % 1000).saturating_sub(929);
    let more = if above > 0 { 4.5 * (70.0 / (71 - above) as f64).ln() } else { 0.0 };
    20 * MS + (more * MS as f64) as Time
}

#[test]
fn copies_are_kept_at_loads_of_coding_where_reconstructions_come_later_than_the_slowest_of_them() {
    let state = |when: When, cancel_running: bool| {
        let mut fleet = Fleet::new(Config { when, cancel_running, ..auto(0.01, 2.0) }, 18);
        fleet.service = with_a_tail;
        fleet.run(270, 30 * SECOND).state()
    };
    assert_eq!(state(grace(36), false), State::Replicate);
    assert_eq!(state(grace(24), false), State::Coded, "reconstructions come earlier");
    let late = |share| When::Grace(Delay::Percentile { share, until_known: 100 * MS });
    assert_eq!(state(late(0.99), false), State::Replicate);
    assert_eq!(state(late(0.95), false), State::Coded);
    assert_eq!(state(When::Deadline, false), State::Replicate);
    assert_eq!(state(When::First, false), State::Coded);
    assert_eq!(state(grace(36), true), State::Coded, "it is not known how long slow calls take");
}

#[test]
fn coding_that_is_off_is_not_chosen() {
    let mut fleet = Fleet::new(auto(0.01, 2.0), 18);
    assert_eq!(fleet.run(270, 20 * SECOND).state(), State::Coded);
    fleet.engine.version(fleet.now, 2);
    assert_eq!(fleet.run(270, 2 * SECOND).state(), State::Hedge);
    fleet.engine.version(fleet.now, 1);
    assert_eq!(fleet.run(270, 20 * SECOND).state(), State::Coded);
}

#[test]
fn calls_that_hang_until_their_instance_is_ejected_are_no_load_for_the_others() {
    let ejection = Some(Ejection { max_share: 0.5, ..Ejection::default() });
    let mut fleet = Fleet::new(Config { ejection, call_timeout: 500 * MS, ..auto(0.01, 2.0) }, 4);
    assert_eq!(fleet.run(42, 20 * SECOND).state(), State::Coded);
    fleet.states.clear();
    fleet.hung = Some(fleet.ids[0]);
    fleet.run(42, 10 * SECOND);
    assert_eq!(fleet.counters().ejections, 1);
    assert_eq!(fleet.states, []);
}

#[test]
fn a_change_of_state_is_in_the_journal() {
    let engine = Engine::new(auto(0.01, 2.0)).unwrap();
    let action = Action::State { state: State::Coded, load: 7.5 };
    let entry = Journal::new().action(5, &engine, &action).unwrap();
    assert_eq!(entry.event, Event::State { state: State::Coded, load: 7.5 });
    let text = serde_json::to_string(&entry).unwrap();
    assert_eq!(text, r#"{"t_ns":5,"event":"state","state":"coded","load":7.5}"#);
    assert!(State::ALL.iter().all(|of| serde_json::to_string(of).unwrap() == format!("\"{}\"", of.name())));
}

#[test]
fn limits_and_codes_that_cannot_be_are_refused() {
    let refused = |config: Config| Engine::new(config).map(|_| ()).unwrap_err();
    assert!(matches!(refused(auto(1.5, 2.0)), ConfigError::Number { name: "max_reconstructed", .. }));
    assert!(matches!(refused(auto(0.01, 0.9)), ConfigError::Number { name: "max_calls", .. }));
    assert!(matches!(refused(auto(0.01, f64::NAN)), ConfigError::Number { name: "max_calls", .. }));
    let mut config = auto(0.01, 2.0);
    if let Policy::Auto(Auto { groups: Some(groups), .. }) = &mut config.policy {
        groups.code = CodeRule::coded(2, 3, 2).unwrap();
    }
    assert_eq!(refused(config), ConfigError::Auto);
}

#[test]
fn queries_that_are_not_coded_make_one_batch_while_all_instances_are_busy() {
    let mut world = World::new(Config { max_batch: 4, ..auto(0.01, 2.0) });
    world.join(Roles::pooled(1));
    assert_eq!(world.engine.state().unwrap().0, State::Hedge);
    for row in 0..4 {
        world.arrive(row);
        world.tick();
    }
    assert_eq!(world.calls.len(), 1);
    let first = world.calls[0].0;
    world.at(5).answer(first);
    assert_eq!(world.engine.call(world.calls[1].0).unwrap().rows, 3);
}
