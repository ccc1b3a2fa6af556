//! Making answers wrong, for experiments.

use rand::{Rng, RngExt, seq};
use rand_distr::StandardNormal;

use crate::dtype::Float;

/// How an answer is wrong.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Corrupt {
    /// N(0, σ²) is added to each of its numbers.
    Noise(f64),
    /// All its signs are flipped.
    Flip,
    /// It is the answer of the same worker for the group before; that of the first group stays right.
    Stale,
}

impl Corrupt {
    /// Makes the answers of up to `count` workers wrong, each of those that are available equally
    /// likely, and returns these workers. `answers` and `before`, those of the group before, are
    /// `[workers, elements]`.
    ///
    /// # Panics
    /// If there is not one answer for each entry of `available`.
    pub fn draw<T: Float>(
        self,
        answers: &mut [T],
        before: Option<&[T]>,
        available: &[bool],
        count: usize,
        rng: &mut impl Rng,
    ) -> Vec<usize> {
        let elements = answers.len() / available.len();
        let there: Vec<usize> = (0..available.len()).filter(|&worker| available[worker]).collect();
        let drawn = seq::index::sample(rng, there.len(), count.min(there.len()));
        let mut workers: Vec<usize> = drawn.into_iter().map(|index| there[index]).collect();
        if self == Self::Stale && before.is_none() {
            workers.clear();
        }
        for &worker in &workers {
            let row = worker * elements..(worker + 1) * elements;
            match (self, before) {
                (Self::Stale, Some(before)) => answers[row.clone()].copy_from_slice(&before[row]),
                (Self::Stale, None) => {}
                (Self::Flip, _) => answers[row].iter_mut().for_each(|y| *y = T::from_f64(-y.to_f64())),
                (Self::Noise(deviation), _) => {
                    for y in &mut answers[row] {
                        let noise: f64 = rng.sample(StandardNormal);
                        *y = T::from_f64(y.to_f64() + deviation * noise);
                    }
                }
            }
        }
        workers
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn as_many_answers_as_asked_are_wrong_and_only_available_ones() {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (right, before): (Vec<f32>, Vec<f32>) = ((1..=12).map(|x| x as f32).collect(), vec![0.5; 12]);
        let available = [true, true, false, true, true, true];
        for corrupt in [Corrupt::Noise(2.0), Corrupt::Flip, Corrupt::Stale] {
            let mut drawn = vec![0; 6];
            for _ in 0..600 {
                let mut answers = right.clone();
                let workers = corrupt.draw(&mut answers, Some(&before), &available, 2, &mut rng);
                for (worker, (now, was)) in answers.chunks(2).zip(right.chunks(2)).enumerate() {
                    assert_eq!(workers.contains(&worker), now != was, "{corrupt:?}");
                    if corrupt == Corrupt::Flip && now != was {
                        assert_eq!(now, [-was[0], -was[1]]);
                    }
                }
                assert_eq!(workers.len(), 2);
                for worker in workers {
                    drawn[worker] += 1;
                }
            }
            assert!(drawn[2] == 0 && drawn.iter().enumerate().all(|(i, &n)| i == 2 || n > 190), "{drawn:?}");
        }
        let mut answers = right.clone();
        assert!(Corrupt::Stale.draw(&mut answers, None, &available, 2, &mut rng).is_empty());
        assert_eq!(answers, right);
    }

    #[test]
    fn noise_has_its_deviation() {
        let mut answers = vec![0.0_f64; 100_000];
        Corrupt::Noise(3.0).draw(&mut answers, None, &[true], 1, &mut ChaCha8Rng::seed_from_u64(7));
        let square = answers.iter().map(|y| y * y).sum::<f64>() / answers.len() as f64;
        assert!((square.sqrt() - 3.0).abs() < 0.05, "{square}");
    }
}
