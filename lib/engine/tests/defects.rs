//! What the original got wrong in serving, as tests that this engine must pass.

mod common;

use common::{MS, World, coded};
use parm_engine::{Arrival, Config, Ejection, Role, Roles, Task};

fn is_parity(task: Task) -> bool {
    matches!(task, Task::Parity { .. })
}

/// The original waited for a full batch, for ever.
#[test]
fn a_lone_query_does_not_wait_for_its_batch_to_fill() {
    let mut world = World::apart(Config { max_batch: 8, batch_delay: 3 * MS, ..coded(2, 1) }, 2, 1);
    world.arrive(1);
    world.at(3);
    assert!(world.calls.is_empty());
    world.tick();
    assert_eq!(world.calls.len(), 1);
    let call = world.call_of(1);
    world.at(33).answer(call);
    assert_eq!(world.predicted(1), Some(33));
}

/// The original kept a group that did not fill, for ever: its query unprotected, its memory lost.
#[test]
fn a_group_that_never_fills_is_coded_after_a_while_and_leaks_nothing() {
    let mut world = World::apart(coded(4, 1), 4, 1);
    world.arrive(1);
    world.arrive(2);
    world.at(10).tick();
    assert_eq!(world.sent(is_parity), 1);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(30).answer(parity);
    world.at(31).answer(second);
    assert_eq!(world.rebuilt(1).unwrap().1.absent, 0b1100);
    world.at(40).answer(first);
    world.assert_empty();
}

/// The original removed all queued work up to an id, that of other groups too.
#[test]
fn an_answer_cancels_the_queued_work_of_its_own_group_and_no_other() {
    let mut world = World::apart(coded(2, 1), 4, 0);
    for row in 1..=4 {
        world.arrive(row);
    }
    assert_eq!(world.engine.held().works, 6, "two parity queries wait, since nobody has their role");
    let calls: Vec<_> = (1..=4).map(|row| world.call_of(row)).collect();
    // The later group is done first.
    world.at(30).answer(calls[2]);
    world.answer(calls[3]);
    assert_eq!((world.engine.held().works, world.engine.counters().work_cancelled), (3, 1));
    world.at(31).join(Roles::parity(0));
    assert_eq!(world.sent(is_parity), 1, "the parity query of the first group is still there");
    let parity = world.parity(0);
    world.at(40).answer(calls[1]);
    world.answer(parity);
    assert!(world.rebuilt(1).is_some());
}

/// The original took the order of connecting for the role: a deployed instance that started again
/// became a parity instance.
#[test]
fn an_instance_that_starts_again_has_the_role_that_it_states() {
    let mut world = World::new(coded(2, 1));
    let first = world.join(Roles::DEPLOYED);
    world.join(Roles::parity(0));
    world.does(|engine, now| engine.lost(now, first));
    let again = world.join(Roles::DEPLOYED);
    assert_ne!(first, again);
    world.arrive(1);
    world.arrive(2);
    for &(_, instance, task) in &world.calls {
        assert_eq!(task.role() == Role::Deployed, instance == again, "{:?}", world.calls);
    }
    assert_eq!(world.calls.len(), 2);
}

/// The original forgot what a dead instance held.
#[test]
fn the_work_of_a_dead_instance_is_sent_again_all_of_it_and_once() {
    let mut world = World::new(Config { max_batch: 2, ..Config::default() });
    let instances: Vec<_> =
        (0..2).map(|_| world.does(|engine, now| engine.join(now, Roles::DEPLOYED, 2))).collect();
    for row in 0..8 {
        world.arrive(row);
    }
    world.at(5).does(|engine, now| engine.lost(now, instances[0]));
    assert_eq!(world.engine.counters().retries, 2);
    while let Some(&call) = world.running(|_| true).first() {
        world.answer(call);
    }
    assert!((0..8).all(|row| world.predicted(row) == Some(5)), "{:#?}", world.log);
    assert_eq!(world.calls.len(), 6);
    world.assert_empty();
}

/// The original never cancelled what ran.
#[test]
fn running_calls_that_nobody_needs_are_cancelled_on_demand_and_finish_otherwise() {
    for cancel_running in [false, true] {
        let ejection = Some(Ejection {
            failures: 1,
            slowness: 9.0,
            base: MS,
            max_share: 0.9,
            min_calls: 0,
            slow_start: 0,
        });
        let mut world = World::apart(Config { cancel_running, ejection, ..coded(2, 1) }, 2, 1);
        world.arrive(1);
        world.arrive(2);
        let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
        world.at(30).answer(first);
        world.answer(parity);
        assert!(world.rebuilt(2).is_some());
        assert_eq!(world.cancels(), usize::from(cancel_running));
        // Either way its end is reported; one that was cancelled is no fault of the instance.
        world.at(31).fail(second);
        assert_eq!(world.engine.counters().retries, 0);
        assert_eq!(world.engine.counters().ejections, u64::from(!cancel_running));
        world.assert_empty();
    }
}

#[test]
fn under_load_parity_work_goes_first_then_queries_are_rejected_with_a_reason() {
    let config = Config { max_queries: 4, max_queue: 100, ..coded(2, 1) };
    let mut world = World::apart(config, 1, 0);
    for row in 0..4 {
        world.arrive(row);
    }
    assert_eq!(world.engine.counters().shed, 0);
    let rejection = world.offer(Arrival::new(4)).unwrap_err();
    assert_eq!(rejection.to_string(), "overloaded: 4 queries are held, the limit is 4");
    assert_eq!((world.engine.counters().shed, world.engine.counters().rejected), (2, 1));
    let mut world = World::apart(Config { max_queue: 2, ..Config::default() }, 1, 0);
    for row in 0..3 {
        world.arrive(row);
    }
    let rejection = world.offer(Arrival::new(3)).unwrap_err();
    assert_eq!(rejection.to_string(), "overloaded: 2 batches wait for an instance, the limit is 2");
    let expired = Arrival { deadline: Some(2), ..Arrival::new(4) };
    let first = world.call_of(0);
    world.at(1).answer(first);
    let rejection = world.offer(expired).unwrap_err();
    assert_eq!(rejection.to_string(), "the deadline passed 999998 ns before the query arrived");
}

#[test]
fn parity_queries_that_wait_are_bounded_and_the_oldest_is_given_up() {
    let config = Config { max_queue: 2, ..coded(1, 1) };
    let mut world = World::apart(config, 4, 0);
    for row in 1..=4 {
        world.arrive(row);
    }
    assert_eq!((world.engine.counters().shed, world.engine.held().works), (2, 6));
    world.join(Roles::parity(0));
    let parity = world.parity(0);
    world.answer(parity);
    assert!(world.rebuilt(3).is_some(), "{:#?}", world.log);
}

#[test]
fn alarms_that_became_pointless_are_swept() {
    let mut world = World::apart(Config::default(), 1, 0);
    let mut most = 0;
    for row in 0..100_000 {
        world.now += 1;
        world.arrive(row);
        let call = world.calls.last().unwrap().0;
        world.answer(call);
        world.log.clear();
        most = most.max(world.engine.held().timers);
    }
    assert!((1000..=1100).contains(&most), "{most}");
}

fn pooled(instances: usize, capacity: usize) -> World {
    let mut world = World::new(coded(2, 1));
    for _ in 0..instances {
        world.does(|engine, now| engine.join(now, Roles::pooled(1), capacity));
    }
    world
}

fn places(world: &World, from: usize) -> Vec<usize> {
    world.calls[from..].iter().map(|call| call.1.index()).collect()
}

#[test]
fn a_group_has_its_calls_at_different_instances_while_there_are_enough() {
    let mut world = pooled(3, 9);
    world.arrive(1);
    world.arrive(2);
    assert_eq!(places(&world, 0), [0, 1, 2]);
    world.arrive(3);
    let parity = world.parity(0);
    // The last one has just got room, so that the first one, which runs a member, waits longer.
    world.answer(parity);
    world.arrive(4);
    assert_eq!(places(&world, 3), [0, 1, 2]);
    let mut world = pooled(1, 9);
    world.arrive(1);
    world.arrive(2);
    assert_eq!(places(&world, 0), [0, 0, 0], "better beside a member than not at all");
}

#[test]
fn pooled_instances_take_deployed_work_first() {
    let mut world = pooled(3, 1);
    for row in 1..=4 {
        world.arrive(row);
    }
    assert_eq!((world.engine.waiting(Role::Deployed), world.engine.waiting(Role::Parity(0))), (2, 1));
    world.arrive(5);
    for _ in 0..2 {
        let first = world.running(|task| task == Task::Deployed)[0];
        world.at(30).answer(first);
        assert_eq!(world.calls.last().unwrap().2, Task::Deployed, "the parity query waits longer, and waits");
    }
}

#[test]
fn a_call_that_is_broken_off_is_neither_answered_nor_failed() {
    let ejection =
        Some(Ejection { failures: 1, slowness: 9.0, base: MS, max_share: 0.9, min_calls: 0, slow_start: 0 });
    let mut world = World::apart(Config { cancel_running: true, ejection, ..coded(2, 1) }, 2, 1);
    world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(30).answer(first);
    world.answer(parity);
    assert_eq!(world.cancels(), 1);
    world.at(31).does(|engine, now| engine.cancelled(now, second));
    let counters = *world.engine.counters();
    assert_eq!((counters.calls, counters.calls_cancelled, counters.failures), (3, 1, 0));
    assert_eq!((counters.retries, counters.ejections, counters.ignored), (0, 0, 0));
    // Its instance has room again.
    world.arrive(3);
    assert_eq!(world.calls.len(), 4);
    // What is gone cannot be broken off.
    world.does(|engine, now| engine.cancelled(now, second));
    assert_eq!(world.engine.counters().ignored, 1);
}
