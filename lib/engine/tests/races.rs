//! Races of answers, losses, deadlines and cancellation, one test for each, named after its order of
//! events.

mod common;

use common::{MS, World, coded, grace, with_code};
use parm_engine::{
    Action, Arrival, CallId, CodeRule, Config, Policy, QueryId, Reason, Roles, Task, Time, When,
};

fn is_parity(task: Task) -> bool {
    matches!(task, Task::Parity { .. })
}

#[test]
fn both_answers_then_parity() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(30).answer(first);
    world.at(31).answer(second);
    assert!(!world.released(1), "a running parity query may still be encoding");
    world.at(32).answer(parity);
    assert_eq!((world.predicted(1), world.predicted(2)), (Some(30), Some(31)));
    assert_eq!(world.engine.counters().parity_useless, 1);
    world.assert_empty();
}

#[test]
fn parity_and_one_answer_then_the_other() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    let query = world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(30).answer(parity);
    assert_eq!(world.answer_of(1), None);
    world.at(31).answer(second);
    let (at, decode) = world.rebuilt(1).unwrap();
    assert_eq!((at, decode.slot, decode.row, decode.available, decode.absent), (31, 0, 0, 0b110, 0));
    let late = Action::Compare { query, row: 1, decode };
    assert!(!world.log.contains(&(40 * MS, late)));
    world.at(40).answer(first);
    assert!(world.log.contains(&(40 * MS, late)), "what was rebuilt is compared with what came late");
    assert_eq!(world.engine.counters().late_after_reconstruction, 1);
    world.assert_empty();
}

#[test]
fn an_answer_within_its_grace_wins_over_the_reconstruction_that_was_there() {
    let mut world = World::apart(Config { when: grace(36), ..coded(2, 1) }, 2, 1);
    world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(30).answer(parity);
    world.at(31).answer(second);
    world.at(36).answer(first);
    world.tick();
    assert_eq!(world.predicted(1), Some(36));
    world.assert_empty();
}

#[test]
fn grace_over_then_the_answer() {
    let mut world = World::apart(Config { when: grace(36), ..coded(2, 1) }, 2, 1);
    world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(30).answer(parity);
    world.at(31).answer(second);
    world.at(37).answer(first);
    assert_eq!(world.rebuilt(1).unwrap().0, 36);
    world.assert_empty();
}

#[test]
fn grace_over_then_the_reconstruction() {
    let mut world = World::apart(Config { when: grace(36), ..coded(2, 1) }, 2, 1);
    world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(31).answer(second);
    world.at(45).answer(parity);
    assert_eq!(world.rebuilt(1).unwrap().0, 45);
    world.at(50).answer(first);
    world.assert_empty();
}

#[test]
fn no_grace_for_an_answer_that_cannot_come() {
    let config = Config { when: grace(36), max_attempts: 1, ..coded(2, 1) };
    let mut world = World::apart(config, 2, 1);
    world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(5).answer(parity);
    world.at(6).answer(second);
    world.at(7).fail(first);
    assert_eq!(world.rebuilt(1).unwrap().0, 7);
    world.assert_empty();
}

#[test]
fn two_losses_with_one_parity_wait_for_their_answers_or_the_deadline() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(30).answer(parity);
    world.at(1000);
    assert_eq!((world.answer_of(1), world.answer_of(2)), (None, None));
    world.answer(first);
    world.tick();
    assert_eq!(world.predicted(1), Some(1000));
    assert_eq!(world.rebuilt(2).unwrap().0, 1000, "the answer at the deadline rebuilds the other one");
    world.fail(second);
    world.assert_empty();
}

#[test]
fn two_losses_with_two_parities() {
    let mut world = World::apart(coded(3, 2), 3, 2);
    for row in 1..=3 {
        world.arrive(row);
    }
    let calls = [world.call_of(1), world.call_of(2), world.call_of(3)];
    let parities = [world.parity(0), world.parity(1)];
    world.at(30).answer(parities[1]);
    world.at(31).answer(calls[1]);
    assert_eq!((world.answer_of(1), world.answer_of(3)), (None, None));
    world.at(32).answer(parities[0]);
    let (one, three) = (world.rebuilt(1).unwrap(), world.rebuilt(3).unwrap());
    assert_eq!((one.0, one.1.slot, one.1.available), (32, 0, 0b11010));
    assert_eq!((three.0, three.1.slot, three.1.available), (32, 2, 0b11010));
    world.at(40).answer(calls[0]);
    world.answer(calls[2]);
    assert_eq!(world.engine.counters().late_after_reconstruction, 2);
    world.assert_empty();
}

#[test]
fn three_losses_with_two_parities_and_then_one_answer() {
    let mut world = World::apart(coded(3, 2), 3, 2);
    for row in 1..=3 {
        world.arrive(row);
    }
    let calls = [world.call_of(1), world.call_of(2), world.call_of(3)];
    for parity in [world.parity(0), world.parity(1)] {
        world.at(30).answer(parity);
    }
    assert_eq!(world.answer_of(1), None);
    world.at(33).answer(calls[0]);
    assert_eq!(world.predicted(1), Some(33));
    assert_eq!((world.rebuilt(2).unwrap().0, world.rebuilt(3).unwrap().0), (33, 33));
    world.answer(calls[1]);
    world.answer(calls[2]);
    world.assert_empty();
}

#[test]
fn instance_dies_holding_work_which_another_takes() {
    let mut world = World::apart(coded(2, 1), 3, 1);
    world.arrive(1);
    let first = world.call_of(1);
    let (_, dead, _) = world.calls[0];
    world.at(5).does(|engine, now| engine.lost(now, dead));
    let again = world.call_of(1);
    assert_ne!(first, again);
    world.at(6).answer(first);
    assert_eq!((world.answer_of(1), world.engine.counters().ignored), (None, 1), "an answer from the dead");
    world.at(35).answer(again);
    assert_eq!(world.predicted(1), Some(35));
    let second = world.engine.counters().retries;
    assert_eq!(second, 1);
}

#[test]
fn parity_instance_dies_holding_work_then_another_joins() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(1);
    world.arrive(2);
    let dead = world.calls.iter().find(|call| is_parity(call.2)).unwrap().1;
    world.at(5).does(|engine, now| engine.lost(now, dead));
    assert_eq!(world.sent(is_parity), 1);
    world.at(6).join(Roles::parity(0));
    assert_eq!(world.sent(is_parity), 2);
}

#[test]
fn all_attempts_fail_then_parity_and_the_other_answer() {
    let mut world = World::apart(Config { max_attempts: 2, ..coded(2, 1) }, 3, 1);
    world.arrive(1);
    world.arrive(2);
    for ms in [5, 6] {
        let call = world.call_of(1);
        world.at(ms).fail(call);
    }
    assert_eq!(world.answer_of(1), None, "there is hope");
    let (second, parity) = (world.call_of(2), world.parity(0));
    world.at(30).answer(second);
    world.at(31).answer(parity);
    assert_eq!(world.rebuilt(1).unwrap().0, 31);
    world.assert_empty();
}

#[test]
fn all_attempts_fail_then_those_of_the_parity_so_that_the_answer_is_an_error_at_once() {
    let mut world = World::apart(Config { max_attempts: 1, ..coded(2, 1) }, 3, 1);
    world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(5).fail(first);
    world.at(6).fail(parity);
    assert_eq!(world.defaulted(1), Some((6, Reason::Failed)));
    world.at(30).answer(second);
    world.assert_empty();
}

#[test]
fn completion_then_cancel() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    let query = world.arrive(1);
    let first = world.call_of(1);
    world.at(5).answer(first);
    world.does(|engine, now| engine.cancel(now, query));
    assert_eq!((world.predicted(1), world.engine.counters().cancelled), (Some(5), 0));
    assert_eq!(world.engine.counters().ignored, 1);
}

#[test]
fn cancel_then_completion_which_still_rebuilds_the_other() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    let query = world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(5).does(|engine, now| engine.cancel(now, query));
    world.at(30).answer(parity);
    world.at(31).answer(first);
    assert_eq!((world.answer_of(1), world.rebuilt(2).unwrap().0), (None, 31));
    world.answer(second);
    world.assert_empty();
    assert!(world.released(1));
}

#[test]
fn cancel_while_the_batch_fills_takes_the_query_out_of_it() {
    let mut world = World::apart(Config { max_batch: 2, batch_delay: 5 * MS, ..coded(2, 1) }, 2, 1);
    let query = world.arrive(1);
    world.does(|engine, now| engine.cancel(now, query));
    assert!(world.released(1));
    world.arrive(2);
    world.arrive(3);
    let call = world.call_of(2);
    assert_eq!(world.engine.rows(call).collect::<Vec<_>>(), [2, 3]);
}

#[test]
fn deadline_then_reconstruction() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(30).answer(second);
    world.at(1001);
    assert_eq!(world.defaulted(1), Some((1000, Reason::Deadline)));
    world.answer(parity);
    world.answer(first);
    world.assert_empty();
}

#[test]
fn reconstruction_at_the_deadline() {
    let mut world = World::apart(Config { when: When::Deadline, ..coded(2, 1) }, 2, 1);
    world.arrive(1);
    world.arrive(2);
    let (second, parity) = (world.call_of(2), world.parity(0));
    world.at(30).answer(second);
    world.at(31).answer(parity);
    world.at(1001);
    assert_eq!(world.rebuilt(1).unwrap().0, 1000);
}

#[test]
fn answer_at_the_deadline_is_in_time_and_after_it_says_that_it_is_late() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(1);
    let first = world.call_of(1);
    world.at(1000).answer(first);
    world.tick();
    assert_eq!(world.predicted(1), Some(1000));
    world.arrive(2);
    // The driver sleeps over the deadline.
    world.now = 2500 * MS;
    world.tick();
    let late =
        world.log.iter().any(|(_, action)| matches!(action, Action::Answer { row: 2, late: true, .. }));
    assert!(late && world.engine.counters().late == 1);
}

#[test]
fn deadline_while_the_work_waits_takes_it_out_of_the_queue() {
    let mut world = World::apart(Config { policy: Policy::None, ..Config::default() }, 1, 0);
    world.arrive(1);
    let arrival = Arrival { deadline: Some(20 * MS), ..Arrival::new(2) };
    world.offer(arrival).unwrap();
    world.at(21);
    assert_eq!(world.defaulted(2), Some((20, Reason::Deadline)));
    assert_eq!((world.released(2), world.engine.counters().work_cancelled), (true, 1));
    let first = world.call_of(1);
    world.at(30).answer(first);
    assert_eq!(world.calls.len(), 1);
    world.assert_empty();
}

#[test]
fn a_query_that_refuses_reconstructions_waits_and_still_helps_others() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.offer(Arrival { allow_reconstructed: false, ..Arrival::new(1) }).unwrap();
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(30).answer(parity);
    world.at(40).answer(second);
    assert_eq!(world.answer_of(1), None);
    world.at(50).answer(first);
    assert_eq!((world.predicted(1), world.predicted(2)), (Some(50), Some(40)));
    world.assert_empty();
}

#[test]
fn shadow_compares_and_answers_with_the_late_prediction() {
    let mut world = World::apart(Config { shadow: true, ..coded(2, 1) }, 2, 1);
    world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(30).answer(parity);
    world.at(31).answer(second);
    assert_eq!((world.answer_of(1), world.engine.counters().shadow), (None, 1));
    world.at(40).answer(first);
    assert_eq!(world.predicted(1), Some(40));
    let compares = world.log.iter().filter(|(_, action)| matches!(action, Action::Compare { row: 1, .. }));
    assert_eq!(compares.count(), 1);
    world.assert_empty();
}

#[test]
fn deadline_of_a_query_that_waits_whose_answer_then_rebuilds_the_other_one() {
    let mut world = World::apart(coded(2, 1), 1, 1);
    world.arrive(1);
    world.offer(Arrival { deadline: Some(20 * MS), ..Arrival::new(2) }).unwrap();
    let (first, parity) = (world.call_of(1), world.parity(0));
    world.at(15).answer(parity);
    world.at(21);
    assert_eq!(world.defaulted(2), Some((20, Reason::Deadline)));
    world.at(25).join(Roles::DEPLOYED);
    let second = world.call_of(2);
    world.at(55).answer(second);
    assert_eq!(world.rebuilt(1).unwrap().0, 55);
    world.answer(first);
    world.assert_empty();
}

/// Two queries, of which the first is being rebuilt since 31 ms, by something that takes long.
fn rebuilding(config: Config) -> (World, QueryId, CallId) {
    let mut world = World::apart(config, 2, 1);
    world.decodes_later = true;
    let query = world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(30).answer(parity);
    world.at(31).answer(second);
    let told =
        |(at, action): &(Time, Action)| *at == 31 * MS && matches!(action, Action::Rebuild { row: 1, .. });
    assert!(world.log.iter().any(told));
    assert_eq!(world.answer_of(1), None);
    (world, query, first)
}

#[test]
fn what_is_rebuilt_for_long_is_given_when_it_is_there_and_compared_with_what_comes_after() {
    let (mut world, query, first) = rebuilding(coded(2, 1));
    world.at(50).does(|engine, now| engine.decoded(now, query, true));
    assert_eq!(world.rebuilt(1).map(|(at, _)| at), Some(50));
    world.at(60).answer(first);
    assert_eq!(world.engine.counters().late_after_reconstruction, 1);
    world.assert_empty();
}

#[test]
fn a_prediction_that_comes_while_it_is_rebuilt_wins() {
    let (mut world, query, first) = rebuilding(coded(2, 1));
    world.at(40).answer(first);
    assert_eq!(world.predicted(1), Some(40));
    world.at(50).does(|engine, now| engine.decoded(now, query, true));
    let counters = world.engine.counters();
    assert_eq!((counters.predictions, counters.reconstructed), (2, 0));
    world.assert_empty();
}

#[test]
fn a_deadline_that_passes_while_it_is_rebuilt_is_kept() {
    let (mut world, query, first) = rebuilding(Config { deadline: 45 * MS, ..coded(2, 1) });
    world.at(46).tick();
    assert_eq!(world.defaulted(1), Some((45, Reason::Deadline)));
    world.at(50).does(|engine, now| engine.decoded(now, query, true));
    world.at(60).answer(first);
    assert_eq!(world.engine.counters().reconstructed, 0);
    world.assert_empty();
}

#[test]
fn what_turns_out_not_to_be_rebuilt_is_waited_for() {
    let (mut world, query, first) = rebuilding(coded(2, 1));
    world.at(50).does(|engine, now| engine.decoded(now, query, false));
    assert_eq!(world.answer_of(1), None);
    world.at(60).answer(first);
    assert_eq!((world.predicted(1), world.engine.counters().undecodable), (Some(60), 1));
    world.assert_empty();
}

#[test]
fn what_is_sent_since_it_cannot_be_rebuilt_comes_after_what_makes_room_for_it() {
    // Two of three coded answers are there. The grace of the queries ends as the third call takes too long.
    let code = CodeRule::coded(2, 3, 2).unwrap();
    let config = Config { when: grace(100), call_timeout: 100 * MS, max_attempts: 1, ..with_code(code) };
    let mut world = World::apart(config, 3, 0);
    world.decodes = false;
    world.arrive(1);
    world.arrive(2);
    let [(first, at_first, _), (second, at_second, _), (_, third, _)] = world.calls[..] else { panic!() };
    world.at(30).answer(first);
    world.answer(second);
    for left in [at_first, at_second] {
        world.does(|engine, now| engine.leave(now, left));
    }
    world.at(101).tick();
    let place = |of: &dyn Fn(&Action) -> bool| world.log.iter().rposition(|(_, action)| of(action));
    let cancelled = place(&|action| matches!(action, Action::Cancel { instance, .. } if *instance == third));
    let sent = place(&|action| matches!(action, Action::Dispatch { instance, .. } if *instance == third));
    assert!(cancelled.is_some() && cancelled < sent, "{cancelled:?} {sent:?} {:#?}", world.log);
}
