//! The losses of experiments, and what stands for a prediction that nothing rebuilds.

use std::iter::once;
use std::path::Path;

use anyhow::{Context, Result, bail};
use parm::Float;
use parm::erase::Erase;
use parm::npy::{RowBuffer, Window};
use parm_cli::tools::decode::{Decode, DefaultPrediction, EraseOption};
use parm_cli::{Input, Io};

/// The losses to draw, where not each in turn.
pub(crate) fn each_or_drawn(options: &Decode) -> Option<Erase> {
    match options.erase? {
        EraseOption::One => Some(Erase::One),
        EraseOption::Probability(p) => Some(Erase::Probability(p)),
        EraseOption::Each => None,
    }
}

/// The row that stands for a prediction that nothing can rebuild; none to keep what came in. Where losses
/// are drawn, what came in is the true prediction, which must not pass for a reconstruction.
pub(crate) fn default_row<T: Float>(
    options: &Decode,
    io: &mut Io,
    shape: &[usize],
) -> Result<Option<Vec<T>>> {
    let elements = shape.iter().product();
    let drawn = options.erase.is_some();
    let otherwise = if drawn { DefaultPrediction::Uniform } else { DefaultPrediction::Keep };
    Ok(match options.default.as_ref().unwrap_or(&otherwise) {
        DefaultPrediction::Keep => None,
        DefaultPrediction::Zero => Some(vec![T::zeroed(); elements]),
        DefaultPrediction::Uniform => Some(vec![T::from_f64(1.0 / elements as f64); elements]),
        DefaultPrediction::File(path) => Some(default_file(path, io, shape)?),
    })
}

fn default_file<T: Float>(path: &Path, io: &mut Io, shape: &[usize]) -> Result<Vec<T>> {
    let mut rows = Input::Path(path.to_owned())
        .rows(io, Window::Normal)
        .context("--default: expected keep, zero, uniform or a file with one row")?;
    let layout = rows.layout().clone();
    let mut values = RowBuffer::default();
    let elements: usize = shape.iter().product();
    let count = rows.read(elements + 1, &mut values)?;
    // The row itself, or a stream of one row.
    let found: Vec<usize> = once(count).chain(layout.shape.iter().copied()).collect();
    if found != shape && (count != 1 || layout.shape != shape) {
        bail!("{}: found a default of shape {found:?}, expected one row of shape {shape:?}", path.display());
    }
    values.values_mut()[..elements].iter().copied().map(Ok).collect()
}
