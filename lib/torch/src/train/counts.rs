//! Scores of validation rows: counts on the device, which are read once at the end.

use parm::Task;
use parm::neighbours::{Neighbours, recall};
use parm::task::Agreement;
use tch::{Kind, TchError, Tensor};

use super::TrainError;
use super::rows::Rows;
use crate::device::Device;

/// The true labels, values or boxes of rows.
#[derive(Debug)]
pub enum Truth {
    /// The label of each: `[rows]`.
    Classes(Tensor),
    /// The box of each, its corner, width and height: `[rows, 4]`.
    Boxes(Tensor),
    /// The values of each: `[rows, elements]`.
    Values(Tensor),
}

impl Truth {
    /// Labels of these rows, each below `classes`.
    ///
    /// # Errors
    /// [`TrainError::Count`], [`TrainError::Label`]; libtorch's.
    pub fn classes(labels: &[i64], queries: &Rows, classes: i64, device: Device) -> Result<Self, TrainError> {
        count("labels", labels.len(), queries)?;
        match labels.iter().enumerate().find(|&(_, label)| !(0..classes).contains(label)) {
            Some((row, &found)) => Err(TrainError::Label { found, row, classes }),
            None => Ok(Self::Classes(Tensor::f_from_slice(labels)?.f_to_device(device.0)?)),
        }
    }

    /// Boxes of these rows.
    ///
    /// # Errors
    /// [`TrainError::Count`], [`TrainError::Boxes`].
    pub fn boxes(boxes: &Rows, queries: &Rows) -> Result<Self, TrainError> {
        count("boxes", boxes.count(), queries)?;
        match boxes.shape() {
            [4] => Ok(Self::Boxes(boxes.tensor.shallow_clone())),
            found => Err(TrainError::Boxes(found.into())),
        }
    }

    /// Values of these rows, as many as a prediction has.
    ///
    /// # Errors
    /// [`TrainError::Count`], [`TrainError::Values`].
    pub fn values(values: &Rows, queries: &Rows, elements: usize) -> Result<Self, TrainError> {
        count("values", values.count(), queries)?;
        match values.shape().iter().product() {
            found if found == elements => Ok(Self::Values(values.tensor.shallow_clone())),
            found => Err(TrainError::Values { found, expected: elements }),
        }
    }

    /// The task of which it is the truth.
    #[must_use]
    pub fn task(&self) -> Task {
        match self {
            Self::Classes(_) => Task::Classify,
            Self::Boxes(_) => Task::Boxes,
            Self::Values(_) => Task::Regress,
        }
    }

    pub(super) fn tensor(&self) -> &Tensor {
        match self {
            Self::Classes(tensor) | Self::Boxes(tensor) | Self::Values(tensor) => tensor,
        }
    }

    /// The labels, values or boxes of these rows.
    pub(super) fn select(&self, rows: &Tensor) -> Result<Self, TchError> {
        let selected = self.tensor().f_index_select(0, rows)?;
        Ok(match self {
            Self::Classes(_) => Self::Classes(selected),
            Self::Boxes(_) => Self::Boxes(selected),
            Self::Values(_) => Self::Values(selected),
        })
    }
}

/// How well boxes fit, by their intersection over union (IoU).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// The mean IoU.
    pub mean: f64,
    /// The share with an IoU of at least 0.5.
    pub half: f64,
    /// The share with an IoU of at least 0.75.
    pub three_quarters: f64,
}

/// Sums of errors against true rows, and of these rows.
#[derive(Default)]
struct Errors {
    /// The first true row, which is subtracted from all others: the squares of values far from 0 would lose the
    /// digits of their differences.
    origin: Option<Tensor>,
    /// The sum of each element: `[elements]`.
    sum: Option<Tensor>,
    squares: Option<Tensor>,
    squared: Option<Tensor>,
    absolute: Option<Tensor>,
    rows: u64,
    elements: i64,
}

impl Errors {
    fn count(&mut self, predictions: &Tensor, truth: &Tensor) -> Result<(), TchError> {
        let truth = truth.f_detach()?.f_to_kind(Kind::Double)?;
        self.rows += truth.size()[0] as u64;
        self.elements = truth.size()[1];
        let origin = self.origin.get_or_insert(truth.f_get(0)?);
        let values = truth.f_sub(origin)?;
        let errors = predictions.f_to_kind(Kind::Double)?.f_sub(&truth)?;
        add(&mut self.sum, &values.f_sum_dim_intlist(0, false, Kind::Double)?)?;
        add(&mut self.squares, &values.f_square()?.f_sum(Kind::Double)?)?;
        add(&mut self.absolute, &errors.f_abs()?.f_sum(Kind::Double)?)?;
        add(&mut self.squared, &errors.f_square()?.f_sum(Kind::Double)?)
    }

    /// R² = 1 − Σ(ŷ − y)²/Σ(y − mean)² over all elements; none if all rows are equal.
    fn determination(&self) -> Option<f64> {
        let sums = self.sum.as_ref()?.square().sum(Kind::Double);
        let [squares, errors] = [&self.squares, &self.squared].map(|sum| sum.as_ref().map(read));
        let scatter = squares? - read(&sums) / self.rows as f64;
        (scatter > 0.0).then_some(1.0 - errors? / scatter)
    }

    fn absolute(&self) -> Option<f64> {
        Some(read(self.absolute.as_ref()?) / (self.rows as f64 * self.elements as f64))
    }
}

/// Sums over rows.
#[derive(Default)]
pub(super) struct Counts {
    task: Task,
    /// The largest distance of values that agree.
    tolerance: f64,
    loss: Option<Tensor>,
    agreed: Option<Tensor>,
    right: Option<Tensor>,
    available: Option<Tensor>,
    fit: [Option<Tensor>; 3],
    /// Errors of predictions against the deployed model's own and against the truth, and of those against the truth.
    errors: [Errors; 3],
    cosine: Option<Tensor>,
    /// The deployed model's embeddings, and the predictions of them, block by block.
    embeddings: [Vec<Tensor>; 2],
    rows: u64,
    losses: u64,
}

impl Counts {
    /// Counts predictions of a task. `tolerance` is the largest distance of values that agree.
    pub(super) fn new(task: Task, tolerance: f64) -> Self {
        Self { task, tolerance, ..Self::default() }
    }

    /// Counts predictions `[rows, elements]`, with the deployed model's own and with the truth, as far as
    /// these are known.
    pub(super) fn count(
        &mut self,
        predictions: &Tensor,
        own: Option<&Tensor>,
        truth: Option<&Truth>,
    ) -> Result<(), TchError> {
        self.rows += predictions.size()[0] as u64;
        match truth {
            Some(Truth::Boxes(boxes)) => self.count_boxes(predictions, boxes)?,
            Some(Truth::Classes(labels)) => {
                add(&mut self.right, &equal(&top1(predictions)?, labels)?)?;
                if let Some(own) = own {
                    add(&mut self.available, &equal(&top1(own)?, labels)?)?;
                }
            }
            Some(Truth::Values(values)) => {
                self.errors[1].count(predictions, values)?;
                if let Some(own) = own {
                    self.errors[2].count(own, values)?;
                }
            }
            None => {}
        }
        let Some(own) = own else { return Ok(()) };
        match self.task {
            Task::Regress => self.errors[0].count(predictions, own)?,
            Task::Embed => {
                add(&mut self.cosine, &cosine(predictions, own)?.f_sum(Kind::Double)?)?;
                for (held, rows) in self.embeddings.iter_mut().zip([own, predictions]) {
                    held.push(rows.f_detach()?);
                }
            }
            Task::Boxes if truth.is_none() => self.count_boxes(predictions, own)?,
            Task::Classify | Task::Boxes => {}
        }
        let agreed = self.agrees(predictions, own)?.f_sum(Kind::Int64)?;
        add(&mut self.agreed, &agreed)
    }

    /// Which predictions agree with the deployed model's own: [`Agreement`] on tensors.
    fn agrees(&self, predictions: &Tensor, own: &Tensor) -> Result<Tensor, TchError> {
        match self.task.agreement(self.tolerance) {
            Agreement::Top1 => top1(predictions)?.f_eq_tensor(&top1(own)?),
            Agreement::Distance(most) => {
                let squares = predictions.f_sub(own)?.f_to_kind(Kind::Double)?.f_square()?;
                squares.f_sum_dim_intlist(-1, false, Kind::Double)?.f_sqrt()?.f_le(most)
            }
            Agreement::Cosine(least) => cosine(predictions, own)?.f_ge(least),
            Agreement::Overlap(least) => intersection_over_union(predictions, own)?.f_ge(least),
        }
    }

    fn count_boxes(&mut self, predictions: &Tensor, boxes: &Tensor) -> Result<(), TchError> {
        let iou = intersection_over_union(predictions, boxes)?;
        add(&mut self.fit[0], &iou.f_sum(Kind::Double)?)?;
        for (sum, least) in self.fit[1..].iter_mut().zip([0.5, 0.75]) {
            add(sum, &iou.f_ge(least)?.f_sum(Kind::Int64)?)?;
        }
        Ok(())
    }

    /// Adds the mean loss of a number of groups.
    pub(super) fn add_loss(&mut self, loss: &Tensor, groups: i64) -> Result<(), TchError> {
        self.losses += groups as u64;
        add(&mut self.loss, &loss.f_mul_scalar(groups as f64)?)
    }

    /// The number of counted predictions.
    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn loss(&self) -> Option<f64> {
        self.loss.as_ref().map(|sum| read(sum) / self.losses as f64)
    }

    /// The share of predictions that agree with the deployed model's own.
    pub(super) fn agreement(&self) -> Option<f64> {
        self.share(self.agreed.as_ref())
    }

    /// The share of right predictions.
    pub(super) fn accuracy(&self) -> Option<f64> {
        self.share(self.right.as_ref())
    }

    /// The share of right predictions of the deployed model.
    pub(super) fn available(&self) -> Option<f64> {
        self.share(self.available.as_ref())
    }

    pub(super) fn fit(&self) -> Option<Fit> {
        let [mean, half, three_quarters] = [0, 1, 2].map(|i| self.share(self.fit[i].as_ref()));
        Some(Fit { mean: mean?, half: half?, three_quarters: three_quarters? })
    }

    /// R² of predictions against the deployed model's own, if these are known, or else against the true values.
    pub(super) fn determination(&self) -> Option<f64> {
        self.main_errors().determination()
    }

    /// The mean absolute error of predictions, against the same.
    pub(super) fn absolute(&self) -> Option<f64> {
        self.main_errors().absolute()
    }

    fn main_errors(&self) -> &Errors {
        if self.errors[0].rows > 0 { &self.errors[0] } else { &self.errors[1] }
    }

    /// R² of the deployed model's predictions, and of the reconstructions, against the true values.
    pub(super) fn true_determinations(&self) -> [Option<f64>; 2] {
        [self.errors[2].determination(), self.errors[1].determination().filter(|_| self.errors[0].rows > 0)]
    }

    /// The mean cosine of predictions and the deployed model's own embeddings.
    pub(super) fn cosine(&self) -> Option<f64> {
        self.share(self.cosine.as_ref())
    }

    /// The share of the nearest neighbours of the deployed model's embeddings, among those that were counted, which
    /// are the nearest of the predictions as well.
    pub(super) fn recall(&self) -> Result<Option<f64>, TchError> {
        let [own, predictions] = &self.embeddings;
        if own.is_empty() {
            return Ok(None);
        }
        let floats = |blocks: &[Tensor]| -> Result<Vec<f32>, TchError> {
            let rows = Tensor::f_cat(blocks, 0)?.f_to_device(tch::Device::Cpu)?;
            Vec::try_from(rows.f_to_kind(Kind::Float)?.f_flatten(0, -1)?)
        };
        let (own, predictions) = (floats(own)?, floats(predictions)?);
        let elements = own.len() / self.rows as usize;
        let neighbours = Neighbours::new(&own, elements);
        let rows: Vec<usize> = (0..self.rows as usize).collect();
        let pairs = neighbours.nearest(&own, &rows).into_iter().zip(neighbours.nearest(&predictions, &rows));
        let sum: f64 = pairs.map(|(own, found)| recall(&own, &found)).sum();
        Ok(Some(sum / self.rows as f64))
    }

    /// The score of the task, which selects the best epoch: agreement or accuracy of classes, R², the mean cosine,
    /// the mean IoU. Of a joint training it is the sum of the deployed model's and the reconstructions' accuracy, or
    /// R² against the truth.
    pub(super) fn score(&self, is_joint: bool) -> Option<f64> {
        let both = |of: [Option<f64>; 2]| of[0].zip(of[1]).filter(|_| is_joint).map(|(a, d)| a + d);
        match self.task {
            Task::Classify => {
                both([self.available(), self.accuracy()]).or(self.agreement()).or(self.accuracy())
            }
            Task::Regress => both(self.true_determinations()).or(self.determination()),
            Task::Embed => self.cosine(),
            Task::Boxes => self.fit().map(|fit| fit.mean),
        }
    }

    fn share(&self, sum: Option<&Tensor>) -> Option<f64> {
        sum.map(|sum| read(sum) / self.rows as f64)
    }
}

fn count(what: &'static str, found: usize, queries: &Rows) -> Result<(), TrainError> {
    match queries.count() {
        expected if expected == found => Ok(()),
        expected => Err(TrainError::Count { what, found, expected }),
    }
}

/// Adds to a sum in f64 on the device.
pub(super) fn add(to: &mut Option<Tensor>, value: &Tensor) -> Result<(), TchError> {
    let value = value.f_detach()?.f_to_kind(Kind::Double)?;
    *to = Some(match to.take() {
        None => value,
        Some(sum) => sum.f_add(&value)?,
    });
    Ok(())
}

pub(super) fn read(sum: &Tensor) -> f64 {
    sum.double_value(&[])
}

fn top1(rows: &Tensor) -> Result<Tensor, TchError> {
    rows.f_argmax(-1, false)
}

fn equal(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    a.f_eq_tensor(b)?.f_sum(Kind::Int64)
}

/// The cosines of rows `[rows, elements]`: `[rows]`.
fn cosine(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    Tensor::f_cosine_similarity(&a.f_to_kind(Kind::Double)?, &b.f_to_kind(Kind::Double)?, -1, 1e-30)
}

/// The IoU of boxes `[rows, 4]` that are corner, width and height: `[rows]`. A box of negative width
/// or height is empty.
fn intersection_over_union(a: &Tensor, b: &Tensor) -> Result<Tensor, TchError> {
    let side = |axis: i64| {
        let [(low_a, size_a), (low_b, size_b)] =
            [a, b].map(|of| (of.select(1, axis), of.select(1, axis + 2).clamp_min(0.0)));
        let low = low_a.f_maximum(&low_b)?;
        let high = low_a.f_add(&size_a)?.f_minimum(&low_b.f_add(&size_b)?)?;
        Ok::<_, TchError>((high.f_sub(&low)?.f_clamp_min(0.0)?, size_a, size_b))
    };
    let ((width, width_a, width_b), (height, height_a, height_b)) = (side(0)?, side(1)?);
    let shared = width.f_mul(&height)?;
    let all = width_a.f_mul(&height_a)?.f_add(&width_b.f_mul(&height_b)?)?.f_sub(&shared)?;
    shared.f_div(&all.f_clamp_min(f64::from(f32::MIN_POSITIVE))?)
}

#[cfg(test)]
mod tests {
    use parm::measures::{Measures, Tally};

    use super::*;

    #[test]
    fn boxes_that_meet_fit_by_their_shared_area() {
        let boxes = |rows: &[[f32; 4]]| Tensor::from_slice(rows.as_flattened()).view([-1, 4]);
        // An equal box, a shifted one, one beside it, an empty one, one within.
        let a = boxes(&[[0.0, 0.0, 2.0, 2.0]; 5]);
        let b = boxes(&[
            [0.0, 0.0, 2.0, 2.0],
            [1.0, 0.0, 2.0, 2.0],
            [5.0, 5.0, 1.0, 1.0],
            [0.0, 0.0, -1.0, 2.0],
            [0.0, 0.0, 2.0, 1.6],
        ]);
        let mut counts = Counts::default();
        counts.count(&a, None, Some(&Truth::Boxes(b))).unwrap();
        let fit = counts.fit().unwrap();
        assert!((fit.mean - (1.0 + 1.0 / 3.0 + 0.8) / 5.0).abs() < 1e-6, "{fit:?}");
        assert_eq!((fit.half, fit.three_quarters), (0.4, 0.4));
        assert_eq!((counts.rows(), counts.accuracy()), (5, None));
    }

    #[test]
    fn values_have_an_r2_an_error_and_an_agreement_within_a_tolerance() {
        let column = |values: &[f32]| Tensor::from_slice(values).view([-1, 1]);
        let mut counts = Counts::new(Task::Regress, 0.5);
        // Several blocks of values far from 0.
        counts.count(&column(&[1001.0, 1001.0]), Some(&column(&[1000.0, 1002.0])), None).unwrap();
        counts.count(&column(&[1004.0, 1006.0]), Some(&column(&[1004.0, 1006.0])), None).unwrap();
        assert_eq!((counts.agreement(), counts.determination()), (Some(0.5), Some(1.0 - 2.0 / 20.0)));
        assert_eq!((counts.absolute(), counts.score(false)), (Some(0.5), counts.determination()));
        let mut same = Counts::new(Task::Regress, 0.5);
        same.count(&column(&[1.0, 2.0]), Some(&column(&[3.0, 3.0])), None).unwrap();
        assert_eq!(same.determination(), None, "no values scatter");
    }

    #[test]
    fn scores_of_values_and_embeddings_are_those_of_the_measures() {
        let value = |i: usize| ((i * 7919) % 1009) as f32 / 100.0 - 5.0;
        let (rows, elements) = (30, 4);
        let own: Vec<f32> = (0..rows * elements).map(value).collect();
        let rebuilt: Vec<f32> = own.iter().enumerate().map(|(i, x)| x + value(i + 50) / 3.0).collect();
        let truth: Vec<f32> = own.iter().enumerate().map(|(i, x)| x + value(i + 99) / 5.0).collect();
        let tensor = |values: &[f32]| Tensor::from_slice(values).view([-1, elements as i64]);
        let wide = |values: &[f32]| values.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let naive = |task: Task, predictions: &[f32], truth: &[f32]| {
            let (predictions, truth) = (wide(predictions), wide(truth));
            let measures = Measures::new(task, task.agreement(2.0), &truth[..elements]);
            let mut tally = Tally::new(measures.width(), 1);
            for (a, b) in predictions.chunks(elements).zip(truth.chunks(elements)) {
                tally.count(0, &measures.row(a, b));
            }
            measures.scores(&tally.total()).into_iter().map(Option::unwrap).collect::<Vec<_>>()
        };
        let close = |found: Option<f64>, expected: f64| {
            assert!((found.unwrap() - expected).abs() < 1e-6, "{found:?} {expected}");
        };
        let count = |task: Task, truth: Option<&Truth>| {
            let mut counts = Counts::new(task, 2.0);
            // In blocks of different sizes.
            for (from, length) in [(0, 7), (7, 23)] {
                let [own, rebuilt] = [&own, &rebuilt].map(|values| tensor(values).narrow(0, from, length));
                let truth = truth.map(|truth| {
                    truth
                        .select(&Tensor::arange_start(from, from + length, (Kind::Int64, tch::Device::Cpu)))
                        .unwrap()
                });
                counts.count(&rebuilt, Some(&own), truth.as_ref()).unwrap();
            }
            counts
        };
        let counts = count(Task::Regress, Some(&Truth::Values(tensor(&truth))));
        let [r2, mae, _, agreement] = naive(Task::Regress, &rebuilt, &own)[..] else { panic!() };
        close(counts.determination(), r2);
        close(counts.absolute(), mae);
        close(counts.agreement(), agreement);
        assert!(0.1 < agreement && agreement < 0.9);
        let [available, degraded] = counts.true_determinations();
        close(available, naive(Task::Regress, &own, &truth)[0]);
        close(degraded, naive(Task::Regress, &rebuilt, &truth)[0]);

        let counts = count(Task::Embed, None);
        let [cosine, agreement] = naive(Task::Embed, &rebuilt, &own)[..] else { panic!() };
        close(counts.cosine(), cosine);
        close(counts.agreement(), agreement);
        assert!(0.1 < agreement && agreement < 1.0, "{agreement}");
        let neighbours = Neighbours::new(&own, elements);
        let rows: Vec<usize> = (0..rows).collect();
        let pairs = neighbours.nearest(&own, &rows).into_iter().zip(neighbours.nearest(&rebuilt, &rows));
        let expected = pairs.map(|(own, found)| recall(&own, &found)).sum::<f64>() / rows.len() as f64;
        assert!(0.1 < expected && expected < 1.0, "{expected}");
        assert_eq!((counts.recall().unwrap(), counts.score(false)), (Some(expected), counts.cosine()));
    }

    #[test]
    fn boxes_without_a_truth_are_compared_with_the_deployed_model_own_ones() {
        let boxes = |rows: &[[f32; 4]]| Tensor::from_slice(rows.as_flattened()).view([-1, 4]);
        let own = boxes(&[[0.0, 0.0, 2.0, 2.0]; 2]);
        let rebuilt = boxes(&[[0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 2.0, 2.0]]);
        let mut counts = Counts::new(Task::Boxes, 0.0);
        counts.count(&rebuilt, Some(&own), None).unwrap();
        assert!((counts.score(false).unwrap() - 2.0 / 3.0).abs() < 1e-6);
        assert_eq!(counts.agreement(), Some(0.5));
    }

    #[test]
    fn predictions_are_counted_beside_the_own_ones_and_the_labels() {
        let rows = |rows: &[[f32; 2]]| Tensor::from_slice(rows.as_flattened()).view([-1, 2]);
        let own = rows(&[[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]);
        let rebuilt = rows(&[[2.0, 0.0], [0.0, 2.0], [0.0, 2.0], [2.0, 0.0]]);
        let labels = Truth::Classes(Tensor::from_slice(&[0_i64, 1, 1, 1]));
        let mut counts = Counts::default();
        counts.count(&rebuilt, Some(&own), Some(&labels)).unwrap();
        assert_eq!((counts.agreement(), counts.accuracy()), (Some(0.5), Some(0.75)));
        assert_eq!(counts.available(), Some(0.75));
        counts.add_loss(&Tensor::from(2.0), 3).unwrap();
        counts.add_loss(&Tensor::from(6.0), 1).unwrap();
        assert_eq!(counts.loss(), Some(3.0));
    }
}
