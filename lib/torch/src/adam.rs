//! Adam (Kingma and Ba, ICLR 2015, algorithm 1) with L2 weight decay, as `torch.optim.Adam`.
//!
//! tch's own optimisers do not expose their state, which a checkpoint needs.

use tch::{Kind, TchError, Tensor};

use crate::operator::{Argument, Operator};

/// libtorch's operator of a step.
const FUSED: &str = "aten::_fused_adam_";

const BETA1: f64 = 0.9;
const BETA2: f64 = 0.999;
const EPSILON: f64 = 1e-8;

/// The optimiser of one flat tensor of parameters.
#[derive(Debug)]
pub(crate) struct Adam {
    /// The number of steps.
    step: u64,
    /// The running mean of the gradient.
    mean: Tensor,
    /// The running mean of its square.
    square: Tensor,
    /// A step in one pass over the tensors.
    operator: Operator,
}

impl Adam {
    /// A new optimiser for parameters of this shape.
    pub(crate) fn new(parameters: &Tensor) -> Result<Self, TchError> {
        Self::restore(0, &parameters.f_zeros_like()?, &parameters.f_zeros_like()?)
    }

    /// An optimiser with a copy of a state of [`state`](Self::state).
    pub(crate) fn restore(step: u64, mean: &Tensor, square: &Tensor) -> Result<Self, TchError> {
        let missing = || TchError::Kind(format!("found no {FUSED}, expected libtorch 2.11"));
        let operator = Operator::find(FUSED, "").ok_or_else(missing)?;
        Ok(Self { step, mean: mean.f_detach_copy()?, square: square.f_detach_copy()?, operator })
    }

    /// The number of steps, the mean of the gradient and that of its square.
    pub(crate) fn state(&self) -> (u64, &Tensor, &Tensor) {
        (self.step, &self.mean, &self.square)
    }

    /// Makes a step: updates `parameters` with `gradient` plus `decay` times the parameters.
    pub(crate) fn step(
        &mut self,
        parameters: &Tensor,
        gradient: &Tensor,
        rate: f64,
        decay: f64,
    ) -> Result<(), TchError> {
        use Argument::{Bool, Float, None, Tensors};
        self.step += 1;
        let step = Tensor::f_full([], self.step as f64, (Kind::Float, parameters.device()))?;
        let [parameters, gradient, mean, square, step] =
            [parameters, gradient, &self.mean, &self.square, &step].map(|tensor| [Some(tensor)]);
        let arguments = [
            Tensors(&parameters),
            Tensors(&gradient),
            Tensors(&mean),
            Tensors(&square),
            Tensors(&[]),
            Tensors(&step),
            Float(rate),
            Float(BETA1),
            Float(BETA2),
            Float(decay),
            Float(EPSILON),
            // Neither AMSGrad nor ascent, and no scaled gradients.
            Bool(false),
            Bool(false),
            None,
            None,
        ];
        tch::no_grad(|| self.operator.call(&arguments, &mut Vec::new()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The naive algorithm for one parameter.
    fn naive(parameter: &mut f64, gradients: &[f64], rate: f64, decay: f64) {
        let (mut mean, mut square) = (0.0, 0.0);
        for (t, gradient) in (1..).zip(gradients) {
            let gradient = gradient + decay * *parameter;
            mean = BETA1 * mean + (1.0 - BETA1) * gradient;
            square = BETA2 * square + (1.0 - BETA2) * gradient * gradient;
            let corrected_mean = mean / (1.0 - BETA1.powi(t));
            let corrected_square = square / (1.0 - BETA2.powi(t));
            *parameter -= rate * corrected_mean / (corrected_square.sqrt() + EPSILON);
        }
    }

    #[test]
    fn steps_are_those_of_the_algorithm() {
        let start = [0.5_f64, -2.0, 0.0, 3.0];
        let gradients: Vec<Vec<f64>> =
            (0..50).map(|t| (0..4).map(|i| f64::sin(f64::from(t * 7 + i))).collect()).collect();
        for decay in [0.0, 1e-2] {
            let parameters = Tensor::from_slice(&start);
            let mut adam = Adam::new(&parameters).unwrap();
            for (t, gradient) in gradients.iter().enumerate() {
                if t == 20 {
                    let (step, mean, square) = adam.state();
                    adam = Adam::restore(step, mean, square).unwrap();
                }
                adam.step(&parameters, &Tensor::from_slice(gradient), 1e-2, decay).unwrap();
            }
            for (i, &start) in start.iter().enumerate() {
                let mut expected = start;
                let own: Vec<f64> = gradients.iter().map(|gradient| gradient[i]).collect();
                naive(&mut expected, &own, 1e-2, decay);
                let found = parameters.double_value(&[i as i64]);
                assert!((found - expected).abs() < 1e-12, "{i}: {found} {expected}");
            }
        }
    }
}
