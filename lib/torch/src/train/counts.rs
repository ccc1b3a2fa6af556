//! Scores of validation rows: counts on the device, which are read once at the end.

use tch::{Kind, TchError, Tensor};

use super::TrainError;
use super::rows::Rows;
use crate::device::Device;

/// The true labels or boxes of rows.
#[derive(Debug)]
pub enum Truth {
    /// The label of each: `[rows]`.
    Classes(Tensor),
    /// The box of each, its corner, width and height: `[rows, 4]`.
    Boxes(Tensor),
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

    pub(super) fn tensor(&self) -> &Tensor {
        match self {
            Self::Classes(tensor) | Self::Boxes(tensor) => tensor,
        }
    }

    /// The labels or boxes of these rows.
    pub(super) fn select(&self, rows: &Tensor) -> Result<Self, TchError> {
        Ok(match self {
            Self::Classes(labels) => Self::Classes(labels.f_index_select(0, rows)?),
            Self::Boxes(boxes) => Self::Boxes(boxes.f_index_select(0, rows)?),
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

/// Sums of values and of their reconstructions, for predictions of one number.
#[derive(Default)]
struct Values {
    /// The first value, which is subtracted from all others: the squares of values far from 0 would lose the
    /// digits of their differences.
    origin: Option<Tensor>,
    sum: Option<Tensor>,
    squares: Option<Tensor>,
    errors: Option<Tensor>,
}

impl Values {
    fn count(&mut self, predictions: &Tensor, own: &Tensor) -> Result<(), TchError> {
        let own = own.f_detach()?.f_to_kind(Kind::Double)?;
        let origin = self.origin.get_or_insert(own.f_get(0)?);
        let values = own.f_sub(origin)?;
        let errors = predictions.f_to_kind(Kind::Double)?.f_sub(&own)?;
        add(&mut self.sum, &values.f_sum(Kind::Double)?)?;
        add(&mut self.squares, &values.f_square()?.f_sum(Kind::Double)?)?;
        add(&mut self.errors, &errors.f_square()?.f_sum(Kind::Double)?)
    }

    /// R² = 1 − Σ(ŷ − y)²/Σ(y − mean)²; none if all values are equal.
    fn determination(&self, rows: u64) -> Option<f64> {
        let [sum, squares, errors] =
            [&self.sum, &self.squares, &self.errors].map(|sum| sum.as_ref().map(read));
        let scatter = squares? - sum? * sum? / rows as f64;
        (scatter > 0.0).then_some(1.0 - errors? / scatter)
    }
}

/// Sums over rows.
#[derive(Default)]
pub(super) struct Counts {
    loss: Option<Tensor>,
    agreed: Option<Tensor>,
    right: Option<Tensor>,
    available: Option<Tensor>,
    fit: [Option<Tensor>; 3],
    values: Option<Values>,
    rows: u64,
    losses: u64,
}

impl Counts {
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
            Some(Truth::Boxes(boxes)) => return self.count_boxes(predictions, boxes),
            Some(Truth::Classes(labels)) => {
                add(&mut self.right, &equal(&top1(predictions)?, labels)?)?;
                if let Some(own) = own {
                    add(&mut self.available, &equal(&top1(own)?, labels)?)?;
                }
            }
            None => {}
        }
        match own {
            // Top-1 has no meaning for one number.
            Some(own) if own.size()[1] == 1 => self.values.get_or_insert_default().count(predictions, own),
            Some(own) => add(&mut self.agreed, &equal(&top1(predictions)?, &top1(own)?)?),
            None => Ok(()),
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

    /// The share of predictions whose top-1 equals the deployed model's.
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

    /// R² of reconstructions that are one number each.
    pub(super) fn determination(&self) -> Option<f64> {
        self.values.as_ref()?.determination(self.rows)
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
    fn predictions_of_one_number_have_an_r2_and_no_agreement() {
        let column = |values: &[f32]| Tensor::from_slice(values).view([-1, 1]);
        let mut counts = Counts::default();
        // Several blocks of values far from 0.
        counts.count(&column(&[1001.0, 1001.0]), Some(&column(&[1000.0, 1002.0])), None).unwrap();
        counts.count(&column(&[1004.0, 1006.0]), Some(&column(&[1004.0, 1006.0])), None).unwrap();
        assert_eq!((counts.agreement(), counts.determination()), (None, Some(1.0 - 2.0 / 20.0)));
        let mut same = Counts::default();
        same.count(&column(&[1.0, 2.0]), Some(&column(&[3.0, 3.0])), None).unwrap();
        assert_eq!(same.determination(), None, "no values scatter");
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
