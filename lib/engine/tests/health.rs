//! Instances that fail, slow down, leave and come back.

mod common;

use common::{MS, World};
use parm_engine::{Action, Config, Ejection, InstanceId, Roles};

const EJECTION: Ejection =
    Ejection { failures: 2, slowness: 3.0, base: 100 * MS, max_share: 0.5, min_calls: 0, slow_start: 0 };

fn ejected(world: &World) -> Vec<InstanceId> {
    let of = |action: &Action| if let Action::Ejected { instance } = action { Some(*instance) } else { None };
    world.log.iter().filter_map(|(_, action)| of(action)).collect()
}

fn probes(world: &World) -> Vec<u64> {
    let probe = |(at, action): &(u64, Action)| matches!(action, Action::Probe { .. }).then_some(at / MS);
    world.log.iter().filter_map(probe).collect()
}

/// Two failures in a row at the first instance of three.
fn failing() -> (World, InstanceId) {
    let mut world = World::apart(Config { ejection: Some(EJECTION), ..Config::default() }, 3, 0);
    let bad = {
        world.arrive(0);
        world.calls[0].1
    };
    while ejected(&world).is_empty() {
        let &(call, instance, _) =
            world.calls.iter().find(|call| world.engine.call(call.0).is_some()).expect("one runs");
        if instance == bad {
            world.fail(call);
        } else {
            world.answer(call);
        }
        let row = 1 + world.engine.counters().queries;
        world.arrive(row);
    }
    assert_eq!(ejected(&world), [bad]);
    (world, bad)
}

#[test]
fn failures_in_a_row_then_ejection_then_a_probe_that_heals() {
    let (mut world, bad) = failing();
    let sent = world.calls.iter().filter(|call| call.1 == bad).count();
    world.at(50);
    for row in 100..110 {
        world.arrive(row);
    }
    assert_eq!(world.calls.iter().filter(|call| call.1 == bad).count(), sent, "it gets no work");
    world.at(101);
    assert_eq!(probes(&world), [100]);
    world.does(|engine, now| engine.probed(now, bad, true));
    assert_eq!(world.engine.counters().healed, 1);
    assert_eq!(world.calls.last().unwrap().1, bad, "it takes what waits");
}

#[test]
fn calls_that_break_off_together_are_one_failure() {
    for (apart, out) in [(0, 0), (4, 0), (6, 1)] {
        let mut world = World::new(Config { ejection: Some(EJECTION), ..Config::default() });
        for _ in 0..3 {
            world.does(|engine, now| engine.join(now, Roles::DEPLOYED, 2));
        }
        for row in 0..6 {
            world.arrive(row);
        }
        let bad = world.calls[0].1;
        let both: Vec<_> = world.calls.iter().filter(|call| call.1 == bad).map(|call| call.0).collect();
        world.at(50).fail(both[0]);
        world.at(50 + apart).fail(both[1]);
        assert_eq!(ejected(&world).len(), out, "{apart} ms apart");
    }
}

#[test]
fn a_success_between_two_failures_is_no_ejection() {
    let config = Config { ejection: Some(EJECTION), max_attempts: 1, ..Config::default() };
    let mut world = World::apart(config, 2, 0);
    world.arrive(0);
    world.arrive(1);
    let first = world.call_of(0);
    world.fail(first);
    for row in [2, 3] {
        world.arrive(row);
        let call = world.call_of(row);
        if row == 2 { world.answer(call) } else { world.fail(call) }
    }
    assert_eq!((world.engine.counters().failures, world.engine.counters().ejections), (2, 0));
    world.arrive(4);
    let call = world.call_of(4);
    world.fail(call);
    assert_eq!(world.engine.counters().ejections, 1);
}

#[test]
fn probes_that_fail_or_are_never_answered_come_again_later_and_later() {
    let (mut world, bad) = failing();
    world.at(100).tick();
    world.does(|engine, now| engine.probed(now, bad, false));
    world.at(5000);
    // 100, + 200; no answer for a second, + 400; + 1000 + 800.
    assert_eq!(probes(&world), [100, 300, 1700, 3500]);
    world.does(|engine, now| engine.probed(now, bad, true));
    assert_eq!((world.engine.counters().healed, world.engine.counters().ignored), (0, 1), "too late");
}

#[test]
fn an_instance_much_slower_than_its_peers_is_ejected() {
    let mut world = World::apart(Config { ejection: Some(EJECTION), ..Config::default() }, 3, 0);
    for row in 0..300 {
        let begin = row * 500;
        world.at(begin).arrive(row);
        let &(call, instance, _) = world.calls.last().unwrap();
        let slow = instance.index() == 1 && row > 100;
        world.at(begin + if slow { 300 } else { 30 }).answer(call);
    }
    assert!(
        world
            .log
            .iter()
            .any(|(_, action)| matches!(action, Action::Ejected { instance } if instance.index() == 1))
    );
    assert!(ejected(&world).iter().all(|instance| instance.index() == 1));
}

/// Calls of 0.02 ms at three instances, then calls of the first that take these times, in us, one
/// after the other; how many instances are out of rotation after each.
fn after(config: Ejection, times: &[u64]) -> Vec<usize> {
    let mut world = World::apart(Config { ejection: Some(config), ..Config::default() }, 3, 0);
    let mut out = Vec::new();
    let (mut now, mut row, mut slow) = (MS, 0, 0);
    while out.len() < times.len() {
        assert!(row < 1000, "out of rotation after {out:?}");
        world.at_ns(now).arrive(row);
        let &(call, instance, _) = world.calls.last().unwrap();
        let counts = row >= 300 && instance.index() == 0;
        let time = if counts { times[slow] } else { 20 };
        world.at_ns(now + time * 1000).answer(call);
        if counts {
            slow += 1;
            out.push(ejected(&world).len());
        }
        (now, row) = (now + 500 * MS, row + 1);
    }
    out
}

#[test]
fn one_hiccup_of_an_instance_with_short_calls_is_no_slowness_and_three_in_a_row_are() {
    let tenfold = Ejection { slowness: 10.0, ..EJECTION };
    assert_eq!(after(tenfold, &[50_000, 20, 20, 20, 20, 20, 50_000, 50_000]), [0; 8]);
    assert_eq!(after(tenfold, &[5000, 5000, 5000]), [0, 0, 1]);
    // 25 times the median, and yet no time at all.
    assert_eq!(after(tenfold, &[500; 20]), [0; 20]);
}

#[test]
fn an_instance_is_not_ejected_for_slowness_before_it_has_answered_enough_calls() {
    assert_eq!(after(EJECTION, &[5000; 3]), [0, 0, 1]);
    // It has answered a hundred calls before.
    assert_eq!(after(Ejection { min_calls: 105, ..EJECTION }, &[5000; 6]), [0, 0, 0, 0, 0, 1]);
}

#[test]
fn an_instance_that_comes_back_gets_a_second_call_only_if_no_other_is_free() {
    let config = Config {
        ejection: Some(Ejection { failures: 1, slow_start: 1000 * MS, ..EJECTION }),
        ..Config::default()
    };
    let mut world = World::new(config);
    let [one, other] = [(); 2].map(|()| world.does(|engine, now| engine.join(now, Roles::DEPLOYED, 4)));
    world.arrive(0);
    let (call, bad, _) = world.calls[0];
    world.fail(call);
    let good = if bad == one { other } else { one };
    world.at(101);
    world.does(|engine, now| engine.probed(now, bad, true));
    let at = |world: &World, instance| {
        world.calls.iter().filter(|call| call.1 == instance && world.engine.call(call.0).is_some()).count()
    };
    for row in 1..5 {
        world.arrive(row);
    }
    // The other one runs the failed query, too.
    assert_eq!((at(&world, good), at(&world, bad)), (4, 1));
    world.arrive(5);
    assert_eq!(at(&world, bad), 2, "no other one is free");
    for call in world.running(|_| true) {
        world.answer(call);
    }
    world.at(1200);
    for row in 10..14 {
        world.arrive(row);
    }
    assert_eq!((at(&world, good), at(&world, bad)), (2, 2), "its start is over");
}

#[test]
fn calls_that_one_hiccup_made_slow_together_count_once() {
    let config = Config { ejection: Some(EJECTION), ..Config::default() };
    let mut world = World::new(config);
    let [one, other] = [(); 2].map(|()| world.does(|engine, now| engine.join(now, Roles::DEPLOYED, 16)));
    for round in 0..20 {
        let begin = round * 1000;
        world.at(begin);
        let first = world.calls.len();
        for row in 0..16 {
            world.arrive(round * 16 + row);
        }
        let calls: Vec<_> = world.calls[first..].iter().map(|call| (call.0, call.1)).collect();
        for slow in [false, true] {
            // Of the instance that is stopped for a while all calls end at once, later.
            let stopped = |instance| round > 10 && round % 4 == 0 && instance == one;
            world.at(begin + if slow { 600 } else { 1 });
            for &(call, _) in calls.iter().filter(|call| stopped(call.1) == slow) {
                world.answer(call);
            }
        }
    }
    assert!(world.calls.iter().any(|call| call.1 == one) && world.calls.iter().any(|call| call.1 == other));
    assert_eq!(ejected(&world), []);
}

#[test]
fn no_more_than_the_share_is_ejected_and_the_last_ones_come_back_when_others_die() {
    let mut world = World::new(Config { ejection: Some(EJECTION), ..Config::default() });
    let instances: Vec<_> = (0..4).map(|_| world.join(Roles::DEPLOYED)).collect();
    for &instance in &instances {
        world.does(|engine, now| engine.slow(now, instance));
    }
    assert_eq!(ejected(&world), instances[..2]);
    for &instance in &instances[2..] {
        world.does(|engine, now| engine.lost(now, instance));
    }
    assert_eq!(world.engine.counters().healed, 2);
    world.arrive(1);
    assert_eq!(world.calls.len(), 1);
}

#[test]
fn an_instance_that_leaves_finishes_what_it_runs_and_gets_no_more() {
    let mut world = World::apart(Config::default(), 1, 0);
    let leaving = world.join(Roles::DEPLOYED);
    world.arrive(1);
    world.arrive(2);
    world.does(|engine, now| engine.leave(now, leaving));
    world.does(|engine, now| engine.leave(now, leaving));
    assert_eq!(world.engine.counters().ignored, 1);
    world.arrive(3);
    let second = world.call_of(2);
    world.at(30).answer(second);
    assert_eq!((world.predicted(2), world.calls.len()), (Some(30), 2));
    assert_eq!(world.engine.held().instances, 1);
}

#[test]
fn a_call_that_takes_too_long_is_given_up_and_sent_elsewhere() {
    let mut world = World::apart(Config { call_timeout: 100 * MS, ..Config::default() }, 2, 0);
    world.arrive(1);
    let first = world.call_of(1);
    world.at(101);
    assert_eq!((world.cancels(), world.engine.counters().timeouts), (1, 1));
    let again = world.call_of(1);
    assert_ne!(first, again);
    world.answer(first);
    assert_eq!(world.answer_of(1), None);
    world.answer(again);
    assert_eq!(world.predicted(1), Some(101));
    world.assert_empty();
}
