//! The loss functions.

use tch::{Reduction, TchError, Tensor};

/// A loss, averaged over rows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    /// The mean squared error.
    Mse,
    /// The absolute error, squared and halved below 1: for values and boxes.
    SmoothL1,
    /// 1 − cos: for embeddings.
    Cosine,
    /// T²·KL(softmax(y/T) ‖ softmax(ŷ/T)) with the temperature T (Hinton, Vinyals and Dean, 2015).
    Kl {
        /// The temperature T.
        temperature: f64,
    },
    /// The cross-entropy against labels, or against shares of classes.
    CrossEntropy,
}

impl Loss {
    /// The loss of outputs `[rows, elements]` against targets of the same shape; for the cross-entropy labels
    /// `[rows]` or shares `[rows, classes]`.
    pub(super) fn of(self, outputs: &Tensor, target: &Tensor) -> Result<Tensor, TchError> {
        match self {
            Self::Mse => outputs.f_mse_loss(target, Reduction::Mean),
            Self::SmoothL1 => outputs.f_smooth_l1_loss(target, Reduction::Mean, 1.0),
            Self::Cosine => {
                let cosine = Tensor::f_cosine_similarity(outputs, target, -1, 1e-8)?;
                cosine.f_neg()?.f_add_scalar(1.0)?.f_mean(None::<tch::Kind>)
            }
            Self::Kl { temperature } => {
                let log =
                    |values: &Tensor| values.f_div_scalar(temperature)?.f_log_softmax(-1, None::<tch::Kind>);
                let rows = target.size().first().copied().unwrap_or(1).max(1);
                let sum = log(outputs)?.f_kl_div(&log(target)?, Reduction::Sum, true)?;
                sum.f_mul_scalar(temperature * temperature / rows as f64)
            }
            Self::CrossEntropy => {
                outputs.f_cross_entropy_loss::<Tensor>(target, None, Reduction::Mean, -100, 0.0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn softmax(values: &[f64], temperature: f64) -> Vec<f64> {
        let powers: Vec<f64> = values.iter().map(|value| (value / temperature).exp()).collect();
        powers.iter().map(|power| power / powers.iter().sum::<f64>()).collect()
    }

    #[test]
    fn losses_are_their_formulas() {
        let (y, t) = ([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], [[0.5, 0.0, 0.5], [4.0, 0.0, 1.5]]);
        let pairs = || y.iter().flatten().zip(t.iter().flatten()).map(|(y, t): (&f64, &f64)| y - t);
        let tensor = |rows: [[f64; 3]; 2]| Tensor::from_slice(&rows.concat()).view([2, 3]);
        let of = |loss: Loss, target: &Tensor| loss.of(&tensor(y), target).unwrap().double_value(&[]);
        let close =
            |found: f64, expected: f64| assert!((found - expected).abs() < 1e-9, "{found} {expected}");

        close(of(Loss::Mse, &tensor(t)), pairs().map(|d| d * d).sum::<f64>() / 6.0);
        let huber = |d: f64| if d.abs() < 1.0 { 0.5 * d * d } else { d.abs() - 0.5 };
        close(of(Loss::SmoothL1, &tensor(t)), pairs().map(huber).sum::<f64>() / 6.0);
        let cosine = |(y, t): (&[f64; 3], &[f64; 3])| parm::task::cosine(y, t);
        close(of(Loss::Cosine, &tensor(t)), 1.0 - y.iter().zip(&t).map(cosine).sum::<f64>() / 2.0);
        for temperature in [1.0, 4.0] {
            let divergence = |(y, t): (&[f64; 3], &[f64; 3])| {
                let (q, p) = (softmax(y, temperature), softmax(t, temperature));
                p.iter().zip(q).map(|(p, q)| p * (p / q).ln()).sum::<f64>()
            };
            let expected = y.iter().zip(&t).map(divergence).sum::<f64>() / 2.0 * temperature.powi(2);
            close(of(Loss::Kl { temperature }, &tensor(t)), expected);
        }
        let expected = -(softmax(&y[0], 1.0)[2].ln() + softmax(&y[1], 1.0)[0].ln()) / 2.0;
        close(of(Loss::CrossEntropy, &Tensor::from_slice(&[2_i64, 0])), expected);
        let shares = tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0]]);
        close(of(Loss::CrossEntropy, &shares), expected);
    }
}
