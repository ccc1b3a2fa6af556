//! How well confidences tell right answers from wrong ones, and what they mean as probabilities.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

/// The most steps of a calibration that is kept: more would only be noise.
const MAX_STEPS: usize = 64;

/// A confidence, and whether the answer was right.
pub type Judged = (f32, bool);

/// The area under the receiver operating characteristic: the probability that a right answer has a
/// higher confidence than a wrong one, ties counting half. None where all are right or all are wrong.
#[must_use]
pub fn auroc(judged: &[Judged]) -> Option<f64> {
    let mut sorted = judged.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let right = sorted.iter().filter(|judged| judged.1).count() as f64;
    let wrong = sorted.len() as f64 - right;
    // Σ over right answers of the wrong ones below them, by the ranks of runs of equals.
    let (mut below, mut area) = (0.0, 0.0);
    for equal in sorted.chunk_by(|a, b| a.0 == b.0) {
        let right_here = equal.iter().filter(|judged| judged.1).count() as f64;
        let wrong_here = equal.len() as f64 - right_here;
        area += right_here * (below + wrong_here / 2.0);
        below += wrong_here;
    }
    (right > 0.0 && wrong > 0.0).then(|| area / (right * wrong))
}

/// A rising curve from confidences to probabilities of being right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// The version of this format: 1.
    pub format: u32,
    /// Points [confidence, probability], both rising; straight lines lead from one to the next.
    pub points: Vec<[f64; 2]>,
}

/// The file of a calibration that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationFileError {
    /// A file that cannot be read.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file of something else.
    #[error("{}: malformed calibration: {error}", path.display())]
    Json {
        /// The file.
        path: PathBuf,
        /// Where and why.
        error: serde_json::Error,
    },
    /// A curve that cannot be used.
    #[error("{}: {error}", path.display())]
    Curve {
        /// The file.
        path: PathBuf,
        /// Why.
        error: CalibrationError,
    },
}

/// A calibration that cannot be used.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CalibrationError {
    /// A format of the future.
    #[error("found format {0}, expected 1")]
    Format(u32),
    /// No points, or points that fall or leave [0, 1].
    #[error("found points that do not rise within [0, 1], expected at least one [confidence, probability]")]
    Points,
}

impl Calibration {
    /// The rising curve that is nearest to what was seen, in the least-squares sense: isotonic
    /// regression by pooling adjacent violators. None without answers.
    #[must_use]
    pub fn fit(judged: &[Judged]) -> Option<Self> {
        let mut sorted = judged.to_vec();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        // Pools of (answers, Σ confidence, right ones); neighbours are merged while they fall.
        let mut pools: Vec<[f64; 3]> = Vec::new();
        let size = sorted.len().div_ceil(MAX_STEPS).max(1);
        for chunk in sorted.chunks(size) {
            let confidence = chunk.iter().map(|judged| f64::from(judged.0)).sum();
            let right = chunk.iter().filter(|judged| judged.1).count() as f64;
            let mut pool = [chunk.len() as f64, confidence, right];
            while let Some(&last) = pools.last().filter(|last| last[2] / last[0] >= pool[2] / pool[0]) {
                pools.pop();
                pool = std::array::from_fn(|i| pool[i] + last[i]);
            }
            pools.push(pool);
        }
        let points = pools.iter().map(|&[count, confidence, right]| [confidence / count, right / count]);
        let points: Vec<_> = points.collect();
        (!points.is_empty()).then_some(Self { format: 1, points })
    }

    /// Reads a calibration from the file that `parm-score` wrote.
    ///
    /// # Errors
    /// A file that cannot be read, or is no calibration.
    pub fn read(path: &Path) -> Result<Self, CalibrationFileError> {
        let text =
            fs::read(path).map_err(|error| CalibrationFileError::Io { path: path.to_owned(), error })?;
        let calibration: Self = serde_json::from_slice(&text)
            .map_err(|error| CalibrationFileError::Json { path: path.to_owned(), error })?;
        let checked = calibration.check();
        checked.map_err(|error| CalibrationFileError::Curve { path: path.to_owned(), error })?;
        Ok(calibration)
    }

    /// Makes sure that the curve rises.
    ///
    /// # Errors
    /// [`CalibrationError`], by kind.
    pub fn check(&self) -> Result<(), CalibrationError> {
        if self.format != 1 {
            return Err(CalibrationError::Format(self.format));
        }
        let rising = self.points.is_sorted_by(|a, b| a[0] <= b[0] && a[1] <= b[1]);
        let within = self.points.iter().flatten().all(|value| (0.0..=1.0).contains(value));
        if rising && within && !self.points.is_empty() { Ok(()) } else { Err(CalibrationError::Points) }
    }

    /// The probability of a confidence that is an estimate. 0 and 1 are none, and stay: nothing is known of
    /// the row, or it was not rebuilt.
    #[must_use]
    pub fn calibrate(&self, confidence: f32) -> f32 {
        if 0.0 < confidence && confidence < 1.0 { self.apply(confidence) } else { confidence }
    }

    /// The probability that an answer of this confidence is right.
    #[must_use]
    pub fn apply(&self, confidence: f32) -> f32 {
        let x = f64::from(confidence);
        let above = self.points.partition_point(|point| point[0] <= x);
        let probability =
            match (above.checked_sub(1).and_then(|i| self.points.get(i)), self.points.get(above)) {
                (Some([x0, y0]), Some([x1, y1])) => y0 + (y1 - y0) * (x - x0) / (x1 - x0),
                (Some([_, y]), None) | (None, Some([_, y])) => *y,
                (None, None) => x,
            };
        probability as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the definition stands: all pairs.
    fn auroc_naive(judged: &[Judged]) -> Option<f64> {
        let (mut pairs, mut sum) = (0.0, 0.0);
        for right in judged.iter().filter(|judged| judged.1) {
            for wrong in judged.iter().filter(|judged| !judged.1) {
                pairs += 1.0;
                sum += if right.0 > wrong.0 {
                    1.0
                } else if right.0 == wrong.0 {
                    0.5
                } else {
                    0.0
                };
            }
        }
        (pairs > 0.0).then(|| sum / pairs)
    }

    proptest! {
        #[test]
        fn auroc_is_its_definition(judged in prop::collection::vec((0_u8..6, any::<bool>()), 0..60)) {
            let judged: Vec<Judged> = judged.into_iter().map(|(x, right)| (f32::from(x) / 6.0, right)).collect();
            match (auroc(&judged), auroc_naive(&judged)) {
                (Some(fast), Some(naive)) => prop_assert!((fast - naive).abs() < 1e-12),
                (fast, naive) => prop_assert_eq!(fast, naive),
            }
        }

        #[test]
        fn a_fit_rises_and_keeps_the_mean(judged in prop::collection::vec((0.0_f32..=1.0, any::<bool>()), 1..400)) {
            let fit = Calibration::fit(&judged).unwrap();
            prop_assert_eq!(fit.check(), Ok(()));
            prop_assert!(fit.points.len() <= MAX_STEPS);
            let (low, high) = (fit.apply(0.0), fit.apply(1.0));
            prop_assert!((0.0..=1.0).contains(&low) && low <= high && high <= 1.0);
        }
    }

    #[test]
    fn calibrated_confidences_are_probabilities() {
        // Right with probability x².
        let judged: Vec<Judged> = (0..100_000_u32)
            .map(|i| {
                let x = i as f32 / 100_000.0;
                (x, f64::from(i.wrapping_mul(2_654_435_761)) / 4_294_967_296.0 < f64::from(x * x))
            })
            .collect();
        let fit = Calibration::fit(&judged).unwrap();
        for x in [0.1_f32, 0.3, 0.5, 0.7, 0.9] {
            assert!((fit.apply(x) - x * x).abs() < 0.05, "{x}: {}", fit.apply(x));
        }
    }

    #[test]
    fn what_does_not_rise_is_refused() {
        let calibration = |format, points: &[[f64; 2]]| Calibration { format, points: points.to_vec() };
        assert_eq!(calibration(2, &[[0.0, 0.0]]).check(), Err(CalibrationError::Format(2)));
        for points in [&[][..], &[[0.5, 0.5], [0.4, 0.6]], &[[0.1, 0.6], [0.4, 0.5]], &[[0.0, 2.0]]] {
            assert_eq!(calibration(1, points).check(), Err(CalibrationError::Points));
        }
    }
}
