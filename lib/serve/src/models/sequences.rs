//! Where sequences are: all requests of one go to the same instance.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use parm_engine::InstanceId;

use crate::runtime::membership::Joined;

/// How many sequences are remembered before idle ones are forgotten.
const MANY: usize = 65_536;

/// How many are remembered at most. Without it a sequence is placed as if it were new, which is where it is
/// unless instances came or went.
const MOST: usize = 16 * MANY;

/// When a sequence is idle.
const IDLE: Duration = Duration::from_mins(10);

/// A request of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceStep {
    /// The sequence.
    pub sequence: u64,
    /// It is the first one.
    pub starts: bool,
    /// It is the last one.
    pub ends: bool,
}

/// The sequences of a model.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    known: HashMap<u64, (InstanceId, Instant)>,
    /// How many are known when idle ones are forgotten next.
    sweep_at: usize,
}

impl Sequences {
    /// The instance that a request goes to: where its sequence is, or else, chosen by the sequence, one that
    /// is alive. None if the sequence's instance has left, or there is none at all.
    pub(super) fn place(&mut self, step: SequenceStep, instances: &[Joined]) -> Option<Joined> {
        let SequenceStep { sequence, starts, ends } = step;
        let known = self.known.get(&sequence).filter(|_| !starts).map(|&(id, _)| id);
        let chosen = match known {
            Some(id) => instances.iter().find(|joined| joined.id == id),
            // The highest of pseudo-random numbers of sequence and instance: other servers before the same
            // instances choose alike, and few sequences move when instances come and go.
            None => instances.iter().max_by_key(|joined| {
                let mut hasher = DefaultHasher::new();
                (sequence, &joined.name).hash(&mut hasher);
                (joined.alive, hasher.finish())
            }),
        };
        match chosen {
            Some(joined) if !ends => {
                self.known.insert(sequence, (joined.id, Instant::now()));
                if self.known.len() > MANY.max(self.sweep_at) {
                    self.known.retain(|_, (_, asked)| asked.elapsed() < IDLE);
                    if self.known.len() > MOST {
                        self.known.clear();
                    }
                    self.sweep_at = 2 * self.known.len();
                }
            }
            _ => drop(self.known.remove(&sequence)),
        }
        chosen.cloned()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parm_engine::{Config, Engine, Roles};

    use super::*;
    use parm_oip::instance::{Answer, CallContext, Instance};
    use parm_oip::{InferRequest, InferResponse, ModelMetadata};

    struct Nobody;

    impl Instance for Nobody {
        fn infer(&self, _: InferRequest, _: CallContext) -> Answer<InferResponse> {
            Box::pin(std::future::pending())
        }

        fn ready(&self, _: &str, _: &str) -> Answer<()> {
            Box::pin(std::future::pending())
        }

        fn metadata(&self, _: &str, _: &str) -> Answer<ModelMetadata> {
            Box::pin(std::future::pending())
        }
    }

    fn joined(count: usize) -> Vec<Joined> {
        let mut engine = Engine::new(Config::default()).unwrap();
        let one = |number| Joined {
            id: engine.join(0, Roles::DEPLOYED, 1),
            name: format!("instance {number}"),
            instance: Arc::new(Nobody),
            alive: true,
            suspected: Arc::default(),
        };
        (0..count).map(one).collect()
    }

    fn step(sequence: u64, starts: bool, ends: bool) -> SequenceStep {
        SequenceStep { sequence, starts, ends }
    }

    #[test]
    fn sequences_stay_where_they_are_and_new_ones_avoid_the_dead() {
        let mut instances = joined(3);
        let mut sequences = Sequences::default();
        let place = |sequences: &mut Sequences, instances: &[Joined], step| {
            sequences.place(step, instances).map(|joined| joined.id)
        };
        let first: Vec<_> =
            (0..100).map(|id| place(&mut sequences, &instances, step(id, true, false))).collect();
        assert!(instances.iter().all(|joined| first.contains(&Some(joined.id))), "each has some");
        // Another server chooses alike, in whatever order the instances came to it.
        let mut other = Sequences::default();
        let mut turned = instances.clone();
        turned.reverse();
        assert!((0..100).all(|id| place(&mut other, &turned, step(id, true, false)) == first[id as usize]));
        let dead = instances[1].id;
        instances[1].alive = false;
        for id in 0..100 {
            assert_eq!(place(&mut sequences, &instances, step(id, false, false)), first[id as usize]);
            let new = place(&mut sequences, &instances, step(1000 + id, true, false));
            assert!(new.is_some_and(|new| new != dead));
        }
        // One that began elsewhere meanwhile stays there when the dead one is back.
        let moved: Vec<_> =
            (1000..1100).map(|id| place(&mut sequences, &instances, step(id, false, false))).collect();
        instances[1].alive = true;
        for id in 0..100 {
            assert_eq!(place(&mut sequences, &instances, step(1000 + id, false, false)), moved[id as usize]);
        }
        // What was on an instance that left is lost, until the sequence begins again.
        let lost = first.iter().position(|id| *id == Some(dead)).unwrap() as u64;
        instances.remove(1);
        assert_eq!(place(&mut sequences, &instances, step(lost, false, false)), None);
        assert!(place(&mut sequences, &instances, step(lost, true, true)).is_some());
        assert_eq!(place(&mut sequences, &[], step(lost, true, false)), None);
    }

    #[test]
    fn a_sequence_that_ended_is_forgotten() {
        let instances = joined(2);
        let mut sequences = Sequences::default();
        for id in 0..1000 {
            sequences.place(step(id, true, false), &instances);
            sequences.place(step(id, false, true), &instances);
        }
        assert!(sequences.known.is_empty());
    }

    #[test]
    fn the_number_of_sequences_that_are_remembered_is_bounded() {
        let instances = joined(2);
        let mut sequences = Sequences::default();
        for id in 0..3 * MOST as u64 {
            sequences.place(step(id, true, false), &instances);
            assert!(sequences.known.len() <= 2 * MOST);
        }
    }
}
