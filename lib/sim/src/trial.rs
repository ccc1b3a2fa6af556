//! One trial: one cluster, one seed, one rate.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::io;
use std::time::Duration;

use parm_config::{Fallback, Model};
use parm_engine::journal::{Entry, Journal};
use parm_engine::{Action, Arrival, CallId, Counters, Engine, InstanceId, Outcome, Reason, Task, Time};
use parm_workload::faults::{Fate, Service};
use parm_workload::{Arrivals, Due, Record, Schedule, Span, Summary};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Cluster, ClusterError};

/// The results of one trial.
#[derive(Clone, Debug)]
pub struct Trial {
    /// The summary of `parm-load`, without the warm-up.
    pub summary: Summary,
    /// The counters of the engine of each server, with the warm-up.
    pub counters: Vec<Counters>,
    /// The share of time in which instances worked.
    pub busy: f64,
}

impl Trial {
    /// The sum of a counter over all servers.
    #[must_use]
    pub fn count(&self, of: fn(&Counters) -> u64) -> u64 {
        self.counters.iter().map(of).sum()
    }
}

/// How much is simulated.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// The time before the queries that count.
    pub warm_up: Duration,
    /// The queries that count.
    pub queries: u64,
    /// The servers that share the instances, each with an engine of its own; at least one.
    pub servers: usize,
}

impl From<(Duration, u64)> for Size {
    /// One server.
    fn from((warm_up, queries): (Duration, u64)) -> Self {
        Self { warm_up, queries, servers: 1 }
    }
}

impl AsRef<Summary> for Trial {
    fn as_ref(&self) -> &Summary {
        &self.summary
    }
}

/// A trial that failed.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    /// The cluster cannot be simulated.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
    /// A record could not be written.
    #[error("cannot write records: {0}")]
    Record(#[from] io::Error),
}

/// The receiver of the journal's entries.
pub type Journaled<'a> = &'a mut dyn FnMut(&Entry) -> io::Result<()>;

/// A future event, such as the end of a call. Events of the same time keep the order in which they were
/// scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Answered(CallId),
    Failed(CallId),
    Probed(InstanceId, bool),
}

/// The calls that instances have of several servers, which do not know of each other. A call that finds as many running
/// as the instance runs at once waits there.
#[derive(Debug, Default)]
struct Shared {
    /// The instance of each running call, by its server.
    running: HashMap<(usize, CallId), usize>,
    /// The number of running calls of each instance, and those that wait.
    instances: Vec<(usize, VecDeque<(usize, CallId)>)>,
}

/// A query without an answer.
#[derive(Clone, Copy, Debug)]
struct Open {
    at: Time,
    number: Option<u64>,
    /// Its overhead in addition to its calls.
    beside: Time,
}

struct Simulation<'a, 'j, F> {
    cluster: Cluster,
    now: Time,
    rate: f64,
    warm_up: Time,
    events: BinaryHeap<Reverse<(Time, u64, usize, Event)>>,
    schedulen: u64,
    /// All queries from the oldest one without an answer on.
    open: VecDeque<Option<Open>>,
    /// The row of the first of these.
    first: u64,
    unanswered: usize,
    /// None for a single server, whose engine knows all calls.
    shared: Option<Shared>,
    /// The random numbers of the servers' own times, and of which server gets a query.
    random: ChaCha8Rng,
    /// The sum of the times of all calls, in ns.
    worked: f64,
    summary: Summary,
    each: &'a mut F,
    journal: Option<(Journal, Journaled<'j>)>,
}

/// Simulates a cluster under load: the warm-up, then the queries that count, whose records are passed to `each`
/// when they end. Each query goes to a random server. The journal includes the warm-up: its times and queries count
/// from the start of the warm-up, its instances in the order of the file. With several servers it numbers the calls of
/// each from 0.
///
/// # Errors
/// A model that cannot be simulated, or an error of `each` or `journal`.
pub fn run(
    model: &Model,
    arrivals: &Arrivals,
    rate: f64,
    seed: u64,
    size: impl Into<Size>,
    each: &mut impl FnMut(&Record) -> io::Result<()>,
    journal: Option<Journaled<'_>>,
) -> Result<Trial, TrialError> {
    let Size { warm_up, queries, servers } = size.into();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Stream 0 is that of arrivals; instances use streams from 1 up, shared faults from the largest down.
    random.set_stream(1 << 63);
    let cluster = Cluster::new(model, seed, servers)?;
    let shared = (servers > 1).then(|| Shared {
        running: HashMap::new(),
        instances: vec![(0, VecDeque::new()); cluster.members.len()],
    });
    let simulation = Simulation {
        cluster,
        now: 0,
        rate,
        warm_up: u64::try_from(warm_up.as_nanos()).unwrap_or(u64::MAX),
        events: BinaryHeap::new(),
        schedulen: 0,
        open: VecDeque::new(),
        first: 0,
        unanswered: 0,
        shared,
        random,
        worked: 0.0,
        summary: Summary::new(rate, 1),
        each,
        journal: journal.map(|entries| (Journal::new(), entries)),
    };
    simulation.run(Schedule::new(arrivals.clone(), rate, seed, warm_up, Span::Requests(queries)))
}

impl<F: FnMut(&Record) -> io::Result<()>> Simulation<'_, '_, F> {
    fn run(mut self, mut arrivals: Schedule) -> Result<Trial, TrialError> {
        let mut due = arrivals.next();
        while due.is_some() || self.unanswered > 0 {
            let arrival = due.map_or(Time::MAX, |due| ns(due.at));
            let event = self.events.peek().map_or(Time::MAX, |event| event.0.0);
            let timers = self.cluster.engines.iter_mut().map(|engine| engine.wake().unwrap_or(Time::MAX));
            let (timer, waking) = timers.zip(0..).min().unwrap_or((Time::MAX, 0));
            // As in the server, an event at the time of a timer comes before it.
            let server = if timer < arrival.min(event) {
                self.now = timer;
                self.cluster.engines[waking].tick(timer);
                waking
            } else if event <= arrival {
                let Some(Reverse((at, _, server, event))) = self.events.pop() else { break };
                self.now = at;
                match event {
                    Event::Answered(call) => {
                        self.note(server, |journal, _| journal.answered(at, call))?;
                        self.cluster.engines[server].answered(at, call);
                        self.over(server, call);
                    }
                    Event::Failed(call) => {
                        self.note(server, |journal, _| journal.failed(at, call))?;
                        self.cluster.engines[server].failed(at, call);
                        self.over(server, call);
                    }
                    Event::Probed(instance, works) => {
                        self.cluster.engines[server].probed(at, instance, works);
                    }
                }
                server
            } else if let Some(query) = due {
                self.now = arrival;
                let servers = self.cluster.engines.len();
                let server = if servers > 1 { self.random.random_range(0..servers) } else { 0 };
                self.arrive(server, query)?;
                due = arrivals.next();
                server
            } else {
                break;
            };
            self.perform(server)?;
        }
        let capacity: usize = self.cluster.members.iter().map(|member| member.capacity).sum();
        let busy = self.worked / (capacity as f64 * self.now.max(1) as f64);
        let counters = self.cluster.engines.iter().map(|engine| *engine.counters()).collect();
        Ok(Trial { summary: self.summary, counters, busy })
    }

    fn arrive(&mut self, server: usize, due: Due) -> io::Result<()> {
        let beside = self.time(|overhead| &overhead.query);
        let open = Open { at: self.now, number: due.number, beside };
        let row = self.first + self.open.len() as u64;
        if self.cluster.engines[server].arrive(self.now, Arrival::new(row)).is_err() {
            self.open.push_back(None);
            return self.ended(open, parm_workload::Outcome::Failed, |record| record.status = Some(503));
        }
        self.open.push_back(Some(open));
        self.unanswered += 1;
        let now = self.now;
        self.note(server, |journal, _| Some(journal.arrived(now, row, row)))
    }

    fn perform(&mut self, server: usize) -> io::Result<()> {
        while let Some(action) = self.cluster.engines[server].next_action() {
            let now = self.now;
            self.note(server, |journal, engine| journal.action(now, engine, &action))?;
            let engine = &mut self.cluster.engines[server];
            match action {
                Action::Dispatch { call, instance } => self.dispatch(server, call, instance),
                Action::Cancel { call, .. } => {
                    // A call that the engine does not know any more has timed out.
                    if engine.call(call).is_some() {
                        self.note(server, |journal, _| {
                            journal.cancelled(call);
                            None
                        })?;
                        self.cluster.engines[server].cancelled(self.now, call);
                    }
                    self.over(server, call);
                }
                Action::Answer { row, outcome, .. } => self.answer(row, outcome)?,
                Action::Rebuild { query, .. } => engine.decoded(self.now, query, true),
                // There are no values to compare; reconstructions are assumed to agree.
                Action::Compare { .. } => engine.compared(self.now, true),
                Action::Probe { instance } => {
                    let (number, now) = (instance.index(), self.now);
                    let around = self.cluster.faults.around(now, number);
                    let member = self.cluster.members.get_mut(number);
                    let works = member.is_some_and(|member| member.behavior.is_up(now, around));
                    self.schedule(0, server, Event::Probed(instance, works));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn schedule(&mut self, wait: Time, server: usize, event: Event) {
        self.schedulen += 1;
        self.events.push(Reverse((self.now.saturating_add(wait), self.schedulen, server, event)));
    }

    fn dispatch(&mut self, server: usize, call: CallId, instance: InstanceId) {
        // Instances are numbered in the order of joining, and none leaves.
        let number = instance.index();
        if let Some(shared) = &mut self.shared {
            let capacity = self.cluster.members.get(number).map_or(0, |member| member.capacity);
            let Some((running, waiting)) = shared.instances.get_mut(number) else { return };
            if *running >= capacity {
                waiting.push_back((server, call));
                return;
            }
            *running += 1;
            shared.running.insert((server, call), number);
        }
        self.begin(server, call, number);
    }

    /// Begins a call on an instance that has room.
    fn begin(&mut self, server: usize, call: CallId, number: usize) {
        let Some(of) = self.cluster.engines[server].call(call) else { return };
        let coded = matches!(of.task, Task::Parity { .. } | Task::Coded { .. });
        let encode = if coded { self.time(|overhead| &overhead.encode) * of.rows as u64 } else { 0 };
        let overhead = encode + self.time(|overhead| &overhead.call);
        let around = self.cluster.faults.around(self.now, number);
        let Some(member) = self.cluster.members.get_mut(number) else { return };
        match member.behavior.call(self.now, of.rows, around) {
            Fate::Answer(time) => {
                self.worked += (overhead + time) as f64;
                self.schedule(overhead + time, server, Event::Answered(call));
            }
            Fate::Fail(time) => {
                self.worked += (overhead + time) as f64;
                self.schedule(overhead + time, server, Event::Failed(call));
            }
            // The engine's timeout ends it.
            Fate::Hang => {}
        }
    }

    /// A call is over, and the next one that waits at its instance begins.
    fn over(&mut self, server: usize, call: CallId) {
        let Some(shared) = &mut self.shared else { return };
        // One that did not begin is found out when its turn comes.
        let Some(number) = shared.running.remove(&(server, call)) else { return };
        let Some((running, waiting)) = shared.instances.get_mut(number) else { return };
        let engines = &self.cluster.engines;
        let next = std::iter::from_fn(|| waiting.pop_front())
            .find(|&(server, call)| engines.get(server).is_some_and(|engine| engine.call(call).is_some()));
        match next {
            Some((server, call)) => {
                shared.running.insert((server, call), number);
                self.begin(server, call, number);
            }
            None => *running -= 1,
        }
    }

    fn answer(&mut self, row: u64, outcome: Outcome) -> io::Result<()> {
        let place = row.checked_sub(self.first).and_then(|place| self.open.get_mut(place as usize));
        let Some(mut open) = place.and_then(Option::take) else { return Ok(()) };
        self.unanswered -= 1;
        while let Some(None) = self.open.front() {
            self.open.pop_front();
            self.first += 1;
        }
        match outcome {
            Outcome::Prediction { .. } => self.ended(open, parm_workload::Outcome::Answered, |_| {}),
            Outcome::Reconstructed(_) => {
                open.beside += self.time(|overhead| &overhead.decode);
                self.ended(open, parm_workload::Outcome::Answered, |record| record.reconstructed = 1)
            }
            Outcome::Approximate { .. } => {
                self.ended(open, parm_workload::Outcome::Answered, |record| record.approximate = 1)
            }
            Outcome::Default(_) if self.cluster.fallback == Fallback::Zeros => {
                self.ended(open, parm_workload::Outcome::Answered, |record| record.default = 1)
            }
            Outcome::Default(_) | Outcome::Refused => {
                let status = if outcome == Outcome::Default(Reason::Deadline) { 504 } else { 503 };
                self.ended(open, parm_workload::Outcome::Failed, |record| record.status = Some(status))
            }
        }
    }

    fn ended(
        &mut self,
        open: Open,
        outcome: parm_workload::Outcome,
        note: impl FnOnce(&mut Record),
    ) -> io::Result<()> {
        let Some(query) = open.number else { return Ok(()) };
        // Only queries after the warm-up are recorded.
        let intended_ns = open.at - self.warm_up;
        let mut record = Record::new(self.rate, query, intended_ns, outcome);
        record.sent_ns = Some(intended_ns);
        record.ended_ns = self.now - self.warm_up + open.beside;
        note(&mut record);
        self.summary.add(&record);
        (self.each)(&record)
    }

    /// Writes to the journal, if there is one.
    fn note(
        &mut self,
        server: usize,
        of: impl FnOnce(&mut Journal, &Engine) -> Option<Entry>,
    ) -> io::Result<()> {
        let Some((journal, entries)) = &mut self.journal else { return Ok(()) };
        of(journal, &self.cluster.engines[server]).map_or(Ok(()), |entry| entries(&entry))
    }

    /// One of the server's own times, in ns.
    fn time(&mut self, of: impl FnOnce(&parm_config::Overhead) -> &Service) -> Time {
        (of(&self.cluster.overhead).sample(&mut self.random) * 1e6) as Time
    }
}

fn ns(time: Duration) -> Time {
    u64::try_from(time.as_nanos()).unwrap_or(Time::MAX)
}
