//! Wider networks that begin with the function of narrower ones (Net2Net: Chen, Goodfellow and Shlens, ICLR
//! 2016).

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use tch::{Kind, TchError, Tensor};

use super::{Architecture, Description, Network, normal};
use crate::numbers::Flat;

/// The relative difference between copies of a weight; equal copies of a unit would stay equal in training.
const SPREAD: f64 = 0.05;

impl Network {
    /// An MLP whose hidden layers are `times` as wide, and which predicts nearly the same: each hidden unit
    /// is copied `times` times, and the outgoing weights are divided among the copies. None for other
    /// networks.
    ///
    /// # Errors
    /// libtorch's.
    pub fn widened(&self, times: usize, seed: u64) -> Result<Option<Self>, TchError> {
        let Architecture::Mlp { layers, activation } = &self.description.architecture else {
            return Ok(None);
        };
        let activation = *activation;
        let last = layers.len().saturating_sub(1);
        let wider = |(at, &width): (usize, &usize)| if at == 0 || at == last { width } else { width * times };
        let layers: Vec<usize> = layers.iter().enumerate().map(wider).collect();
        let architecture = Architecture::Mlp { layers, activation };
        let description = Description { architecture, ..self.description.clone() };
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let device = self.numbers.device();
        let mut parts = Vec::new();
        for (at, parameter) in self.numbers.views().iter().enumerate() {
            let (layer, copies) = (at / 2, times as i64);
            let rows = if layer + 1 == last { 1 } else { copies };
            let part = if parameter.dim() == 1 {
                parameter.f_repeat([rows])?
            } else {
                let columns = if layer == 0 { 1 } else { copies };
                let part = parameter.f_repeat([rows, columns])?.f_div_scalar(columns as f64)?;
                let noise = |_| (1.0 + SPREAD * normal(&mut rng)) as f32;
                let noise: Vec<f32> = (0..part.numel()).map(noise).collect();
                let noise = Tensor::f_from_slice(&noise)?.f_to_device(device)?;
                part.f_mul(&noise.f_view_as(&part)?)?
            };
            parts.push(part.f_detach()?.f_flatten(0, -1)?);
        }
        let none = |kind| Tensor::f_zeros([0], (kind, device));
        let learned = Tensor::f_cat(&parts, 0)?;
        let flat = Flat { learned, fixed: none(Kind::Float)?, integers: none(Kind::Int64)? };
        Self::new(description, &flat, device).map(Some)
    }
}

#[cfg(test)]
mod tests {
    use parm::Activation;

    use super::*;
    use crate::network::Family;
    use crate::trainable::Mode;

    #[test]
    fn a_wider_network_predicts_nearly_the_same() {
        // With ReLU the halves of a unit would also add up to it; tanh shows the difference.
        let tanh = Family::Mlp { hidden: vec![5, 4], activation: Activation::Tanh };
        let description = Description::new(&tanh, &[3, 2], &[3]).unwrap();
        let device = tch::Device::Cpu;
        let network = Network::random(description, [1; 32], device).unwrap();
        // Weights far from 0, where tanh is not linear.
        let _ = network.numbers.flat().learned.shallow_clone().f_mul_scalar_(60.0).unwrap();
        let queries = Tensor::arange(60, (Kind::Float, device)).view([10, 3, 2]) / 60.0;
        let wide = network.widened(4, 7).unwrap().unwrap();
        let expected = Architecture::Mlp { layers: vec![6, 20, 16, 3], activation: Activation::Tanh };
        assert_eq!(wide.description.architecture, expected);
        let [narrow, wide] = [&network, &wide].map(|of| of.forward(&queries, Mode::Evaluate).unwrap());
        let (error, size) = ((&narrow - &wide).abs().max(), narrow.abs().max());
        assert!(error.double_value(&[]) < 0.15 * size.double_value(&[]), "{error} of {size}");
        assert!(error.double_value(&[]) > 0.0);

        let images = Description::new(&crate::Family::Lenet5, &[16, 16], &[2]).unwrap();
        let other = Network::random(images, [1; 32], device).unwrap();
        assert!(other.widened(2, 0).unwrap().is_none());
    }
}
