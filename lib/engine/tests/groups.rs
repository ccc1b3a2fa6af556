//! Races of groups: how they fill, and what becomes of them when the code or its queries change; one
//! test for each, named after its order of events.

mod common;

use common::{MS, World, coded, with_code};
use parm::LinearCode;
use parm_engine::{Arrival, CodeRule, CodingOff, Completion, Config, Delay, Policy, Task, When};

fn is_parity(task: Task) -> bool {
    matches!(task, Task::Parity { .. })
}

#[test]
fn arrival_at_the_moment_of_the_group_flush_fills_the_group() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(1);
    world.at(10).arrive(2);
    world.tick();
    assert_eq!((world.engine.counters().groups_full, world.engine.counters().groups_shorter), (1, 0));
}

#[test]
fn group_flush_then_arrival() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(1);
    world.at(11).arrive(2);
    assert_eq!((world.engine.counters().groups_full, world.engine.counters().groups_shorter), (0, 1));
    let parity = world.parity(0);
    world.answer(parity);
    let (at, decode) = world.rebuilt(1).unwrap();
    assert_eq!((at, decode.available, decode.absent), (11, 0b100, 0b010));
    assert_eq!(world.engine.members(decode.group, 0).collect::<Vec<_>>(), [(0, 1)]);
}

#[test]
fn query_is_late_before_the_group_flush() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    // Of calls that take 2 ms, one that takes longer is late.
    for row in 0..64 {
        world.at(20 * row).arrive(row);
        let call = world.call_of(row);
        world.at(20 * row + 2).answer(call);
    }
    world.at(2000).arrive(100);
    world.at(2005);
    assert_eq!((world.sent(is_parity), world.engine.counters().groups_shorter), (1, 1));
    let parity = world.parity(0);
    world.answer(parity);
    // One that is answered in time waits for another query.
    world.at(2010).arrive(101);
    let call = world.call_of(101);
    world.at(2012).answer(call);
    world.at(2018).arrive(102);
    assert_eq!((world.sent(is_parity), world.engine.counters().groups_full), (2, 1));
}

#[test]
fn group_flush_when_all_is_answered_codes_nothing() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(1);
    let call = world.call_of(1);
    world.at(9).answer(call);
    assert!(!world.released(1), "it may yet help to rebuild who joins its group");
    world.at(11);
    assert!(world.released(1));
    assert_eq!((world.sent(is_parity), world.engine.counters().groups_unneeded), (0, 1));
    world.assert_empty();
}

#[test]
fn answer_then_arrival_into_its_group_which_is_lost_and_rebuilt() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(1);
    let first = world.call_of(1);
    world.at(5).answer(first);
    world.at(6).arrive(2);
    let parity = world.parity(0);
    world.at(36).answer(parity);
    assert_eq!(world.rebuilt(2).unwrap().1.available, 0b101);
    let second = world.call_of(2);
    world.fail(second);
    world.assert_empty();
}

fn completing(k: usize) -> Config {
    let mut config = coded(k, 1);
    if let Policy::Coded { groups, .. } = &mut config.policy {
        groups.completion = Completion::Known;
    }
    config
}

#[test]
fn a_lone_query_is_protected_by_a_known_one() {
    let mut world = World::apart(completing(2), 2, 1);
    world.arrive(1);
    let first = world.call_of(1);
    world.at(5).answer(first);
    world.at(11);
    assert!(!world.released(1), "it is known");
    world.at(100).arrive(2);
    let second = world.call_of(2);
    world.at(111);
    let parity = world.parity(0);
    let group = match world.calls.last() {
        Some(&(_, _, Task::Parity { group, .. })) => group,
        other => panic!("{other:?}"),
    };
    assert_eq!(world.engine.members(group, 0).collect::<Vec<_>>(), [(0, 2), (1, 1)]);
    world.at(140).answer(parity);
    let (at, decode) = world.rebuilt(2).unwrap();
    assert_eq!((at, decode.slot, decode.available, decode.absent), (140, 0, 0b110, 0));
    assert_eq!(world.engine.counters().groups_completed, 1);
    world.answer(second);
    world.assert_empty();
    assert!(world.released(1) && world.released(2));
}

#[test]
fn a_member_of_the_group_does_not_complete_it() {
    let mut world = World::apart(completing(3), 3, 1);
    world.arrive(1);
    world.arrive(2);
    let first = world.call_of(1);
    world.at(5).answer(first);
    world.at(11);
    assert_eq!(world.engine.counters().groups_shorter, 1);
    let (parity, second) = (world.parity(0), world.call_of(2));
    world.answer(parity);
    assert_eq!(world.rebuilt(2).unwrap().1.absent, 0b100);
    world.answer(second);
    world.assert_empty();
}

#[test]
fn ragged_batches_are_coded_shorter_and_rows_keep_their_places() {
    let config = Config { max_batch: 3, batch_delay: 2 * MS, ..coded(2, 1) };
    let mut world = World::apart(config, 2, 1);
    for row in 1..=4 {
        world.arrive(row);
    }
    world.at(3);
    let (first, second, parity) = (world.call_of(1), world.call_of(4), world.parity(0));
    assert_eq!(world.engine.call(parity).unwrap().rows, 3);
    assert_eq!(world.engine.rows(first).collect::<Vec<_>>(), [1, 2, 3]);
    world.at(30).answer(parity);
    // Rows 1 and 2 of the group hold one query each, so that the parity alone gives it.
    assert_eq!(
        (world.answer_of(1), world.rebuilt(2).is_some(), world.rebuilt(3).is_some()),
        (None, true, true)
    );
    let decode = world.rebuilt(3).unwrap().1;
    assert_eq!((decode.slot, decode.row, decode.absent), (0, 2, 0b10));
    assert_eq!(world.engine.members(decode.group, 0).collect::<Vec<_>>(), [(0, 1), (1, 4)]);
    assert_eq!(world.engine.members(decode.group, 2).collect::<Vec<_>>(), [(0, 3)]);
    world.at(31).answer(second);
    assert_eq!(world.rebuilt(1).unwrap().0, 31);
    world.answer(first);
    world.assert_empty();
}

#[test]
fn version_changes_in_the_middle_of_a_group() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(1);
    world.arrive(2);
    let (first, second, parity) = (world.call_of(1), world.call_of(2), world.parity(0));
    world.at(5).does(|engine, now| engine.version(now, 2));
    assert_eq!(world.engine.coding_off(), Some(CodingOff::Version));
    world.at(30).answer(parity);
    world.at(31).answer(second);
    assert_eq!(world.answer_of(1), None, "no reconstruction from two versions");
    world.at(40).answer(first);
    assert_eq!(world.predicted(1), Some(40));
    world.arrive(3);
    world.arrive(4);
    assert_eq!(world.sent(is_parity), 1, "coding is off");
    world.does(|engine, now| engine.version(now, 1));
    world.arrive(5);
    world.arrive(6);
    assert_eq!((world.engine.coding_off(), world.engine.counters().groups_full), (None, 2));
}

#[test]
fn version_changes_while_a_group_fills() {
    let mut world = World::apart(coded(2, 1), 2, 1);
    world.arrive(1);
    world.does(|engine, now| engine.version(now, 2));
    world.does(|engine, now| engine.version(now, 1));
    world.arrive(2);
    world.at(11);
    assert_eq!(world.engine.counters().groups_shorter, 1, "the new query began a group of its own");
}

#[test]
fn version_changes_while_all_queries_are_coded_so_that_they_are_sent_themselves() {
    let mut world = World::apart(with_code(CodeRule::coded(2, 3, 2).unwrap()), 5, 0);
    world.arrive(1);
    world.arrive(2);
    assert_eq!(world.sent(|task| matches!(task, Task::Coded { .. })), 3);
    world.at(5).does(|engine, now| engine.version(now, 2));
    for call in world.running(|task| matches!(task, Task::Coded { .. })) {
        world.answer(call);
    }
    assert_eq!(world.answer_of(1), None);
    let calls = [world.call_of(1), world.call_of(2)];
    for call in calls {
        world.at(40).answer(call);
    }
    assert_eq!((world.predicted(1), world.predicted(2)), (Some(40), Some(40)));
    world.assert_empty();
}

#[test]
fn enough_of_the_coded_answers_then_the_last_one() {
    let mut world = World::apart(with_code(CodeRule::coded(2, 3, 2).unwrap()), 4, 0);
    world.arrive(1);
    world.arrive(2);
    let refuses = Arrival { allow_reconstructed: false, ..Arrival::new(3) };
    world.offer(refuses).unwrap();
    let coded = world.running(|task| matches!(task, Task::Coded { .. }));
    world.at(30).answer(coded[2]);
    assert_eq!(world.answer_of(1), None);
    world.at(31).answer(coded[0]);
    let (one, two) = (world.rebuilt(1).unwrap(), world.rebuilt(2).unwrap());
    assert_eq!((one.0, one.1.slot, one.1.available, two.1.slot), (31, 0, 0b101, 1));
    world.at(32).answer(coded[1]);
    let third = world.call_of(3);
    world.answer(third);
    assert_eq!(world.predicted(3), Some(32), "who refuses reconstructions is sent as it is");
    world.assert_empty();
}

#[test]
fn too_many_coded_calls_fail_so_that_the_queries_are_sent_themselves() {
    let config = Config { max_attempts: 1, ..with_code(CodeRule::coded(2, 3, 2).unwrap()) };
    let mut world = World::apart(config, 4, 0);
    world.arrive(1);
    world.arrive(2);
    let coded = world.running(|task| matches!(task, Task::Coded { .. }));
    world.at(5).fail(coded[0]);
    assert_eq!(world.sent(|task| task == Task::Deployed), 0);
    world.at(6).fail(coded[1]);
    let calls = [world.call_of(1), world.call_of(2)];
    for call in calls {
        world.at(40).answer(call);
    }
    assert_eq!((world.predicted(1), world.predicted(2)), (Some(40), Some(40)));
    world.answer(coded[2]);
    world.assert_empty();
}

#[test]
fn the_grace_of_coded_answers_follows_their_own_times() {
    let when = When::Grace(Delay::Percentile { share: 0.9, until_known: 500 * MS });
    let mut world = World::apart(Config { when, ..with_code(CodeRule::coded(1, 2, 1).unwrap()) }, 2, 0);
    for row in 0..100 {
        let begin = row * 1000;
        world.at(begin).arrive(row);
        let [first, second] = world.running(|_| true)[..] else { panic!("{:?}", world.calls) };
        world.at(begin + 10).answer(first);
        assert_eq!(world.answer_of(row), None, "a second answer makes it better");
        world.at(begin + 11).answer(second);
        assert_eq!(world.rebuilt(row).unwrap().0, begin + 11);
    }
    world.at(200_000).arrive(100);
    let first = world.running(|_| true)[0];
    world.at(200_005).answer(first);
    world.at(200_013);
    assert_eq!(world.rebuilt(100).unwrap().0, 200_011);
}

/// What a driver does with a group's answers, with a model F(x) = x.
#[test]
fn ragged_and_completed_groups_are_decoded_by_the_code_itself() {
    let code = LinearCode::sum(3, 2).unwrap();
    let mut config = with_code(CodeRule::matrix(Box::new(code.clone())).unwrap());
    if let Policy::Coded { groups, .. } = &mut config.policy {
        groups.completion = Completion::Known;
    }
    let mut world = World::apart(Config { max_batch: 3, batch_delay: 2 * MS, ..config }, 3, 2);
    let x = |row: u64| (row * row) as f64 + 0.5;
    world.arrive(1);
    world.at(3);
    let known = world.call_of(1);
    world.answer(known);
    // Batches of three and of two, and the known query; nothing but parities comes of them.
    world.at(20);
    for row in 10..15 {
        world.arrive(row);
    }
    world.at(35);
    let parities = [world.parity(0), world.parity(1)];
    let Some(Task::Parity { group, .. }) = world.engine.call(parities[0]).map(|call| call.task) else {
        panic!()
    };
    let members: Vec<Vec<(usize, u64)>> =
        (0..3).map(|row| world.engine.members(group, row).collect()).collect();
    assert_eq!(members[0], [(0, 10), (1, 13), (2, 1)]);
    assert_eq!(members[2], [(0, 12), (2, 1)]);
    for parity in parities {
        world.answer(parity);
    }
    for row in 10..15 {
        let decode = world.rebuilt(row).unwrap().1;
        let members = &members[decode.row];
        let weights = [code.weights(0), code.weights(1)];
        let outputs =
            weights.map(|weights| members.iter().map(|&(slot, row)| weights[slot] * x(row)).sum::<f64>());
        // Absent slots are zeros at hand.
        let at_hand = [0, 1, 2, 3, 4].map(|worker| (decode.available | decode.absent) >> worker & 1 == 1);
        let decoding = code.decoding(&at_hand);
        let rebuilt = decoding.rebuilt.iter().find(|rebuilt| rebuilt.slot == decode.slot).unwrap();
        let terms = rebuilt.terms.iter().map(|&(worker, coefficient)| {
            let member = members.iter().find(|member| member.0 == worker);
            coefficient
                * worker.checked_sub(3).map_or(member.map_or(0.0, |member| x(member.1)), |j| outputs[j])
        });
        assert!((terms.sum::<f64>() - x(row)).abs() < 1e-9, "row {row}: {decode:?}");
    }
}

#[test]
fn queries_of_different_classes_share_no_batch_and_no_group() {
    let config = Config { max_batch: 2, batch_delay: 2 * MS, ..completing(2) };
    let mut world = World::apart(config, 4, 1);
    for (row, class) in [(1, 0), (2, 7), (3, 0), (4, 7), (5, 7)] {
        world.offer(Arrival { class, ..Arrival::new(row) }).unwrap();
    }
    world.at(3);
    let rows = |row| world.engine.rows(world.call_of(row)).collect::<Vec<_>>();
    assert_eq!([rows(1), rows(2), rows(5)], [vec![1, 3], vec![2, 4], vec![5]]);
    // The two batches of class 7 fill a group; that of class 0 is alone in its own.
    let members = |group| world.engine.members(group, 0).map(|(_, row)| row).collect::<Vec<_>>();
    let groups = |world: &World| {
        let of = |&(_, _, task): &(_, _, Task)| match task {
            Task::Parity { group, .. } => Some(group),
            _ => None,
        };
        world.calls.iter().filter_map(of).collect::<Vec<_>>()
    };
    assert_eq!(groups(&world).into_iter().map(members).collect::<Vec<_>>(), [[2, 5]]);
    // Known queries of another class complete no group.
    for row in [2, 5] {
        let call = world.call_of(row);
        world.answer(call);
    }
    let parity = world.parity(0);
    world.answer(parity);
    world.at(20);
    let last = *groups(&world).last().unwrap();
    assert_eq!(world.engine.members(last, 0).collect::<Vec<_>>(), [(0, 1)]);
}
