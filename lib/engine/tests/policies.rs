//! Policies other than coding, and balance.

mod common;

use common::{MS, World, coded, grace};
use parm_engine::{
    Action, Agreement, Arrival, Balance, CodeRule, CodingOff, Config, ConfigError, Delay, Ejection, Engine,
    Hedge, Outcome, Policy, Reason, Role, Roles, Task, When,
};

const HEDGE: Hedge = Hedge { delay: Delay::Fixed(40 * MS), budget: 0.1, burst: 1.0 };

const EJECTION: Ejection =
    Ejection { failures: 2, slowness: 3.0, base: 100 * MS, max_share: 0.5, min_calls: 0, slow_start: 0 };

fn uncoded(policy: Policy) -> Config {
    Config { policy, ..Config::default() }
}

#[test]
fn replicas_run_at_different_instances_and_the_first_answer_wins() {
    let mut world = World::apart(uncoded(Policy::Replicate(2)), 3, 0);
    world.arrive(1);
    world.arrive(2);
    let places: Vec<_> = world.calls.iter().map(|call| (call.1, call.2)).collect();
    assert_eq!(places.len(), 3);
    assert_ne!(places[0].0, places[1].0);
    assert_eq!(places[2].1, Task::Deployed, "the replica of the second query waits");
    let (copy, second) = (world.calls[1].0, world.calls[2].0);
    world.at(20).answer(copy);
    assert!(matches!(world.answer_of(1), Some((20, Outcome::Prediction { copy: true, .. }))));
    assert_eq!(world.calls.len(), 4, "the instance is free for the replica");
    world.at(21).answer(second);
    for call in world.running(|_| true) {
        world.answer(call);
    }
    world.assert_empty();
}

#[test]
fn an_answer_before_its_replica_is_sent_cancels_it() {
    let mut world = World::apart(uncoded(Policy::Replicate(2)), 1, 0);
    world.arrive(1);
    let first = world.call_of(1);
    world.at(30).answer(first);
    assert_eq!((world.calls.len(), world.engine.counters().work_cancelled), (1, 1));
    world.assert_empty();
}

#[test]
fn what_is_late_is_hedged_once_within_the_budget() {
    let mut world = World::apart(uncoded(Policy::Hedge(HEDGE)), 4, 0);
    world.arrive(1);
    world.arrive(2);
    world.at(41);
    let counters = *world.engine.counters();
    assert_eq!((counters.hedges, counters.hedges_unpaid, world.calls.len()), (1, 1, 3));
    let (first, copy) = (world.calls[0].0, world.calls[2].0);
    assert_ne!(world.calls[0].1, world.calls[2].1);
    world.at(60).answer(copy);
    assert!(matches!(world.answer_of(1), Some((60, Outcome::Prediction { copy: true, .. }))));
    world.at(500).answer(first);
    assert_eq!((world.engine.counters().hedges, world.engine.counters().copies_won), (1, 1));
}

#[test]
fn an_answer_then_the_time_to_hedge() {
    let mut world = World::apart(uncoded(Policy::Hedge(HEDGE)), 2, 0);
    world.arrive(1);
    let first = world.call_of(1);
    world.at(40).answer(first);
    world.at(100);
    assert_eq!((world.engine.counters().hedges, world.engine.counters().hedges_unpaid), (0, 0));
}

#[test]
fn hedges_follow_the_percentile_of_the_times_of_calls() {
    let delay = Delay::Percentile { share: 0.9, until_known: 400 * MS };
    let mut world = World::apart(uncoded(Policy::Hedge(Hedge { delay, ..HEDGE })), 3, 0);
    for row in 0..200 {
        world.at(row * 10).arrive(row);
        let call = world.call_of(row);
        world.at(row * 10 + 5).answer(call);
    }
    assert_eq!(world.engine.counters().hedges, 0);
    world.at(3000).arrive(1000);
    world.at(3004);
    assert_eq!(world.engine.counters().hedges, 0);
    world.at(3006);
    assert_eq!(world.engine.counters().hedges, 1);
}

fn coded_hedge() -> Config {
    let mut config = coded(2, 1);
    if let Policy::Coded { hedge, .. } = &mut config.policy {
        *hedge = Some(HEDGE);
    }
    config
}

#[test]
fn coding_and_hedging_hedge_nothing_that_coding_can_rebuild() {
    let mut world = World::apart(coded_hedge(), 4, 1);
    world.arrive(1);
    world.at(1).arrive(2);
    let (second, parity) = (world.call_of(2), world.parity(0));
    world.at(35).answer(second);
    world.at(42);
    assert_eq!(world.engine.counters().hedges, 1, "the parity query is as late as the query");
    world.at(50).answer(parity);
    assert_eq!(world.rebuilt(1).unwrap().0, 50);

    let mut world = World::apart(coded_hedge(), 4, 1);
    world.arrive(1);
    world.at(8).arrive(2);
    let (second, parity) = (world.call_of(2), world.parity(0));
    world.at(38).answer(second);
    world.at(45);
    assert_eq!(world.engine.counters().hedges, 0, "the parity query was sent later, and is not late yet");
    world.answer(parity);
    assert!(world.rebuilt(1).is_some());
}

#[test]
fn what_is_covered_is_not_looked_at_without_end_however_short_the_delay() {
    let mut config = coded_hedge();
    if let Policy::Coded { hedge: Some(hedge), .. } = &mut config.policy {
        hedge.delay = Delay::Fixed(0);
    }
    let mut world = World::apart(config, 2, 0);
    world.arrive(1);
    world.arrive(2);
    let mut wakes = 0;
    while let Some(at) = world.engine.wake().filter(|&at| at < 100 * MS) {
        world.now = at;
        world.tick();
        wakes += 1;
    }
    assert!(wakes <= 201, "{wakes}");
}

#[test]
fn coding_and_hedging_hedge_two_losses() {
    let mut world = World::apart(coded_hedge(), 4, 1);
    world.arrive(1);
    world.arrive(2);
    let parity = world.parity(0);
    world.at(30).answer(parity);
    world.at(41);
    let counters = world.engine.counters();
    assert_eq!((counters.hedges, counters.hedges_unpaid), (1, 0));
    let copy = world.running(|task| task == Task::Copy)[0];
    world.at(70).answer(copy);
    assert!(world.predicted(1) == Some(70) && world.rebuilt(2).is_some(), "one hedge mends both");
}

#[test]
fn the_approximate_answer_waits_for_the_grace_and_is_refused_by_who_wants_the_own() {
    let config = Config { when: grace(36), ..uncoded(Policy::Approximate) };
    let mut world = World::apart(config, 2, 0);
    world.join(Roles::APPROXIMATE);
    world.arrive(1);
    let approximate = world.running(|task| task == Task::Approximate)[0];
    world.at(5).answer(approximate);
    world.offer(Arrival { allow_reconstructed: false, ..Arrival::new(2) }).unwrap();
    let approximate = world.running(|task| task == Task::Approximate)[0];
    world.at(10).answer(approximate);
    world.at(100);
    assert!(matches!(world.answer_of(1), Some((36, Outcome::Approximate { .. }))));
    assert_eq!(world.answer_of(2), None);
    let second = world.call_of(2);
    world.answer(second);
    assert_eq!(world.predicted(2), Some(100));
}

#[test]
fn who_refuses_reconstructions_gets_an_error_as_soon_as_all_calls_failed() {
    let mut world = World::apart(Config { max_attempts: 1, ..coded(2, 1) }, 2, 1);
    world.offer(Arrival { allow_reconstructed: false, ..Arrival::new(1) }).unwrap();
    world.arrive(2);
    let first = world.call_of(1);
    world.at(5).fail(first);
    assert_eq!(world.defaulted(1), Some((5, Reason::Failed)));
}

#[test]
fn what_failed_at_an_instance_waits_for_another_one() {
    let mut world = World::apart(Config::default(), 2, 0);
    world.arrive(1);
    world.arrive(2);
    let (first, place) = (world.calls[0].0, world.calls[0].1);
    world.at(5).fail(first);
    assert_eq!(world.calls.len(), 2, "its instance is free and gets it not");
    let (second, other) = (world.calls[1].0, world.calls[1].1);
    world.at(30).answer(second);
    assert_eq!((world.calls.len(), world.calls[2].1), (3, other));
    let again = world.calls[2].0;
    world.at(31).fail(again);
    assert_eq!(world.calls[3].1, place);
}

#[test]
fn what_failed_goes_back_to_its_instance_when_the_other_one_leaves() {
    let mut world = World::apart(Config::default(), 2, 0);
    world.arrive(1);
    world.arrive(2);
    let (first, place, other) = (world.calls[0].0, world.calls[0].1, world.calls[1].1);
    world.at(5).fail(first);
    world.at(6).does(|engine, now| engine.leave(now, other));
    assert_eq!((world.calls.len(), world.calls[2].1), (3, place));
}

#[test]
fn hedge_then_failure_of_the_first_call_is_no_second_hedge() {
    let hedge = Hedge { burst: 5.0, ..HEDGE };
    let mut world = World::apart(uncoded(Policy::Hedge(hedge)), 4, 0);
    world.arrive(1);
    let first = world.call_of(1);
    world.at(45).fail(first);
    world.at(200);
    assert_eq!((world.engine.counters().hedges, world.engine.counters().retries), (1, 1));
}

#[test]
fn hedge_then_death_of_the_first_instance_then_the_answer_of_the_hedge_cancels_what_waits() {
    let mut world = World::apart(coded_hedge(), 3, 0);
    world.arrive(1);
    world.arrive(2);
    world.at(41);
    let (dead, copy) = (world.calls[0].1, world.running(|task| task == Task::Copy)[0]);
    world.at(42).does(|engine, now| engine.lost(now, dead));
    assert_eq!(world.engine.waiting(Role::Deployed), 1);
    world.at(50).answer(copy);
    assert_eq!((world.engine.waiting(Role::Deployed), world.calls.len()), (0, 3), "{:#?}", world.log);
}

#[test]
fn first_calls_earn_the_budget_of_hedges() {
    let mut world = World::apart(uncoded(Policy::Hedge(Hedge { budget: 0.5, ..HEDGE })), 9, 0);
    for row in 0..4 {
        world.arrive(row);
    }
    world.at(100);
    assert_eq!((world.engine.counters().hedges, world.engine.counters().hedges_unpaid), (1, 3));
    world.arrive(4);
    world.arrive(5);
    world.at(200);
    assert_eq!((world.engine.counters().hedges, world.engine.counters().hedges_unpaid), (2, 4));
}

#[test]
fn what_failed_avoids_its_instance_even_if_that_has_more_room() {
    let mut world = World::new(Config::default());
    for capacity in [3, 1] {
        world.does(|engine, now| engine.join(now, Roles::DEPLOYED, capacity));
    }
    for row in 0..2 {
        world.arrive(row);
    }
    let (first, second) = (world.call_of(0), world.call_of(1));
    world.fail(first);
    assert_eq!(world.engine.waiting(Role::Deployed), 1);
    world.answer(second);
    assert_eq!(world.calls[2].1.index(), 1);
}

#[test]
fn what_failed_twice_goes_to_an_instance_where_it_has_not_failed() {
    let mut world = World::new(Config::default());
    // The first two fail at once, so that they are free whenever there is work.
    for capacity in [2, 2, 1] {
        world.does(|engine, now| engine.join(now, Roles::DEPLOYED, capacity));
    }
    world.arrive(0);
    let first = world.call_of(0);
    assert_eq!(world.calls[0].1.index(), 0);
    world.arrive(1);
    world.arrive(2);
    assert_eq!(world.calls[2].1.index(), 2);
    world.fail(first);
    let (second, at, _) = world.calls[3];
    assert_eq!(at.index(), 1);
    world.fail(second);
    assert_eq!(world.engine.waiting(Role::Deployed), 1, "it waits for the third");
    let third = world.call_of(2);
    world.answer(third);
    assert_eq!(world.calls[4].1.index(), 2);
}

fn places(balance: Balance, capacity: usize, queries: u64) -> (Vec<usize>, World) {
    let mut world = World::new(Config { balance, ..Config::default() });
    for _ in 0..3 {
        world.does(|engine, now| engine.join(now, Roles::DEPLOYED, capacity));
    }
    for row in 0..queries {
        world.arrive(row);
    }
    (world.calls.iter().map(|call| call.1.index()).collect(), world)
}

#[test]
fn balances_choose_who_waits_longest_the_next_in_turn_or_the_least_loaded() {
    let (order, mut world) = places(Balance::Pull, 1, 5);
    assert_eq!(order, [0, 1, 2]);
    let call = world.call_of(1);
    world.answer(call);
    assert_eq!(world.calls.last().unwrap().1.index(), 1, "who is free pulls what waits");

    let (order, mut world) = places(Balance::RoundRobin, 4, 4);
    assert_eq!(order, [0, 1, 2, 0]);
    let call = world.calls[1].0;
    world.answer(call);
    world.arrive(10);
    world.arrive(11);
    let last: Vec<_> = world.calls[4..].iter().map(|call| call.1.index()).collect();
    assert_eq!(last, [1, 2]);

    let (order, mut world) = places(Balance::LeastOutstanding, 4, 6);
    assert_eq!(order, [0, 1, 2, 0, 1, 2]);
    for call in [world.calls[2].0, world.calls[5].0] {
        world.answer(call);
    }
    world.arrive(10);
    world.arrive(11);
    let last: Vec<_> = world.calls[6..].iter().map(|call| call.1.index()).collect();
    assert_eq!(last, [2, 2]);
}

#[test]
fn priorities_go_first() {
    let mut world = World::apart(Config::default(), 1, 0);
    world.arrive(1);
    for (row, priority) in [(2, 5), (3, 1), (4, 1)] {
        world.offer(Arrival { priority, ..Arrival::new(row) }).unwrap();
    }
    let mut order = Vec::new();
    while let Some(&call) = world.running(|_| true).first() {
        order.extend(world.engine.rows(call));
        world.answer(call);
    }
    assert_eq!(order, [1, 3, 4, 2]);
}

#[test]
fn coding_is_switched_off_when_agreement_falls_and_on_again_by_hand() {
    let mut config = coded(2, 1);
    if let Policy::Coded { groups, .. } = &mut config.policy {
        groups.agreement = Some(Agreement { window: 4, at_least: 0.75 });
    }
    let mut world = World::apart(config, 2, 1);
    for agree in [false, true, true, true, true, false] {
        world.does(|engine, now| engine.compared(now, agree));
        assert_eq!(world.engine.coding_off(), None);
    }
    world.does(|engine, now| engine.compared(now, false));
    assert_eq!(world.engine.coding_off(), Some(CodingOff::Agreement));
    let off = Action::CodingOff { reason: CodingOff::Agreement };
    assert_eq!(world.log.iter().filter(|(_, action)| *action == off).count(), 1);
    world.does(Engine::resume_coding);
    world.does(|engine, now| engine.compared(now, false));
    assert_eq!(world.engine.coding_off(), None, "the window is empty again");
}

#[test]
fn extremes_are_no_panic() {
    let config =
        Config { deadline: u64::MAX, call_timeout: u64::MAX, max_attempts: u8::MAX, ..coded(127, 1) };
    let mut world = World::new(config);
    world.does(|engine, now| engine.join(now, Roles::default(), 1));
    world.does(|engine, now| engine.join(now, Roles::pooled(usize::MAX), 0));
    world.does(|engine, now| engine.join(now, Roles::parity(usize::MAX), 1));
    let instance = world.does(|engine, now| engine.join(now, Roles::pooled(1), usize::MAX));
    for row in 0..127 {
        world.arrive(row);
    }
    assert_eq!(world.calls.len(), 128);
    let lost = world.call_of(126);
    for call in world.running(|_| true) {
        if call != lost {
            world.answer(call);
        }
    }
    assert_eq!(world.rebuilt(126).unwrap().1.available, u128::MAX >> 2 | 1 << 127);
    world.now = u64::MAX;
    world.tick();
    assert!(world.offer(Arrival::new(u64::MAX)).is_err(), "there is no time after");
    world.does(|engine, now| engine.lost(now, instance));
    world.assert_empty();
}

#[test]
fn configurations_that_cannot_work_say_why() {
    let refused = |config: Config| Engine::new(config).unwrap_err();
    let zero = refused(Config { max_batch: 0, ..Config::default() });
    assert_eq!(zero.to_string(), "found max_batch = 0, expected at least 1");
    let share =
        Config { when: When::Grace(Delay::Percentile { share: 1.5, until_known: 1 }), ..Config::default() };
    assert_eq!(refused(share).to_string(), "found share = 1.5, expected a share from 0 to 1");
    let hedge = Hedge { budget: f64::NAN, ..HEDGE };
    let error = refused(uncoded(Policy::Hedge(hedge))).to_string();
    assert_eq!(error, "found budget = NaN, expected a finite number from 0");
    let ejection = Some(Ejection { max_share: 1.0, ..EJECTION });
    let error = refused(Config { ejection, ..Config::default() }).to_string();
    assert_eq!(error, "found max_share = 1, expected a share from 0 and below 1");
    assert_eq!(CodeRule::parity(0, 1).unwrap_err(), ConfigError::Workers { k: 0, n: 1 });
    assert_eq!(CodeRule::parity(100, 29).unwrap_err(), ConfigError::Workers { k: 100, n: 129 });
    assert_eq!(CodeRule::coded(2, 3, 4).unwrap_err(), ConfigError::Enough { enough: 4, n: 3 });
    let shadow = Config { shadow: true, ..common::with_code(CodeRule::coded(2, 3, 2).unwrap()) };
    assert_eq!(refused(shadow), ConfigError::Shadow);
}

#[test]
fn batches_grow_while_calls_are_fast_and_shrink_when_they_are_slow() {
    let config = Config { max_batch: 4, batch_delay: MS, batch_target: Some(10 * MS), ..Config::default() };
    let mut world = World::apart(config, 1, 0);
    let mut row = 0;
    // Each time as many queries as a largest batch, and the rows of the calls that they make.
    let mut round = |world: &mut World, time| {
        let before = world.calls.len();
        let start = world.now / MS;
        for _ in 0..4 {
            row += 1;
            world.arrive(row);
        }
        let (mut rows, mut at) = (Vec::new(), start);
        while rows.iter().sum::<usize>() < 4 {
            at += 2;
            world.at(at);
            let call = world.calls[before + rows.len()].0;
            rows.push(world.engine.call(call).unwrap().rows);
            at += time;
            world.at(at).answer(call);
        }
        rows
    };
    assert_eq!(round(&mut world, 5), [1, 1, 1, 1]);
    assert_eq!(round(&mut world, 5), [2, 2]);
    assert_eq!(round(&mut world, 5), [3, 1]);
    assert_eq!(round(&mut world, 15), [4]);
    assert_eq!(round(&mut world, 5), [3, 1]);
}

#[test]
fn queries_that_come_while_all_instances_are_busy_make_one_batch() {
    let mut world = World::apart(Config { max_batch: 4, ..Config::default() }, 1, 0);
    let rows = |world: &World, at: usize| world.engine.call(world.calls[at].0).unwrap().rows;
    let answer = |world: &mut World, ms, at: usize| {
        let call = world.calls[at].0;
        world.at(ms).answer(call);
    };
    for row in 1..=4 {
        world.arrive(row);
        world.tick();
    }
    // An idle instance is not kept waiting.
    assert_eq!((world.calls.len(), rows(&world, 0)), (1, 1));
    answer(&mut world, 5, 0);
    assert_eq!((world.calls.len(), rows(&world, 1)), (2, 3));
    // What does not fit into a batch is the beginning of the next.
    for row in 5..=10 {
        world.arrive(row);
        world.tick();
    }
    answer(&mut world, 10, 1);
    assert_eq!(rows(&world, 2), 4);
    answer(&mut world, 15, 2);
    assert_eq!(rows(&world, 3), 2);
    answer(&mut world, 20, 3);
    assert!((1..=10).all(|row| world.predicted(row).is_some()));
    world.assert_empty();

    // An instance that joins takes a batch that has waited, and a batch that waits for others is not hurried.
    let mut world = World::new(Config { max_batch: 4, batch_delay: 10 * MS, ..Config::default() });
    world.arrive(1);
    world.at(20).arrive(2);
    world.join(parm_engine::Roles::DEPLOYED);
    assert_eq!(rows(&world, 0), 2);
    world.at(21).arrive(3);
    answer(&mut world, 22, 0);
    assert_eq!(world.calls.len(), 1);
    world.at(32);
    assert_eq!((world.calls.len(), rows(&world, 1)), (2, 1));
}
