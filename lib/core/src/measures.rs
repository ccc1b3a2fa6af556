//! The scores of predictions that are no classes: sums over rows, and what they come to.

use rand::{Rng, RngExt};

use crate::score::{self, Interval, intersection_over_union};
use crate::task::{Agreement, Task, as_box, cosine};

/// A score: its title in a table and its key in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// The title.
    pub title: &'static str,
    /// The key.
    pub key: &'static str,
}

const fn column(title: &'static str, key: &'static str) -> Column {
    Column { title, key }
}

const REGRESS: &[Column] =
    &[column("R2", "r2"), column("MAE", "mae"), column("MSE", "mse"), column("agreement", "agreement")];
const EMBED: &[Column] = &[column("cosine", "cosine"), column("agreement", "agreement")];
const BOXES: &[Column] =
    &[column("mean IoU", "mean_iou"), column("IoU >= 0.5", "iou_50"), column("IoU >= 0.75", "iou_75")];

/// What is summed over the rows of a task that does not classify. The first sum is the number of rows.
#[derive(Clone, Debug)]
pub struct Measures {
    task: Task,
    agreement: Agreement,
    /// A row that is subtracted from all true ones: the squares of values far from 0 would lose the digits of their
    /// differences.
    origin: Vec<f64>,
}

/// The sums of values before those of each element: rows, absolute errors, squared errors, agreeing rows, and
/// squared distances from the origin.
const VALUES: usize = 5;

impl Measures {
    /// The measures of a task, for true rows near `origin`.
    #[must_use]
    pub fn new(task: Task, agreement: Agreement, origin: &[f64]) -> Self {
        Self { task, agreement, origin: origin.to_vec() }
    }

    /// When two predictions agree.
    #[must_use]
    pub fn agreement(&self) -> Agreement {
        self.agreement
    }

    /// The scores, the main one first.
    #[must_use]
    pub fn columns(&self) -> &'static [Column] {
        match self.task {
            Task::Classify => &[],
            Task::Regress => REGRESS,
            Task::Embed => EMBED,
            Task::Boxes => BOXES,
        }
    }

    /// The number of sums.
    #[must_use]
    pub fn width(&self) -> usize {
        match self.task {
            Task::Regress => VALUES + self.origin.len(),
            _ => 1 + self.columns().len(),
        }
    }

    /// What a row adds to the sums, beside the true one.
    #[must_use]
    pub fn row(&self, prediction: &[f64], truth: &[f64]) -> Vec<f64> {
        let share = |is: bool| f64::from(u8::from(is));
        let agrees = || share(self.agreement.agrees(prediction, truth));
        match self.task {
            Task::Classify => vec![1.0],
            Task::Regress => {
                let errors = || prediction.iter().zip(truth).map(|(a, b)| a - b);
                let values = truth.iter().zip(&self.origin).map(|(value, origin)| value - origin);
                let absolute = errors().map(f64::abs).sum::<f64>();
                let squares = errors().map(|error| error * error).sum();
                let scatter = values.clone().map(|value| value * value).sum();
                [1.0, absolute, squares, agrees(), scatter].into_iter().chain(values).collect()
            }
            Task::Embed => vec![1.0, cosine(prediction, truth), agrees()],
            Task::Boxes => {
                let [a, b] = [prediction, truth].map(as_box);
                let overlap = a.zip(b).map_or(0.0, |(a, b)| intersection_over_union(&a, &b));
                vec![1.0, overlap, share(overlap >= 0.5), share(overlap >= 0.75)]
            }
        }
    }

    /// The main score: R² over all elements, the mean cosine, the mean intersection over union. None without rows,
    /// and for R² if all true values are equal.
    #[must_use]
    pub fn main(&self, sums: &[f64]) -> Option<f64> {
        self.scores(sums).first().copied().flatten()
    }

    /// The scores of sums, by [column](Self::columns).
    #[must_use]
    pub fn scores(&self, sums: &[f64]) -> Vec<Option<f64>> {
        let mean = |at: usize| (sums[0] > 0.0).then(|| sums[at] / sums[0]);
        match self.task {
            Task::Classify => Vec::new(),
            Task::Regress => {
                let elements = self.origin.len().max(1) as f64;
                let of_element = |at: usize| mean(at).map(|mean| mean / elements);
                let means = sums[VALUES..].iter().map(|sum| sum * sum).sum::<f64>() / sums[0];
                let scatter = sums[4] - means;
                let determination = (scatter > 0.0).then(|| 1.0 - sums[2] / scatter);
                vec![determination, of_element(1), of_element(2), mean(3)]
            }
            Task::Embed | Task::Boxes => (1..=self.columns().len()).map(mean).collect(),
        }
    }
}

/// How often groups are drawn again for an interval.
const RESAMPLES: usize = 1000;

/// Groups are drawn in at most this many blocks, so that memory and time stay bounded.
const MAX_BLOCKS: usize = 4096;

/// Sums over rows, by group.
#[derive(Clone, Debug)]
pub struct Tally {
    groups: usize,
    blocks: Vec<Vec<f64>>,
}

impl Tally {
    /// Counts rows of so many sums, of a stream of so many groups.
    #[must_use]
    pub fn new(width: usize, groups: usize) -> Self {
        let groups = groups.max(1);
        Self { groups, blocks: vec![vec![0.0; width]; groups.min(MAX_BLOCKS)] }
    }

    /// Adds what a row of a group adds. Groups beyond the number given count as the last.
    pub fn count(&mut self, group: usize, row: &[f64]) {
        let last = self.blocks.len() - 1;
        let block = (group as u64 * self.blocks.len() as u64 / self.groups as u64) as usize;
        add(&mut self.blocks[block.min(last)], row);
    }

    /// The sums of all groups.
    #[must_use]
    pub fn total(&self) -> Vec<f64> {
        let mut total = vec![0.0; self.blocks[0].len()];
        self.blocks.iter().for_each(|block| add(&mut total, block));
        total
    }

    /// The 95 % interval of a score by bootstrap over groups: the rows of a group are rebuilt from the same answers,
    /// so that their errors are correlated. None with rows of one group alone, or without a score.
    pub fn interval(&self, score: impl Fn(&[f64]) -> Option<f64>, rng: &mut impl Rng) -> Option<Interval> {
        let held: Vec<&Vec<f64>> = self.blocks.iter().filter(|block| block[0] > 0.0).collect();
        if held.len() < 2 {
            return None;
        }
        let draw = |_| {
            let mut sum = vec![0.0; held[0].len()];
            for _ in 0..held.len() {
                add(&mut sum, held[rng.random_range(0..held.len())]);
            }
            score(&sum)
        };
        score::interval((0..RESAMPLES).filter_map(draw).collect())
    }
}

fn add(to: &mut [f64], more: &[f64]) {
    to.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    /// A prediction and the truth.
    type Pair = (Vec<f64>, Vec<f64>);

    fn total(measures: &Measures, rows: &[Pair]) -> Vec<Option<f64>> {
        let mut tally = Tally::new(measures.width(), rows.len());
        for (group, (prediction, truth)) in rows.iter().enumerate() {
            tally.count(group, &measures.row(prediction, truth));
        }
        measures.scores(&tally.total())
    }

    proptest! {
        #[test]
        fn r2_and_errors_are_those_of_the_naive_formulas(
            rows in prop::collection::vec((prop::array::uniform2(-9.0_f64..9.0), prop::array::uniform2(-9.0..9.0)), 2..20),
        ) {
            // The same far from 0, by the same origin.
            for shift in [0.0, 1e6] {
                let rows: Vec<Pair> =
                    rows.iter().map(|(a, b)| (a.map(|x| x + shift).to_vec(), b.map(|x| x + shift).to_vec())).collect();
                let measures = Measures::new(Task::Regress, Agreement::Distance(2.0), &rows[0].1);
                let found = total(&measures, &rows);
                let count = rows.len() as f64;
                let mean = |i: usize| rows.iter().map(|row| row.1[i]).sum::<f64>() / count;
                let sum = |of: &dyn Fn(&Pair, usize) -> f64| {
                    rows.iter().flat_map(|row| (0..2).map(move |i| of(row, i))).sum::<f64>()
                };
                let errors = sum(&|(a, b), i| (a[i] - b[i]).powi(2));
                let scatter = sum(&|(_, b), i| (b[i] - mean(i)).powi(2));
                let absolute = sum(&|(a, b), i| (a[i] - b[i]).abs());
                let close = rows.iter().filter(|(a, b)| (a[0] - b[0]).hypot(a[1] - b[1]) <= 2.0).count() as f64;
                let expected = [1.0 - errors / scatter, absolute / 2.0 / count, errors / 2.0 / count, close / count];
                for (found, expected) in found.iter().zip(expected) {
                    let found = found.unwrap();
                    prop_assert!((found - expected).abs() < 1e-6 * expected.abs().max(1.0), "{} {}", found, expected);
                }
            }
        }
    }

    #[test]
    fn embeddings_and_boxes_have_mean_cosines_and_overlaps() {
        let rows = [(vec![2.0, 0.0], vec![1.0, 0.0]), (vec![0.0, 3.0], vec![1.0, 0.0])];
        let embed = Measures::new(Task::Embed, Task::Embed.agreement(0.0), &[]);
        assert_eq!(total(&embed, &rows), [Some(0.5), Some(0.5)]);
        let boxes = Measures::new(Task::Boxes, Task::Boxes.agreement(0.0), &[]);
        let own = vec![0.0, 0.0, 2.0, 2.0];
        let rows =
            [(own.clone(), own.clone()), (vec![0.0, 0.0, 2.0, 1.2], own.clone()), (vec![f64::NAN; 4], own)];
        let found = total(&boxes, &rows).into_iter().map(Option::unwrap).collect::<Vec<_>>();
        for (found, expected) in found.iter().zip([1.6 / 3.0, 2.0 / 3.0, 1.0 / 3.0]) {
            assert!((found - expected).abs() < 1e-6, "{found} {expected}");
        }
    }

    #[test]
    fn no_rows_have_no_scores_and_equal_values_no_r2() {
        let regress = Measures::new(Task::Regress, Agreement::Distance(1.0), &[3.0]);
        assert_eq!(total(&regress, &[]), [None; 4]);
        let equal = [(vec![3.0], vec![3.0]), (vec![4.0], vec![3.0])];
        assert_eq!(total(&regress, &equal), [None, Some(0.5), Some(0.5), Some(1.0)]);
    }

    #[test]
    fn intervals_hold_the_score_and_need_two_groups() {
        let measures = Measures::new(Task::Embed, Task::Embed.agreement(0.0), &[]);
        let mut tally = Tally::new(measures.width(), 3 * MAX_BLOCKS);
        assert_eq!(tally.blocks.len(), MAX_BLOCKS);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let interval = |tally: &Tally, rng: &mut ChaCha8Rng| tally.interval(|sums| measures.main(sums), rng);
        tally.count(0, &[1.0, 0.5, 1.0]);
        assert_eq!(interval(&tally, &mut rng), None);
        for group in 0..3 * MAX_BLOCKS {
            tally.count(group, &[1.0, (group % 2) as f64, 1.0]);
        }
        let found = interval(&tally, &mut rng).unwrap();
        assert!(found.low < 0.5 && 0.5 < found.high && found.high - found.low < 0.02, "{found:?}");
    }
}
