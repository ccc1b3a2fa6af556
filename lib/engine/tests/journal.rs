//! The journal of a small cluster: testdata/plots/journal.jsonl is what it writes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use parm_engine::journal::{Entry, Event, Given, Journal, Work};
use parm_engine::{
    Action, Arrival, CallId, CodeRule, Completion, Config, Delay, Engine, Groups, InstanceId, Policy, Roles,
    Time, When,
};

const MS: Time = 1_000_000;

/// A driver: events in the order of their times, and of equal ones in that in which they were foreseen.
struct World {
    engine: Engine,
    journal: Journal,
    entries: Vec<Entry>,
    ends: BTreeSet<(Time, u64, CallId, bool)>,
    calls: u64,
    /// What a call on an instance takes, and whether it fails.
    service: fn(Time, InstanceId, u64) -> (Time, bool),
}

impl World {
    fn new(config: Config, roles: &[Roles], service: fn(Time, InstanceId, u64) -> (Time, bool)) -> Self {
        let mut engine = Engine::new(config).unwrap();
        for &roles in roles {
            engine.join(0, roles, 1);
        }
        Self {
            engine,
            journal: Journal::new(),
            entries: Vec::new(),
            ends: BTreeSet::new(),
            calls: 0,
            service,
        }
    }

    fn run(mut self, arrivals: &[Time]) -> Vec<Entry> {
        let mut arrivals = (0..).zip(arrivals.iter().copied()).peekable();
        loop {
            let arrival = arrivals.peek().map_or(Time::MAX, |&(_, at)| at);
            let end = self.ends.first().map_or(Time::MAX, |end| end.0);
            let alarm = self.engine.wake().unwrap_or(Time::MAX);
            let now = arrival.min(end).min(alarm);
            if now == Time::MAX {
                return self.entries;
            }
            if alarm < arrival.min(end) {
                self.engine.tick(now);
            } else if end <= arrival {
                let (_, _, call, works) = self.ends.pop_first().unwrap();
                let entry =
                    if works { self.journal.answered(now, call) } else { self.journal.failed(now, call) };
                self.entries.extend(entry);
                if works { self.engine.answered(now, call) } else { self.engine.failed(now, call) }
            } else if let Some((row, _)) = arrivals.next() {
                self.engine.arrive(now, Arrival::new(row)).unwrap();
                self.entries.push(self.journal.arrived(now, row, row));
            }
            while let Some(action) = self.engine.next_action() {
                self.entries.extend(self.journal.action(now, &self.engine, &action));
                match action {
                    Action::Dispatch { call, instance } => {
                        let (time, works) = (self.service)(now, instance, self.calls);
                        self.ends.insert((now + time, self.calls, call, works));
                        self.calls += 1;
                    }
                    Action::Cancel { call, .. } if self.engine.call(call).is_some() => {
                        self.ends.retain(|end| end.2 != call);
                        self.journal.cancelled(call);
                        self.engine.cancelled(now, call);
                    }
                    Action::Rebuild { query, .. } => self.engine.decoded(now, query, true),
                    _ => {}
                }
            }
        }
    }
}

fn coded(code: CodeRule) -> Config {
    let groups =
        Groups { code, version: 0, group_delay: 20 * MS, completion: Completion::Known, agreement: None };
    let policy = Policy::Coded { groups, hedge: None };
    Config { policy, when: When::Grace(Delay::Fixed(36 * MS)), ..Config::default() }
}

/// Four instances of the deployed model and two of the parity model; the third is slow for a while, and
/// one call fails.
fn small() -> Vec<Entry> {
    let roles = [[Roles::DEPLOYED; 4].as_slice(), &[Roles::parity(0); 2]].concat();
    let service = |now: Time, instance: InstanceId, call: u64| {
        let slow = instance.index() == 2 && (60 * MS..110 * MS).contains(&now);
        let time = (26 + call * 7 % 9) * MS;
        match (slow, call) {
            (true, _) => (time * 4, true),
            (_, 31) => (12 * MS, false),
            _ => (time, true),
        }
    };
    let arrivals: Vec<Time> = (0..28).map(|query| (query * 10 + query * 5 % 7) * MS).collect();
    World::new(coded(CodeRule::parity(2, 1).unwrap()), &roles, service).run(&arrivals)
}

fn text(entries: &[Entry]) -> String {
    entries.iter().map(|entry| serde_json::to_string(entry).unwrap() + "\n").collect()
}

#[test]
fn the_journal_of_a_small_cluster_is_the_committed_one() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata/plots/journal.jsonl");
    let text = text(&small());
    if std::env::var_os("PARM_WRITE_JOURNAL").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(text, std::fs::read_to_string(&path).unwrap());
    let read: Vec<Entry> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(read, small());
}

#[test]
fn each_query_arrives_and_is_answered_once_and_each_call_begins_and_ends_once() {
    let (mut queries, mut calls) = (BTreeMap::new(), BTreeMap::new());
    let entries = small();
    assert!(entries.windows(2).all(|pair| pair[0].t_ns <= pair[1].t_ns));
    for entry in &entries {
        match &entry.event {
            Event::Arrive { query } => assert_eq!(queries.insert(*query, 0), None),
            Event::Answer { query, .. } => *queries.get_mut(query).unwrap() += 1,
            Event::Dispatch { call, .. } => assert_eq!(calls.insert(*call, 0), None),
            Event::Answered { call } | Event::Failed { call } => *calls.get_mut(call).unwrap() += 1,
            Event::Cancelled { .. } | Event::State { .. } => {}
        }
    }
    assert_eq!((queries.len(), queries.values().all(|&count| count == 1)), (28, true));
    assert!(calls.len() > 28 && calls.values().all(|&count| count == 1), "{calls:?}");
}

#[test]
fn a_reconstruction_says_what_it_is_made_of() {
    let entries = small();
    let groups: BTreeMap<u64, Vec<Vec<u64>>> = entries
        .iter()
        .filter_map(|entry| match &entry.event {
            Event::Dispatch { work: Work::Parity { group, slots, .. }, .. } => Some((*group, slots.clone())),
            _ => None,
        })
        .collect();
    let mut rebuilt = 0;
    for entry in &entries {
        if let Event::Answer { query, given: Given::Reconstructed { group, queries, parities, workers } } =
            &entry.event
        {
            let members: Vec<u64> = groups[group].iter().flatten().copied().collect();
            let others: Vec<u64> = members.iter().copied().filter(|member| member != query).collect();
            assert!(members.contains(query) && *queries == others, "{entry:?}");
            assert_eq!((parities.as_slice(), workers.len()), (&[0][..], 0));
            rebuilt += 1;
        }
    }
    assert!(rebuilt > 0);
}

#[test]
fn a_code_on_the_deployed_model_has_workers() {
    let service = |_: Time, instance: InstanceId, _: u64| {
        if instance.index() == 1 { (400 * MS, true) } else { (10 * MS, true) }
    };
    let config = coded(CodeRule::coded(2, 3, 2).unwrap());
    let entries = World::new(config, &[Roles::DEPLOYED; 3], service).run(&[0, 0]);
    let workers: Vec<&Event> = entries
        .iter()
        .map(|entry| &entry.event)
        .filter(|event| matches!(event, Event::Dispatch { work: Work::Coded { group: 0, .. }, .. }))
        .collect();
    assert_eq!(workers.len(), 3);
    let given = Given::Reconstructed { group: 0, queries: vec![], parities: vec![], workers: vec![0, 2] };
    for query in 0..2 {
        assert!(
            entries.iter().any(|entry| entry.event == Event::Answer { query, given: given.clone() }),
            "{entries:?}"
        );
    }
}

#[test]
fn calls_that_are_given_up_and_queries_without_an_answer_are_told() {
    let service = |_: Time, _: InstanceId, _: u64| (5000 * MS, true);
    let config = Config { deadline: 50 * MS, call_timeout: 30 * MS, max_attempts: 9, ..Config::default() };
    let entries = World::new(config, &[Roles::DEPLOYED], service).run(&[0]);
    let expected = [
        r#"{"t_ns":0,"event":"arrive","query":0}"#,
        r#"{"t_ns":0,"event":"dispatch","call":0,"instance":0,"task":"deployed","queries":[0]}"#,
        r#"{"t_ns":30000000,"event":"cancelled","call":0}"#,
        r#"{"t_ns":30000000,"event":"dispatch","call":1,"instance":0,"task":"deployed","queries":[0]}"#,
        r#"{"t_ns":50000000,"event":"answer","query":0,"outcome":"deadline"}"#,
        r#"{"t_ns":60000000,"event":"cancelled","call":1}"#,
    ];
    assert_eq!(text(&entries).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn copies_of_batches_are_cancelled_when_one_has_answered() {
    let service = |_: Time, instance: InstanceId, _: u64| ((10 + instance.index() as Time * 10) * MS, true);
    let config = Config {
        policy: Policy::Replicate(2),
        max_batch: 2,
        batch_delay: 5 * MS,
        cancel_running: true,
        ..Config::default()
    };
    let text = text(&World::new(config, &[Roles::DEPLOYED; 2], service).run(&[0, 0]));
    assert!(text.contains(r#""task":"deployed","queries":[0,1]}"#), "{text}");
    assert!(text.contains(r#""task":"copy","queries":[0,1]}"#), "{text}");
    assert!(text.contains(r#"{"t_ns":10000000,"event":"cancelled","call":1}"#), "{text}");
    assert!(!text.contains("failed"), "{text}");
    let config = Config { policy: Policy::Approximate, when: When::First, ..Config::default() };
    let service = |_: Time, instance: InstanceId, _: u64| ((90 - instance.index() as Time * 80) * MS, true);
    let text = self::text(&World::new(config, &[Roles::DEPLOYED, Roles::APPROXIMATE], service).run(&[0]));
    assert!(text.contains(r#""task":"approximate","queries":[0]}"#), "{text}");
    assert!(
        text.contains(r#"{"t_ns":10000000,"event":"answer","query":0,"outcome":"approximate"}"#),
        "{text}"
    );
}

#[test]
fn what_failed_everywhere_is_told() {
    let service = |_: Time, _: InstanceId, _: u64| (10 * MS, false);
    let config = Config { max_attempts: 1, ..Config::default() };
    let text = text(&World::new(config, &[Roles::DEPLOYED], service).run(&[0]));
    assert!(
        text.ends_with("{\"t_ns\":10000000,\"event\":\"answer\",\"query\":0,\"outcome\":\"failed\"}\n"),
        "{text}"
    );
}
