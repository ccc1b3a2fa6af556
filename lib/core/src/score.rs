//! Scores of predictions and reconstructions, by kind, with intervals of confidence.
//!
//! A_a is the accuracy of available predictions, A_d that of reconstructions, both against the true
//! label; A_o = (1−f)·A_a + f·A_d is the overall accuracy at unavailable fraction f (ParM, section
//! 4.3); A_all is the accuracy of all predictions as they stand, lost or not; agreement is the share
//! of reconstructions with the deployed model's own top-1. A prediction that nothing could rebuild is
//! wrong in A_o and A_all.

use rand::{Rng, RngExt};

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

/// What is known of one row of predictions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What became of it.
    pub fate: Fate,
    /// The [`rank`] of its label; none without labels.
    pub rank: Option<usize>,
    /// Whether its top-1 is the deployed model's own; none if that is not known.
    pub agrees: Option<bool>,
}

/// Counts of rows by fate, and of right answers among the top n for a number of n.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that arrived.
    pub available: u64,
    /// Rows that were rebuilt.
    pub reconstructed: u64,
    /// Rows that nothing could rebuild.
    pub unsolved: u64,
    /// Reconstructions that were compared with the deployed model's own predictions.
    pub compared: u64,
    /// Those of them with the same top-1.
    pub agreed: u64,
    /// For each n, rows that arrived and are right in the top n.
    right_available: Vec<u64>,
    /// For each n, rows that were rebuilt and are right in the top n.
    right_reconstructed: Vec<u64>,
}

/// A kind of score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Measure {
    /// A_a: accuracy of predictions that arrived.
    Available,
    /// A_d: accuracy of reconstructions.
    Degraded,
    /// A_all: accuracy of all predictions.
    All,
    /// A_all, if what nothing could rebuild is guessed among this many classes, all equally likely.
    AllGuessed(usize),
    /// A_o(f): overall accuracy at unavailable fraction f.
    Overall(f64),
    /// The share of reconstructions with the deployed model's own top-1.
    Agreement,
}

/// An interval of confidence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// Its lower end.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

/// How often the groups are drawn again for an interval.
const RESAMPLES: usize = 1000;

/// Groups are drawn in at most this many blocks, so that memory and time stay bounded.
const MAX_BLOCKS: usize = 4096;

/// Counts rows by group.
#[derive(Clone, Debug)]
pub struct Scorer {
    tops: Vec<usize>,
    groups: usize,
    blocks: Vec<Counts>,
}

impl Counts {
    fn new(tops: usize) -> Self {
        let right = vec![0; tops];
        Self { right_available: right.clone(), right_reconstructed: right, ..Self::default() }
    }

    /// Rows that did not arrive, whether they were rebuilt or not.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.reconstructed + self.unsolved
    }

    fn add(&mut self, other: &Self) {
        self.available += other.available;
        self.reconstructed += other.reconstructed;
        self.unsolved += other.unsolved;
        self.compared += other.compared;
        self.agreed += other.agreed;
        let available = self.right_available.iter_mut().zip(&other.right_available);
        let reconstructed = self.right_reconstructed.iter_mut().zip(&other.right_reconstructed);
        for (sum, &more) in available.chain(reconstructed) {
            *sum += more;
        }
    }

    fn count(&mut self, row: Row, tops: &[usize]) {
        let right = match row.fate {
            Fate::Available => {
                self.available += 1;
                &mut self.right_available
            }
            Fate::Reconstructed => {
                self.reconstructed += 1;
                self.compared += u64::from(row.agrees.is_some());
                self.agreed += u64::from(row.agrees == Some(true));
                &mut self.right_reconstructed
            }
            Fate::Unsolved => {
                self.unsolved += 1;
                return;
            }
        };
        for (right, &n) in right.iter_mut().zip(tops) {
            *right += u64::from(row.rank.is_some_and(|rank| rank < n));
        }
    }

    /// A score for the top n of index `at` among `tops`; none without rows that it is about.
    fn score(&self, measure: Measure, at: usize, tops: &[usize]) -> Option<f64> {
        let share = |part: f64, of: u64| (of > 0).then(|| part / of as f64);
        let available = self.right_available.get(at).map_or(0.0, |&right| right as f64);
        let rebuilt = self.right_reconstructed.get(at).map_or(0.0, |&right| right as f64);
        let rows = self.available + self.lost();
        match measure {
            Measure::Available => share(available, self.available),
            Measure::Degraded => share(rebuilt, self.reconstructed),
            Measure::All => share(available + rebuilt, rows),
            Measure::AllGuessed(classes) => {
                let lucky = tops.get(at).map_or(0.0, |&n| (n as f64 / classes as f64).min(1.0));
                share(available + rebuilt + lucky * self.unsolved as f64, rows)
            }
            Measure::Overall(f) => {
                let part = |share: f64, accuracy: Option<f64>| {
                    if share == 0.0 { Some(0.0) } else { accuracy.map(|accuracy| share * accuracy) }
                };
                let degraded = share(rebuilt, self.lost());
                Some(part(1.0 - f, share(available, self.available))? + part(f, degraded)?)
            }
            Measure::Agreement => share(self.agreed as f64, self.compared),
        }
    }
}

impl Scorer {
    /// Counts answers in the top n for each n of `tops`, of a stream of that many groups.
    #[must_use]
    pub fn new(tops: Vec<usize>, groups: usize) -> Self {
        let blocks = vec![Counts::new(tops.len()); groups.clamp(1, MAX_BLOCKS)];
        Self { tops, groups: groups.max(1), blocks }
    }

    /// The n of each top n.
    #[must_use]
    pub fn tops(&self) -> &[usize] {
        &self.tops
    }

    /// Counts a row of a group. Groups beyond the number given count as the last.
    pub fn count(&mut self, group: usize, row: Row) {
        let block = (group as u64 * self.blocks.len() as u64 / self.groups as u64) as usize;
        let last = self.blocks.len() - 1;
        self.blocks[block.min(last)].count(row, &self.tops);
    }

    /// The counts of all groups.
    #[must_use]
    pub fn total(&self) -> Counts {
        let mut total = Counts::new(self.tops.len());
        self.blocks.iter().for_each(|block| total.add(block));
        total
    }

    /// A score for the top n of index `at`; none without rows that it is about. Agreement knows no n.
    #[must_use]
    pub fn score(&self, measure: Measure, at: usize) -> Option<f64> {
        self.total().score(measure, at, &self.tops)
    }

    /// 95 % intervals of scores, each for the top n of an index, by bootstrap over groups: rows of
    /// one group are rebuilt from the same answers, so they are right or wrong together. None for a
    /// score without rows, and where there is only one group to draw.
    pub fn intervals(&self, scores: &[(Measure, usize)], rng: &mut impl Rng) -> Vec<Option<Interval>> {
        if self.blocks.len() < 2 {
            return vec![None; scores.len()];
        }
        let mut drawn: Vec<Vec<f64>> = vec![Vec::with_capacity(RESAMPLES); scores.len()];
        for _ in 0..RESAMPLES {
            let mut sum = Counts::new(self.tops.len());
            for _ in 0..self.blocks.len() {
                sum.add(&self.blocks[rng.random_range(0..self.blocks.len())]);
            }
            for (drawn, &(measure, at)) in drawn.iter_mut().zip(scores) {
                drawn.extend(sum.score(measure, at, &self.tops));
            }
        }
        drawn.into_iter().map(interval).collect()
    }
}

/// The middle 95 % of what was drawn.
pub(crate) fn interval(mut drawn: Vec<f64>) -> Option<Interval> {
    drawn.sort_by(f64::total_cmp);
    let at = |share: f64| drawn.get((share * (drawn.len().max(1) - 1) as f64).round() as usize).copied();
    Some(Interval { low: at(0.025)?, high: at(0.975)? })
}

/// The intersection over union of two boxes `[x, y, width, height]`, (x, y) being the corner of lowest
/// coordinates: 0 for boxes apart, 1 for the same box. A box of negative width or height is empty.
#[must_use]
pub fn intersection_over_union(a: &[f32; 4], b: &[f32; 4]) -> f64 {
    let side = |axis: usize| {
        let [(low_a, size_a), (low_b, size_b)] =
            [a, b].map(|of| (f64::from(of[axis]), f64::from(of[axis + 2]).max(0.0)));
        let shared = (low_a + size_a).min(low_b + size_b) - low_a.max(low_b);
        (shared.max(0.0), size_a, size_b)
    };
    let ((width, width_a, width_b), (height, height_a, height_b)) = (side(0), side(1));
    let shared = width * height;
    let union = width_a * height_a + width_b * height_b - shared;
    if union > 0.0 { shared / union } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

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

    fn row(fate: Fate, rank: usize) -> Row {
        Row { fate, rank: Some(rank), agrees: None }
    }

    #[test]
    fn scores_are_those_of_their_kind() {
        let mut scorer = Scorer::new(vec![1, 2], 3);
        for (group, fate, rank) in [
            (0, Fate::Available, 0),
            (0, Fate::Available, 0),
            (1, Fate::Available, 0),
            (1, Fate::Available, 1),
            (2, Fate::Reconstructed, 0),
            (2, Fate::Reconstructed, 1),
        ] {
            scorer.count(group, row(fate, rank));
        }
        assert_eq!(scorer.score(Measure::Available, 0), Some(0.75));
        assert_eq!(scorer.score(Measure::Degraded, 0), Some(0.5));
        assert_eq!(scorer.score(Measure::Degraded, 1), Some(1.0));
        assert_eq!(scorer.score(Measure::All, 0), Some(4.0 / 6.0));
        assert_eq!(scorer.score(Measure::Overall(0.1), 0), Some(0.9 * 0.75 + 0.1 * 0.5));
        // What nothing could rebuild is wrong, unless it is guessed.
        scorer.count(2, row(Fate::Unsolved, 0));
        scorer.count(2, row(Fate::Unsolved, 0));
        assert_eq!(scorer.score(Measure::Degraded, 0), Some(0.5));
        assert_eq!(scorer.score(Measure::All, 0), Some(0.5));
        assert_eq!(scorer.score(Measure::AllGuessed(4), 0), Some((4.0 + 0.5) / 8.0));
        assert_eq!(scorer.score(Measure::Overall(0.1), 0), Some(0.9 * 0.75 + 0.1 * 0.25));
    }

    #[test]
    fn agreement_is_of_reconstructions() {
        let mut scorer = Scorer::new(Vec::new(), 1);
        for (fate, agrees) in [
            (Fate::Available, Some(true)),
            (Fate::Reconstructed, Some(true)),
            (Fate::Reconstructed, Some(false)),
            (Fate::Unsolved, Some(true)),
        ] {
            scorer.count(0, Row { fate, rank: None, agrees });
        }
        assert_eq!(scorer.score(Measure::Agreement, 0), Some(0.5));
    }

    #[test]
    fn scores_without_rows_are_none() {
        let scorer = Scorer::new(vec![1], 0);
        for measure in
            [Measure::Available, Measure::Degraded, Measure::All, Measure::Overall(0.1), Measure::Agreement]
        {
            assert_eq!(scorer.score(measure, 0), None, "{measure:?}");
        }
    }

    #[test]
    fn intervals_cover_what_groups_scatter() {
        // 400 groups of 2 whose rows are right together with probability 0.8: the deviation of the
        // share is √(0.8·0.2/400) = 0.02, that of independent rows would be 0.014.
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut covered = 0;
        for _ in 0..40 {
            let mut scorer = Scorer::new(vec![1], 400);
            for group in 0..400 {
                let rank = usize::from(!rng.random_bool(0.8));
                scorer.count(group, row(Fate::Available, rank));
                scorer.count(group, row(Fate::Available, rank));
            }
            let interval = scorer.intervals(&[(Measure::Available, 0)], &mut rng)[0].unwrap();
            assert!((0.06..0.1).contains(&(interval.high - interval.low)), "{interval:?}");
            covered += usize::from(interval.low <= 0.8 && 0.8 <= interval.high);
        }
        assert!(covered >= 34, "{covered} of 40 intervals of 95 % hold the truth");
    }

    #[test]
    fn many_groups_share_blocks_and_one_group_has_no_interval() {
        let mut scorer = Scorer::new(vec![1], 10 * MAX_BLOCKS);
        for group in 0..10 * MAX_BLOCKS {
            scorer.count(group, row(Fate::Available, 0));
        }
        assert!(scorer.blocks.iter().all(|block| block.available == 10));
        let one = Scorer::new(vec![1], 1);
        assert_eq!(one.intervals(&[(Measure::All, 0)], &mut ChaCha8Rng::seed_from_u64(0)), [None]);
    }
}
