//! Checks the rows of a request before the runtime takes them: whether they are finite, and how large.
//!
//! A row with NaN or infinity spoils the reconstructions of its whole group. With codes that interpolate,
//! the error of a reconstruction grows with the largest row of the group; rows that are much larger than
//! usual are not coded.

use bytes::Bytes;
use half::{bf16, f16};
use parm::dtype::Float;

use super::spec::{RowTensor, Spec};
use parm_config::NonFinite;
use parm_oip::{Datatype, Error, InferRequest};

/// The number of last rows whose median norm is the usual one.
const RECENT: usize = 64;

/// The ratio of norms in a group up to which confidences are not reduced.
const ORDINARY: f64 = 10.0;

/// What to check.
#[derive(Debug, Default)]
pub(super) struct Checks {
    inputs: Vec<RowTensor>,
    /// The inputs that are coded, by index.
    coded: Vec<usize>,
    refuse: bool,
    /// True if norms are needed.
    norms: bool,
}

/// The result for one row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Facts {
    /// True if the inputs that are coded are finite.
    pub(super) finite: bool,
    /// The Euclidean norm of the inputs that are coded; 0 if norms are not needed.
    pub(super) norm: f64,
}

impl Default for Facts {
    fn default() -> Self {
        Self { finite: true, norm: 0.0 }
    }
}

impl Checks {
    pub(super) fn new(spec: Option<&Spec>, coded: &[usize], norms: bool, non_finite: NonFinite) -> Self {
        let inputs = spec.map_or(Vec::new(), |spec| spec.inputs.clone());
        Self { inputs, coded: coded.to_vec(), refuse: non_finite == NonFinite::Refuse, norms }
    }

    /// The result for each row; empty if there is nothing to check.
    ///
    /// # Errors
    /// A row that is not finite, if the model refuses such rows.
    pub(super) fn rows(&self, inputs: &[Bytes], rows: usize) -> Result<Vec<Facts>, Error> {
        if !self.refuse && self.coded.is_empty() {
            return Ok(Vec::new());
        }
        let mut facts = vec![Facts::default(); rows];
        for (index, (input, spec)) in inputs.iter().zip(&self.inputs).enumerate() {
            let coded = self.coded.contains(&index);
            if !coded && !self.refuse {
                continue;
            }
            for (row, (bytes, facts)) in input.chunks_exact(spec.bytes).zip(&mut facts).enumerate() {
                let finite = is_finite(spec.datatype, bytes);
                if !finite && self.refuse {
                    return Err(refused(&format!("row {row} of "), &spec.name));
                }
                if coded {
                    facts.finite &= finite;
                    if self.norms {
                        facts.norm = facts.norm.hypot(norm(spec, bytes));
                    }
                }
            }
        }
        Ok(facts)
    }

    /// Checks a request that is passed on whole.
    ///
    /// # Errors
    /// A value that is not finite, if the model refuses such values.
    pub(super) fn whole(&self, request: &InferRequest) -> Result<(), Error> {
        let bad = |tensor: &&parm_oip::Tensor| {
            self.refuse && !is_finite(tensor.datatype, &tensor.data.contiguous())
        };
        request.inputs.iter().find(bad).map_or(Ok(()), |tensor| Err(refused("", &tensor.name)))
    }
}

fn refused(row: &str, input: &str) -> Error {
    Error::invalid(format!(
        "found a value that is not finite in {row}input '{input}', which this model refuses"
    ))
}

/// True if all elements are finite; always true for types other than floats.
pub(super) fn is_finite(datatype: Datatype, bytes: &[u8]) -> bool {
    fn all<const N: usize>(bytes: &[u8], is_finite: impl Fn([u8; N]) -> bool) -> bool {
        // There is no early exit, so that the compiler vectorises the loop.
        bytes.as_chunks::<N>().0.iter().fold(true, |all, &element| all & is_finite(element))
    }
    match datatype {
        Datatype::Fp16 => all(bytes, |element| f16::from_le_bytes(element).is_finite()),
        Datatype::Bf16 => all(bytes, |element| bf16::from_le_bytes(element).is_finite()),
        Datatype::Fp32 => all(bytes, |element| f32::from_le_bytes(element).is_finite()),
        Datatype::Fp64 => all(bytes, |element| f64::from_le_bytes(element).is_finite()),
        _ => true,
    }
}

fn norm(spec: &RowTensor, bytes: &[u8]) -> f64 {
    let Some(dtype) = spec.dtype() else { return 0.0 };
    let mut values = vec![0.0_f64; spec.elements()];
    f64::decode(dtype, bytes, &mut values);
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The norms of the last rows.
#[derive(Debug)]
pub(super) struct Scale {
    /// The largest norm of a coded row, as a multiple of the usual norm; none: no limit.
    bound: Option<f64>,
    recent: Vec<f64>,
    next: usize,
}

impl Scale {
    pub(super) fn new(bound: Option<f64>) -> Self {
        Self { bound, recent: Vec::with_capacity(RECENT), next: 0 }
    }

    /// Records the norm of a row; true if the row may be coded.
    pub(super) fn fits(&mut self, norm: f64) -> bool {
        if self.recent.len() < RECENT {
            self.recent.push(norm);
        } else if let Some(oldest) = self.recent.get_mut(self.next) {
            *oldest = norm;
        }
        self.next = (self.next + 1) % RECENT;
        let Some(bound) = self.bound else { return true };
        let mut sorted = self.recent.clone();
        let middle = (sorted.len() - 1) / 2;
        let (_, &mut usual, _) = sorted.select_nth_unstable_by(middle, f64::total_cmp);
        norm <= bound * usual
    }
}

/// The factor by which the confidence of a reconstruction is reduced, for a row of norm `own` in a group
/// whose largest norm is `largest`: 1 up to a ratio of 10, then 10 divided by the ratio.
pub(super) fn trust(own: f64, largest: f64) -> f32 {
    if largest <= ORDINARY * own { 1.0 } else { (ORDINARY * own / largest) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_not_finite_are_found_in_every_type_and_position() {
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for place in [0, 7, 40] {
                let mut values = vec![1.0_f32; 41];
                let encode = |values: &[f32]| {
                    let each = |of: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|&v| of(v)).collect();
                    [
                        (Datatype::Fp16, each(&|v| f16::from_f32(v).to_le_bytes().to_vec())),
                        (Datatype::Bf16, each(&|v| bf16::from_f32(v).to_le_bytes().to_vec())),
                        (Datatype::Fp32, each(&|v| v.to_le_bytes().to_vec())),
                        (Datatype::Fp64, each(&|v| f64::from(v).to_le_bytes().to_vec())),
                    ]
                };
                let good: [(Datatype, Vec<u8>); 4] = encode(&values);
                assert!(good.iter().all(|(datatype, bytes)| is_finite(*datatype, bytes)));
                values[place] = bad;
                assert!(encode(&values).iter().all(|(datatype, bytes)| !is_finite(*datatype, bytes)));
            }
        }
        assert!(is_finite(Datatype::Int64, &[0xff; 16]));
    }

    #[test]
    fn a_row_much_larger_than_usual_is_not_coded_whatever_came_first() {
        let mut scale = Scale::new(Some(100.0));
        let wild = |at: u32| at.is_multiple_of(3);
        let norms = (0..200).map(|at| if wild(at) { 1e6 } else { 1.0 + f64::from(at % 7) });
        let fits: Vec<bool> = norms.map(|norm| scale.fits(norm)).collect();
        let fit = |wanted: bool| fits.iter().enumerate().filter(move |(at, _)| wild(*at as u32) != wanted);
        assert!(fit(true).skip(2).all(|(_, fits)| *fits));
        assert!(fit(false).skip(1).all(|(_, fits)| !fits));
        assert!((0..100).all(|_| Scale::new(None).fits(1e30)));
    }

    #[test]
    fn a_small_row_in_a_group_of_large_ones_gets_less_confidence() {
        assert_eq!((trust(1.0, 1.0), trust(1.0, 10.0), trust(5.0, 0.1)), (1.0, 1.0, 1.0));
        assert!((trust(1.0, 1e6) - 1e-5).abs() < 1e-9);
        assert_eq!((trust(0.0, 0.0), trust(0.0, 1.0)), (1.0, 0.0));
    }
}
