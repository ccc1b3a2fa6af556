//! The answers of interpolating codes to predictions: group by group, n rows to k.

use std::sync::Arc;

use anyhow::{Context, Result, bail};
use parm::codes::{Code, Decoder, Decoding, InterpolatingCode, Locator, Matrices, apply};
use parm::corrupt::Corrupt;
use parm::erase::Erase;
use parm::group::GroupCount;
use parm::{Dtype, Float, Tail, Task};
use parm_cli::options::FlushOption;
use parm_cli::tools::decode::{CorruptOption, Decode};
use parm_cli::{Exit, Io, Progress, Usage};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::losses::{default_row, each_or_drawn};
use crate::outputs::Outputs;
use crate::report::{Report, report_unsolved, warn_condition, warn_non_finite};
use crate::streams::{Block, Recorded, Streams};
use crate::task;

/// Rebuilds all predictions from the answers of a stream.
pub(crate) fn run(options: &Decode, io: &mut Io, named: &Code, code: InterpolatingCode) -> Result<Exit> {
    check_options(options, &code)?;
    let code = if options.strict { code.strict() } else { code };
    let recorded = Recorded::for_each_loss(options, io)?;
    let first = Streams::first(options, io, recorded.as_ref(), code.workers())?;
    let layout = first.predictions.layout().clone();
    if let Some(trained) = named.trained() {
        let checked = trained.file.check_predictions(&trained.directory, &layout.shape);
        checked.with_context(|| first.predictions.name().to_owned())?;
    }
    let task = task(options, named.task(), &layout)?;
    let outputs = Outputs::open(options, io, &layout)?;
    let progress = Progress::new(&options.common, io, "answers", Some(0));
    let (report, located) = match layout.dtype {
        Dtype::F64 => decode::<f64>(options, io, (code, task), first, recorded.as_ref(), outputs, &progress),
        _ => decode::<f32>(options, io, (code, task), first, recorded.as_ref(), outputs, &progress),
    }?;
    drop(progress);
    warn_non_finite(options, io, &report);
    warn_condition(options, io, &report, "answers that are many and near");
    let exit = report_unsolved(options, io, &report, "");
    let Report { rows, rebuilt, unsolved, .. } = report;
    let mut line = format!("wrote {rows} predictions: {rebuilt} rebuilt, {unsolved} unsolved");
    if options.locate.is_some() {
        let by_worker: Vec<String> = (located.left_out.iter().enumerate())
            .filter(|(_, count)| **count > 0)
            .map(|(worker, count)| format!(", worker {worker}: {count}"))
            .collect();
        let total: u64 = located.left_out.iter().sum();
        line = format!("{line}; left out {total} wrong answers{}", by_worker.concat());
    }
    if options.corrupt.is_some() {
        line = format!("{line}; found {} of {} corrupted answers", located.found, located.corrupted);
    }
    options.common.count(io, &line);
    Ok(exit)
}

fn check_options(options: &Decode, code: &InterpolatingCode) -> Result<()> {
    let name = options.code.code.display();
    for (flag, given) in [("--parity", &options.parity), ("--parity-available", &options.parity_available)] {
        if !given.is_empty() {
            return Err(Usage::error(format!(
                "{flag} goes with codes with parities, not with --code {name}: all its answers are in one stream"
            )));
        }
    }
    let byzantine = code.redundancy().byzantine;
    for (flag, given) in [("--locate", options.locate.is_some()), ("--corrupt", options.corrupt.is_some())] {
        if given && byzantine == 0 {
            return Err(Usage::error(format!("{flag} needs --byzantine E with E from 1")));
        }
    }
    if options.threshold.is_nan() || options.threshold < 0.0 {
        return Err(Usage::error(format!(
            "found --threshold {}, expected a number from 0",
            options.threshold
        )));
    }
    Ok(())
}

fn decode<T: Float>(
    options: &Decode,
    io: &mut Io,
    (code, task): (InterpolatingCode, Task),
    first: Streams,
    recorded: Option<&Recorded>,
    mut outputs: Outputs,
    progress: &Progress,
) -> Result<(Report, Located)> {
    let shape = first.predictions.layout().shape.clone();
    let default = default_row::<T>(options, io, &shape)?;
    // Of this code no row came in that could be kept.
    let default = default.unwrap_or_else(|| vec![T::zeroed(); shape.iter().product()]);
    let n = code.workers();
    let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
    let mut interpolator = Interpolator::<T>::new(options, code, task, default);
    if let Some(recorded) = recorded {
        // One item holds all copies, so that it can be loaded whole.
        let answers = first.count_rows()?;
        outputs.announce_answers(answers * n as u64);
        outputs.announce(interpolator.predictions(answers / n as u64) * n as u64);
        for worker in 0..n {
            let lose = Some((Erase::Slot(worker), &mut rng));
            interpolator.pass(recorded.streams()?, lose, &mut outputs, false, progress)?;
        }
    } else {
        let lose = each_or_drawn(options).map(|erase| (erase, &mut rng));
        interpolator.pass(first, lose, &mut outputs, true, progress)?;
    }
    outputs.commit()?;
    Ok((interpolator.report, interpolator.located))
}

/// Rebuilds group by group.
struct Interpolator<T> {
    code: InterpolatingCode,
    decoder: Decoder,
    locator: Option<Locator>,
    default: Vec<T>,
    /// The predictions that are wanted of a stream, where not all.
    wanted: Option<u64>,
    flush: FlushOption,
    plan: Option<Plan<T>>,
    /// Survivors' answers, one behind the other.
    gathered: Vec<T>,
    report: Report,
    corruption: Option<Corruption<T>>,
    located: Located,
}

/// Which answers were left out.
struct Located {
    /// By worker.
    left_out: Vec<u64>,
    /// Answers that were made wrong.
    corrupted: u64,
    /// Those of them that were left out.
    found: u64,
}

/// Makes answers wrong, for experiments.
struct Corruption<T> {
    how: Corrupt,
    rng: ChaCha8Rng,
    /// The answers of the group before, as they came.
    before: Option<Vec<T>>,
    /// The workers of this group whose answers are wrong.
    workers: Vec<usize>,
}

/// How groups of one pattern of losses are decoded.
struct Plan<T> {
    available: Vec<bool>,
    decoding: Arc<Decoding>,
    /// D_F in row order, if all answers take part in all predictions.
    dense: Option<Vec<T>>,
}

/// What is written of a block.
struct Written<T> {
    predictions: Vec<T>,
    solved: Vec<u8>,
    confidence: Vec<f32>,
}

impl<T: Float> Interpolator<T> {
    fn new(options: &Decode, code: InterpolatingCode, task: Task, default: Vec<T>) -> Self {
        let locator =
            options.locate.map(|locate| Locator::new(code.clone(), locate.into(), options.threshold));
        let located = Located { left_out: vec![0; code.workers()], corrupted: 0, found: 0 };
        let corruption = options.corrupt.map(|CorruptOption(how)| {
            let mut rng = ChaCha8Rng::seed_from_u64(options.seed);
            // Losses are drawn from stream 0.
            rng.set_stream(1);
            Corruption { how, rng, before: None, workers: Vec::new() }
        });
        Self {
            decoder: Decoder::new(code.clone()).with_task(task),
            code,
            locator,
            default,
            wanted: options.rows,
            flush: options.flush,
            plan: None,
            gathered: Vec::new(),
            report: Report::default(),
            corruption,
            located,
        }
    }

    /// The predictions that are written for so many groups.
    fn predictions(&self, groups: u64) -> u64 {
        let all = groups * self.code.k() as u64;
        self.wanted.map_or(all, |wanted| wanted.min(all))
    }

    /// Reads all streams once, block by block.
    fn pass(
        &mut self,
        mut streams: Streams,
        mut lose: Option<(Erase, &mut ChaCha8Rng)>,
        outputs: &mut Outputs,
        announce: bool,
        progress: &Progress,
    ) -> Result<()> {
        let n = self.code.workers();
        let elements = streams.predictions.layout().elements();
        let block_rows = streams.rows_per_block(n, self.flush);
        let mut count = GroupCount::new(n, Tail::Drop);
        let mut block = Block::<T>::default();
        let mut written = Written { predictions: Vec::new(), solved: Vec::new(), confidence: Vec::new() };
        let (mut announced, mut done) = (0, 0);
        loop {
            let rows = streams.read_predictions(block_rows, &mut block)?;
            self.report.non_finite += block.non_finite;
            for item_rows in streams.predictions.take_opened() {
                progress.expect(item_rows);
                count.open_item(item_rows);
                if announce {
                    outputs.announce_answers(item_rows);
                }
            }
            let predictions = self.predictions(count.clone().finish()?);
            if announce {
                outputs.announce(predictions - announced);
            }
            announced = predictions;
            if let Some((erase, rng)) = &mut lose {
                block.available.chunks_mut(n).for_each(|group| erase.draw(group, *rng));
            }
            outputs.write_erased(&block.available)?;
            written.clear();
            let groups = block.predictions.values_mut()[..rows * elements].chunks_exact_mut(n * elements);
            for (answers, available) in groups.zip(block.available.chunks_exact_mut(n)) {
                self.corrupt(answers, available);
                self.locate(answers, elements, available);
                self.rebuild(answers, elements, available, &mut written, outputs.confidence.is_some());
            }
            outputs.write_kept(&block.available)?;
            // Beyond what is wanted are repeats.
            let here = (written.solved.len() as u64).min(announced - done) as usize;
            outputs.predictions.write(&written.predictions[..here * elements])?;
            outputs.write_solved(&written.solved[..here])?;
            outputs.write_confidence(&written.confidence[..here.min(written.confidence.len())])?;
            outputs.flush()?;
            done += here as u64;
            let rebuilt: u64 = written.solved[..here].iter().map(|&solved| u64::from(solved)).sum();
            self.report.rebuilt += rebuilt;
            self.report.unsolved += here as u64 - rebuilt;
            progress.advance(rows as u64);
            if rows < block_rows {
                break;
            }
        }
        self.report.rows += done;
        self.check_rows(&streams, count.rows())?;
        streams.check_ends(count.rows())
    }

    /// Makes sure that the answers fill their groups, and the groups what is wanted.
    fn check_rows(&self, streams: &Streams, answers: u64) -> Result<()> {
        let (code, name) = (&self.code, streams.predictions.name());
        let (k, n) = (code.k() as u64, code.workers() as u64);
        if !answers.is_multiple_of(n) {
            bail!(
                "{name}: found {answers} answers, which do not fill groups of n = {n} workers for k = {k} \
                 queries ({} left over); expected a multiple of n",
                answers % n
            );
        }
        let groups = answers / n;
        match self.wanted {
            Some(wanted) if wanted.div_ceil(k) != groups => bail!(
                "{name}: found {groups} groups of k = {k} queries, expected {} for --rows {wanted}",
                wanted.div_ceil(k)
            ),
            _ => Ok(()),
        }
    }

    /// Makes answers wrong, if that is asked for.
    fn corrupt(&mut self, answers: &mut [T], available: &[bool]) {
        let Some(Corruption { how, rng, before, workers }) = &mut self.corruption else { return };
        let now = answers.to_vec();
        let count = self.code.redundancy().byzantine;
        *workers = how.draw(answers, before.as_deref(), available, count, rng);
        *before = Some(now);
        self.located.corrupted += workers.len() as u64;
    }

    /// Marks wrong answers as missing.
    fn locate(&mut self, answers: &[T], elements: usize, available: &mut [bool]) {
        let Some(locator) = &mut self.locator else { return };
        for worker in locator.find(answers, elements, available) {
            available[worker] = false;
            self.located.left_out[worker] += 1;
            let corrupted = self.corruption.as_ref().is_some_and(|made| made.workers.contains(&worker));
            self.located.found += u64::from(corrupted);
        }
    }

    /// Appends the predictions of one group.
    fn rebuild(
        &mut self,
        answers: &[T],
        elements: usize,
        available: &[bool],
        written: &mut Written<T>,
        with_confidence: bool,
    ) {
        if self.plan.as_ref().is_none_or(|plan| plan.available != available) {
            self.plan = Some(Plan::new(&mut self.decoder, available));
        }
        let Some(plan) = &self.plan else { return };
        let k = self.code.k();
        let first = written.predictions.len();
        written.predictions.resize(first + k * elements, T::zeroed());
        let out = &mut written.predictions[first..];
        if let Some(dense) = &plan.dense {
            self.gathered.clear();
            for (row, _) in answers.chunks_exact(elements).zip(available).filter(|(_, available)| **available)
            {
                self.gathered.extend_from_slice(row);
            }
            apply(dense, &self.gathered, elements, out);
        } else {
            for rebuilt in &plan.decoding.rebuilt {
                let answer = |worker: usize| &answers[worker * elements..][..elements];
                rebuilt.combine(answer, &mut out[rebuilt.slot * elements..][..elements]);
            }
        }
        let Decoding { rebuilt, unsolved, condition } = &*plan.decoding;
        let solved = written.solved.len();
        written.solved.resize(solved + k, 1);
        for &slot in unsolved {
            out[slot * elements..][..elements].copy_from_slice(&self.default);
            written.solved[solved + slot] = 0;
        }
        if with_confidence {
            written.confidence.resize(solved + k, 0.0);
            for rebuilt in rebuilt {
                let prediction = &out[rebuilt.slot * elements..][..elements];
                written.confidence[solved + rebuilt.slot] = self.decoder.confidence(rebuilt, prediction);
            }
        }
        self.report.worst_condition = self.report.worst_condition.max(*condition);
    }
}

impl<T: Float> Plan<T> {
    fn new(decoder: &mut Decoder, available: &[bool]) -> Self {
        let decoding = decoder.decoding(available);
        let survivors = available.iter().filter(|available| **available).count();
        let full = decoding.unsolved.is_empty()
            && decoding.rebuilt.iter().all(|rebuilt| rebuilt.terms.len() == survivors);
        let weights = || decoding.rebuilt.iter().flat_map(|rebuilt| &rebuilt.terms);
        let dense = full.then(|| weights().map(|&(_, c)| T::from_f64(c)).collect());
        Self { available: available.to_vec(), decoding, dense }
    }
}

impl<T> Written<T> {
    fn clear(&mut self) {
        self.predictions.clear();
        self.solved.clear();
        self.confidence.clear();
    }
}
