//! Makes the synthetic instances of a configuration, for the server and the simulator.

use std::sync::Arc;

use parm::codes::Code;
use parm_engine::Roles;
use parm_workload::faults::{self, BehaviorError, Service, Shared};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Instances, InstancesError, Model, PolicyError, Synthetic, code_of};

/// Times of the server itself, for the simulator only.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Overhead {
    /// The time of each query in addition to its calls.
    pub query: Service,
    /// The time of each call in addition to that of the instance.
    pub call: Service,
    /// The time to encode a coded query.
    pub encode: Service,
    /// The time to decode a prediction.
    pub decode: Service,
}

impl Overhead {
    pub(super) fn check(&self) -> Result<(), BehaviorError> {
        [&self.query, &self.call, &self.encode, &self.decode].into_iter().try_for_each(Service::check)
    }
}

/// Synthetic instances that cannot be.
#[derive(Debug, thiserror::Error)]
pub enum SyntheticError {
    /// The code of their model.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// Their roles.
    #[error(transparent)]
    Instances(#[from] InstancesError),
    /// What they do, or what befalls several at once.
    #[error(transparent)]
    Behavior(#[from] BehaviorError),
}

/// A synthetic instance of a model.
#[derive(Clone, Debug)]
pub struct SyntheticMember {
    /// Its roles.
    pub roles: Roles,
    /// The number of calls that it runs at once.
    pub capacity: usize,
    /// True if its calls are cancelled when their answers are no longer needed; none: as the model has it.
    pub cancel_running: Option<bool>,
    /// Its times and faults.
    pub behavior: faults::Synthetic,
}

impl Synthetic {
    /// The instances of entry `index` of the model's list; `seed` is added to the seed of the entry.
    pub fn make(
        &self,
        index: usize,
        seed: u64,
    ) -> impl Iterator<Item = Result<faults::Synthetic, BehaviorError>> {
        let behavior = Arc::new(self.behavior.clone());
        let (seed, first) = (self.seed.wrapping_add(seed), (index as u64) << 32);
        (0..self.count as u64)
            .map(move |number| faults::Synthetic::new(Arc::clone(&behavior), seed, first | number))
    }
}

impl Model {
    /// The number of its synthetic instances.
    #[must_use]
    pub fn synthetic_count(&self) -> usize {
        let synthetic = self.instances.iter().filter_map(|instances| instances.synthetic.as_ref());
        synthetic.map(|synthetic| synthetic.count).sum()
    }

    /// Its synthetic instances in the order of the file, and the faults that they share; `seed` is added
    /// to all seeds of the file.
    ///
    /// # Errors
    /// Invalid roles, behaviors or faults.
    pub fn synthetic(&self, seed: u64) -> Result<(Vec<SyntheticMember>, Shared), SyntheticError> {
        let parities = code_of(self)?.as_ref().map_or(0, Code::r);
        let mut members = Vec::new();
        for (index, instances) in self.instances.iter().enumerate() {
            let roles = instances.check(self.placement, parities)?;
            for behavior in instances.synthetic.iter().flat_map(|synthetic| synthetic.make(index, seed)) {
                let behavior = behavior?;
                let Instances { capacity, cancel_running, .. } = *instances;
                members.push(SyntheticMember { roles, capacity, cancel_running, behavior });
            }
        }
        Ok((members, self.shared_faults(seed)?))
    }

    /// The faults that its synthetic instances share.
    ///
    /// # Errors
    /// Faults that cannot be.
    pub fn shared_faults(&self, seed: u64) -> Result<Shared, BehaviorError> {
        let mut faults = self.faults.clone();
        faults.seed = faults.seed.wrapping_add(seed);
        Shared::new(&faults, self.synthetic_count())
    }
}
