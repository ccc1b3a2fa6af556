//! What is seen of the rows of a request before they are taken: whether they are finite, and how large.
//!
//! A row that is not finite makes nothing but such rows of all that it is coded with. Codes that interpolate
//! rebuild rows with errors as large as the largest row of their group: rows that are much larger than usual
//! are not coded.

use bytes::Bytes;
use half::{bf16, f16};
use parm::dtype::Float;

use super::spec::{RowTensor, Spec};
use parm_config::NonFinite;
use parm_oip::{Datatype, Error, InferRequest};

/// The rows whose sizes say what is usual.
const RECENT: usize = 64;

/// The ratio between sizes of rows up to which reconstructions are trusted as they are.
const ORDINARY: f64 = 10.0;

/// What is to be seen.
#[derive(Debug, Default)]
pub(super) struct Checks {
    inputs: Vec<RowTensor>,
    /// The inputs that are coded, by index.
    coded: Vec<usize>,
    refuse: bool,
    /// Sizes matter.
    norms: bool,
}

/// What was seen of a row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Facts {
    /// The inputs that are coded are finite.
    pub(super) finite: bool,
    /// The Euclidean norm of the inputs that are coded; 0 where sizes do not matter.
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

    /// What is seen of each row; none where nothing is looked for.
    ///
    /// # Errors
    /// A row that is not finite, where such rows are refused.
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

    /// Sees whether a request that is passed on whole is finite.
    ///
    /// # Errors
    /// It is not, and is refused.
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

/// True if all elements are finite numbers, as those of other types than floats are.
pub(super) fn is_finite(datatype: Datatype, bytes: &[u8]) -> bool {
    fn all<const N: usize>(bytes: &[u8], is_finite: impl Fn([u8; N]) -> bool) -> bool {
        // Without an early end, so that the compiler uses vectors.
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

/// How large rows are of late.
#[derive(Debug)]
pub(super) struct Scale {
    /// How many times larger than usual a coded row may be; none: any.
    bound: Option<f64>,
    recent: Vec<f64>,
    next: usize,
}

impl Scale {
    pub(super) fn new(bound: Option<f64>) -> Self {
        Self { bound, recent: Vec::with_capacity(RECENT), next: 0 }
    }

    /// Takes note of a row; true if it may be coded with others.
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

/// By how much less a reconstruction is to be trusted: a row of this norm in a group whose largest has that
/// one. Up to a ratio of 10 not at all, beyond it by as much as it is exceeded.
pub(super) fn trust(own: f64, largest: f64) -> f32 {
    if largest <= ORDINARY * own { 1.0 } else { (ORDINARY * own / largest) as f32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_that_is_not_finite_is_found_in_every_type_and_place() {
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
    fn a_row_much_larger_than_usual_does_not_fit_whatever_came_first() {
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
    fn a_small_row_in_a_group_of_large_ones_is_trusted_less() {
        assert_eq!((trust(1.0, 1.0), trust(1.0, 10.0), trust(5.0, 0.1)), (1.0, 1.0, 1.0));
        assert!((trust(1.0, 1e6) - 1e-5).abs() < 1e-9);
        assert_eq!((trust(0.0, 0.0), trust(0.0, 1.0)), (1.0, 0.0));
    }
}
