//! The task that drives an engine.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parm_engine::journal::{Entry, Journal};
use parm_engine::{CallId, Engine, GroupId, InstanceId, QueryId, Role, Time};
use slab::Slab;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender, WeakUnboundedSender};
use tokio::sync::{OnceCell, oneshot};
use tokio::task::AbortHandle;
use tokio::time::Instant;

use super::checks::Scale;
use super::classes::{Class, Classes};
use super::coding::{CodedInputs, RowEncoder};
use super::decoding::RowDecoder;
use super::learned::{self, Job, LearnedDecoder};
use super::rows::Rebuilt;
use super::spec::Spec;
use super::stats::{MemberView, Snapshot, State, Stats, Times};
use super::{Event, Member, RowAnswer, Values};
use parm_config::{Fallback, NonFinite};
use parm_oip::instance::{Headers, InstanceView};
use parm_oip::{Error, InferRequest, Tensor};

/// The most events that the runtime handles before it reads its clock and yields.
const AT_ONCE: usize = 64;

/// The parts of a runtime.
pub struct Options {
    /// The engine's configuration.
    pub engine: parm_engine::Config,
    /// The inputs and outputs of the model; none: requests are passed on whole.
    pub spec: Option<Arc<Spec>>,
    /// Its code, if it has one.
    pub coding: Option<Coding>,
    /// The model's name and version, for the log.
    pub label: String,
    /// The names of the models at instances.
    pub names: RoleNames,
    /// The version in requests to instances.
    pub version: String,
    /// What a query gets if there is no answer at all.
    pub fallback: Fallback,
    /// What happens to rows that are not finite.
    pub non_finite: NonFinite,
    /// The zero of the engine's time.
    pub origin: Instant,
    /// Takes the journal's entries, if there is one.
    pub journal: Option<JournalSender>,
}

/// Takes the entries of a journal.
pub type JournalSender = std::sync::mpsc::Sender<Entry>;

/// The names of the models at instances.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoleNames {
    /// The deployed model.
    pub deployed: String,
    /// The approximate model.
    pub approximate: String,
    /// The parity models, by index.
    pub parity: Vec<String>,
}

impl RoleNames {
    /// The name of the model of a role; empty if there is none.
    #[must_use]
    pub fn of_role(&self, role: Role) -> &str {
        match role {
            Role::Deployed => &self.deployed,
            Role::Approximate => &self.approximate,
            Role::Parity(index) => self.parity.get(index).map_or("", String::as_str),
        }
    }
}

/// The code of a runtime.
pub struct Coding {
    /// The inputs that are coded.
    pub inputs: CodedInputs,
    /// Makes coded queries.
    pub encoder: Arc<RowEncoder>,
    /// Rebuilds predictions.
    pub decoder: RowDecoder,
    /// The number of parity models.
    pub parities: usize,
    /// The number of queries of a group.
    pub k: usize,
    /// The version of the deployed model that the code was made for; none: any.
    pub made_for: Option<String>,
    /// For codes that interpolate: the largest norm of a coded row, as a multiple of the usual norm; none: no
    /// limit.
    pub max_scale: Option<f64>,
}

/// One query, until the engine releases it.
pub(super) struct Row {
    /// Its number, which is never reused.
    pub(super) number: u64,
    pub(super) request: u64,
    /// Its index in its request.
    pub(super) place: usize,
    pub(super) arrived: Time,
    pub(super) sent: bool,
    pub(super) input: Input,
    /// Its parameters, if it has some.
    pub(super) class: Option<Arc<Class>>,
    pub(super) prediction: Option<Values>,
    pub(super) approximate: Option<Values>,
    pub(super) rebuilt: Option<Rebuilt>,
    /// Its norm; 0 if norms are not needed.
    pub(super) norm: f64,
    /// The error of the last call for it that failed or was refused.
    pub(super) failure: Option<Error>,
}

pub(super) enum Input {
    Row(Vec<Bytes>),
    Whole(Box<InferRequest>),
}

/// A request that waits for answers.
pub(super) struct Open {
    pub(super) reply: oneshot::Sender<Result<Vec<RowAnswer>, Error>>,
    pub(super) arrived: Time,
    pub(super) answers: Vec<Option<RowAnswer>>,
    pub(super) left: usize,
    pub(super) queries: Vec<QueryId>,
    pub(super) headers: Headers,
}

/// A coding group: its members, and the outputs of its workers.
#[derive(Default)]
pub(super) struct Coded {
    /// For each row of its batches: the slots and their rows.
    pub(super) members: Vec<Vec<(usize, u64)>>,
    /// The parity queries of a learned encoder, by parity.
    pub(super) encoded: Arc<OnceCell<Vec<Vec<Tensor>>>>,
    /// The coded outputs by worker. The parities of a systematic code are the workers from k on.
    pub(super) outputs: HashMap<usize, Vec<Bytes>>,
}

pub(super) struct Instance {
    pub(super) member: Member,
    pub(super) view: MemberView,
}

impl Instance {
    fn view(&self) -> MemberView {
        MemberView { of: self.member.instance.view(), ..self.view.clone() }
    }
}

pub(super) struct Running {
    pub(super) instance: InstanceId,
    pub(super) since: Instant,
    /// None before it is spawned.
    pub(super) abort: Option<AbortHandle>,
}

/// A learned decoder, and the channel to its task.
pub(super) struct DecoderTask {
    pub(super) learned: Arc<LearnedDecoder>,
    pub(super) jobs: UnboundedSender<Job>,
}

pub(super) struct Driver {
    pub(super) engine: Engine,
    /// The longest deadline of a request.
    pub(super) longest: Time,
    pub(super) call_timeout: Duration,
    pub(super) options: Options,
    pub(super) events: WeakUnboundedSender<Event>,
    pub(super) rows: Slab<Row>,
    pub(super) last_row: u64,
    /// The learned decoder, if the code has one.
    pub(super) decoder: Option<DecoderTask>,
    pub(super) requests: HashMap<u64, Open>,
    pub(super) classes: Classes,
    pub(super) groups: HashMap<GroupId, Coded>,
    pub(super) calls: HashMap<CallId, Running>,
    pub(super) instances: HashMap<InstanceId, Instance>,
    pub(super) order: Vec<InstanceId>,
    pub(super) stats: Stats,
    pub(super) scale: Scale,
    /// The names of the outputs that are rebuilt.
    pub(super) rebuilt: Arc<[String]>,
    /// The number of consecutive answers of the version that the code was made for.
    pub(super) of_version: u32,
    pub(super) draining: Vec<oneshot::Sender<()>>,
    journal: Option<(Journal, JournalSender)>,
}

impl Driver {
    pub(super) fn new(
        mut options: Options,
        events: WeakUnboundedSender<Event>,
    ) -> Result<Self, parm_engine::ConfigError> {
        let config = std::mem::take(&mut options.engine);
        let coding = options.coding.iter().flat_map(|coding| coding.decoder.outputs());
        let outputs =
            options.spec.iter().flat_map(|spec| coding.clone().filter_map(|at| spec.outputs.get(at)));
        let rebuilt = outputs.map(|output| output.name.clone()).collect();
        let interpolates = options.coding.as_ref().filter(|coding| coding.decoder.interpolates());
        let scale = Scale::new(interpolates.and_then(|coding| coding.max_scale));
        let learned = options.coding.as_ref().and_then(|coding| coding.decoder.learned()).cloned();
        let decoder = learned.map(|learned| {
            let (jobs, inbox) = mpsc::unbounded_channel();
            tokio::spawn(learned::decode(Arc::clone(&learned), inbox, events.clone()));
            DecoderTask { learned, jobs }
        });
        let (longest, call_timeout) = (config.deadline, Duration::from_nanos(config.call_timeout));
        let journal = options.journal.take().map(|entries| (Journal::new(), entries));
        Ok(Self {
            engine: Engine::new(config)?,
            longest,
            call_timeout,
            options,
            events,
            rows: Slab::new(),
            last_row: 0,
            decoder,
            requests: HashMap::new(),
            classes: Classes::default(),
            groups: HashMap::new(),
            calls: HashMap::new(),
            instances: HashMap::new(),
            order: Vec::new(),
            stats: Stats::default(),
            scale,
            rebuilt,
            of_version: 0,
            draining: Vec::new(),
            journal,
        })
    }

    /// Writes to the journal, if there is one.
    pub(super) fn note(&mut self, of: impl FnOnce(&mut Journal, &Engine) -> Option<Entry>) {
        let Some((journal, entries)) = &mut self.journal else { return };
        let entry = of(journal, &self.engine);
        // Whoever writes them may have failed, and says so.
        let written = entry.map_or(Ok(()), |entry| entries.send(entry));
        if written.is_err() {
            self.journal = None;
        }
    }

    /// Runs until all senders of events are dropped.
    pub(super) async fn run(mut self, mut inbox: UnboundedReceiver<Event>) {
        // One timer, which is only moved to earlier times: moving a timer wakes a thread, and most timers
        // are obsolete when an answer arrives in time. If it fires too early, the tick does nothing.
        let mut timer = pin!(tokio::time::sleep(Duration::ZERO));
        let mut set = Time::MAX;
        loop {
            if let Some(at) = self.engine.wake().filter(|at| *at < set) {
                timer.as_mut().reset(self.options.origin + Duration::from_nanos(at));
                set = at;
            }
            let event = tokio::select! {
                biased;
                event = inbox.recv() => event.map(Some),
                () = &mut timer, if set != Time::MAX => {
                    set = Time::MAX;
                    Some(None)
                }
            };
            let Some(event) = event else { return };
            if let Some(event) = event {
                self.handle(event);
                for _ in 1..AT_ONCE {
                    let Ok(event) = inbox.try_recv() else { break };
                    self.handle(event);
                }
            }
            let now = self.now();
            self.engine.tick(now);
            self.perform();
            // The engine may hold answered queries to decode others; they need not be waited for.
            if !self.draining.is_empty() && self.requests.is_empty() {
                for drained in self.draining.drain(..) {
                    // The receiver may have stopped waiting.
                    let _ = drained.send(());
                }
            }
        }
    }

    pub(super) fn now(&self) -> Time {
        u64::try_from(self.options.origin.elapsed().as_nanos()).unwrap_or(Time::MAX)
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        self.stats.history.advance(Duration::from_nanos(now), self.engine.counters(), self.state());
        // Timers that are due come before the event.
        self.engine.tick(now);
        self.perform();
        match event {
            Event::Ask { id, ask, facts, reply } => self.ask(now, id, ask, &facts, reply),
            Event::GiveUp { id } => self.give_up(now, id),
            Event::Ended { call, result, encoding } => self.ended(now, call, result, encoding),
            Event::Decoded { purpose, rebuilt, took } => self.decoded(now, purpose, rebuilt, took),
            Event::Probed { instance, works } => self.engine.probed(now, instance, works),
            Event::Join { member, id } => self.join(now, member, id),
            Event::Leave { instance } => {
                self.engine.leave(now, instance);
                if let Some(held) = self.instances.get_mut(&instance) {
                    held.view.state = State::Leaving;
                }
                self.forget_idle();
                self.limit_batch(now);
            }
            Event::Snapshot(reply) => {
                // The receiver may have stopped waiting.
                let _ = reply.send(self.snapshot());
            }
            Event::ResumeCoding => self.engine.resume_coding(now),
            Event::Drain(reply) => {
                self.engine.flush(now);
                self.draining.push(reply);
            }
        }
        self.perform();
    }

    fn join(&mut self, now: Time, member: Member, reply: oneshot::Sender<InstanceId>) {
        let id = self.engine.join(now, member.roles, member.capacity);
        if let Some(cancels) = member.cancel_running {
            self.engine.cancels(now, id, cancels);
        }
        let view = MemberView {
            name: member.name.clone(),
            roles: member.roles,
            state: State::In,
            running: 0,
            answered: 0,
            failed: 0,
            refused: 0,
            ejections: 0,
            last_failure: None,
            of: InstanceView::default(),
            times: Times::default(),
        };
        self.instances.insert(id, Instance { member, view });
        self.order.push(id);
        self.limit_batch(now);
        if reply.send(id).is_err() {
            self.engine.leave(now, id);
        }
    }

    /// Limits batches to what every instance accepts.
    fn limit_batch(&mut self, now: Time) {
        let stays = |held: &&Instance| held.view.state != State::Leaving;
        let limits = self.instances.values().filter(stays).filter_map(|held| held.member.most_rows);
        self.engine.limit_batch(now, limits.min().unwrap_or(usize::MAX));
    }

    /// Removes instances that are leaving and have no calls.
    pub(super) fn forget_idle(&mut self) {
        self.instances.retain(|_, held| held.view.state != State::Leaving || held.view.running > 0);
        self.order.retain(|id| self.instances.contains_key(id));
    }

    /// What the policy `auto` gives to queries.
    fn state(&self) -> Option<parm_engine::State> {
        self.engine.state().map(|(state, _)| state)
    }

    fn snapshot(&self) -> Snapshot {
        let now = Duration::from_nanos(self.now());
        let parities = self.options.coding.as_ref().map_or(0, |coding| coding.parities);
        Snapshot {
            counters: *self.engine.counters(),
            held: self.engine.held(),
            waiting: self.engine.waiting(Role::Deployed),
            waiting_parity: (0..parities).map(|parity| self.engine.waiting(Role::Parity(parity))).collect(),
            auto: self.engine.state(),
            coding_off: self.engine.coding_off(),
            stats: self.stats.clone(),
            history: self.stats.history.slices(now, self.engine.counters(), self.state()),
            members: self.order.iter().filter_map(|id| Some(self.instances.get(id)?.view())).collect(),
        }
    }
}
