//! Synthetic instances, as the file says: for the server and for the simulator.

use std::sync::Arc;

use parm::codes::Code;
use parm_engine::Roles;
use parm_workload::faults::{self, BehaviorError, Service, Shared};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{InstancesError, Model, PolicyError, Synthetic, code_of};

/// What the simulator takes for times that a server needs itself; a server does not look at them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Overhead {
    /// What each query takes beside its calls: from the client and back.
    pub query: Service,
    /// What each call takes beside the instance's own time.
    pub call: Service,
    /// How long it takes to make a coded query.
    pub encode: Service,
    /// How long it takes to rebuild a prediction.
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
    /// What it runs.
    pub roles: Roles,
    /// Calls that it does at once.
    pub capacity: usize,
    /// How it behaves.
    pub behavior: faults::Synthetic,
}

impl Synthetic {
    /// Those that the model's `index`-th list entry describes; `seed` is added to their own.
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
    /// How many synthetic instances it has.
    #[must_use]
    pub fn synthetic_count(&self) -> usize {
        let synthetic = self.instances.iter().filter_map(|instances| instances.synthetic.as_ref());
        synthetic.map(|synthetic| synthetic.count).sum()
    }

    /// Its synthetic instances, in the order of the file, and what befalls several of them at once;
    /// `seed` is added to all seeds of the file.
    ///
    /// # Errors
    /// What cannot be.
    pub fn synthetic(&self, seed: u64) -> Result<(Vec<SyntheticMember>, Shared), SyntheticError> {
        let parities = code_of(self)?.as_ref().map_or(0, Code::r);
        let mut members = Vec::new();
        for (index, instances) in self.instances.iter().enumerate() {
            let roles = instances.check(self.placement, parities)?;
            for behavior in instances.synthetic.iter().flat_map(|synthetic| synthetic.make(index, seed)) {
                let behavior = behavior?;
                members.push(SyntheticMember { roles, capacity: instances.capacity, behavior });
            }
        }
        Ok((members, self.shared_faults(seed)?))
    }

    /// What befalls several synthetic instances at once.
    ///
    /// # Errors
    /// Faults that cannot be.
    pub fn shared_faults(&self, seed: u64) -> Result<Shared, BehaviorError> {
        let mut faults = self.faults.clone();
        faults.seed = faults.seed.wrapping_add(seed);
        Shared::new(&faults, self.synthetic_count())
    }
}
