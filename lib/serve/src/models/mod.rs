//! The models of a server: loads, reloads and unloads them.

mod sequences;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::runtime::membership::{
    self, Candidates, Deployed, Embed, Joined, Joining, LastReason, LoadError, Membership, Recipe,
    SharedReason,
};
use crate::runtime::{Coding, JournalSender, Options, Runtime, Spec, Uncoded, coders};
use parm_config::{Limits, Model, code_of, engine_config};
use parm_engine::Policy;
use parm_oip::client;
use parm_oip::instance::Instance;
use parm_oip::{Error, ModelMetadata, Status, TensorMetadata};
use sequences::Sequences;

pub use sequences::SequenceStep;

/// The time between two requests for a model's metadata.
const ASK_AGAIN: Duration = Duration::from_millis(200);

/// The time before the task of a model is restarted after a panic, so that repeated panics use little CPU
/// time.
const START_AGAIN: Duration = Duration::from_millis(500);

/// The time within which a changed model must become ready; otherwise the old one stays.
const TAKE_OVER: Duration = Duration::from_mins(1);

/// All models of a server.
pub struct Models {
    embed: Arc<dyn Embed>,
    limits: Limits,
    table: Arc<RwLock<Table>>,
    journal: SharedJournal,
}

/// The journal, until a model has taken it.
type SharedJournal = Arc<Mutex<Option<JournalSender>>>;

/// A model's name and version.
type Key = (String, String);

fn key_of(config: &Model) -> Key {
    (config.name.clone(), config.version.clone())
}

#[derive(Default)]
struct Table {
    by_name: BTreeMap<String, BTreeMap<String, Arc<Served>>>,
    /// Changed models that are not ready yet.
    pending: BTreeMap<Key, Arc<Served>>,
}

impl Table {
    fn insert(&mut self, served: Arc<Served>) {
        let versions = self.by_name.entry(served.config.name.clone()).or_default();
        versions.insert(served.config.version.clone(), served);
    }
}

/// One version of a model.
pub struct Served {
    /// Its configuration.
    pub config: Model,
    state: watch::Sender<State>,
    /// Its counters of requests that never reached a runtime.
    pub counts: Counts,
    /// The time at which it was configured.
    pub since: Instant,
    /// The task that loads it, which ends when the model is dropped.
    loading: Mutex<JoinSet<()>>,
    /// Why it is not loaded yet, if that is known.
    reason: Arc<Mutex<LastReason>>,
}

/// The state of a model.
#[derive(Clone)]
pub enum State {
    /// It is not loaded.
    Unloaded,
    /// It is being loaded.
    Loading,
    /// It is loaded.
    Loaded(Arc<Loaded>),
    /// It cannot be loaded.
    Failed(String),
}

/// A model that is loaded.
pub struct Loaded {
    /// Its runtime.
    pub runtime: Runtime,
    /// Its inputs and outputs, or the reason why requests are passed on whole.
    pub spec: Result<Arc<Spec>, Uncoded>,
    /// Its metadata for clients.
    pub metadata: ModelMetadata,
    /// The indices of the outputs that can be rebuilt.
    pub rebuilt: Vec<usize>,
    /// The deployed model's name at instances.
    pub deployed_name: String,
    deployed: watch::Receiver<Deployed>,
    sequences: Mutex<Sequences>,
    /// Why instances have not joined, or do not answer.
    reason: SharedReason,
    _membership: Membership,
}

/// An entry of the index of models.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Indexed {
    /// The model's name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `READY`, `LOADING` or `UNAVAILABLE`.
    pub state: &'static str,
    /// Why it is not ready.
    pub reason: String,
}

/// Counters of requests that never reached a runtime, and of panics.
#[derive(Debug, Default)]
pub struct Counts {
    /// Invalid requests.
    pub invalid: AtomicU64,
    /// Requests to a model that was not ready.
    pub not_ready: AtomicU64,
    /// Panics of its task.
    pub panics: AtomicU64,
    /// Requests that were passed on whole, by reason.
    pub uncoded: [AtomicU64; Uncoded::ALL.len()],
}

impl Counts {
    /// Counts a request that is passed on whole.
    pub fn passed_on(&self, reason: Uncoded) {
        for (count, _) in self.uncoded.iter().zip(Uncoded::ALL).filter(|(_, other)| *other == reason) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Models {
    /// A server without models; [`configure`](Self::configure) adds them.
    #[must_use]
    pub fn new(limits: Limits, embed: Arc<dyn Embed>) -> Self {
        Self { embed, limits, table: Arc::default(), journal: Arc::default() }
    }

    /// Keeps the journal of the first model that is loaded, until it is unloaded or changed.
    #[must_use]
    pub fn with_journal(self, journal: Option<JournalSender>) -> Self {
        Self { journal: Arc::new(Mutex::new(journal)), ..self }
    }

    /// Applies a configuration. Models that it does not change keep running. A changed model is loaded beside
    /// the old one, and replaces it as soon as it is ready; if it does not become ready, the old one stays. A
    /// model that the configuration no longer has finishes its queries.
    pub fn configure(&self, configured: Vec<Model>) {
        let keys: BTreeSet<Key> = configured.iter().map(key_of).collect();
        for config in configured {
            let key = key_of(&config);
            let old = self.version(&config.name, &config.version);
            let mut table = self.write();
            if table.pending.get(&key).is_some_and(|pending| pending.config == config) {
                continue;
            }
            // This configuration replaces one that is still pending.
            table.pending.remove(&key);
            drop(table);
            match old {
                Some(old) if old.config == config => {}
                Some(old) if old.is_loaded() => self.take_over(key, config),
                _ => {
                    let served = Served::new(config);
                    if served.config.load {
                        self.load_served(&served);
                    }
                    self.write().insert(served);
                }
            }
        }
        let mut table = self.write();
        table.pending.retain(|key, _| keys.contains(key));
        for (name, versions) in &mut table.by_name {
            versions.retain(|version, _| keys.contains(&(name.clone(), version.clone())));
        }
        table.by_name.retain(|_, versions| !versions.is_empty());
    }

    /// Loads a changed model, and replaces the old one when it is ready.
    fn take_over(&self, key: Key, config: Model) {
        let new = Served::new(config);
        self.load_served(&new);
        let (table, weak) = (Arc::clone(&self.table), Arc::downgrade(&new));
        self.write().pending.insert(key.clone(), new);
        tokio::spawn(async move {
            let settled = tokio::time::timeout(TAKE_OVER, settled(Weak::clone(&weak))).await;
            let mut table = table.write().unwrap_or_else(PoisonError::into_inner);
            // A later configuration may have replaced it.
            let Some(new) = weak.upgrade() else { return };
            if !table.pending.remove(&key).is_some_and(|of_key| Arc::ptr_eq(&of_key, &new)) {
                return;
            }
            let model = new.label();
            match settled {
                Ok(Ok(())) => table.insert(new),
                Ok(Err(why)) => tracing::error!(model, %why, "the old configuration stays"),
                Err(_) => {
                    let why = new.waits_for();
                    tracing::error!(model, why, "not ready in time: the old configuration stays");
                }
            }
        });
    }

    fn read(&self) -> RwLockReadGuard<'_, Table> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Table> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn version(&self, name: &str, version: &str) -> Option<Arc<Served>> {
        self.read().by_name.get(name)?.get(version).cloned()
    }

    /// All versions of all models, in order.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<Served>> {
        self.read().by_name.values().flat_map(BTreeMap::values).cloned().collect()
    }

    /// The versions of a model: all if `version` is empty.
    ///
    /// # Errors
    /// There is no such model.
    pub fn versions(&self, name: &str, version: &str) -> Result<Vec<Arc<Served>>, Error> {
        let table = self.read();
        let versions = table.by_name.get(name).into_iter().flat_map(BTreeMap::values);
        let found: Vec<_> = versions
            .filter(|served| version.is_empty() || served.config.version == version)
            .cloned()
            .collect();
        if found.is_empty() { Err(unknown(name, version)) } else { Ok(found) }
    }

    /// A version of a model: the default one if `version` is empty.
    ///
    /// # Errors
    /// There is no such model.
    pub fn find(&self, name: &str, version: &str) -> Result<Arc<Served>, Error> {
        let rank = |served: &Arc<Served>| {
            let Model { default, version, .. } = &served.config;
            (served.is_loaded(), *default, version.parse::<u64>().ok(), version.clone())
        };
        let found = self.versions(name, version)?.into_iter().max_by_key(rank);
        found.ok_or_else(|| unknown(name, version))
    }

    /// True if every model that is loaded or being loaded has an instance that is alive.
    #[must_use]
    pub fn are_ready(&self) -> bool {
        self.all().iter().all(|served| match &*served.state.borrow() {
            State::Loaded(loaded) => loaded.is_ready(),
            State::Loading | State::Failed(_) => false,
            State::Unloaded => true,
        })
    }

    /// The metadata of a model for clients, with all its versions that are ready.
    ///
    /// # Errors
    /// There is no such model, or it is not ready.
    pub fn metadata(&self, name: &str, version: &str) -> Result<ModelMetadata, Error> {
        let mut metadata = self.find(name, version)?.loaded()?.metadata.clone();
        let versions = self.versions(name, "")?;
        let ready = versions.iter().filter(|served| served.loaded().is_ok());
        metadata.versions = ready.map(|served| served.config.version.clone()).collect();
        Ok(metadata)
    }

    /// All models with their states, or only those that are ready.
    #[must_use]
    pub fn index(&self, only_ready: bool) -> Vec<Indexed> {
        let entry = |served: &Arc<Served>| {
            let (state, reason) = match served.state() {
                State::Unloaded => ("UNAVAILABLE", "unloaded".to_owned()),
                State::Loading => ("LOADING", served.waits_for()),
                State::Loaded(loaded) if loaded.is_ready() => ("READY", String::new()),
                State::Loaded(loaded) => ("LOADING", loaded.waits_for()),
                State::Failed(why) => ("UNAVAILABLE", why),
            };
            let (name, version) = (served.config.name.clone(), served.config.version.clone());
            Indexed { name, version, state, reason }
        };
        let all = self.all();
        let entries = all.iter().map(entry);
        entries.filter(|entry| !only_ready || entry.state == "READY").collect()
    }

    /// Loads all versions of a model that are not loaded.
    ///
    /// # Errors
    /// There is no such model, or a version cannot be loaded.
    pub async fn load(&self, name: &str) -> Result<(), Error> {
        for served in self.versions(name, "")? {
            if matches!(served.state(), State::Unloaded | State::Failed(_)) {
                self.load_served(&served);
            }
            let settled = tokio::time::timeout(TAKE_OVER, settled(Arc::downgrade(&served))).await;
            let failed =
                |why: NotLoaded| Error::new(Status::Internal, format!("failed to load '{name}': {why}"));
            match settled {
                Ok(settled) => settled.map_err(failed)?,
                // A model is loaded even if no instance has joined yet.
                Err(_) if served.is_loaded() => {}
                Err(_) => {
                    let text = format!("'{name}' is not loaded yet: {}", served.waits_for());
                    return Err(Error::new(Status::Unavailable, text));
                }
            }
        }
        Ok(())
    }

    /// Unloads all versions of a model; open requests are still answered.
    ///
    /// # Errors
    /// There is no such model.
    pub fn unload(&self, name: &str) -> Result<(), Error> {
        for served in self.versions(name, "")? {
            served.loading.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
            served.state.send_replace(State::Unloaded);
        }
        self.write().pending.retain(|(of, _), _| of != name);
        Ok(())
    }

    /// Starts to load a model.
    fn load_served(&self, served: &Arc<Served>) {
        served.state.send_replace(State::Loading);
        let (embed, body_bytes) = (Arc::clone(&self.embed), self.limits.body_bytes);
        let weak = Arc::downgrade(served);
        let (config, reason) = (served.config.clone(), Arc::clone(&served.reason));
        let journal = Arc::clone(&self.journal);
        *reason.lock().unwrap_or_else(PoisonError::into_inner) = LastReason::default();
        let mut loading = JoinSet::new();
        let is_loading = |was: &State| matches!(was, State::Loading);
        loading.spawn(async move {
            loop {
                let loaded = load(config.clone(), Arc::clone(&embed), body_bytes, &reason, &journal).await;
                // The model may have been removed.
                let Some(served) = weak.upgrade() else { return };
                let loaded = match loaded {
                    Ok(loaded) => loaded,
                    Err(why) => {
                        let why = why.to_string();
                        tracing::error!(model = served.label(), why, "a model cannot be loaded");
                        served.becomes(State::Failed(why), is_loading);
                        return;
                    }
                };
                let panicked = loaded.runtime.panicked();
                served.becomes(State::Loaded(Arc::new(loaded)), is_loading);
                drop(served);
                let cause = panicked.await;
                let Some(served) = weak.upgrade() else { return };
                served.counts.panics.fetch_add(1, Ordering::Relaxed);
                tracing::error!(
                    model = served.label(),
                    cause,
                    "the task of a model panicked and is restarted"
                );
                reason.lock().unwrap_or_else(PoisonError::into_inner).is_new(&format!("it failed: {cause}"));
                // It may have been unloaded at the same time.
                if !served.becomes(State::Loading, |was| matches!(was, State::Loaded(_))) {
                    return;
                }
                drop(served);
                tokio::time::sleep(START_AGAIN).await;
            }
        });
        // Replacing the set aborts an earlier task.
        *served.loading.lock().unwrap_or_else(PoisonError::into_inner) = loading;
    }

    /// Waits until all queries are answered.
    pub async fn drain(&self) {
        for served in self.all() {
            if let State::Loaded(loaded) = served.state() {
                loaded.runtime.drain().await;
            }
        }
    }
}

fn unknown(name: &str, version: &str) -> Error {
    let version = if version.is_empty() { String::new() } else { format!(" version {version}") };
    Error::new(Status::NotFound, format!("Request for unknown model: '{name}'{version} is not found"))
}

impl Served {
    fn new(config: Model) -> Arc<Self> {
        let (state, _) = watch::channel(State::Unloaded);
        Arc::new(Self {
            config,
            state,
            counts: Counts::default(),
            since: Instant::now(),
            loading: Mutex::default(),
            reason: Arc::default(),
        })
    }

    /// Changes its state if `from` accepts the present one; returns whether it did.
    fn becomes(&self, state: State, from: impl FnOnce(&State) -> bool) -> bool {
        self.state.send_if_modified(|now| {
            let may = from(now);
            if may {
                *now = state;
            }
            may
        })
    }

    /// Its state.
    #[must_use]
    pub fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Its name and version, for messages.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{} version {}", self.config.name, self.config.version)
    }

    /// Why it is not loaded yet, if that is known.
    #[must_use]
    pub fn waits_for(&self) -> String {
        self.reason.lock().unwrap_or_else(PoisonError::into_inner).last().to_owned()
    }

    fn is_loaded(&self) -> bool {
        matches!(*self.state.borrow(), State::Loaded(_))
    }

    /// Checks that it is loaded and that an instance of it is alive.
    ///
    /// # Errors
    /// It is not ready.
    pub fn ready(&self) -> Result<(), Error> {
        self.when(Loaded::is_ready).map(drop)
    }

    /// The loaded model, if it has instances. They need not be alive: calls are tried all the same, and
    /// instances of other roles may answer.
    ///
    /// # Errors
    /// It is not loaded, or has no instance.
    pub fn loaded(&self) -> Result<Arc<Loaded>, Error> {
        self.when(|loaded| !loaded.deployed.borrow().is_empty())
    }

    fn when(&self, is: impl Fn(&Loaded) -> bool) -> Result<Arc<Loaded>, Error> {
        let why = match &*self.state.borrow() {
            State::Loaded(loaded) if is(loaded) => return Ok(Arc::clone(loaded)),
            State::Loaded(loaded) => loaded.waits_for(),
            State::Loading => match self.waits_for() {
                why if why.is_empty() => "it is being loaded".to_owned(),
                why => format!("it is being loaded: {why}"),
            },
            State::Unloaded => "it is not loaded".to_owned(),
            State::Failed(why) => why.clone(),
        };
        let text = format!("Request for model '{}' which is not ready: {why}", self.config.name);
        Err(Error::new(Status::Unavailable, text))
    }
}

impl Loaded {
    /// True if an instance of the deployed model is alive.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.deployed.borrow().iter().any(|joined| joined.alive)
    }

    /// Why it is not ready.
    #[must_use]
    pub fn waits_for(&self) -> String {
        let is_empty = self.deployed.borrow().is_empty();
        let what = if is_empty { "no instance has joined yet" } else { "no instance answers" };
        match self.reason.lock().unwrap_or_else(PoisonError::into_inner).last() {
            "" => what.to_owned(),
            reason => format!("{what}: {reason}"),
        }
    }

    pub(crate) fn of_sequence(&self, step: SequenceStep) -> Option<Joined> {
        let mut sequences = self.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        sequences.place(step, &self.deployed.borrow())
    }
}

/// Why a model that was to be loaded is not.
#[derive(Debug, thiserror::Error)]
enum NotLoaded {
    #[error("it was removed")]
    Removed,
    #[error("its instances were removed")]
    NoInstances,
    #[error("{0}")]
    Failed(String),
}

/// Waits until a model has an instance or has failed to load. Does not keep the model alive.
async fn settled(served: Weak<Served>) -> Result<(), NotLoaded> {
    let mut state = served.upgrade().ok_or(NotLoaded::Removed)?.state.subscribe();
    let loaded = loop {
        match &*state.borrow_and_update() {
            State::Loaded(loaded) => break Arc::clone(loaded),
            State::Failed(why) => return Err(NotLoaded::Failed(why.clone())),
            State::Unloaded | State::Loading => {}
        }
        state.changed().await.map_err(|_| NotLoaded::Removed)?;
    };
    let mut deployed = loaded.deployed.clone();
    drop(loaded);
    let there = deployed.wait_for(|deployed| !deployed.is_empty()).await;
    there.map(drop).map_err(|_| NotLoaded::NoInstances)
}

async fn load(
    config: Model,
    embed: Arc<dyn Embed>,
    body_bytes: usize,
    reason: &SharedReason,
    journal: &SharedJournal,
) -> Result<Loaded, LoadError> {
    let code = code_of(&config)?;
    let names = membership::role_names(&config, code.as_ref());
    let recipe = Recipe { model: &config, names: &names, code: code.as_ref(), embed: &*embed, body_bytes };
    let candidates = membership::candidates(&recipe)?;
    let metadata = metadata(&config, &names.deployed, &candidates, reason).await;
    let spec = Spec::new(&config, &metadata).map(Arc::new);
    let mut engine = engine_config(&config)?;
    let mut coding = None;
    let mut rebuilt = Vec::new();
    match (&spec, config.redundancy.coded(), &code) {
        (Ok(spec), Some(coded), Some(code)) => {
            let (inputs, encoder, decoder) =
                coders(spec, coded, config.task, code, &|file, group| embed.network(file, &config, group))?;
            rebuilt = decoder.outputs();
            let encoder = Arc::new(encoder);
            let made_for = coded.made_for.clone();
            let (parities, max_scale) = (code.r(), coded.max_scale);
            coding = Some(Coding { inputs, encoder, decoder, parities, k: code.k(), made_for, max_scale });
        }
        (Err(reason), Some(_), _) => {
            let reason = reason.name();
            tracing::warn!(model = config.name, reason, "requests are passed on whole, and not coded");
            match &mut engine.policy {
                Policy::Auto(auto) => auto.groups = None,
                policy => *policy = Policy::None,
            }
        }
        _ => {}
    }
    if spec.is_err() {
        engine.max_batch = 1;
    }
    let names = Arc::new(names);
    let runtime = Runtime::start(Options {
        engine,
        spec: spec.as_ref().ok().cloned(),
        coding,
        label: format!("{} version {}", config.name, config.version),
        names: (*names).clone(),
        version: config.names.version.clone(),
        fallback: config.fallback,
        non_finite: config.non_finite,
        origin: tokio::time::Instant::now(),
        journal: journal.lock().unwrap_or_else(PoisonError::into_inner).take(),
    })?;
    let (joined, deployed) = watch::channel(Deployed::new());
    let zeros = spec.as_ref().ok().map(|spec| membership::zeros(spec, &names, &config.names.version));
    // The reason why the metadata were missing says nothing about the instances.
    let trouble = SharedReason::default();
    let joining = Joining {
        runtime: runtime.clone(),
        names: Arc::clone(&names),
        version: config.names.version.clone(),
        warm_up: zeros.filter(|_| config.warm_up > 0).map(|zeros| (zeros, config.warm_up)),
        deployed: Arc::new(joined),
        reason: Arc::clone(&trouble),
    };
    let membership = Membership::start(candidates, &joining);
    let deployed_name = names.deployed.clone();
    let sequences = Mutex::default();
    Ok(Loaded {
        runtime,
        spec,
        metadata,
        rebuilt,
        deployed_name,
        deployed,
        sequences,
        reason: trouble,
        _membership: membership,
    })
}

/// The inputs and outputs of the model: from the configuration, or else from the first instance that
/// answers.
async fn metadata(
    config: &Model,
    deployed: &str,
    candidates: &Candidates,
    reason: &Mutex<LastReason>,
) -> ModelMetadata {
    let said = |specs: &[parm_config::TensorSpec]| -> Vec<TensorMetadata> {
        let tensor = |spec: &parm_config::TensorSpec| TensorMetadata {
            name: spec.name.clone(),
            datatype: spec.datatype,
            shape: std::iter::once(-1).chain(spec.shape.iter().copied()).collect(),
        };
        specs.iter().map(tensor).collect()
    };
    let mut metadata = ModelMetadata {
        name: config.name.clone(),
        versions: vec![config.version.clone()],
        platform: "parm".to_owned(),
        inputs: said(&config.inputs),
        outputs: said(&config.outputs),
    };
    if config.inputs.is_empty() || config.outputs.is_empty() {
        let asked = ask(deployed, &config.names.version, candidates, reason).await;
        if config.inputs.is_empty() {
            metadata.inputs = asked.inputs;
        }
        if config.outputs.is_empty() {
            metadata.outputs = asked.outputs;
        }
    }
    metadata
}

/// Asks instances of the deployed model in turn until one returns metadata; logs why none does.
async fn ask(
    deployed: &str,
    version: &str,
    candidates: &Candidates,
    reason: &Mutex<LastReason>,
) -> ModelMetadata {
    let say = |why: String| {
        if reason.lock().unwrap_or_else(PoisonError::into_inner).is_new(&why) {
            tracing::warn!(model = deployed, why, "no instance returns the metadata of the model");
        }
    };
    loop {
        let mut problems = Vec::new();
        let mut instances: Vec<(String, Arc<dyn Instance>)> = Vec::new();
        let fixed = candidates.fixed.iter().filter(|candidate| candidate.roles.deployed);
        instances.extend(fixed.map(|candidate| (candidate.name.clone(), Arc::clone(&candidate.instance))));
        for named in candidates.named.iter().filter(|named| named.has_deployed()) {
            let addresses = client::resolve(named.url()).await.unwrap_or_else(|error| {
                problems.push(error.to_string());
                Vec::new()
            });
            for address in addresses {
                match named.candidate(address) {
                    Ok(candidate) => instances.push((candidate.name, candidate.instance)),
                    Err(error) => problems.push(error.to_string()),
                }
            }
        }
        for (name, instance) in instances {
            let said = tokio::time::timeout(ASK_AGAIN * 10, instance.metadata(deployed, version)).await;
            let problem = match said {
                Ok(Ok(said)) if !said.inputs.is_empty() && !said.outputs.is_empty() => return said,
                Ok(Ok(_)) => "it names no inputs or no outputs; the configuration must name them".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(_) => format!("no answer within {} ms", (ASK_AGAIN * 10).as_millis()),
            };
            problems.push(format!("{name}: {problem}"));
        }
        // The first problem is enough.
        say(problems.into_iter().next().unwrap_or_else(|| "there is no instance".to_owned()));
        tokio::time::sleep(ASK_AGAIN).await;
    }
}
