//! The loss patterns of training, and the reconstruction under them.

use bytemuck::cast_slice;
use parm::codes::{CodeKind, Matrices};
use tch::{Kind, TchError, Tensor};

use crate::device::Device;

/// The most loss patterns of training, unless there are more single losses. Patterns with more lost
/// predictions are left out first. All losses of up to five predictions in a group of ten are within the
/// limit.
const MOST: usize = 1024;

/// Loss patterns of a group.
pub(super) struct Scenarios {
    decoder: Decoder,
    /// The slots that are rebuilt, pattern by pattern: `[lost]`.
    slots: Tensor,
}

/// The network of a learned decoder: answers `[groups, k + r, elements]` to predictions `[groups, k, elements]`.
pub(super) type Decode<'a> = dyn Fn(&Tensor) -> Result<Tensor, TchError> + 'a;

enum Decoder {
    /// The coefficients of the workers' outputs in each reconstruction: `[lost, workers]`.
    Linear(Tensor),
    Learned {
        /// 1 for available outputs, 0 for lost ones: `[patterns, 1, k + r, 1]`.
        masks: Tensor,
        /// pattern·k + slot of each reconstruction: `[lost]`.
        places: Tensor,
    },
}

impl Scenarios {
    /// Every loss of 1 to `most` answers, rebuilt by the code itself: of predictions, all parity outputs being
    /// there, or of any answers of an interpolating code. Of that the loss of none is one, too, if
    /// `most` is 0. Predictions that it cannot rebuild are left out.
    pub(super) fn linear(code: &CodeKind, most: usize, device: Device) -> Result<Self, TchError> {
        let answers = code.workers();
        let patterns = match code {
            CodeKind::Systematic(code) => patterns(code.k(), most),
            CodeKind::Interpolating(_) if most == 0 => vec![Vec::new()],
            CodeKind::Interpolating(_) => patterns(answers, most),
        };
        let (mut slots, mut coefficients) = (Vec::new(), Vec::new());
        for lost in patterns {
            let available: Vec<bool> = (0..answers).map(|answer| !lost.contains(&answer)).collect();
            for rebuilt in &code.decoding(&available).rebuilt {
                slots.push(rebuilt.slot as i64);
                let mut row = vec![0.0_f32; answers];
                for &(answer, coefficient) in &rebuilt.terms {
                    row[answer] = coefficient as f32;
                }
                coefficients.extend(row);
            }
        }
        let size = [slots.len() as i64, answers as i64];
        let coefficients = Tensor::f_from_data_size(cast_slice(&coefficients), &size, Kind::Float)?;
        Ok(Self {
            decoder: Decoder::Linear(coefficients.f_to_device(device.0)?),
            slots: Tensor::f_from_slice(&slots)?.f_to_device(device.0)?,
        })
    }

    /// Every loss of 1 to `most` predictions, rebuilt by a network.
    pub(super) fn learned(k: usize, r: usize, most: usize, device: Device) -> Result<Self, TchError> {
        let (mut slots, mut places, mut masks) = (Vec::new(), Vec::new(), Vec::new());
        for (pattern, lost) in patterns(k, most).iter().enumerate() {
            masks.extend((0..k + r).map(|answer| if lost.contains(&answer) { 0.0_f32 } else { 1.0 }));
            slots.extend(lost.iter().map(|&slot| slot as i64));
            places.extend(lost.iter().map(|&slot| (pattern * k + slot) as i64));
        }
        let size = [(masks.len() / (k + r)) as i64, 1, (k + r) as i64, 1];
        let masks =
            Tensor::f_from_data_size(cast_slice(&masks), &size, Kind::Float)?.f_to_device(device.0)?;
        let places = Tensor::f_from_slice(&places)?.f_to_device(device.0)?;
        Ok(Self {
            decoder: Decoder::Learned { masks, places },
            slots: Tensor::f_from_slice(&slots)?.f_to_device(device.0)?,
        })
    }

    /// The slots that are rebuilt: `[lost]`.
    pub(super) fn slots(&self) -> &Tensor {
        &self.slots
    }

    /// The reconstructions `[groups, lost, elements]` from the outputs of all workers
    /// `[groups, workers, elements]`. A learned
    /// decoder needs its network.
    pub(super) fn rebuild(&self, outputs: &Tensor, network: Option<&Decode<'_>>) -> Result<Tensor, TchError> {
        match (&self.decoder, network) {
            (Decoder::Linear(coefficients), _) => coefficients.f_matmul(outputs),
            (Decoder::Learned { masks, places }, Some(network)) => {
                let there = outputs.f_unsqueeze(0)?.f_mul(masks)?;
                let size = there.size();
                let answers = network(&there.f_flatten(0, 1)?)?;
                let k = answers.size()[1];
                // [patterns, groups, k, elements] to [groups, patterns·k, elements]
                let answers = answers.f_view([size[0], size[1], k, size[3]])?;
                let answers = answers.f_permute([1, 0, 2, 3])?.f_flatten(1, 2)?;
                answers.f_index_select(1, places)
            }
            (Decoder::Learned { .. }, None) => Err(TchError::Shape("a learned decoder is needed".into())),
        }
    }
}

/// All sets of 1 to `most` of k slots, smaller ones first. Larger sets are left out if there are too many.
fn patterns(k: usize, most: usize) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = Vec::new();
    let mut last = vec![Vec::new()];
    for size in 0..most.min(k) {
        // C(k, size + 1) = C(k, size)·(k − size)/(size + 1).
        let next = last.len().saturating_mul(k - size) / (size + 1);
        if size > 0 && all.len() + next > MOST {
            break;
        }
        let longer = |set: &Vec<usize>| {
            let first = set.last().map_or(0, |last| last + 1);
            (first..k).map(|slot| [set.as_slice(), &[slot]].concat()).collect::<Vec<_>>()
        };
        last = last.iter().flat_map(longer).collect();
        all.extend(last.iter().cloned());
    }
    all
}

#[cfg(test)]
mod tests {
    use parm::LinearCode;
    use parm::codes::{CodeName, CodeSpec};

    use super::*;
    use crate::network::{Description, Network};
    use crate::trainable::Mode;

    #[test]
    fn patterns_are_all_small_sets() {
        assert_eq!(patterns(3, 1), [[0], [1], [2]]);
        assert_eq!(patterns(3, 2)[3..], [[0, 1], [0, 2], [1, 2]]);
        assert_eq!(patterns(4, 9).len(), 15);
        assert_eq!(patterns(10, 5).len(), 10 + 45 + 120 + 210 + 252);
        assert_eq!(patterns(20, 10).len(), 20 + 190);
        assert_eq!(patterns(4096, 4096).len(), 4096);
    }

    #[test]
    fn linear_scenarios_rebuild_exactly() {
        let cpu = Device(tch::Device::Cpu);
        for (k, r, lost) in [(1, 1, 1), (3, 1, 3), (3, 2, 3 + 6), (4, 3, 4 + 12 + 12)] {
            let code = LinearCode::sum(k, r).unwrap();
            let values: Vec<f32> = (0..5 * k * 2).map(|i| ((i * 7) % 11) as f32).collect();
            let own = Tensor::from_slice(&values).view([5, k as i64, 2]);
            let weights: Vec<f32> = (0..r).flat_map(|j| code.weights(j)).map(|w| w as f32).collect();
            let weights = Tensor::from_slice(&weights).view([r as i64, k as i64]);
            let outputs = Tensor::cat(&[&own, &weights.matmul(&own)], 1);
            let scenarios = Scenarios::linear(&code.into(), r, cpu).unwrap();
            let rebuilt = scenarios.rebuild(&outputs, None).unwrap();
            assert_eq!(rebuilt.size(), [5, lost, 2]);
            let expected = own.index_select(1, scenarios.slots());
            assert!((rebuilt - expected).abs().max().double_value(&[]) < 1e-3, "k = {k}, r = {r}");
        }
    }

    #[test]
    fn interpolating_scenarios_are_those_of_the_code() {
        let cpu = Device(tch::Device::Cpu);
        let code = CodeSpec { stragglers: Some(2), ..CodeSpec::new(CodeName::Berrut, 3) }.matrices().unwrap();
        let answers: Vec<f32> = (0..5).map(|i| ((i * 7) % 11) as f32).collect();
        let outputs = Tensor::from_slice(&answers).view([1, 5, 1]);
        for (most, patterns) in [(0, 1), (1, 5), (2, 5 + 10)] {
            let scenarios = Scenarios::linear(&code, most, cpu).unwrap();
            assert_eq!(scenarios.slots().size(), [patterns * 3]);
            let rebuilt = scenarios.rebuild(&outputs, None).unwrap().view([-1, 3]);
            let lost = |answer: usize| most > 0 && answer == 4;
            // The loss of the last answer alone is the fifth pattern; none is lost in the only one of 0.
            let rows = code.decoding(&std::array::from_fn::<bool, 5, _>(|answer| !lost(answer))).rebuilt;
            let at = if most > 0 { 4 } else { 0 };
            for (slot, row) in rows.iter().enumerate() {
                let sum: f64 = row.terms.iter().map(|&(answer, c)| c * f64::from(answers[answer])).sum();
                let found = rebuilt.double_value(&[at, slot as i64]);
                assert!((found - sum).abs() < 1e-4, "{most} {slot}: {found} {sum}");
            }
        }
    }

    #[test]
    fn learned_scenarios_ask_the_network_without_what_is_lost() {
        let cpu = Device(tch::Device::Cpu);
        let (k, r) = (3, 2);
        let network = Network::random(Description::decoder_mlp(k, r, &[4]), [7; 32], cpu.0).unwrap();
        let outputs = Tensor::arange(2 * 5 * 4, (Kind::Float, cpu.0)).view([2, 5, 4]);
        let scenarios = Scenarios::learned(k, r, r, cpu).unwrap();
        let decode = |answers: &Tensor| network.forward(answers, Mode::Evaluate);
        let rebuilt = scenarios.rebuild(&outputs, Some(&decode)).unwrap();
        let mut at = 0;
        for lost in patterns(k, r) {
            let there = outputs.copy();
            for &slot in &lost {
                let _ = there.select(1, slot as i64).fill_(0.0);
            }
            let answers = decode(&there).unwrap();
            for slot in lost {
                assert!(rebuilt.select(1, at).allclose(&answers.select(1, slot as i64), 1e-5, 1e-6, false));
                at += 1;
            }
        }
        assert_eq!(rebuilt.size(), [2, at, 4]);
    }
}
