//! What a query may ask for, and what becomes of queries when many wait.

mod common;

use common::{MS, World, coded};
use parm_engine::{
    Arrival, Config, Delay, Hedge, InstanceId, Policy, Reason, RedundancyLevel, Rejection, Roles, Task,
};

const HEDGE: Hedge = Hedge { delay: Delay::Fixed(40 * MS), budget: 0.1, burst: 1.0 };

fn of(redundancy: RedundancyLevel, row: u64) -> Arrival {
    Arrival { redundancy, ..Arrival::new(row) }
}

#[test]
fn a_query_without_redundancy_is_sent_once_by_each_policy() {
    let none = |policy: Policy| Config { policy, ..Config::default() };
    for config in
        [none(Policy::Replicate(2)), none(Policy::Hedge(HEDGE)), none(Policy::Approximate), coded(1, 1)]
    {
        let mut world = World::apart(config, 3, 1);
        world.join(Roles::APPROXIMATE);
        world.offer(of(RedundancyLevel::None, 1)).unwrap();
        world.at(100);
        assert_eq!(world.calls.len(), 1, "{:?}", world.engine);
        assert_eq!(world.calls[0].2, Task::Deployed);
        // The policy itself sends it twice.
        world.offer(of(RedundancyLevel::Normal, 2)).unwrap();
        world.at(200);
        assert_eq!(world.calls.len(), 3, "{:?}", world.engine);
    }
}

#[test]
fn a_critical_query_is_sent_again_though_the_budget_is_spent_but_not_without_end() {
    let mut world = World::apart(Config { policy: Policy::Hedge(HEDGE), ..Config::default() }, 9, 0);
    for (row, redundancy) in [
        (1, RedundancyLevel::Normal),
        (2, RedundancyLevel::Normal),
        (3, RedundancyLevel::Critical),
        (4, RedundancyLevel::Critical),
    ] {
        world.offer(of(redundancy, row)).unwrap();
    }
    world.at(41);
    let copies = |row| world.running_of(row).len();
    assert_eq!([1, 2, 3, 4].map(copies), [2, 1, 2, 1], "one is saved up, and one may be owed");
    let counters = world.engine.counters();
    assert_eq!((counters.hedges, counters.hedges_unpaid), (2, 2));
}

#[test]
fn the_parity_query_of_a_critical_query_is_sent_before_earlier_ones() {
    for (redundancy, first) in [(RedundancyLevel::Normal, 1), (RedundancyLevel::Critical, 2)] {
        let mut world = World::apart(coded(1, 1), 2, 0);
        world.arrive(1);
        world.offer(of(redundancy, 2)).unwrap();
        world.join(Roles::parity(0));
        let Task::Parity { group, .. } = world.calls[2].2 else { panic!("{:?}", world.calls) };
        assert_eq!(world.engine.members(group, 0).collect::<Vec<_>>(), [(0, first)], "{redundancy:?}");
    }
}

/// An instance whose calls took 30 ms, and queries that wait for it.
fn waiting(config: Config, queries: u64) -> World {
    let mut world = World::apart(config, 1, 0);
    for row in 0..64 {
        world.at(row * 30).arrive(row);
        let call = world.call_of(row);
        world.at(row * 30 + 30).answer(call);
    }
    world.at(2000);
    for row in 0..queries {
        world.arrive(100 + row);
    }
    world
}

#[test]
fn a_rejection_says_when_what_waits_has_been_sent() {
    let mut world = waiting(Config { max_queue: 10, ..Config::default() }, 11);
    let retry = match world.offer(Arrival::new(200)) {
        Err(Rejection::Queue { retry, queued: 10, limit: 10 }) => retry,
        other => panic!("{other:?}"),
    };
    assert!((300 * MS..320 * MS).contains(&retry), "ten calls of 30 ms: {retry}");
    let mut world = waiting(Config { max_queries: 5, ..Config::default() }, 5);
    assert!(
        matches!(world.offer(Arrival::new(200)), Err(Rejection::Queries { retry, .. }) if retry >= 120 * MS)
    );
}

#[test]
fn what_cannot_be_answered_by_its_deadline_is_dropped_before_it_is_sent() {
    let mut world = waiting(Config { deadline: 100 * MS, ..Config::default() }, 0);
    for row in 0..5 {
        world.arrive(100 + row);
    }
    world.offer(Arrival { deadline: Some(2085 * MS), ..Arrival::new(200) }).unwrap();
    world.offer(Arrival { deadline: Some(5000 * MS), ..Arrival::new(201) }).unwrap();
    for end in [2030, 2060, 2090] {
        let call = world.running(|_| true)[0];
        world.at(end).answer(call);
    }
    // At 2090 ms, 100 to 102 are answered. 103 and 104 have until 2100 ms, 200 until 2085 ms.
    assert_eq!([100, 101, 102].map(|row| world.predicted(row)), [2030, 2060, 2090].map(Some));
    assert_eq!([103, 104].map(|row| world.defaulted(row)), [Some((2090, Reason::Deadline)); 2]);
    assert_eq!(world.defaulted(200), Some((2085, Reason::Deadline)));
    assert_eq!(world.running_of(201).len(), 1, "the instance is free for it");
    assert_eq!(world.engine.counters().dropped_late, 2);
    let call = world.running_of(201)[0];
    world.at(2120).answer(call);
    world.assert_empty();
}

#[test]
fn what_helps_another_query_of_its_group_is_not_dropped() {
    let mut world = World::apart(Config { deadline: 100 * MS, ..coded(2, 1) }, 1, 1);
    for row in 0..64 {
        world.at(row * 60).offer(Arrival { coded: false, ..Arrival::new(row) }).unwrap();
        let call = world.call_of(row);
        world.at(row * 60 + 30).answer(call);
    }
    world.at(5000);
    for row in [100, 101] {
        world.offer(Arrival { coded: false, ..Arrival::new(row) }).unwrap();
    }
    world.offer(Arrival { deadline: Some(5065 * MS), ..Arrival::new(102) }).unwrap();
    world.offer(Arrival { deadline: Some(9000 * MS), ..Arrival::new(103) }).unwrap();
    for (end, row) in [(5030, 100), (5060, 101)] {
        let call = world.call_of(row);
        world.at(end).answer(call);
    }
    assert_eq!((world.running_of(102).len(), world.engine.counters().dropped_late), (1, 0));
}

#[test]
fn each_instance_may_have_its_calls_cancelled_or_not() {
    for (cancel_running, by_instance, cancels) in
        [(false, None, 0), (true, None, 1), (false, Some(true), 1), (true, Some(false), 0)]
    {
        let config = Config { policy: Policy::Replicate(2), cancel_running, ..Config::default() };
        let mut world = World::apart(config, 2, 0);
        let instances: Vec<InstanceId> = {
            world.arrive(1);
            world.calls.iter().map(|call| call.1).collect()
        };
        if let Some(cancels) = by_instance {
            world.does(|engine, now| engine.cancels(now, instances[1], cancels));
        }
        let first = world.calls[0].0;
        world.at(10).answer(first);
        assert_eq!(world.cancels(), cancels, "{cancel_running} {by_instance:?}");
    }
}
