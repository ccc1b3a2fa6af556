//! Assigns sequences to instances: all requests of a sequence go to the same instance.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, Instant};

use parm_engine::InstanceId;

use crate::runtime::membership::Joined;

/// The number of known sequences from which idle ones are removed.
const MANY: usize = 65_536;

/// The most known sequences. If there are more, all are removed: each is then placed as a new one, which is
/// on the same instance unless instances came or went.
const MOST: usize = 16 * MANY;

/// The time without a request after which a sequence is idle.
const IDLE: Duration = Duration::from_mins(10);

/// A request of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SequenceStep {
    /// The id of the sequence.
    pub sequence: u64,
    /// True for its first request.
    pub starts: bool,
    /// True for its last request.
    pub ends: bool,
}

/// The sequences of a model.
#[derive(Debug, Default)]
pub(super) struct Sequences {
    known: HashMap<u64, (InstanceId, Instant)>,
    /// The number of known sequences at which idle ones are removed next.
    sweep_at: usize,
}

impl Sequences {
    /// The instance of a request: that of its sequence, or for a new sequence one that is alive, chosen by
    /// the sequence's id. None if the sequence's instance has left, or if there is no instance.
    pub(super) fn place(&mut self, step: SequenceStep, instances: &[Joined]) -> Option<Joined> {
        let SequenceStep { sequence, starts, ends } = step;
        let known = self.known.get(&sequence).filter(|_| !starts).map(|&(id, _)| id);
        let chosen = match known {
            Some(id) => instances.iter().find(|joined| joined.id == id),
            // Rendezvous hashing: all servers in front of the same instances choose the same one, and few
            // sequences move when instances come and go.
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

    struct Silent;

    impl Instance for Silent {
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
            instance: Arc::new(Silent),
            alive: true,
            suspected: Arc::default(),
        };
        (0..count).map(one).collect()
    }

    fn step(sequence: u64, starts: bool, ends: bool) -> SequenceStep {
        SequenceStep { sequence, starts, ends }
    }

    #[test]
    fn sequences_stay_on_their_instance_and_new_ones_avoid_dead_instances() {
        let mut instances = joined(3);
        let mut sequences = Sequences::default();
        let place = |sequences: &mut Sequences, instances: &[Joined], step| {
            sequences.place(step, instances).map(|joined| joined.id)
        };
        let first: Vec<_> =
            (0..100).map(|id| place(&mut sequences, &instances, step(id, true, false))).collect();
        assert!(instances.iter().all(|joined| first.contains(&Some(joined.id))), "each has some");
        // Another server chooses the same, whatever the order of its instances.
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
        // A sequence that began elsewhere stays there when the dead instance is back.
        let moved: Vec<_> =
            (1000..1100).map(|id| place(&mut sequences, &instances, step(id, false, false))).collect();
        instances[1].alive = true;
        for id in 0..100 {
            assert_eq!(place(&mut sequences, &instances, step(1000 + id, false, false)), moved[id as usize]);
        }
        // A sequence of an instance that left is lost until it begins again.
        let lost = first.iter().position(|id| *id == Some(dead)).unwrap() as u64;
        instances.remove(1);
        assert_eq!(place(&mut sequences, &instances, step(lost, false, false)), None);
        assert!(place(&mut sequences, &instances, step(lost, true, true)).is_some());
        assert_eq!(place(&mut sequences, &[], step(lost, true, false)), None);
    }

    #[test]
    fn a_sequence_that_ended_is_removed() {
        let instances = joined(2);
        let mut sequences = Sequences::default();
        for id in 0..1000 {
            sequences.place(step(id, true, false), &instances);
            sequences.place(step(id, false, true), &instances);
        }
        assert!(sequences.known.is_empty());
    }

    #[test]
    fn the_number_of_known_sequences_is_bounded() {
        let instances = joined(2);
        let mut sequences = Sequences::default();
        for id in 0..3 * MOST as u64 {
            sequences.place(step(id, true, false), &instances);
            assert!(sequences.known.len() <= 2 * MOST);
        }
    }
}
