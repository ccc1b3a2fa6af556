//! The driver of one episode.

use std::collections::{HashMap, HashSet};

use parm_engine::{
    Arrival, CallId, Engine, GroupId, InstanceId, QueryId, RedundancyLevel, Role, Roles, Task, Time,
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::scenario::{Facts, Seen, config};

const MS: Time = 1_000_000;

#[allow(clippy::struct_excessive_bools)] // facts that are independent of each other
pub(crate) struct Row {
    pub(crate) query: QueryId,
    pub(crate) deadline: Time,
    pub(crate) allowed: bool,
    pub(crate) class: u64,
    pub(crate) prediction: Option<u64>,
    /// It is never coded.
    pub(crate) uncoded: bool,
    /// Instances refused calls that it was in.
    pub(crate) refused: u32,
    pub(crate) over: bool,
    pub(crate) released: bool,
}

pub(crate) struct Running {
    pub(crate) call: CallId,
    pub(crate) instance: InstanceId,
    pub(crate) task: Task,
    pub(crate) rows: Vec<u64>,
    /// What the instance will answer, by row.
    pub(crate) answers: Vec<u64>,
}

#[derive(Default)]
pub(crate) struct Group {
    /// By row and slot.
    pub(crate) members: Vec<Vec<Option<u64>>>,
    /// By worker and row.
    pub(crate) outputs: HashMap<usize, Vec<u64>>,
}

pub(crate) struct Instance {
    pub(crate) id: InstanceId,
    pub(crate) roles: Roles,
    pub(crate) capacity: usize,
    pub(crate) running: usize,
    pub(crate) out: bool,
    pub(crate) probing: bool,
    pub(crate) leaving: bool,
}

impl Instance {
    pub(crate) fn has(&self, role: Role) -> bool {
        match role {
            Role::Deployed => self.roles.deployed,
            Role::Approximate => self.roles.approximate,
            Role::Parity(parity) => self.roles.parity >> parity & 1 == 1,
        }
    }

    pub(crate) fn could_take(&self, role: Role) -> bool {
        self.has(role) && !self.out && !self.leaving && self.running < self.capacity
    }
}

pub(crate) struct Driver {
    pub(crate) engine: Engine,
    pub(crate) rng: ChaCha8Rng,
    pub(crate) now: Time,
    pub(crate) facts: Facts,
    pub(crate) version: u64,
    pub(crate) rows: Vec<Row>,
    pub(crate) running: Vec<Running>,
    pub(crate) past: Vec<CallId>,
    pub(crate) groups: HashMap<GroupId, Group>,
    pub(crate) instances: Vec<Instance>,
    pub(crate) gone: Vec<InstanceId>,
    /// Rows that were answered with what must not rebuild others.
    pub(crate) unfit: HashSet<u64>,
    /// Reconstructions to report.
    pub(crate) decoding: Vec<(QueryId, bool)>,
    /// Comparisons to report.
    pub(crate) compared: Vec<bool>,
    pub(crate) peak: usize,
}

impl Driver {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (config, facts) = config(&mut rng);
        let engine = Engine::new(config).expect("a configuration");
        let mut driver = Self {
            engine,
            rng,
            now: 0,
            facts,
            version: 1,
            rows: Vec::new(),
            running: Vec::new(),
            past: Vec::new(),
            groups: HashMap::new(),
            instances: Vec::new(),
            gone: Vec::new(),
            unfit: HashSet::new(),
            decoding: Vec::new(),
            compared: Vec::new(),
            peak: 0,
        };
        for _ in 0..driver.rng.random_range(0..10) {
            driver.join();
        }
        // Without instances with all roles it would seldom come to coding.
        while driver.facts.max_calls.is_some() && driver.instances.len() < 8 {
            driver.join();
        }
        driver
    }

    pub(crate) fn run(mut self, events: u64) -> Seen {
        for _ in 0..events {
            self.event();
            self.perform();
            self.check_bounds();
        }
        self.end();
        self.seen()
    }

    fn event(&mut self) {
        let late = self.rng.random_range(0..1000) < 3;
        match self.rng.random_range(0..1000) {
            0..300 if self.rng.random_bool(self.facts.arrivals) => self.arrive(),
            0..650 => self.answer(),
            650..665 => self.fail(),
            665..680 => self.refuse(),
            680..690 => self.report_of_the_past(),
            690..705 => self.cancel(),
            705..900 => self.pass_time(),
            900..970 => self.wake(late),
            970..974 => self.join(),
            974..978 => self.leave(),
            978..982 => self.lose(),
            982..985 => self.slow(),
            985..990 => self.probe(),
            990..994 => self.decoded(),
            // A version lasts longer than the policy `auto` needs to begin to code.
            994..996 if self.facts.max_calls.is_none() || self.rng.random_bool(0.02) => {
                self.version = if self.version == 1 { 2 } else { 1 };
                self.engine.version(self.now, self.version);
            }
            994..997 => self.engine.resume_coding(self.now),
            997 => self.engine.flush(self.now),
            998 => {
                let most = self.rng.random_range(1..=self.facts.max_batch);
                self.engine.limit_batch(self.now, most);
            }
            _ => {
                // A clock that goes back: nothing but a count.
                self.catch_up();
                let before = self.now.saturating_sub(self.rng.random_range(0..10) * MS);
                self.engine.tick(before);
            }
        }
        if let Some(agree) = self.compared.pop() {
            self.engine.compared(self.now, agree);
        }
    }

    /// Something that takes long to rebuild is there.
    fn decoded(&mut self) {
        if !self.decoding.is_empty() {
            let at = self.rng.random_range(0..self.decoding.len());
            let (query, usable) = self.decoding.swap_remove(at);
            self.engine.decoded(self.now, query, usable);
        }
    }

    fn arrive(&mut self) {
        let row = self.rows.len() as u64;
        let brings = self.rng.random_bool(0.3);
        let own = (self.now + self.rng.random_range(0..200) * MS).saturating_sub(5 * MS);
        let arrival = Arrival {
            row,
            deadline: brings.then_some(own),
            priority: self.rng.random_range(0..3),
            allow_reconstructed: self.rng.random_bool(0.8),
            coded: self.rng.random_bool(0.9),
            redundancy: [
                RedundancyLevel::None,
                RedundancyLevel::Normal,
                RedundancyLevel::Normal,
                RedundancyLevel::Critical,
            ][self.rng.random_range(0..4)],
            // One to a few in a row.
            request: row / self.facts.of_a_request,
            class: self.rng.random_range(0..5_u64).saturating_sub(3),
        };
        if let Ok(query) = self.engine.arrive(self.now, arrival) {
            self.rows.push(Row {
                query,
                // Of a query without one, the engine's; it is asserted below only for its own.
                deadline: if brings { own } else { Time::MAX },
                allowed: arrival.allow_reconstructed,
                class: arrival.class,
                prediction: None,
                uncoded: !arrival.coded,
                refused: 0,
                over: false,
                released: false,
            });
        }
    }

    fn pick(&mut self) -> Option<Running> {
        if self.running.is_empty() {
            return None;
        }
        // Mostly one of the oldest; the others are stragglers.
        let among = if self.rng.random_bool(0.7) { self.running.len().min(3) } else { self.running.len() };
        let at = self.rng.random_range(0..among);
        let running = self.running.remove(at);
        self.past.push(running.call);
        let instance = self.instances.iter_mut().find(|instance| instance.id == running.instance);
        instance.expect("calls run at instances").running -= 1;
        Some(running)
    }

    fn answer(&mut self) {
        self.catch_up();
        let Some(running) = self.pick() else { return };
        let call = running.call;
        let fit = self.rng.random_bool(0.95);
        match running.task {
            Task::Deployed | Task::Copy => {
                for (&row, &answer) in running.rows.iter().zip(&running.answers) {
                    let first = self.held(row).prediction.is_none();
                    self.held(row).prediction.get_or_insert(answer);
                    if first && !fit {
                        self.unfit.insert(row);
                    }
                }
            }
            Task::Approximate => {}
            Task::Parity { group, parity } => {
                let worker = self.facts.k + parity;
                self.groups.entry(group).or_default().outputs.insert(worker, running.answers);
            }
            Task::Coded { group, worker } => {
                self.groups.entry(group).or_default().outputs.insert(worker, running.answers);
            }
        }
        if fit {
            self.engine.answered(self.now, call);
        } else {
            self.engine.answered_unfit(self.now, call);
        }
        self.forget_those_who_left();
    }

    fn refuse(&mut self) {
        self.catch_up();
        let Some(running) = self.pick() else { return };
        for &row in &running.rows {
            self.rows[row as usize].refused += 1;
        }
        self.engine.refused(self.now, running.call);
        self.forget_those_who_left();
    }

    fn fail(&mut self) {
        if let Some(running) = self.pick() {
            self.engine.failed(self.now, running.call);
            self.forget_those_who_left();
        }
    }

    fn report_of_the_past(&mut self) {
        if self.past.is_empty() {
            return;
        }
        let call = self.past[self.rng.random_range(0..self.past.len())];
        if self.engine.call(call).is_some() {
            return;
        }
        let before = self.engine.counters().ignored;
        match self.rng.random_range(0..3) {
            0 => self.engine.answered(self.now, call),
            1 => self.engine.refused(self.now, call),
            _ => self.engine.failed(self.now, call),
        }
        assert_eq!(self.engine.counters().ignored, before + 1);
    }

    fn cancel(&mut self) {
        if self.rows.is_empty() {
            return;
        }
        let recent = self.rows.len().min(50);
        let at = self.rows.len() - 1 - self.rng.random_range(0..recent);
        self.catch_up();
        let query = self.rows[at].query;
        self.rows[at].over = true;
        self.engine.cancel(self.now, query);
    }

    /// Lets alarms that are due go off: what they bring about comes before the next event.
    fn catch_up(&mut self) {
        self.engine.tick(self.now);
        self.perform();
    }

    fn pass_time(&mut self) {
        // The policy `auto` changes its state after seconds.
        let second = self.facts.max_calls.is_some() && self.rng.random_bool(0.01);
        let most = if second {
            1000 * MS
        } else if self.rng.random_bool(0.1) {
            20 * MS
        } else {
            2 * MS
        };
        self.now += self.rng.random_range(0..most);
    }

    fn wake(&mut self, late: bool) {
        if let Some(at) = self.engine.wake() {
            let at = if late { at + self.rng.random_range(0..100) * MS } else { at };
            if late || at < self.now + 20 * MS {
                self.now = self.now.max(at);
                self.engine.tick(self.now);
            }
        }
    }

    fn join(&mut self) {
        if self.instances.len() >= 12 {
            return;
        }
        let pooled = self.rng.random_bool(0.3);
        let parity = self.rng.random_range(0..4);
        let roles = match self.rng.random_range(0..10) {
            _ if pooled => Roles::pooled(self.facts.parities),
            0..6 => Roles::DEPLOYED,
            6..9 => Roles::parity(parity),
            _ => Roles { deployed: true, approximate: true, parity: 0b101 },
        };
        let roles =
            if self.facts.approximate && self.rng.random_bool(0.3) { Roles::APPROXIMATE } else { roles };
        let capacity = self.rng.random_range(1..4);
        let id = self.engine.join(self.now, roles, capacity);
        self.instances.push(Instance {
            id,
            roles,
            capacity,
            running: 0,
            out: false,
            probing: false,
            leaving: false,
        });
    }

    /// The place of an instance, seldom one that is gone.
    fn some_instance(&mut self) -> Option<InstanceId> {
        let gone = self.rng.random_bool(0.1) && !self.gone.is_empty();
        if gone || self.instances.is_empty() {
            return self.gone.last().copied();
        }
        Some(self.instances[self.rng.random_range(0..self.instances.len())].id)
    }

    fn leave(&mut self) {
        self.catch_up();
        let Some(id) = self.some_instance() else { return };
        if let Some(instance) = self.instances.iter_mut().find(|instance| instance.id == id) {
            instance.leaving = true;
        }
        self.engine.leave(self.now, id);
        self.forget_those_who_left();
    }

    fn lose(&mut self) {
        self.catch_up();
        let Some(id) = self.some_instance() else { return };
        let dead = |running: &mut Running| running.instance == id;
        self.past.extend(self.running.extract_if(.., dead).map(|running| running.call));
        self.instances.retain(|instance| instance.id != id);
        self.gone.push(id);
        self.engine.lost(self.now, id);
    }

    fn slow(&mut self) {
        if let Some(id) = self.some_instance() {
            self.engine.slow(self.now, id);
        }
    }

    fn probe(&mut self) {
        let Some(id) = self.some_instance() else { return };
        let works = self.rng.random_bool(0.7);
        self.engine.probed(self.now, id, works);
    }

    pub(crate) fn forget_those_who_left(&mut self) {
        let left = |instance: &mut Instance| instance.leaving && instance.running == 0;
        self.gone.extend(self.instances.extract_if(.., left).map(|instance| instance.id));
    }

    pub(crate) fn held(&mut self, row: u64) -> &mut Row {
        let held = &mut self.rows[row as usize];
        assert!(!held.released, "row {row} is used after its release");
        held
    }

    /// All instances die, at once or after they answered all; time passes; nothing is left.
    fn end(&mut self) {
        if self.rng.random_bool(0.5) {
            while !self.running.is_empty() {
                self.answer();
                self.perform();
            }
        }
        self.catch_up();
        while let Some(instance) = self.instances.last().map(|instance| instance.id) {
            let dead = |running: &mut Running| running.instance == instance;
            self.running.extract_if(.., dead).for_each(drop);
            self.instances.pop();
            self.engine.lost(self.now, instance);
            self.perform();
        }
        let mut wakes = 0;
        while let Some(at) = self.engine.wake() {
            // Whatever is being rebuilt comes to an end.
            self.decoded();
            self.perform();
            self.now = self.now.max(at);
            self.engine.tick(self.now);
            self.perform();
            wakes += 1;
            assert!(wakes < 100_000, "alarms without end");
        }
        self.engine.flush(self.now);
        self.perform();
        while !self.decoding.is_empty() {
            self.decoded();
            self.perform();
        }
        for (number, row) in self.rows.iter().enumerate() {
            assert!(row.over, "row {number} was never answered");
            assert!(row.released, "row {number} was never released");
        }
        let held = self.engine.held();
        let all = [held.queries, held.batches, held.groups, held.works, held.instances];
        assert_eq!(all, [0; 5], "something leaks: {held:?}");
        assert!(self.groups.is_empty(), "{} groups were never dropped", self.groups.len());
    }

    fn seen(&self) -> Seen {
        let c = self.engine.counters();
        let answered = c.predictions
            + c.reconstructed
            + c.approximate
            + c.default_deadline
            + c.default_failed
            + c.refused;
        assert_eq!(c.queries, answered + c.cancelled, "{c:?}");
        assert_eq!(c.queries, self.rows.len() as u64);
        if let Some(max_calls) = self.facts.max_calls {
            let most = max_calls * c.batches as f64 + (c.retries + 100) as f64;
            assert!(c.calls as f64 <= most, "{} calls, at most {most} are permitted: {c:?}", c.calls);
        }
        Seen::of(c)
    }
}
