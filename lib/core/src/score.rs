//! Scores of predictions and reconstructions.
//!
//! A_a is the accuracy of available predictions, A_d that of reconstructions, both against the true
//! label; A_o = (1−f)·A_a + f·A_d is the overall accuracy at unavailable fraction f (ParM, section
//! 4.3); agreement is the share of reconstructions with the deployed model's own top-1.

use crate::dtype::Float;

/// How many classes of a row come before class `label`: 0 when it is the top-1.
///
/// Equal scores rank by index, as `numpy.argmax` has it; a score that is not a number comes before
/// all others, so that it never passes for a right answer. `None` if the row has no such class.
#[must_use]
pub fn rank<T: Float>(row: &[T], label: usize) -> Option<usize> {
    let own = *row.get(label)?;
    let is_nan = |x: T| x.partial_cmp(&x).is_none();
    if is_nan(own) {
        return Some(row.len());
    }
    Some(row.iter().enumerate().filter(|&(i, &x)| is_nan(x) || x > own || (x == own && i < label)).count())
}

/// The class with the highest score; the first of equals, or the first that is not a number.
#[must_use]
pub fn top1<T: Float>(row: &[T]) -> Option<usize> {
    row.iter()
        .enumerate()
        .map(|(i, &x)| (i, x))
        .reduce(|best, next| {
            let best_is_nan = best.1.partial_cmp(&best.1).is_none();
            let better = !best_is_nan && !matches!(next.1.partial_cmp(&best.1), Some(o) if o.is_le());
            if better { next } else { best }
        })
        .map(|(i, _)| i)
}

/// Right answers of a number of rows, among the top n for each n asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Rows that were counted.
    pub rows: u64,
    /// For each n of [`Scorer::new`], rows whose label is among the top n.
    pub right: Vec<u64>,
}

impl Tally {
    /// The share of rows right in the top n of index `at`; none without rows.
    #[must_use]
    pub fn accuracy(&self, at: usize) -> Option<f64> {
        (self.rows > 0).then(|| self.right[at] as f64 / self.rows as f64)
    }
}

/// What became of one row of predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The prediction arrived.
    Available,
    /// It was lost, and rebuilt (or guessed, if the scores are of a guess).
    Reconstructed,
    /// It was lost, and nothing could rebuild it.
    Unsolved,
}

/// Counts right answers by fate.
#[derive(Clone, Debug)]
pub struct Scorer {
    tops: Vec<usize>,
    lost: u64,
    /// Rows that arrived.
    pub available: Tally,
    /// Rows that were rebuilt.
    pub reconstructed: Tally,
    /// Rows that nothing could rebuild.
    pub unsolved: u64,
    /// Reconstructions compared with the deployed model's own predictions.
    pub compared: u64,
    /// Those of them with the same top-1.
    pub agreed: u64,
}

impl Scorer {
    /// Counts answers in the top n for each n of `tops`.
    #[must_use]
    pub fn new(tops: Vec<usize>) -> Self {
        let empty = Tally { rows: 0, right: vec![0; tops.len()] };
        Self {
            tops,
            lost: 0,
            available: empty.clone(),
            reconstructed: empty,
            unsolved: 0,
            compared: 0,
            agreed: 0,
        }
    }

    /// The n of each top n.
    #[must_use]
    pub fn tops(&self) -> &[usize] {
        &self.tops
    }

    /// Counts a row against its label. Returns `None`, and counts nothing, if the row has no such
    /// class.
    pub fn label<T: Float>(&mut self, fate: Fate, row: &[T], label: usize) -> Option<()> {
        let rank = rank(row, label)?;
        let tally = match fate {
            Fate::Available => &mut self.available,
            Fate::Reconstructed => &mut self.reconstructed,
            Fate::Unsolved => return Some(()),
        };
        tally.rows += 1;
        for (right, &n) in tally.right.iter_mut().zip(&self.tops) {
            *right += u64::from(rank < n);
        }
        Some(())
    }

    /// Compares a row's top-1 with the deployed model's, if it is a reconstruction.
    pub fn reference<T: Float>(&mut self, fate: Fate, row: &[T], deployed_top1: usize) {
        if fate == Fate::Reconstructed {
            self.compared += 1;
            self.agreed += u64::from(top1(row) == Some(deployed_top1));
        }
    }

    /// Notes what became of a row.
    pub fn count(&mut self, fate: Fate) {
        self.lost += u64::from(fate != Fate::Available);
        self.unsolved += u64::from(fate == Fate::Unsolved);
    }

    /// Rows that did not arrive, whether they were rebuilt or not.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The share of reconstructions with the deployed model's own top-1.
    #[must_use]
    pub fn agreement(&self) -> Option<f64> {
        (self.compared > 0).then(|| self.agreed as f64 / self.compared as f64)
    }

    /// A_o(f) for the top n of index `at`. Rows that nothing could rebuild count as wrong: A_d
    /// enters with the share of lost rows that were rebuilt. None without lost rows or without
    /// available ones, unless f makes the other irrelevant.
    #[must_use]
    pub fn overall(&self, at: usize, f: f64) -> Option<f64> {
        let lost = self.reconstructed.rows + self.unsolved;
        let degraded = (lost > 0).then(|| self.reconstructed.right[at] as f64 / lost as f64);
        let part = |share: f64, accuracy: Option<f64>| {
            if share == 0.0 { Some(0.0) } else { accuracy.map(|accuracy| share * accuracy) }
        };
        Some(part(1.0 - f, self.available.accuracy(at))? + part(f, degraded)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_follow_argmax() {
        assert_eq!(rank(&[0.1_f32, 0.7, 0.2], 1), Some(0));
        assert_eq!(rank(&[0.1_f32, 0.7, 0.2], 0), Some(2));
        assert_eq!(rank(&[0.5_f32, 0.5], 0), Some(0), "the first of equals wins");
        assert_eq!(rank(&[0.5_f32, 0.5], 1), Some(1));
        assert_eq!(rank(&[0.5_f32], 1), None);
        assert_eq!(top1(&[0.5_f32, 0.7, 0.7]), Some(1));
        assert_eq!(top1::<f32>(&[]), None);
    }

    #[test]
    fn nan_is_never_right() {
        assert_eq!(rank(&[f32::NAN, 1.0], 0), Some(2));
        assert_eq!(rank(&[f32::NAN, 1.0], 1), Some(1));
        assert_eq!(top1(&[1.0, f32::NAN, f32::NAN]), Some(1));
        assert_eq!(top1(&[f32::NAN, 1.0]), Some(0));
    }

    #[test]
    fn overall_accuracy_weighs_the_parts_and_counts_unsolved_rows_as_wrong() {
        let mut scorer = Scorer::new(vec![1, 2]);
        let right = [1.0_f32, 0.0];
        for (fate, label) in [
            (Fate::Available, 0),
            (Fate::Available, 0),
            (Fate::Available, 0),
            (Fate::Available, 1),
            (Fate::Reconstructed, 0),
            (Fate::Reconstructed, 1),
        ] {
            assert_eq!(scorer.label(fate, &right, label), Some(()));
        }
        assert_eq!(scorer.available.accuracy(0), Some(0.75));
        assert_eq!(scorer.reconstructed.accuracy(0), Some(0.5));
        assert_eq!(scorer.reconstructed.accuracy(1), Some(1.0));
        assert_eq!(scorer.overall(0, 0.1), Some(0.9 * 0.75 + 0.1 * 0.5));
        scorer.count(Fate::Unsolved);
        scorer.count(Fate::Unsolved);
        assert_eq!(scorer.overall(0, 0.1), Some(0.9 * 0.75 + 0.1 * 0.25));
        assert_eq!(scorer.label(Fate::Available, &right, 2), None);
    }

    #[test]
    fn only_reconstructions_are_compared_and_unsolved_rows_are_apart() {
        let mut scorer = Scorer::new(vec![1]);
        assert_eq!(scorer.tops(), [1]);
        let row = [0.0_f32, 1.0];
        for (fate, deployed) in [
            (Fate::Available, 1),
            (Fate::Reconstructed, 1),
            (Fate::Reconstructed, 0),
            (Fate::Reconstructed, 1),
            (Fate::Unsolved, 1),
        ] {
            scorer.count(fate);
            scorer.reference(fate, &row, deployed);
            assert_eq!(scorer.label(fate, &row, 1), Some(()));
        }
        assert_eq!(scorer.agreement(), Some(2.0 / 3.0));
        assert_eq!((scorer.lost(), scorer.unsolved, scorer.compared), (4, 1, 3));
        assert_eq!((scorer.available.rows, scorer.reconstructed.rows), (1, 3));
        assert_eq!(scorer.overall(0, 1.0), Some(0.75));
        assert_eq!(scorer.overall(0, 0.0), Some(1.0));
    }

    #[test]
    fn scores_without_rows_are_none() {
        let scorer = Scorer::new(vec![1]);
        assert_eq!(scorer.available.accuracy(0), None);
        assert_eq!(scorer.agreement(), None);
        assert_eq!(scorer.overall(0, 0.1), None);
    }
}
