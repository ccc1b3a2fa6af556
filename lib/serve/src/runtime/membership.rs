//! The instances of a model: makes them, waits until they are ready, warms them up, lets them join the
//! runtime, and checks that they are alive.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use parm::codes::directory::RunsOn;
use parm::codes::{Code, Network, NetworkError};
use parm_engine::{InstanceId, Roles};
use tokio::sync::{Notify, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::Instant;

use crate::SyntheticInstance;
use crate::runtime::{Member, RoleNames, Runtime, Spec};
use parm_config::{Embedded, Instances, InstancesError, Model, PolicyError, Remote};
use parm_oip::client;
use parm_oip::instance::{CallContext, CallError, Instance, within};
use parm_oip::{Chunks, InferRequest, Parameters, Tensor};
use parm_workload::faults::BehaviorError;

use super::rows::CodingError;
use super::spec::SpecError;

/// The first and the longest time between two checks of an instance that is not ready.
const RETRY: [Duration; 2] = [Duration::from_millis(50), Duration::from_secs(2)];

/// The time between two checks of an instance, and the time limit of a check.
const CHECK: Duration = Duration::from_secs(5);

/// Makes embedded instances and networks; `parm-libtorch` implements it with libtorch.
pub trait Embed: Send + Sync + 'static {
    /// An instance that runs the models in these files, by name. With the model's code it may make coded
    /// queries itself.
    ///
    /// # Errors
    /// A file that cannot be loaded, or a device that does not exist.
    fn instance(
        &self,
        embedded: &Embedded,
        files: &BTreeMap<String, PathBuf>,
        model: &Model,
        code: Option<&Code>,
    ) -> Result<Arc<dyn Instance>, NetworkError>;

    /// A learned encoder or decoder of a model, loaded for groups of this shape, `[rows, …]`.
    ///
    /// # Errors
    /// A file that cannot be loaded, or does not fit the shape.
    fn network(&self, file: &Path, model: &Model, group: &[usize]) -> Result<Arc<dyn Network>, NetworkError>;
}

/// For servers without embedded models and learned codes: it is the error that refuses them.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "embedded models and learned codes need libtorch, which parm-serve loads only when it starts with a \
     configuration that has some; restart it"
)]
pub struct NoModels;

impl Embed for NoModels {
    fn instance(
        &self,
        _: &Embedded,
        _: &BTreeMap<String, PathBuf>,
        _: &Model,
        _: Option<&Code>,
    ) -> Result<Arc<dyn Instance>, NetworkError> {
        Err(NetworkError(self.to_string()))
    }

    fn network(&self, _: &Path, _: &Model, _: &[usize]) -> Result<Arc<dyn Network>, NetworkError> {
        Err(NetworkError(self.to_string()))
    }
}

/// A model that cannot be loaded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// A policy that cannot be.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Instances that cannot be.
    #[error(transparent)]
    Instances(#[from] InstancesError),
    /// Synthetic instances that cannot be.
    #[error(transparent)]
    Behavior(#[from] BehaviorError),
    /// The inputs and outputs of synthetic instances.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// An embedded model that cannot be made.
    #[error(transparent)]
    Embedded(#[from] NetworkError),
    /// Tensors that the code cannot work with.
    #[error(transparent)]
    Coding(#[from] CodingError),
    /// What the engine refuses.
    #[error(transparent)]
    Engine(#[from] parm_engine::ConfigError),
}

/// What is needed to make the instances of a model.
pub(crate) struct Recipe<'a> {
    pub(crate) model: &'a Model,
    pub(crate) names: &'a RoleNames,
    pub(crate) code: Option<&'a Code>,
    pub(crate) embed: &'a dyn Embed,
    /// The most bytes of an answer.
    pub(crate) body_bytes: usize,
}

/// An instance that has not joined a runtime yet.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) instance: Arc<dyn Instance>,
    pub(crate) name: String,
    pub(crate) roles: Roles,
    pub(crate) capacity: usize,
    /// True if its calls are cancelled when their answers are no longer needed; none: as the model has it.
    pub(crate) cancel_running: Option<bool>,
}

/// A model server by its host name; the addresses of the name are the instances.
#[derive(Clone)]
pub(crate) struct Named {
    remote: Remote,
    roles: Roles,
    capacity: usize,
    cancel_running: Option<bool>,
    body_bytes: usize,
}

/// The instances of a model that have not joined yet.
#[derive(Default)]
pub(crate) struct Candidates {
    pub(crate) fixed: Vec<Candidate>,
    pub(crate) named: Vec<Named>,
}

/// The names of the deployed, approximate and parity models at instances.
pub(crate) fn role_names(model: &Model, code: Option<&Code>) -> RoleNames {
    let deployed = model.names.deployed.clone().unwrap_or_else(|| model.name.clone());
    let parities = code.map_or(0, Code::r);
    let parity = |index: usize| match model.names.parity.get(index) {
        Some(name) => name.clone(),
        None if code.is_some_and(|code| code.runs_on() == RunsOn::Deployed) => deployed.clone(),
        None => format!("{}-parity-{index}", model.name),
    };
    RoleNames {
        approximate: model.names.approximate.clone().unwrap_or_else(|| format!("{}-cheap", model.name)),
        parity: (0..parities).map(parity).collect(),
        deployed,
    }
}

impl RoleNames {
    /// The names of the models that an instance with these roles runs.
    pub(crate) fn of(&self, roles: Roles) -> BTreeSet<&str> {
        let parity = self.parity.iter().enumerate().filter(|(index, _)| roles.parity >> index & 1 == 1);
        let mut names: BTreeSet<&str> = parity.map(|(_, name)| name.as_str()).collect();
        names.extend(roles.deployed.then_some(self.deployed.as_str()));
        names.extend(roles.approximate.then_some(self.approximate.as_str()));
        names
    }
}

/// Makes the instances of a model.
///
/// # Errors
/// An instance that cannot be made.
pub(crate) fn candidates(recipe: &Recipe<'_>) -> Result<Candidates, LoadError> {
    let mut made = Candidates::default();
    // Faults are checked only if there are synthetic instances to have them.
    let faults = (recipe.model.synthetic_count() > 0).then(|| recipe.model.shared_faults(0)).transpose()?;
    let faults = faults.map(|faults| Arc::new(Mutex::new(faults)));
    let mut synthetics = 0;
    for (index, instances) in recipe.model.instances.iter().enumerate() {
        let parities = recipe.code.map_or(0, Code::r);
        let roles = instances.check(recipe.model.placement, parities)?;
        let (capacity, cancel_running) = (instances.capacity, instances.cancel_running);
        let mut add =
            |instance, name| made.fixed.push(Candidate { instance, name, roles, capacity, cancel_running });
        match instances {
            Instances { remote: Some(remote), .. } => {
                let body_bytes = recipe.body_bytes;
                made.named.push(Named {
                    remote: remote.clone(),
                    roles,
                    capacity,
                    cancel_running,
                    body_bytes,
                });
            }
            Instances { embedded: Some(embedded), .. } => {
                let files = recipe.model.files_of(roles, recipe.code)?.into_iter();
                let files = files.map(|(role, file)| (recipe.names.of_role(role).to_owned(), file)).collect();
                for number in 0..embedded.count {
                    let instance = recipe.embed.instance(embedded, &files, recipe.model, recipe.code)?;
                    add(instance, format!("embedded-{index}.{number}"));
                }
            }
            Instances { synthetic: Some(synthetic), .. } => {
                let spec = Arc::new(Spec::synthetic(recipe.model)?);
                for (number, behavior) in synthetic.make(index, 0).enumerate() {
                    let behavior = behavior?;
                    let mut instance = SyntheticInstance::new(behavior, Arc::clone(&spec));
                    if let Some(faults) = &faults {
                        instance = instance.among(Arc::clone(faults), synthetics);
                    }
                    synthetics += 1;
                    add(Arc::new(instance), format!("synthetic-{index}.{number}"));
                }
            }
            _ => return Err(InstancesError::Kind.into()),
        }
    }
    Ok(made)
}

/// The tasks that let instances join and leave a runtime. Dropping it ends them; instances that joined
/// stay.
pub(crate) struct Membership {
    _tasks: JoinSet<()>,
}

/// An instance of the deployed model that joined.
#[derive(Clone)]
pub(crate) struct Joined {
    pub(crate) id: InstanceId,
    pub(crate) name: String,
    pub(crate) instance: Arc<dyn Instance>,
    /// True if the last check succeeded.
    pub(crate) alive: bool,
    /// Is notified of each call that the instance did not answer.
    pub(crate) suspected: Arc<Notify>,
}

/// The instances of the deployed model that joined.
pub(crate) type Deployed = Vec<Joined>;

/// The time after which the same reason is logged again.
const REMIND: Duration = Duration::from_mins(10);

/// The last reason of a failure, so that it is logged once and then rarely, not with each attempt.
#[derive(Default)]
pub(crate) struct LastReason(Option<(String, Instant)>);

/// A reason that several tasks set.
pub(crate) type SharedReason = Arc<Mutex<LastReason>>;

/// Sets a shared reason.
pub(crate) fn note(shared: &Mutex<LastReason>, reason: &str) {
    shared.lock().unwrap_or_else(PoisonError::into_inner).is_new(reason);
}

impl LastReason {
    /// The last reason; empty if there was none.
    pub(crate) fn last(&self) -> &str {
        self.0.as_ref().map_or("", |(reason, _)| reason)
    }

    /// Sets the reason; true if it differs from the last one, or if that is older than [`REMIND`].
    pub(crate) fn is_new(&mut self, reason: &str) -> bool {
        let is_known = |(last, said): &(String, Instant)| last == reason && said.elapsed() < REMIND;
        let is_new = !self.0.as_ref().is_some_and(is_known);
        if is_new {
            self.0 = Some((reason.to_owned(), Instant::now()));
        }
        is_new
    }
}

/// What is needed to let instances join.
#[derive(Clone)]
pub(crate) struct Joining {
    pub(crate) runtime: Runtime,
    pub(crate) names: Arc<RoleNames>,
    pub(crate) version: String,
    /// The request that warms up an instance, and the number of times that it is sent.
    pub(crate) warm_up: Option<(InferRequest, u32)>,
    /// The instances of the deployed model that joined.
    pub(crate) deployed: Arc<watch::Sender<Deployed>>,
    /// The last reason why an instance could not join or did not answer.
    pub(crate) reason: SharedReason,
}

impl Membership {
    pub(crate) fn start(candidates: Candidates, joining: &Joining) -> Self {
        let mut tasks = JoinSet::new();
        for candidate in candidates.fixed {
            let joining = joining.clone();
            tasks.spawn(async move {
                let (watched, names) = (candidate.clone(), joining.names.of(candidate.roles));
                if let Some(joined) = joining.bring_up(candidate).await {
                    joining.watch(&watched, &names, joined).await;
                }
            });
        }
        for named in candidates.named {
            tasks.spawn(joining.clone().follow(named));
        }
        Self { _tasks: tasks }
    }
}

impl Joining {
    /// Waits until an instance is ready, warms it up, and lets it join.
    async fn bring_up(&self, candidate: Candidate) -> Option<(InstanceId, Arc<Notify>)> {
        let names = self.names.of(candidate.roles);
        let [mut pause, longest] = RETRY;
        let mut said = LastReason::default();
        let (parity_input, most_rows) = loop {
            match self.check(&candidate, &names).await {
                Ok(found) => break found,
                Err(error) => {
                    note(&self.reason, &format!("{}: {error}", candidate.name));
                    if said.is_new(&error.to_string()) {
                        tracing::warn!(instance = candidate.name, %error, "an instance is not ready");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(longest);
                }
            }
        };
        let Candidate { instance, name, roles, capacity, cancel_running } = candidate;
        tracing::info!(instance = name, "an instance joins");
        let suspected = Arc::<Notify>::default();
        let member = Member {
            instance: Arc::clone(&instance),
            name: name.clone(),
            roles,
            capacity,
            parity_input,
            most_rows,
            cancel_running,
            suspected: Arc::clone(&suspected),
        };
        let id = self.runtime.join(member).await.ok()?;
        if roles.deployed {
            let joined = Joined { id, name, instance, alive: true, suspected: Arc::clone(&suspected) };
            self.deployed.send_modify(|deployed| deployed.push(joined));
        }
        Some((id, suspected))
    }

    /// Checks whether an instance is alive, every few seconds and after each call that it did not answer.
    async fn watch(
        &self,
        candidate: &Candidate,
        names: &BTreeSet<&str>,
        (id, suspected): (InstanceId, Arc<Notify>),
    ) {
        let Candidate { instance, name: label, .. } = candidate;
        let [mut pause, longest] = RETRY;
        let mut said = LastReason::default();
        loop {
            // At the timeout the regular check is due.
            let _ = tokio::time::timeout(CHECK, suspected.notified()).await;
            loop {
                let check = async {
                    for name in names {
                        instance.ready(name, &self.version).await?;
                    }
                    Ok(())
                };
                let checked: Result<(), CallError> = within(CHECK, check).await;
                let alive = checked.is_ok();
                self.deployed.send_if_modified(|deployed| {
                    let joined = deployed.iter_mut().find(|joined| joined.id == id);
                    joined.is_some_and(|joined| std::mem::replace(&mut joined.alive, alive) != alive)
                });
                if let Err(error) = &checked {
                    note(&self.reason, &format!("{label}: {error}"));
                }
                match checked {
                    Ok(()) => break,
                    Err(error) if said.is_new(&error.to_string()) => {
                        tracing::warn!(instance = label, %error, "an instance does not answer");
                    }
                    Err(_) => {}
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(longest);
            }
            pause = RETRY[0];
            // Further failed calls within this time cause only one check.
            tokio::time::sleep(pause).await;
            if std::mem::take(&mut said).0.is_some() {
                tracing::info!(instance = label, "an instance answers again");
            }
        }
    }

    /// Checks that an instance is ready, and warms it up. Returns the name of its parity model's only input,
    /// and the most rows that its models accept.
    async fn check(
        &self,
        candidate: &Candidate,
        names: &BTreeSet<&str>,
    ) -> Result<(Option<String>, Option<usize>), CallError> {
        let Candidate { instance, roles, .. } = candidate;
        for name in names {
            instance.ready(name, &self.version).await?;
        }
        if roles.deployed
            && let Some((request, times)) = &self.warm_up
        {
            for _ in 0..*times {
                instance.infer(request.clone(), CallContext::default()).await?;
            }
        }
        let mut most_rows = None;
        for name in names {
            // Not all servers report it.
            let said = instance.most_rows(name, &self.version).await.ok().flatten();
            most_rows = most_rows.into_iter().chain(said).min();
        }
        let parity = self.names.parity.get(roles.parity.trailing_zeros() as usize);
        let Some(parity) = parity else { return Ok((None, most_rows)) };
        let said = instance.metadata(parity, &self.version).await;
        // Not all servers report it; the name is then that of the deployed model's input.
        let input = said.ok().and_then(|said| match &said.inputs[..] {
            [input] => Some(input.name.clone()),
            _ => None,
        });
        Ok((input, most_rows))
    }

    /// Looks a host name up again and again, and keeps one instance for each of its addresses.
    async fn follow(self, named: Named) {
        let mut here: BTreeMap<SocketAddr, (AbortHandle, Arc<OnceLock<InstanceId>>)> = BTreeMap::new();
        let mut said = LastReason::default();
        // Dropping the set ends the tasks of the instances.
        let mut tasks = JoinSet::new();
        loop {
            match client::resolve(&named.remote.url).await {
                Ok(addresses) => {
                    here.retain(|address, (task, joined)| {
                        let stays = addresses.contains(address);
                        if !stays {
                            task.abort();
                            joined.get().into_iter().for_each(|&id| self.leave(id));
                        }
                        stays
                    });
                    for address in addresses {
                        if here.contains_key(&address) {
                            continue;
                        }
                        match named.candidate(address) {
                            Ok(candidate) => {
                                let (joining, joined) = (self.clone(), Arc::new(OnceLock::new()));
                                let id = Arc::clone(&joined);
                                let task = tasks.spawn(async move {
                                    let models = joining.names.of(candidate.roles);
                                    if let Some(joined) = joining.bring_up(candidate.clone()).await {
                                        id.get_or_init(|| joined.0);
                                        joining.watch(&candidate, &models, joined).await;
                                    }
                                });
                                here.insert(address, (task, joined));
                            }
                            Err(error) if said.is_new(&error.to_string()) => {
                                tracing::error!(url = named.remote.url, %error, "an instance cannot be made");
                            }
                            Err(_) => {}
                        }
                    }
                }
                // The instances of the last lookup stay.
                Err(error) => {
                    note(&self.reason, &error.to_string());
                    if said.is_new(&error.to_string()) {
                        tracing::warn!(url = named.remote.url, %error, "a host name cannot be looked up");
                    }
                }
            }
            while tasks.try_join_next().is_some() {}
            tokio::time::sleep(Duration::from_millis(named.remote.resolve_ms.max(100))).await;
        }
    }

    fn leave(&self, instance: InstanceId) {
        self.deployed.send_modify(|deployed| deployed.retain(|joined| joined.id != instance));
        // A runtime that has stopped has no instances.
        let _ = self.runtime.leave(instance);
    }
}

impl Named {
    pub(crate) fn candidate(&self, address: SocketAddr) -> Result<Candidate, client::Error> {
        let instance = client::connect(&self.remote, address, self.body_bytes)?;
        let name = format!("{} at {address}", self.remote.url);
        let Self { roles, capacity, cancel_running, .. } = *self;
        Ok(Candidate { instance, name, roles, capacity, cancel_running })
    }

    pub(crate) fn has_deployed(&self) -> bool {
        self.roles.deployed
    }

    pub(crate) fn url(&self) -> &str {
        &self.remote.url
    }
}

/// A request of one row of zeros.
pub(crate) fn zeros(spec: &Spec, names: &RoleNames, version: &str) -> InferRequest {
    let tensor = |input: &crate::runtime::RowTensor| Tensor {
        name: input.name.clone(),
        datatype: input.datatype,
        shape: input.shape_of(1),
        parameters: Parameters::default(),
        data: Chunks::from(Bytes::from(vec![0; input.bytes])),
    };
    InferRequest {
        model: names.deployed.clone(),
        version: version.to_owned(),
        inputs: spec.inputs.iter().map(tensor).collect(),
        ..InferRequest::default()
    }
}
