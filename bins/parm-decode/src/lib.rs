//! Predictions, parity outputs and masks to predictions in which what was lost is rebuilt.

mod interpolate;
mod learned;
mod streams;

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use parm::calibration::Calibration;
use parm::codes::{Decoder, Decoding, ILL_CONDITIONED, combine, confidence};
use parm::counted;
use parm::erase::Erase;
use parm::npy::{RowBuffer, RowLayout, RowWriter, Window};
use parm::{Dtype, Float, LinearCode, Tail};
use parm_cli::options::{AnyCode, ChosenCode};
use parm_cli::output::{Target, commit};
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
    check_shard(options)?;
    match options.curve.choose(&options.code, io)? {
        AnyCode::Systematic(chosen) => run_systematic(options, io, *chosen),
        AnyCode::Interpolating(code) => interpolate::run(options, io, code),
    }
}

fn run_systematic(options: &Decode, io: &mut Io, chosen: ChosenCode) -> Result<Exit> {
    check_options(options)?;
    check_counts(options, chosen.linear.r())?;
    let recorded = Recorded::for_each_loss(options, io)?;
    let first = Streams::first(options, io, recorded.as_ref(), chosen.linear.k())?;
    let layout = first.predictions.layout().clone();
    if let Some(file) = &chosen.file {
        let checked = file.check_predictions(&options.code.code, &layout.shape);
        checked.with_context(|| first.predictions.name().to_owned())?;
    }
    let outputs = Outputs::open(options, io, &layout)?;
    let code = chosen.linear;
    let report = match (&chosen.decoder, layout.dtype) {
        (None, Dtype::F64) => decode::<f64>(options, io, code, first, recorded.as_ref(), outputs),
        (None, _) => decode::<f32>(options, io, code, first, recorded.as_ref(), outputs),
        (Some(model), Dtype::F64) => {
            learned::decode::<f64>(options, io, model, &code, first, recorded, outputs)
        }
        (Some(model), _) => learned::decode::<f32>(options, io, model, &code, first, recorded, outputs),
    }?;
    warn_non_finite(options, io, &report);
    warn_condition(options, io, &report, "weights that differ less, or fewer losses,");
    let exit = report_unsolved(options, io, &report, "missing ");
    let Report { rows, rebuilt, unsolved, .. } = report;
    let line = format!("wrote {}: {rebuilt} rebuilt, {unsolved} unsolved", counted(rows, "prediction"));
    options.common.count(io, &line);
    Ok(exit)
}

fn warn_non_finite(options: &Decode, io: &mut Io, report: &Report) {
    let (found, verb) = match report.non_finite {
        0 => return,
        1 => ("1 answer", "counts"),
        count => (&*format!("{count} answers"), "count"),
    };
    let message = format!("{found} with NaN or infinity {verb} as missing");
    options.common.warn(io, &message);
}

fn warn_condition(options: &Decode, io: &mut Io, report: &Report, help: &str) {
    if report.worst_condition > ILL_CONDITIONED {
        let message = format!(
            "a system with condition number {:.1e} was solved: its reconstructions amplify errors; {help} \
             would help",
            report.worst_condition
        );
        options.common.warn(io, &message);
    }
}

/// Warns of predictions that could not be rebuilt, unless they are allowed.
fn report_unsolved(options: &Decode, io: &mut Io, report: &Report, missing: &str) -> Exit {
    let Report { rebuilt, unsolved, .. } = report;
    if *unsolved == 0 || options.allow_unsolved {
        return Exit::Done;
    }
    let message = format!("{unsolved} of {} {missing}predictions could not be rebuilt", rebuilt + unsolved);
    options.common.warn(io, &message);
    Exit::Unsolved
}

/// Refuses what only interpolating codes have.
fn check_options(options: &Decode) -> Result<()> {
    let name = options.code.code.display();
    let given = [
        ("--rows", options.rows.is_some()),
        ("--strict", options.strict),
        ("--corrupt", options.corrupt.is_some()),
    ];
    match given.into_iter().find(|(_, given)| *given) {
        Some((flag, _)) => {
            Err(Usage::error(format!("{flag} goes with interpolating codes, not with --code {name}")))
        }
        None => Ok(()),
    }
}

/// Refuses what is about the whole stream.
fn check_shard(options: &Decode) -> Result<()> {
    let given = [
        ("--erase", options.erase.is_some(), "says what is missing by --available"),
        ("--corrupt", options.corrupt.is_some(), "takes answers as they came"),
        ("--rows", options.rows.is_some(), "writes whole groups"),
    ];
    match given.into_iter().find(|(_, given, _)| *given && options.shard.shard.is_some()) {
        Some((flag, _, instead)) => Err(Usage::error(format!(
            "{flag} is about the whole stream, and --shard about a part of it, which {instead}"
        ))),
        None => Ok(()),
    }
}

/// The losses to draw, where not each in turn.
fn each_or_drawn(options: &Decode) -> Option<Erase> {
    match options.erase? {
        EraseOption::One => Some(Erase::One),
        EraseOption::Probability(p) => Some(Erase::Probability(p)),
        EraseOption::Each => None,
    }
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
    confidence: Option<RowWriter<Output>>,
    calibration: Option<Calibration>,
    erased: Option<RowWriter<Output>>,
    kept: Option<RowWriter<Output>>,
    /// Predictions written, where block by block.
    rows: u64,
}

impl Outputs {
    fn open(options: &Decode, io: &mut Io, layout: &RowLayout) -> Result<Self> {
        let classes = matches!(layout.shape[..], [classes] if classes > 1);
        if options.confidence.is_some() && !classes {
            bail!("--confidence: found predictions of {layout}, expected scores of two classes or more");
        }
        let calibration = options.calibration.as_deref().map(read_calibration).transpose()?;
        let compression = options.write.compress.compression();
        let mut open = |to: &Option<Target>, layout: RowLayout| {
            to.as_ref().map(|to| to.rows(io, compression, layout)).transpose()
        };
        Ok(Self {
            solved: open(&options.solved, parm::mask::layout())?,
            confidence: open(&options.confidence, RowLayout::new(Dtype::F32, []))?,
            calibration,
            erased: open(&options.erased_out, parm::mask::layout())?,
            kept: open(&options.kept, parm::mask::layout())?,
            predictions: options.write.rows(io, layout.clone())?,
            rows: 0,
        })
    }

    /// Writes a block of predictions and what accompanies them.
    fn write<T: Float>(
        &mut self,
        block: &Block<T>,
        elements: usize,
        fates: &Fates,
        announce: Announce,
        progress: &Progress,
    ) -> Result<()> {
        for &rows in &block.items {
            progress.expect(rows);
            if announce == Announce::AsRead {
                self.announce(rows);
                self.announce_answers(rows);
            }
        }
        let rows = block.available.len();
        self.predictions.write(&block.predictions.values()[..rows * elements])?;
        self.write_solved(&fates.solved)?;
        self.write_confidence(&fates.scores)?;
        self.write_erased(&block.available)?;
        self.rows += rows as u64;
        progress.advance(rows as u64);
        Ok(())
    }

    /// Announces an item of predictions, and of what accompanies them.
    fn announce(&mut self, rows: u64) {
        self.predictions.announce(rows);
        self.solved.iter_mut().chain(&mut self.confidence).for_each(|rows_of| rows_of.announce(rows));
    }

    /// Announces an item of the masks of what came in.
    fn announce_answers(&mut self, rows: u64) {
        self.erased.iter_mut().chain(&mut self.kept).for_each(|mask| mask.announce(rows));
    }

    fn write_solved(&mut self, solved: &[u8]) -> Result<()> {
        Ok(self.solved.as_mut().map_or(Ok(()), |mask| mask.write_raw(solved))?)
    }

    fn write_confidence(&mut self, scores: &[f32]) -> Result<()> {
        let Some(rows) = &mut self.confidence else { return Ok(()) };
        let Some(calibration) = &self.calibration else { return Ok(rows.write(scores)?) };
        // What arrived is certain, and what nothing rebuilt is certainly no answer.
        let calibrated =
            |&score: &f32| if 0.0 < score && score < 1.0 { calibration.apply(score) } else { score };
        Ok(rows.write(&scores.iter().map(calibrated).collect::<Vec<_>>())?)
    }

    fn write_erased(&mut self, available: &[bool]) -> Result<()> {
        write_mask(self.erased.as_mut(), available)
    }

    fn write_kept(&mut self, available: &[bool]) -> Result<()> {
        write_mask(self.kept.as_mut(), available)
    }

    fn commit(self) -> Result<()> {
        commit(self.predictions)?;
        [self.solved, self.confidence, self.erased, self.kept].into_iter().flatten().try_for_each(commit)
    }
}

fn read_calibration(path: &Path) -> Result<Calibration> {
    let name = || path.display().to_string();
    let text = fs::read(path).with_context(|| format!("{}: cannot read", path.display()))?;
    let calibration: Calibration = serde_json::from_slice(&text)
        .with_context(|| format!("{}: malformed calibration", path.display()))?;
    calibration.check().with_context(name)?;
    Ok(calibration)
}

fn write_mask(to: Option<&mut RowWriter<Output>>, available: &[bool]) -> Result<()> {
    let bytes =
        |available: &[bool]| available.iter().map(|&available| u8::from(available)).collect::<Vec<_>>();
    Ok(to.map_or(Ok(()), |mask| mask.write_raw(&bytes(available)))?)
}

/// Which items of the outputs are announced as their rows come in.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Announce {
    /// Those of the predictions.
    AsRead,
    /// None: one item was announced for all.
    Before,
}

/// What became of the predictions of a block.
#[derive(Default)]
struct Fates {
    /// Whether each arrived or was rebuilt: 1 or 0.
    solved: Vec<u8>,
    /// How far to trust each.
    scores: Vec<f32>,
}

impl Fates {
    /// All have arrived.
    fn reset(&mut self, rows: usize) {
        self.solved.clear();
        self.solved.resize(rows, 1);
        self.scores.clear();
        self.scores.resize(rows, 1.0);
    }

    /// Nothing rebuilt this row, and the default stands in its place, if there is one.
    fn leave_unsolved<T: Float>(&mut self, row: usize, predictions: &mut [T], default: Option<&[T]>) {
        self.solved[row] = 0;
        self.scores[row] = 0.0;
        if let Some(default) = default {
            predictions[row * default.len()..][..default.len()].copy_from_slice(default);
        }
    }
}

/// What was done.
#[derive(Default)]
struct Report {
    rows: u64,
    rebuilt: u64,
    unsolved: u64,
    /// Answers that count as missing because they are not finite.
    non_finite: u64,
    worst_condition: f64,
}

fn decode<T: Float>(
    options: &Decode,
    io: &mut Io,
    code: LinearCode,
    first: Streams,
    recorded: Option<&Recorded>,
    mut outputs: Outputs,
) -> Result<Report> {
    let progress = Progress::new(&options.common, io, "predictions", Some(0));
    let default = default_row::<T>(options, io, first.predictions.layout().shape.as_slice())?;
    let k = code.k();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut rebuilder = Rebuilder::<T>::new(code, options.tail.into(), default);
    if let Some(recorded) = recorded {
        // One item holds all copies, so that it can be loaded whole.
        let rows = first.count_rows()? * k as u64;
        outputs.announce(rows);
        outputs.announce_answers(rows);
        for slot in 0..k {
            let lose = Some((Erase::Slot(slot), &mut rng));
            rebuilder.pass(recorded.streams()?, lose, &mut outputs, Announce::Before, &progress)?;
        }
    } else {
        let lose = each_or_drawn(options).map(|erase| (erase, &mut rng));
        rebuilder.pass(first, lose, &mut outputs, Announce::AsRead, &progress)?;
    }
    outputs.commit()?;
    Ok(rebuilder.report)
}

/// The row that stands for a prediction that nothing can rebuild; none to keep what came in. Where losses
/// are drawn, what came in is the true prediction, which must not pass for a reconstruction.
fn default_row<T: Float>(options: &Decode, io: &mut Io, shape: &[usize]) -> Result<Option<Vec<T>>> {
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
    let found: Vec<usize> = std::iter::once(count).chain(layout.shape.iter().copied()).collect();
    if found != shape && (count != 1 || layout.shape != shape) {
        bail!("{}: found a default of shape {found:?}, expected one row of shape {shape:?}", path.display());
    }
    values.values_mut()[..elements].iter().copied().map(Ok).collect()
}

/// Rebuilds group by group.
struct Rebuilder<T> {
    decoder: Decoder<LinearCode>,
    tail: Tail,
    default: Option<Vec<T>>,
    report: Report,
}

impl<T: Float> Rebuilder<T> {
    fn new(code: LinearCode, tail: Tail, default: Option<Vec<T>>) -> Self {
        Self { decoder: Decoder::new(code), tail, default, report: Report::default() }
    }

    /// Reads all streams once.
    fn pass(
        &mut self,
        streams: Streams,
        lose: Option<(Erase, &mut ChaCha8Rng)>,
        outputs: &mut Outputs,
        announce: Announce,
        progress: &Progress,
    ) -> Result<()> {
        let k = self.decoder.code().k();
        let elements = streams.predictions.layout().elements();
        let mut fates = Fates::default();
        streams.read_groups(k, self.tail, lose, |mut block| {
            self.report.non_finite += block.non_finite;
            fates.reset(block.available.len());
            for group in 0..block.available.len().div_ceil(k) {
                self.rebuild(group, elements, &mut block, &mut fates);
            }
            outputs.write(&block, elements, &fates, announce, progress)?;
            Ok(Some(block))
        })?;
        self.report.rows = outputs.rows;
        Ok(())
    }

    /// Rebuilds the lost rows of one group in place.
    fn rebuild(&mut self, group: usize, elements: usize, block: &mut Block<T>, fates: &mut Fates) {
        let k = self.decoder.code().k();
        let first_row = group * k;
        let Block { predictions, available, parities, parity_available, .. } = block;
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
            if !reconstruction.is_answer() {
                fates.scores[slot] = confidence(&row, reconstruction.amplification());
            }
            predictions.values_mut()[slot * elements..][..elements].copy_from_slice(&row);
        }
        for &slot in unsolved {
            fates.leave_unsolved(first_row + slot, predictions.values_mut(), self.default.as_deref());
        }
        self.report.rebuilt += rebuilt.len() as u64;
        self.report.unsolved += unsolved.len() as u64;
        if !rebuilt.is_empty() {
            self.report.worst_condition = self.report.worst_condition.max(*condition);
        }
    }
}
