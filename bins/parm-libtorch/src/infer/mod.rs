//! `parm-infer` with models in files: a stream of queries to a stream of a model's outputs.
//!
//! The reader turns bytes into floats, the uploader copies these to the device, workers make outputs of them, and the
//! caller's thread writes; each is a thread with one piece of work in hand and one waiting. On a CPU there are several
//! workers, and the uploader gives each the next part of a block in turn. The writer takes outputs from them in the same
//! turn, so that they stand in the order of the queries.

use std::num::NonZeroUsize;
use std::ops::Range;
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use parm::codes::Code;
use parm::counted;
use parm::group::GroupCount;
use parm::npy::{RowBuffer, RowLayout, RowReader, RowWriter, StreamError};
use parm_cli::input::Source;
use parm_cli::options::{Compute, ModelOptions, Optimize, PartOptions, TuningPrecision};
use parm_cli::output::Target;
use parm_cli::tools::infer::Infer;
use parm_cli::{Exit, Io, Output, Progress, Usage, output};
use parm_torch::device::Settings;
use parm_torch::session::{Queries, Upload};
use parm_torch::timings::Report;
use parm_torch::train::Precision;
use parm_torch::{Choices, Encoder, Model, Pass, Phase, Session, Timings, Tuning, device};

/// Blocks between two threads: one that is worked on at either side, and one that waits.
const BLOCKS: usize = 3;

/// Queries on their way to the device.
#[derive(Default)]
struct Block {
    rows: usize,
    values: RowBuffer<f32>,
    /// Rows of the items that begin within this block.
    items: Vec<u64>,
}

/// A part of a block, on its way to a worker.
struct Part {
    rows: usize,
    queries: Queries,
    /// The threads of the CPU that compute it.
    threads: usize,
    /// Rows of the items that begin within the block, if this is its first part.
    items: Vec<u64>,
}

/// Outputs on their way to the writer.
struct Outputs {
    rows: usize,
    /// The model's, then those of parity models.
    bytes: Vec<Vec<u8>>,
    items: Vec<u64>,
}

/// The outputs of a worker; none when it has finished.
type Made = Result<Option<Outputs>>;

/// The queries, and how they are read.
struct Rows {
    reader: RowReader<Source>,
    /// The most rows of a block.
    most: usize,
    k: usize,
    /// Whether a block ends with its item.
    flush: bool,
}

/// The numbers that a block has at least, if there are as many. Passing a block on wakes threads: with blocks of one row, a
/// small MLP took 0.10 ms for each, in place of 0.04 ms; with a quarter of this number, batches of 16 rows took a sixth
/// longer on two threads.
const BLOCK: usize = 1 << 18;

/// The rows of a block: those of enough batches, at least this number.
fn block_rows(batch: usize, elements: usize, least: usize) -> usize {
    let rows = BLOCK.div_ceil(elements.max(1)).max(least);
    rows.checked_next_multiple_of(batch).unwrap_or(batch)
}

/// The rows of the parts of a block: at most `workers` parts, all but the last of them multiples of `step`.
fn parts(rows: usize, step: usize, workers: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    let of_part = rows.div_ceil(step).div_ceil(workers).max(1) * step;
    (0..rows.div_ceil(of_part)).map(move |part| part * of_part..rows.min((part + 1) * of_part))
}

/// Whether rows may follow.
enum More {
    Maybe,
    No,
}

impl Rows {
    /// Reads a block.
    fn read(&mut self, values: &mut RowBuffer<f32>) -> Result<(usize, More), StreamError> {
        let wanted = if self.flush { self.reader.rows_at_once(self.most, self.k)? } else { self.most };
        let rows = self.reader.read(wanted, values)?;
        Ok((rows, if rows == wanted && rows > 0 { More::Maybe } else { More::No }))
    }
}

/// What the writer must know of coding groups.
struct Coded {
    /// The work, for messages: the model and the queries.
    job: String,
    /// The name of the queries.
    name: String,
    /// Where the outputs of each parity model go.
    targets: Vec<Target>,
    groups: GroupCount,
}

/// Runs the tool.
///
/// # Errors
/// Anything that keeps it from writing one output for each query; see the messages.
pub fn run(options: &Infer, io: &mut Io) -> Result<Exit> {
    let path = options.model.as_deref().ok_or_else(|| Usage::error("found no model, expected --model"))?;
    if options.describe {
        return describe(options, path, io);
    }
    let timings_file = options.timings.create(io)?;
    let begin = Instant::now();
    let timings = Arc::new(Timings::new(move || begin.elapsed().as_secs_f64()));
    let Compute { device, threads, tf32 } = options.compute;
    let cores = || thread::available_parallelism().map_or(1, NonZeroUsize::get);
    device::keep_memory(threads.map_or_else(cores, |threads| threads as usize));
    let chosen = timings.measure(Phase::Start, || device::prepare(Settings { device, threads, tf32 }))?;
    if let Some(note) = &chosen.note {
        options.common.note(io, note);
    }
    let code = options.code.as_deref().map(|directory| trained(directory, path)).transpose()?;
    let load_as = |path: &Path, choices: &Choices| {
        let load = || device::apart(|| Model::load_as(path, chosen.device, choices));
        timings.measure_on(chosen.device, Phase::Load, load)
    };
    let mut choices = choices(options, io)?;
    if let Some(trained) = code.as_ref().and_then(Code::trained) {
        for (option, given, of_code) in [
            ("--input", &mut choices.input, &trained.file.input_name),
            ("--output-name", &mut choices.output, &trained.file.output_name),
        ] {
            ensure!(
                given.is_none() || of_code.is_none() || given == of_code,
                "{option} {}: expected {} as the code has it",
                given.as_deref().unwrap_or_default(),
                of_code.as_deref().unwrap_or_default()
            );
            *given = given.take().or_else(|| of_code.clone());
        }
    }
    let load = |path: &Path| {
        let load = || device::apart(|| Model::load_part(path, chosen.device, &choices));
        timings.measure_on(chosen.device, Phase::Load, load)
    };
    let model = load_as(path, &choices)?;
    if let Some(warning) = model.warning() {
        options.common.warn(io, &format!("{}: {warning}", path.display()));
    }
    let together = code.as_ref().map_or_else(|| options.rows_together(), Code::k);
    let reader = options.shard.rows(&options.input, io, options.read.reading(), together)?;
    let (k, r) = code.as_ref().map_or((1, 0), |code| (code.k(), code.r()));
    // Batches hold whole groups, and as many rows as the model takes at a time.
    let of_model = usize::try_from(model.batch().step)?;
    let step = if of_model.is_multiple_of(k) { of_model } else { k.saturating_mul(of_model) };
    let batch = (options.batch as usize).checked_next_multiple_of(step).unwrap_or(step);
    let tuning = Tuning {
        optimize: options.tuning.optimize == Optimize::Auto,
        precision: match options.tuning.precision {
            TuningPrecision::F32 => Precision::Full,
            TuningPrecision::Bf16 => Precision::Mixed,
        },
    };
    let job = format!("{} on {}", path.display(), reader.name());
    let shape = &reader.layout().shape;
    let session = |model| {
        let session = Session::new(model, chosen.device, shape).with_context(|| job.clone())?;
        let session = device::apart(|| session.tuned(tuning).in_batches(batch));
        // To measure is to wait for the device.
        Ok::<_, anyhow::Error>(match options.timings.timings {
            None => session,
            Some(_) => session.timed(Arc::clone(&timings)),
        })
    };
    let deployed = session(model)?;
    let pass = match &code {
        Some(code) => {
            let encoder = Encoder::new(code, shape, chosen.device, load);
            let encoder = encoder.with_context(|| reader.name().to_owned())?;
            let parities = code.parity_models();
            let parities = parities.iter().map(|file| session(load(file)?)).collect::<Result<_>>()?;
            Pass::coded(deployed, code.r(), encoder, parities, options.tail.into())
        }
        None => Pass::plain(deployed),
    };
    let targets = parity_targets(options, r)?;
    let name = reader.name().to_owned();
    let flush = options.flush.flush;
    let threads = device::threads();
    let workers = if pass.shares_rows() { threads } else { 1 };
    let least = step.saturating_mul(workers);
    let most = if flush { batch } else { block_rows(batch, reader.layout().elements(), least) };
    let rows = Rows { reader, most, k, flush };
    let sharing = Sharing { step, workers: workers.min(most / step).max(1), threads };
    let coded = Coded { job: job.clone(), name, targets, groups: GroupCount::new(k, options.tail.into()) };
    let pass = Arc::new(RwLock::new(pass));
    let made = start(job, rows, sharing, &pass, &timings);
    let progress = Progress::new(&options.common, io, "rows", None);
    let written = write(options, io, coded, &made, &pass, &progress, &timings);
    // The process may end while workers still wait for a reader that waits for its source. Locking keeps them from
    // libtorch while libtorch is taken down.
    std::mem::forget(pass.write().unwrap_or_else(PoisonError::into_inner));
    drop(progress);
    let rows = written?;
    timings_file.write(&Report::new(io.tool, chosen.device, rows, &timings), io.made_by())?;
    options.common.count(io, &format!("{} answered", counted(rows, "row")));
    Ok(Exit::Done)
}

/// Describes a model on standard output.
fn describe(options: &Infer, path: &Path, io: &mut Io) -> Result<Exit> {
    let Compute { device, threads, tf32 } = options.compute;
    let chosen = device::prepare(Settings { device, threads, tf32 })?;
    let choices = Choices { open: true, ..choices(options, io)? };
    let model = Model::load_as(path, chosen.device, &choices)?;
    io.print(&format!("file        {}\n{}", path.display(), model.summary()))?;
    Ok(Exit::Done)
}

/// What the options say that the file of the deployed model leaves open.
fn choices(options: &Infer, io: &mut Io) -> Result<Choices> {
    let constants = options.model_options.read_constants(io)?;
    let ModelOptions { activation, output_name, query_input, .. } = options.model_options.clone();
    let PartOptions { from, to } = options.part.clone();
    Ok(Choices { activation, output: output_name, input: query_input, constants, from, to, open: false })
}

/// How workers share a block.
#[derive(Clone, Copy)]
struct Sharing {
    /// The rows of which parts are multiples.
    step: usize,
    workers: usize,
    /// The threads of the CPU that parts share.
    threads: usize,
}

/// Starts the reader, the uploader and the workers; `job` names their work in messages. Returns where outputs come
/// from, in turn.
fn start(
    job: String,
    rows: Rows,
    sharing: Sharing,
    pass: &Arc<RwLock<Pass>>,
    timings: &Arc<Timings>,
) -> Vec<Receiver<Made>> {
    // There is always room for all blocks, so giving one back never waits.
    let (to_reader, free) = sync_channel(BLOCKS);
    let (to_uploader, blocks) = sync_channel(1);
    for _ in 0..BLOCKS {
        let _ = to_reader.send(Block::default());
    }
    let (mut to_workers, mut made) = (Vec::new(), Vec::new());
    for _ in 0..sharing.workers {
        let (to_worker, parts) = sync_channel(1);
        let (to_writer, outputs) = sync_channel(1);
        to_workers.push(to_worker);
        made.push(outputs);
        let (job, pass) = (job.clone(), Arc::clone(pass));
        thread::spawn(move || {
            let finished = compute(&job, &pass, &parts, &to_writer);
            // The writer may be gone; then nobody wants to know.
            let _ = to_writer.send(finished.map(|()| None));
        });
    }
    let upload = pass.read().unwrap_or_else(PoisonError::into_inner).upload();
    let timings = Arc::clone(timings);
    thread::spawn(move || read(rows, &free, &to_uploader, &timings));
    thread::spawn(move || {
        let mut turn = to_workers.iter().cycle();
        let copied = copy(&job, &upload, sharing, &blocks, &to_reader, &mut turn);
        // Workers may be gone; then they have told the writer why.
        if let (Err(error), Some(worker)) = (copied, turn.next()) {
            let _ = worker.send(Err(error));
        }
        for worker in &to_workers {
            let _ = worker.send(Ok(None));
        }
    });
    made
}

/// The code of a directory, if it was trained for this model.
fn trained(directory: &Path, model: &Path) -> Result<Code> {
    let code = Code::load(directory)?;
    if let Some(trained) = code.trained() {
        trained.file.check_model(directory, model)?;
    }
    if code.interpolating().is_some() {
        return Err(Usage::error(format!(
            "--code {}: found the code {}, all of whose coded queries run on the deployed model; expected the \
             output of parm-encode --code as queries, without --code here",
            directory.display(),
            code.name()
        )));
    }
    Ok(code)
}

/// Where the outputs of each parity model go.
fn parity_targets(options: &Infer, r: usize) -> Result<Vec<Target>> {
    let Some(target) = &options.parity_out else { return Ok(Vec::new()) };
    if r > 1 && target.numbered(0) == target.numbered(1) {
        return Err(Usage::error(format!(
            "r = {r} parities are {r} streams: name a file for each with --parity-out 'name-{{}}.npy'"
        )));
    }
    Ok((0..r).map(|parity| target.numbered(parity)).collect())
}

/// Writes outputs until the last; returns their rows.
fn write(
    options: &Infer,
    io: &mut Io,
    mut coded: Coded,
    made: &[Receiver<Made>],
    pass: &RwLock<Pass>,
    progress: &Progress,
    timings: &Timings,
) -> Result<u64> {
    let mut open: Option<Vec<RowWriter<Output>>> = None;
    let mut rows = 0;
    for outputs in made.iter().cycle() {
        let outputs = next(outputs)?;
        let mut writers = if let Some(writers) = open.take() {
            writers
        } else {
            let layouts = pass.read().unwrap_or_else(PoisonError::into_inner).layouts();
            create(options, io, &coded.targets, layouts.with_context(|| coded.job.clone())?)?
        };
        let Some(outputs) = outputs else {
            coded.groups.finish().with_context(|| coded.name)?;
            timings.measure(Phase::Write, || writers.into_iter().try_for_each(output::commit))?;
            return Ok(rows);
        };
        for rows in outputs.items {
            let groups = coded.groups.open_item(rows);
            for (stream, writer) in writers.iter_mut().enumerate() {
                writer.announce(if stream == 0 { rows } else { groups });
            }
        }
        let mut written = writers.iter_mut().zip(&outputs.bytes);
        timings.measure(Phase::Write, || written.try_for_each(|(writer, bytes)| writer.write_raw(bytes)))?;
        if options.flush.flush {
            writers.iter_mut().try_for_each(RowWriter::flush)?;
        }
        rows += outputs.rows as u64;
        progress.advance(outputs.rows as u64);
        open = Some(writers);
    }
    bail!("{}: the computation ended early", coded.name)
}

/// Opens the outputs: the model's, then those of parity models.
fn create(
    options: &Infer,
    io: &mut Io,
    targets: &[Target],
    layouts: Vec<RowLayout>,
) -> Result<Vec<RowWriter<Output>>> {
    let mut layouts = layouts.into_iter();
    let own = layouts.next().map(|layout| options.write.rows(io, layout));
    let compression = options.write.compress.compression();
    let mut writers = own.into_iter().collect::<Result<Vec<_>>>()?;
    for (target, layout) in targets.iter().zip(layouts) {
        writers.push(target.rows(io, compression, layout)?);
    }
    Ok(writers)
}

/// The next of what another thread passes on; none at its end.
///
/// # Errors
/// The other thread's, or it ended without saying that this is the end: it panicked.
fn next<T, E: Into<anyhow::Error>>(from: &Receiver<Result<Option<T>, E>>) -> Result<Option<T>> {
    from.recv().map_err(|_| anyhow!("the computation ended early"))?.map_err(Into::into)
}

/// Reads blocks until the stream or its takers end.
fn read(
    mut rows: Rows,
    free: &Receiver<Block>,
    to_uploader: &SyncSender<Result<Option<Block>, StreamError>>,
    timings: &Timings,
) {
    for mut block in free {
        let read = timings.measure(Phase::Read, || rows.read(&mut block.values));
        block.items.clear();
        block.items.extend(rows.reader.take_opened());
        let end = !matches!(read, Ok((_, More::Maybe)));
        let read = read.map(|(rows, _)| Some(Block { rows, ..block }));
        if to_uploader.send(read).is_err() {
            return;
        }
        if end {
            // After an error nobody waits for it.
            let _ = to_uploader.send(Ok(None));
            return;
        }
    }
}

/// Copies blocks to the device and gives their parts to workers, until there are no more blocks or nobody takes them.
fn copy<'a>(
    job: &str,
    upload: &Upload,
    sharing: Sharing,
    blocks: &Receiver<Result<Option<Block>, StreamError>>,
    to_reader: &SyncSender<Block>,
    turn: &mut impl Iterator<Item = &'a SyncSender<Result<Option<Part>>>>,
) -> Result<()> {
    upload.begin()?;
    while let Some(mut block) = next(blocks)? {
        let elements = block.values.values().len().checked_div(block.rows).unwrap_or(0);
        let parts = parts(block.rows, sharing.step, sharing.workers);
        let threads = (sharing.threads / parts.len().max(1)).max(1);
        for (part, worker) in parts.zip(&mut *turn) {
            let rows = part.len();
            let values = &block.values.values()[part.start * elements..part.end * elements];
            let queries = upload.rows(rows, values).with_context(|| job.to_owned());
            let is_failed = queries.is_err();
            let items = std::mem::take(&mut block.items);
            let sent = worker.send(queries.map(|queries| Some(Part { rows, queries, threads, items })));
            if is_failed || sent.is_err() {
                return Ok(());
            }
        }
        // The reader is gone once it has read everything.
        let _ = to_reader.send(block);
    }
    Ok(())
}

/// Answers parts until there are no more.
fn compute(
    job: &str,
    pass: &RwLock<Pass>,
    parts: &Receiver<Result<Option<Part>>>,
    to_writer: &SyncSender<Made>,
) -> Result<()> {
    while let Some(Part { rows, queries, threads, items }) = next(parts)? {
        let pass = pass.read().unwrap_or_else(PoisonError::into_inner);
        let bytes = pass.run(&queries, threads).with_context(|| job.to_owned())?;
        drop(pass);
        to_writer
            .send(Ok(Some(Outputs { rows, bytes, items })))
            .map_err(|_| anyhow!("the writer is gone"))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_rows_in_order_and_whole_steps_but_for_the_last() {
        for rows in 0..40 {
            for step in 1..7 {
                for workers in 1..6 {
                    let parts: Vec<Range<usize>> = parts(rows, step, workers).collect();
                    assert!(parts.len() <= workers && parts.iter().all(|part| !part.is_empty()));
                    let ends = parts.iter().map(|part| part.end);
                    let begins = [0].into_iter().chain(ends);
                    assert!(parts.iter().zip(begins).all(|(part, begin)| part.start == begin));
                    assert_eq!(parts.last().map_or(0, |part| part.end), rows);
                    assert!(parts.iter().rev().skip(1).all(|part| part.len().is_multiple_of(step)));
                    let even = rows.div_ceil(step) >= workers && rows.div_ceil(step).is_multiple_of(workers);
                    assert!(!even || parts.len() == workers, "{rows} rows, {step}, {workers}: {parts:?}");
                }
            }
        }
    }

    #[test]
    fn a_thread_that_fails_is_not_taken_for_the_end() {
        let passed_on = |messages: Vec<Result<Option<u8>>>| {
            let (to, from) = sync_channel(messages.len());
            for message in messages {
                to.send(message).unwrap();
            }
            drop(to);
            [next(&from), next(&from)].map(|next| next.map_err(|error| error.to_string()))
        };
        assert_eq!(passed_on(vec![Ok(Some(1)), Ok(None)]), [Ok(Some(1)), Ok(None)]);
        let early = "the computation ended early".to_owned();
        assert_eq!(passed_on(vec![Ok(Some(1))]), [Ok(Some(1)), Err(early.clone())]);
        assert_eq!(passed_on(vec![Err(anyhow!("short"))]), [Err("short".to_owned()), Err(early)]);
    }

    #[test]
    fn a_block_has_enough_numbers_and_whole_batches() {
        assert_eq!(block_rows(256, 1, 1), 1 << 18);
        assert_eq!(block_rows(16, 784, 2), 336);
        assert_eq!(block_rows(1, 150_528, 2), 2);
        assert_eq!(block_rows(16, 150_528, 2), 16);
        assert_eq!(block_rows(usize::MAX / 2 + 1, 0, 1), usize::MAX / 2 + 1);
    }
}
