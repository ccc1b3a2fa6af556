//! Predictions, parity outputs and masks to predictions in which what was lost is rebuilt.

mod streams;

use std::path::Path;

use anyhow::{Context, Result, bail};
use parm::codes::{Decoder, Decoding, ILL_CONDITIONED, combine};
use parm::erase::Erase;
use parm::group::GroupCount;
use parm::npy::{RowBuffer, RowWriter, Window};
use parm::{Dtype, Float, LinearCode, Tail};
use parm_cli::input::check_stdin;
use parm_cli::output::commit;
use parm_cli::tools::decode::{Decode, DefaultPrediction, EraseOption};
use parm_cli::{Exit, Input, Io, Output, Progress, Usage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::streams::{Block, Recorded, Streams};

/// Rebuilds the missing predictions of a stream.
///
/// # Errors
/// Options that contradict each other, a code or a stream that is refused, streams that do not have
/// the rows that each other ask for, an output that cannot be written.
pub fn run(options: &Decode, io: &mut Io) -> Result<Exit> {
    let chosen = options.code.choose(io)?;
    check_counts(options, chosen.linear.r())?;
    check_stdin(options.inputs())?;
    let each = options.erase == Some(EraseOption::Each);
    let recorded = each.then(|| Recorded::read(options, io)).transpose()?;
    let first = match &recorded {
        Some(recorded) => recorded.streams()?,
        None => Streams::open(options, io)?,
    };
    let layout = first.predictions.layout().clone();
    if let Some(file) = chosen.file.filter(|file| file.prediction_shape != layout.shape) {
        bail!(
            "{}: found predictions of shape {:?}, but the code {} was trained for {:?}",
            first.predictions.name(),
            layout.shape,
            options.code.code,
            file.prediction_shape
        );
    }
    let compression = options.write.compress.compression();
    let mask_layout = parm::mask::layout;
    let outputs = Outputs {
        predictions: options.write.rows(io, layout.clone())?,
        solved: options.solved.as_ref().map(|to| to.rows(io, compression, mask_layout())).transpose()?,
        erased: options.erased_out.as_ref().map(|to| to.rows(io, compression, mask_layout())).transpose()?,
    };
    let progress = Progress::new(&options.common, io, "predictions", Some(0));
    let report = match layout.dtype {
        Dtype::F64 => decode::<f64>(options, io, chosen.linear, first, recorded.as_ref(), outputs, &progress),
        _ => decode::<f32>(options, io, chosen.linear, first, recorded.as_ref(), outputs, &progress),
    }?;
    drop(progress);
    if report.worst_condition > ILL_CONDITIONED {
        let message = format!(
            "a system with condition number {:.1e} was solved: its reconstructions amplify errors; \
             weights that differ less, or fewer losses, would help",
            report.worst_condition
        );
        options.common.warn(io, "parm-decode", &message);
    }
    let Report { rows, rebuilt, unsolved, .. } = report;
    if unsolved > 0 && !options.allow_unsolved {
        let message =
            format!("{unsolved} of {} missing predictions could not be rebuilt", rebuilt + unsolved);
        options.common.warn(io, "parm-decode", &message);
    }
    let line = format!("wrote {rows} predictions: {rebuilt} rebuilt, {unsolved} unsolved");
    options.common.count(io, "parm-decode", &line);
    Ok(if unsolved > 0 && !options.allow_unsolved { Exit::Unsolved } else { Exit::Done })
}

fn check_counts(options: &Decode, r: usize) -> Result<()> {
    let found = options.parity.len();
    if found != r {
        return Err(Usage::error(format!(
            "found {found} --parity streams, expected r = {r}, in the order of parities"
        )));
    }
    let masks = options.parity_available.len();
    if masks != 0 && masks != r {
        return Err(Usage::error(format!(
            "found {masks} --parity-available masks, expected none or r = {r}, in the order of parities"
        )));
    }
    Ok(())
}

struct Outputs {
    predictions: RowWriter<Output>,
    solved: Option<RowWriter<Output>>,
    erased: Option<RowWriter<Output>>,
}

impl Outputs {
    fn announce(&mut self, rows: u64) {
        self.predictions.announce(rows);
        self.solved.iter_mut().chain(&mut self.erased).for_each(|mask| mask.announce(rows));
    }

    fn commit(self) -> Result<()> {
        commit(self.predictions)?;
        self.solved.into_iter().chain(self.erased).try_for_each(commit)
    }
}

/// What was done.
#[derive(Default)]
struct Report {
    rows: u64,
    rebuilt: u64,
    unsolved: u64,
    worst_condition: f64,
}

fn decode<T: Float>(
    options: &Decode,
    io: &mut Io,
    code: LinearCode,
    first: Streams,
    recorded: Option<&Recorded>,
    mut outputs: Outputs,
    progress: &Progress,
) -> Result<Report> {
    let default = default_row::<T>(options, io, first.predictions.layout().shape.as_slice())?;
    let k = code.k();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut rebuilder = Rebuilder::<T>::new(code, options.tail.into(), default);
    if let Some(recorded) = recorded {
        // One item holds all copies, so that it can be loaded whole.
        outputs.announce(first.count_rows()? * k as u64);
        for slot in 0..k {
            let lose = Some((Erase::Slot(slot), &mut rng));
            rebuilder.pass(recorded.streams()?, lose, &mut outputs, |_, _| (), progress)?;
        }
    } else {
        let erase = match options.erase {
            Some(EraseOption::One) => Some(Erase::One),
            Some(EraseOption::Probability(p)) => Some(Erase::Probability(p)),
            _ => None,
        };
        rebuilder.pass(
            first,
            erase.map(|erase| (erase, &mut rng)),
            &mut outputs,
            Outputs::announce,
            progress,
        )?;
    }
    outputs.commit()?;
    Ok(rebuilder.report)
}

/// The row that stands for a prediction that nothing can rebuild; none to keep what came in.
fn default_row<T: Float>(options: &Decode, io: &mut Io, shape: &[usize]) -> Result<Option<Vec<T>>> {
    let elements = shape.iter().product();
    Ok(match &options.default {
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
    let found: Vec<usize> = std::iter::once(count).chain(layout.shape.iter().copied()).collect();
    if found != shape && (count != 1 || layout.shape != shape) {
        bail!("{}: found a default of shape {found:?}, expected one row of shape {shape:?}", path.display());
    }
    values.values_mut()[..elements].iter().copied().map(Ok).collect()
}

/// Rebuilds group by group.
struct Rebuilder<T> {
    decoder: Decoder,
    tail: Tail,
    default: Option<Vec<T>>,
    report: Report,
}

impl<T: Float> Rebuilder<T> {
    fn new(code: LinearCode, tail: Tail, default: Option<Vec<T>>) -> Self {
        Self { decoder: Decoder::new(code), tail, default, report: Report::default() }
    }

    /// Reads all streams once, block by block.
    fn pass(
        &mut self,
        mut streams: Streams,
        mut lose: Option<(Erase, &mut ChaCha8Rng)>,
        outputs: &mut Outputs,
        announce: impl Fn(&mut Outputs, u64),
        progress: &Progress,
    ) -> Result<()> {
        let k = self.decoder.code().k();
        let layout = streams.predictions.layout();
        let (elements, block_rows) = (layout.elements(), (layout.rows_per_block() / k).max(1) * k);
        let mut count = GroupCount::new(k, self.tail);
        let mut block = Block::<T>::default();
        let mut solved = Vec::new();
        loop {
            let rows = streams.read_predictions(block_rows, &mut block)?;
            for item_rows in streams.predictions.take_opened() {
                progress.expect(item_rows);
                count.open_item(item_rows);
                announce(outputs, item_rows);
            }
            if let Some((erase, rng)) = &mut lose {
                block.available.chunks_mut(k).for_each(|group| erase.draw(group, *rng));
            }
            let padded = usize::from(self.tail == Tail::Pad && rows % k > 0);
            streams.read_parities(rows / k + padded, &mut block)?;
            solved.clear();
            solved.resize(rows, 1);
            for group in 0..rows.div_ceil(k) {
                self.rebuild(group, elements, &mut block, &mut solved);
            }
            outputs.predictions.write(&block.predictions.values()[..rows * elements])?;
            if let Some(mask) = &mut outputs.solved {
                mask.write_raw(&solved)?;
            }
            if let Some(mask) = &mut outputs.erased {
                mask.write_raw(
                    &block.available.iter().map(|&available| u8::from(available)).collect::<Vec<_>>(),
                )?;
            }
            self.report.rows += rows as u64;
            progress.advance(rows as u64);
            if rows < block_rows {
                break;
            }
        }
        count.finish().with_context(|| streams.predictions.name().to_owned())?;
        streams.check_ends(count.rows())
    }

    /// Rebuilds the lost rows of one group in place.
    fn rebuild(&mut self, group: usize, elements: usize, block: &mut Block<T>, solved: &mut [u8]) {
        let k = self.decoder.code().k();
        let first_row = group * k;
        let Block { predictions, available, parities, parity_available } = block;
        let rows = k.min(available.len() - first_row);
        let available = &available[first_row..first_row + rows];
        if available.iter().all(|&available| available) {
            return;
        }
        let mut pattern = available.to_vec();
        pattern.extend(parity_available.iter().map(|mask| mask.get(group).copied().unwrap_or(false)));
        let decoding = if rows == k {
            self.decoder.decoding(&pattern)
        } else {
            // Only the last group is short: its decoding is not worth keeping.
            self.decoder.code().padded(rows).decoding(&pattern).into()
        };
        let Decoding { rebuilt, unsolved, condition } = &*decoding;
        for reconstruction in rebuilt {
            let (coefficients, answers): (Vec<T>, Vec<&[T]>) = reconstruction
                .terms
                .iter()
                .map(|&(answer, coefficient)| {
                    let (values, row) = match answer.checked_sub(rows) {
                        None => (predictions.values(), first_row + answer),
                        Some(parity) => (parities[parity].values(), group),
                    };
                    (T::from_f64(coefficient), &values[row * elements..][..elements])
                })
                .unzip();
            let mut row = vec![T::zeroed(); elements];
            combine(&coefficients, &answers, &mut row);
            let slot = first_row + reconstruction.slot;
            predictions.values_mut()[slot * elements..][..elements].copy_from_slice(&row);
        }
        for &slot in unsolved {
            solved[first_row + slot] = 0;
            if let Some(default) = &self.default {
                predictions.values_mut()[(first_row + slot) * elements..][..elements]
                    .copy_from_slice(default);
            }
        }
        self.report.rebuilt += rebuilt.len() as u64;
        self.report.unsolved += unsolved.len() as u64;
        if !rebuilt.is_empty() {
            self.report.worst_condition = self.report.worst_condition.max(*condition);
        }
    }
}
