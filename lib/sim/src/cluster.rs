//! A cluster at time 0.

use parm_config::{Fallback, Model, Overhead, PolicyError, SyntheticError, SyntheticMember, engine_config};
use parm_engine::Engine;
use parm_workload::faults::Shared;

/// A model that cannot be simulated.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// An entry of instances that are not synthetic.
    #[error("instances[{index}]: found remote or embedded instances, expected synthetic ones")]
    Real {
        /// The index of the entry.
        index: usize,
    },
    /// A model without instances.
    #[error("found no instances (the count of every entry is 0), expected at least one")]
    Empty,
    /// A policy that cannot be.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Synthetic instances that cannot be.
    #[error(transparent)]
    Synthetic(#[from] SyntheticError),
    /// What the engine refuses.
    #[error(transparent)]
    Engine(#[from] parm_engine::ConfigError),
}

/// The engines of the servers and the instances of one trial.
#[derive(Debug)]
pub struct Cluster {
    pub(crate) engines: Vec<Engine>,
    pub(crate) members: Vec<SyntheticMember>,
    pub(crate) faults: Shared,
    pub(crate) overhead: Overhead,
    pub(crate) fallback: Fallback,
}

impl Cluster {
    /// The cluster of a model that has passed [`parm_config::Config::check`]; `seed` is added to all of its
    /// seeds. Each of the servers has an engine of its own, and all instances.
    ///
    /// # Errors
    /// A model that cannot be simulated.
    pub fn new(model: &Model, seed: u64, servers: usize) -> Result<Self, ClusterError> {
        if let Some(index) = model.instances.iter().position(|instances| instances.synthetic.is_none()) {
            return Err(ClusterError::Real { index });
        }
        if model.synthetic_count() == 0 {
            return Err(ClusterError::Empty);
        }
        let (members, faults) = model.synthetic(seed)?;
        let engine = || {
            let mut engine = Engine::new(engine_config(model)?)?;
            for member in &members {
                let instance = engine.join(0, member.roles, member.capacity);
                if let Some(cancels) = member.cancel_running {
                    engine.cancels(0, instance, cancels);
                }
            }
            Ok::<_, ClusterError>(engine)
        };
        let engines = (0..servers.max(1)).map(|_| engine()).collect::<Result<_, _>>()?;
        let (overhead, fallback) = (model.overhead.clone(), model.fallback);
        Ok(Self { engines, members, faults, overhead, fallback })
    }
}
