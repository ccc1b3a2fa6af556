//! What instances refuse: whose fault it is, who is told so, and what becomes of the others.

mod common;

use common::{MS, World, coded, with_code};
use parm_engine::{Action, Arrival, CodeRule, Config, Ejection, Outcome, Reason, Roles, Task};

fn batches(size: usize) -> Config {
    Config { max_batch: size, batch_delay: MS, ..Config::default() }
}

/// The rows of all calls that run now.
fn running(world: &World) -> Vec<Vec<u64>> {
    world.running(|_| true).into_iter().map(|call| world.engine.rows(call).collect()).collect()
}

#[test]
fn a_refusal_is_put_to_another_instance_and_is_the_answer_if_that_one_refuses_too() {
    let mut world = World::apart(Config::default(), 3, 0);
    world.arrive(0);
    let (first, place, _) = world.calls[0];
    world.refuse(first);
    assert_eq!(world.refused(0), None);
    let (second, other, _) = world.calls[1];
    assert_ne!(place, other);
    world.at(7).refuse(second);
    assert_eq!((world.refused(0), world.calls.len()), (Some(7), 2));
    let counters = world.engine.counters();
    assert_eq!((counters.refused, counters.refusals, counters.retries, counters.failures), (1, 2, 1, 0));
    world.assert_empty();
}

#[test]
fn what_another_instance_answers_is_answered() {
    let mut world = World::apart(Config::default(), 2, 0);
    world.arrive(0);
    world.refuse(world.calls[0].0);
    world.answer(world.calls[1].0);
    assert_eq!(world.predicted(0), Some(0));
    world.assert_empty();
}

#[test]
fn a_refusal_is_the_answer_at_once_where_there_is_no_other_instance_or_no_attempt_left() {
    let mut alone = World::apart(Config::default(), 1, 0);
    alone.arrive(0);
    alone.refuse(alone.calls[0].0);
    assert_eq!(alone.refused(0), Some(0));
    alone.assert_empty();
    let mut once = World::apart(Config { max_attempts: 1, ..Config::default() }, 2, 0);
    once.arrive(0);
    once.refuse(once.calls[0].0);
    assert_eq!((once.refused(0), once.calls.len()), (Some(0), 1));
    once.assert_empty();
}

#[test]
fn of_a_refused_batch_each_request_is_sent_again_alone_and_only_the_bad_one_is_refused() {
    let mut world = World::apart(batches(4), 1, 0);
    for (request, row) in [(7, 0), (7, 1), (8, 2), (9, 3)] {
        world.arrive_of(request, row);
    }
    assert_eq!(running(&world), [[0, 1, 2, 3]]);
    world.refuse(world.calls[0].0);
    // One after the other: there is one instance.
    let mut seen = Vec::new();
    while let [call] = world.running(|_| true)[..] {
        let rows: Vec<u64> = world.engine.rows(call).collect();
        assert_eq!(world.engine.call(call).unwrap().rows, rows.len());
        if rows == [2] {
            world.refuse(call);
        } else {
            world.answer(call);
        }
        seen.push(rows);
    }
    assert_eq!(seen, [vec![0, 1], vec![2], vec![3]]);
    for row in [0, 1, 3] {
        assert_eq!(world.predicted(row), Some(0));
    }
    assert_eq!((world.refused(2), world.engine.counters().splits), (Some(0), 1));
    world.assert_empty();
}

#[test]
fn a_refused_batch_of_several_requests_goes_to_another_instance_first_if_attempts_are_left_to_split_it() {
    for (attempts, whole) in [(3, 2), (2, 1)] {
        let mut world = World::apart(Config { max_attempts: attempts, ..batches(2) }, 2, 0);
        world.arrive(0);
        world.arrive(1);
        for _ in 0..whole {
            let call = world.calls.last().unwrap().0;
            assert_eq!(world.engine.rows(call).count(), 2);
            world.refuse(call);
        }
        while let [call, ..] = world.running(|_| true)[..] {
            let rows: Vec<u64> = world.engine.rows(call).collect();
            assert_eq!(rows.len(), 1);
            if rows == [0] { world.refuse(call) } else { world.answer(call) }
        }
        assert_eq!((world.refused(0), world.predicted(1)), (Some(0), Some(0)));
        world.assert_empty();
    }
}

#[test]
fn a_part_of_a_batch_that_fails_is_tried_again_and_fails_alone() {
    let mut world = World::apart(Config { max_attempts: 3, ..batches(2) }, 1, 0);
    world.arrive(0);
    world.arrive(1);
    world.refuse(world.calls[0].0);
    let fails = |world: &mut World| {
        let call = world.running(|_| true)[0];
        let first = world.engine.rows(call).eq([0]);
        if first { world.fail(call) } else { world.answer(call) }
    };
    while !world.running(|_| true).is_empty() {
        fails(&mut world);
    }
    assert_eq!(world.defaulted(0), Some((0, Reason::Failed)));
    assert_eq!(world.predicted(1), Some(0));
    world.assert_empty();
}

#[test]
fn queries_that_end_while_their_batch_is_split_hold_nothing() {
    let mut world = World::apart(batches(2), 1, 0);
    let first = world.arrive(0);
    world.arrive(1);
    world.refuse(world.calls[0].0);
    world.does(|engine, now| engine.cancel(now, first));
    world.at(2000).tick();
    assert_eq!(world.defaulted(1), Some((1000, Reason::Deadline)));
    world.assert_empty();
}

fn ejecting(failures: u32) -> Config {
    let ejection =
        Ejection { failures, slowness: 10.0, base: 100 * MS, max_share: 0.9, min_calls: 0, slow_start: 0 };
    Config { ejection: Some(ejection), ..Config::default() }
}

#[test]
fn an_instance_that_refuses_what_others_answer_is_taken_out_of_rotation() {
    let mut world = World::apart(ejecting(3), 3, 0);
    let bad = world.calls.first().map(|call| call.1);
    assert_eq!(bad, None);
    let mut bad = None;
    for row in 0..20 {
        world.at(10 * row).arrive(row);
        let mut sent = 0;
        while let [call] = world.running(|_| true)[..] {
            let at = world.engine.call(call).unwrap().instance;
            sent += 1;
            if at == *bad.get_or_insert(at) { world.refuse(call) } else { world.answer(call) }
        }
        assert!(sent <= 2);
    }
    assert!((0..20).all(|row| world.predicted(row).is_some()));
    let ejected = |action: &Action| matches!(action, Action::Ejected { instance } if Some(*instance) == bad);
    assert_eq!(world.log.iter().filter(|(_, action)| ejected(action)).count(), 1);
    assert_eq!(world.engine.counters().ejections, 1);
}

#[test]
fn a_client_whose_requests_all_instances_refuse_ejects_none() {
    let mut world = World::apart(ejecting(1), 3, 0);
    for row in 0..50 {
        world.at(row).arrive(row);
        while let [call, ..] = world.running(|_| true)[..] {
            world.refuse(call);
        }
        assert_eq!(world.refused(row), Some(row));
    }
    assert_eq!(world.engine.counters().ejections, 0);
}

#[test]
fn fast_refusals_make_no_instance_look_slow() {
    let mut world = World::apart(ejecting(1000), 3, 0);
    // The first answers in 20 ms each time, the others refuse at once.
    let good = world.join(Roles::DEPLOYED);
    for row in 0..200 {
        world.at(100 * row).arrive(row);
        while let [call] = world.running(|_| true)[..] {
            if world.engine.call(call).unwrap().instance == good {
                let at = world.now + 20 * MS;
                world.at_ns(at).answer(call);
            } else {
                world.refuse(call);
            }
        }
    }
    assert_eq!(world.engine.counters().ejections, 0);
    assert!(world.engine.counters().predictions > 0);
}

#[test]
fn a_group_goes_on_without_a_member_that_is_refused() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(0);
    world.arrive(1);
    let parity = world.parity(0);
    world.answer(parity);
    let (bad, other) = (world.call_of(0), world.call_of(1));
    // Refused twice: by both instances.
    world.refuse(bad);
    world.answer(other);
    world.refuse(world.call_of(0));
    // By then it could be rebuilt from the other one: that is an answer, too.
    assert!(world.refused(0).is_some() || world.rebuilt(0).is_some());
    assert_eq!(world.predicted(1), Some(0));
    world.assert_empty();

    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(0);
    world.arrive(1);
    world.answer(world.parity(0));
    let slow = world.call_of(1);
    let bad = world.call_of(0);
    world.refuse(bad);
    // The second instance is at work, and the first one must take it again when it is the only one.
    world.at(50).answer(slow);
    assert_eq!(world.predicted(1), Some(50));
}

#[test]
fn nothing_is_rebuilt_from_a_member_that_is_refused() {
    let mut world = World::apart(coded(2, 1), 3, 1);
    world.arrive(0);
    world.arrive(1);
    let lost = world.call_of(1);
    world.refuse(world.call_of(0));
    world.refuse(world.call_of(0));
    assert_eq!(world.refused(0), Some(0));
    world.answer(world.parity(0));
    assert_eq!(world.answer_of(1), None, "its group has no prediction of row 0");
    world.at(30).answer(lost);
    assert_eq!(world.predicted(1), Some(30));
    world.assert_empty();
}

#[test]
fn a_refused_parity_query_fails_no_query_and_no_instance() {
    let mut world = World::apart(Config { ejection: ejecting(1).ejection, ..coded(2, 1) }, 2, 2);
    world.arrive(0);
    world.arrive(1);
    world.refuse(world.parity(0));
    let call = world.call_of(0);
    world.at(5).answer(call);
    let call = world.call_of(1);
    world.at(9).answer(call);
    assert_eq!((world.predicted(0), world.predicted(1)), (Some(5), Some(9)));
    assert_eq!(world.engine.counters().ejections, 0);
    world.assert_empty();
}

#[test]
fn a_refused_coded_query_ends_its_group_and_the_queries_are_sent_themselves() {
    let mut world = World::apart(with_code(CodeRule::coded(2, 3, 2).unwrap()), 4, 0);
    world.arrive(0);
    world.arrive(1);
    let coded = |task| matches!(task, Task::Coded { .. });
    assert_eq!(world.running(coded).len(), 3);
    // Two instances refuse the same coded query.
    let call = world.running(coded)[0];
    world.refuse(call);
    let again = *world.running(coded).last().unwrap();
    world.refuse(again);
    for call in world.running(coded) {
        world.answer(call);
    }
    let own = world.running(|task| task == Task::Deployed);
    assert_eq!(own.len(), 2);
    world.refuse(world.call_of(0));
    world.answer(world.call_of(1));
    world.refuse(world.call_of(0));
    assert_eq!((world.refused(0), world.predicted(1)), (Some(0), Some(0)));
    world.assert_empty();
}

#[test]
fn a_refusal_of_what_nobody_needs_any_more_is_no_answer() {
    let mut world = World::apart(Config::default(), 2, 0);
    let query = world.arrive(0);
    world.does(|engine, now| engine.cancel(now, query));
    world.refuse(world.calls[0].0);
    assert_eq!((world.calls.len(), world.answer_of(0)), (1, None));
    world.assert_empty();
}

#[test]
fn batches_keep_to_the_limit_of_the_instances() {
    let mut world = World::apart(Config { batch_delay: 100 * MS, ..batches(8) }, 8, 0);
    world.arrive(0);
    world.arrive(1);
    world.does(|engine, now| engine.limit_batch(now, 2));
    assert_eq!(running(&world), [[0, 1]], "what fills is full");
    for row in 2..6 {
        world.arrive(row);
    }
    assert_eq!(running(&world), [[0, 1], [2, 3], [4, 5]]);
    world.does(|engine, now| engine.limit_batch(now, 100));
    for row in 6..14 {
        world.arrive(row);
    }
    assert_eq!(running(&world)[3].len(), 8, "never more than is configured");
}

#[test]
fn a_row_that_must_not_be_coded_is_in_no_group() {
    let mut world = World::apart(coded(2, 1), 4, 1);
    world.offer(Arrival { coded: false, ..Arrival::new(0) }).unwrap();
    world.arrive(1);
    world.arrive(2);
    let group = world.running(|task| matches!(task, Task::Parity { .. }));
    let Task::Parity { group, .. } = world.engine.call(group[0]).unwrap().task else { panic!() };
    let members: Vec<u64> = world.engine.members(group, 0).map(|(_, row)| row).collect();
    assert_eq!(members, [1, 2]);
    world.answer(world.call_of(0));
    assert_eq!(world.predicted(0), Some(0));
}

#[test]
fn an_answer_that_is_not_fit_answers_its_query_and_rebuilds_no_other() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(0);
    world.arrive(1);
    world.answer(world.parity(0));
    let call = world.call_of(0);
    world.does(|engine, now| engine.answered_unfit(now, call));
    assert_eq!(world.predicted(0), Some(0));
    assert_eq!(world.answer_of(1), None);
    let call = world.call_of(1);
    world.at(40).answer(call);
    assert_eq!(world.predicted(1), Some(40));
    world.assert_empty();
}

#[test]
fn a_parity_answer_that_is_not_fit_rebuilds_nothing() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(0);
    world.arrive(1);
    let parity = world.parity(0);
    world.does(|engine, now| engine.answered_unfit(now, parity));
    world.answer(world.call_of(0));
    let call = world.call_of(1);
    world.at(40).answer(call);
    assert_eq!((world.predicted(1), world.engine.counters().failures), (Some(40), 0));
    world.assert_empty();
}

#[test]
fn coded_answers_that_are_not_fit_let_the_queries_be_sent_themselves() {
    let mut world = World::apart(with_code(CodeRule::coded(2, 3, 2).unwrap()), 4, 0);
    world.arrive(0);
    world.arrive(1);
    let coded = world.running(|task| matches!(task, Task::Coded { .. }));
    for &call in &coded[..2] {
        world.does(|engine, now| engine.answered_unfit(now, call));
    }
    world.answer(world.call_of(0));
    world.answer(world.call_of(1));
    assert_eq!((world.predicted(0), world.predicted(1)), (Some(0), Some(0)));
    world.answer(coded[2]);
    world.assert_empty();
}

#[test]
fn a_reconstruction_that_cannot_be_given_waits_for_the_prediction() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.decodes = false;
    world.arrive(0);
    world.arrive(1);
    world.answer(world.parity(0));
    world.answer(world.call_of(0));
    assert_eq!(world.answer_of(1), None);
    let call = world.call_of(1);
    world.at(40).answer(call);
    assert_eq!(world.predicted(1), Some(40));
    let counters = world.engine.counters();
    assert_eq!((counters.undecodable, counters.reconstructed), (1, 0));
    world.assert_empty();
}

#[test]
fn a_reconstruction_that_cannot_be_given_and_no_prediction_is_a_failure() {
    let mut world = World::apart(Config { max_attempts: 1, ..coded(2, 1) }, 2, 1);
    world.decodes = false;
    world.arrive(0);
    world.arrive(1);
    world.answer(world.parity(0));
    world.answer(world.call_of(0));
    let call = world.call_of(1);
    world.at(40).fail(call);
    assert_eq!(world.defaulted(1), Some((40, Reason::Failed)));
    world.assert_empty();
}

#[test]
fn a_reconstruction_that_cannot_be_given_at_the_deadline_is_none() {
    let config = Config { when: parm_engine::When::Deadline, call_timeout: 5000 * MS, ..coded(2, 1) };
    let mut world = World::apart(config, 2, 1);
    world.decodes = false;
    world.arrive(0);
    world.arrive(1);
    world.answer(world.parity(0));
    world.answer(world.call_of(0));
    world.at(2000).tick();
    assert_eq!(world.defaulted(1), Some((1000, Reason::Deadline)));
}

#[test]
fn a_second_parity_gives_what_the_first_one_could_not() {
    let mut world = World::apart(coded(2, 2), 2, 2);
    world.decodes = false;
    world.arrive(0);
    world.arrive(1);
    world.answer(world.call_of(0));
    world.answer(world.parity(0));
    assert_eq!(world.answer_of(1), None);
    world.decodes = true;
    let call = world.parity(1);
    world.at(3).answer(call);
    assert!(matches!(world.answer_of(1), Some((3, Outcome::Reconstructed(_)))));
}
