//! Drawing which predictions are lost, for experiments.

use rand::{Rng, RngExt};

/// How losses are drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Erase {
    /// One prediction of every group, each slot equally likely.
    One,
    /// The prediction in this slot of every group: one of the k passes that lose each once.
    Slot(usize),
    /// Each prediction on its own, with this probability.
    Probability(f64),
}

impl Erase {
    /// Draws the losses of one group: sets `available` to false where a prediction is lost.
    /// `available` has one entry per real row of the group.
    pub fn draw(self, available: &mut [bool], rng: &mut impl Rng) {
        match self {
            Self::One if available.is_empty() => {}
            Self::One => {
                let slot = rng.random_range(0..available.len());
                available[slot] = false;
            }
            // A short last group lacks the slot: nothing is lost there.
            Self::Slot(slot) => available.iter_mut().skip(slot).take(1).for_each(|row| *row = false),
            Self::Probability(p) => {
                for row in available {
                    *row &= !rng.random_bool(p);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn losses(erase: Erase, groups: usize, k: usize) -> Vec<usize> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut by_slot = vec![0; k];
        for _ in 0..groups {
            let mut available = vec![true; k];
            erase.draw(&mut available, &mut rng);
            for (lost, available) in by_slot.iter_mut().zip(available) {
                *lost += usize::from(!available);
            }
        }
        by_slot
    }

    #[test]
    fn one_loses_exactly_one_a_group_evenly() {
        let by_slot = losses(Erase::One, 4000, 4);
        assert_eq!(by_slot.iter().sum::<usize>(), 4000);
        assert!(by_slot.iter().all(|&lost| (900..1100).contains(&lost)), "{by_slot:?}");
    }

    #[test]
    fn a_group_without_rows_loses_none() {
        for erase in [Erase::One, Erase::Slot(0), Erase::Probability(1.0)] {
            assert!(losses(erase, 3, 0).is_empty());
        }
    }

    #[test]
    fn what_is_lost_already_stays_lost() {
        let mut available = [false, true, false];
        Erase::Probability(0.0).draw(&mut available, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(available, [false, true, false]);
        Erase::Probability(1.0).draw(&mut available, &mut ChaCha8Rng::seed_from_u64(1));
        assert_eq!(available, [false; 3]);
    }

    #[test]
    fn slot_loses_that_slot_and_spares_short_groups() {
        assert_eq!(losses(Erase::Slot(2), 10, 4), [0, 0, 10, 0]);
        assert_eq!(losses(Erase::Slot(2), 10, 2), [0, 0]);
    }

    #[test]
    fn probability_is_that_of_each_row() {
        let by_slot = losses(Erase::Probability(0.1), 10_000, 3);
        assert!(by_slot.iter().all(|&lost| (850..1150).contains(&lost)), "{by_slot:?}");
    }
}
