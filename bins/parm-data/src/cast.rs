//! Other types and scales of elements, and labels as rows of numbers.

use std::borrow::Cow;
use std::ops::RangeInclusive;

use anyhow::{Result, bail, ensure};
use parm::npy::RowLayout;
use parm::score::top1;
use parm::{Dtype, Float, counted};
use parm_cli::output::commit;
use parm_cli::tools::data::{Cast, Ratio};
use parm_cli::{Io, Usage};

use crate::pair;

/// Casts a stream; returns the line that --verbose prints. Items of the output follow those of the input.
pub(crate) fn cast(options: &Cast, io: &mut Io) -> Result<String> {
    let mut rows = options.input.rows(io, options.read.reading())?;
    let from = rows.layout().clone();
    let (work, to) = Work::choose(options, &from, rows.name())?;
    let mut output = options.write.rows(io, to.clone())?;
    let (mut block, mut bytes) = (Vec::new(), Vec::new());
    let mut done = 0;
    loop {
        let read = rows.read_raw(from.rows_per_block(), &mut block)?;
        rows.take_opened().for_each(|rows| output.announce(rows));
        if read == 0 {
            break;
        }
        let name = rows.name();
        let numbers = work.numbers(&from, &block[..read * from.bytes()], (name, done))?;
        bytes.clear();
        if let Err((element, found)) = numbers.store(to.dtype, &mut bytes) {
            let row = done + (element / to.elements()) as u64;
            bail!("{name}: row {row}: found {found}, expected {}", expected(to.dtype));
        }
        output.write_raw(&bytes)?;
        done += read as u64;
    }
    commit(output)?;
    Ok(format!("cast {} of {from} to {to}", counted(done, "row")))
}

/// What becomes of the elements.
enum Work {
    /// Another type only.
    Type,
    Affine(Affine),
    /// Labels become rows of so many numbers.
    OneHot(usize),
    /// Rows become labels.
    Argmax,
}

impl Work {
    /// The work that the options ask for, and the layout of its rows.
    fn choose(options: &Cast, from: &RowLayout, name: &str) -> Result<(Self, RowLayout)> {
        if let Some(classes) = options.one_hot {
            ensure!(
                !from.dtype.is_float() && from.dtype != Dtype::Bool && from.shape.is_empty(),
                "{name}: found rows of {from}, expected labels: one integer a row"
            );
            let to = RowLayout::new(options.dtype.unwrap_or(Dtype::F32), [classes as usize]);
            return Ok((Self::OneHot(classes as usize), to));
        }
        if options.argmax {
            let [classes] = from.shape[..] else {
                bail!("{name}: found rows of {from}, expected scores: rows with one axis");
            };
            let dtype = options.dtype.unwrap_or(pair::labels(classes).dtype);
            return Ok((Self::Argmax, RowLayout::new(dtype, [])));
        }
        let affine = Affine::new(options, from)?;
        let dtype = match (options.dtype, &affine) {
            (Some(dtype), _) => dtype,
            (None, None) => {
                let options = "--dtype, --scale, --mean, --std, --one-hot or --argmax";
                return Err(Usage::error(format!("found nothing to do, expected {options}")));
            }
            (None, Some(_)) if from.dtype.is_float() => from.dtype,
            (None, Some(_)) => Dtype::F32,
        };
        Ok((affine.map_or(Self::Type, Self::Affine), RowLayout::new(dtype, from.shape.clone())))
    }

    /// The numbers of a block of rows, which begins at this row of this stream.
    fn numbers(&self, from: &RowLayout, bytes: &[u8], (name, first): (&str, u64)) -> Result<Numbers> {
        let integers = from.dtype.integers(bytes);
        let mut values = vec![0.0; bytes.len() / from.dtype.size()];
        f64::decode(from.dtype, bytes, &mut values);
        Ok(match (self, integers) {
            (Self::Type, Some(integers)) => Numbers::Integers(integers.collect()),
            (Self::Type, None) => Numbers::Floats(values),
            (Self::Affine(affine), _) => {
                affine.apply(&mut values, from.elements());
                Numbers::Floats(values)
            }
            (Self::OneHot(classes), labels) => {
                let mut hot = Vec::with_capacity(values.len() * classes);
                for (row, label) in (first..).zip(labels.into_iter().flatten()) {
                    let class = usize::try_from(label).ok().filter(|class| class < classes);
                    let Some(class) = class else {
                        bail!("{name}: row {row}: found label {label}, expected 0 to {}", classes - 1);
                    };
                    hot.extend((0..*classes).map(|at| i128::from(at == class)));
                }
                Numbers::Integers(hot)
            }
            (Self::Argmax, _) => {
                let tops = values.chunks_exact(from.elements()).filter_map(top1);
                Numbers::Integers(tops.map(|top| top as i128).collect())
            }
        })
    }
}

/// x · over / under, less the mean, by the deviation.
struct Affine {
    scale: Ratio,
    /// One, or one for each channel.
    mean: Vec<f64>,
    std: Vec<f64>,
}

impl Affine {
    /// None if the options ask for none.
    fn new(options: &Cast, from: &RowLayout) -> Result<Option<Self>> {
        if options.scale.is_none() && options.mean.is_empty() && options.std.is_empty() {
            return Ok(None);
        }
        let channels = from.shape.first().copied().unwrap_or(1);
        for (flag, values) in [("--mean", &options.mean), ("--std", &options.std)] {
            if values.len() > 1 && values.len() != channels {
                let found = values.len();
                return Err(Usage::error(format!(
                    "found {found} numbers for {flag}, expected 1 or {channels}, one for each channel of rows of {from}"
                )));
            }
        }
        if options.std.iter().any(|std| std.is_nan() || *std <= 0.0) {
            return Err(Usage::error("found --std of 0 or less, expected a number above 0"));
        }
        let given = |values: &[f64], default| if values.is_empty() { vec![default] } else { values.to_vec() };
        let scale = options.scale.unwrap_or(Ratio { over: 1.0, under: 1.0 });
        Ok(Some(Self { scale, mean: given(&options.mean, 0.0), std: given(&options.std, 1.0) }))
    }

    fn apply(&self, values: &mut [f64], row: usize) {
        let channels = self.mean.len().max(self.std.len());
        let of = |values: &[f64], channel: usize| values[channel % values.len()];
        for (at, plane) in values.chunks_exact_mut(row / channels).enumerate() {
            let (mean, std) = (of(&self.mean, at % channels), of(&self.std, at % channels));
            for value in plane {
                *value = (*value * self.scale.over / self.scale.under - mean) / std;
            }
        }
    }
}

/// Numbers before they get their type.
enum Numbers {
    Floats(Vec<f64>),
    Integers(Vec<i128>),
}

impl Numbers {
    /// Appends them as elements of a type; else the index and the text of one that it cannot hold.
    fn store(&self, dtype: Dtype, bytes: &mut Vec<u8>) -> Result<(), (usize, String)> {
        let refused = |at: usize| match self {
            Self::Floats(values) => (at, values[at].to_string()),
            Self::Integers(values) => (at, values[at].to_string()),
        };
        if dtype.is_float() {
            let values = match self {
                Self::Floats(values) => Cow::from(values),
                Self::Integers(values) => values.iter().map(|&value| value as f64).collect(),
            };
            let begin = bytes.len();
            f64::encode(&values, dtype, bytes);
            let mut stored = vec![0.0; values.len()];
            f64::decode(dtype, &bytes[begin..], &mut stored);
            let mut pairs = values.iter().zip(&stored);
            let beyond = pairs.position(|(value, stored)| value.is_finite() && stored.is_infinite());
            return beyond.map_or(Ok(()), |at| Err(refused(at)));
        }
        let integers: Box<dyn Iterator<Item = Option<i128>>> = match self {
            Self::Floats(values) => Box::new(values.iter().map(|&value| integer(value, dtype))),
            Self::Integers(values) if dtype == Dtype::Bool => {
                Box::new(values.iter().map(|&value| Some(i128::from(value != 0))))
            }
            Self::Integers(values) => Box::new(values.iter().copied().map(Some)),
        };
        for (at, integer) in integers.enumerate() {
            let integer =
                integer.filter(|integer| range(dtype).contains(integer)).ok_or_else(|| refused(at))?;
            bytes.extend_from_slice(&integer.to_le_bytes()[..dtype.size()]);
        }
        Ok(())
    }
}

/// The integer that a float becomes; none for NaN.
fn integer(value: f64, dtype: Dtype) -> Option<i128> {
    if value.is_nan() {
        return None;
    }
    // Beyond i128 the cast saturates, and no type holds the result.
    Some(if dtype == Dtype::Bool { i128::from(value != 0.0) } else { value.round_ties_even() as i128 })
}

/// The numbers of an integer type.
fn range(dtype: Dtype) -> RangeInclusive<i128> {
    let bits = 8 * dtype.size();
    match dtype {
        Dtype::Bool => 0..=1,
        Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => -(1 << (bits - 1))..=(1 << (bits - 1)) - 1,
        _ => 0..=(1 << bits) - 1,
    }
}

/// What a type holds, for messages.
fn expected(dtype: Dtype) -> String {
    match dtype {
        Dtype::Bool => "a number, which is true unless it is 0".into(),
        Dtype::F16 => "-65504 to 65504, as f2 holds".into(),
        Dtype::F32 | Dtype::F64 => format!("a number that {dtype} holds"),
        _ => format!("{} to {}, as {dtype} holds", range(dtype).start(), range(dtype).end()),
    }
}
