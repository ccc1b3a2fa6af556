//! `parm-infer` with models in files: a stream of queries to a stream of a model's outputs.
//!
//! Four threads, each with one block in hand and one waiting: the reader turns bytes into floats, the
//! uploader copies these to the device, the computer makes outputs of them, and the caller's thread
//! writes. Blocks pass in order, so the outputs stand in the order of the queries, and empty blocks go back
//! to be filled again.

use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
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

/// Queries on their way to the model.
struct Uploaded {
    rows: usize,
    queries: Queries,
    items: Vec<u64>,
}

/// Outputs on their way to the writer.
struct Outputs {
    rows: usize,
    /// The model's, then those of parity models.
    bytes: Vec<Vec<u8>>,
    layouts: Vec<RowLayout>,
    items: Vec<u64>,
    /// Nothing comes after this block, which has no rows.
    last: bool,
}

/// The queries, and how they are read.
struct Rows {
    reader: RowReader<Source>,
    /// The most rows of a block: whole groups.
    most: usize,
    k: usize,
    /// Whether a block ends with its item.
    flush: bool,
}

/// The numbers that a block has at least, if there are as many. Passing a block on wakes two threads: with blocks of one
/// row, a small MLP took 0.10 ms for each, and takes 0.04 ms with these.
const BLOCK: usize = 1 << 16;

/// The rows of a block: those of enough batches.
fn block_rows(batch: usize, elements: usize) -> usize {
    let batches = BLOCK.div_ceil(batch.saturating_mul(elements).max(1));
    batch.saturating_mul(batches)
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
    device::keep_memory();
    let Compute { device, threads, tf32 } = options.compute;
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
    // Batches hold whole groups.
    let batch = (options.batch as usize).next_multiple_of(k);
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
    let pass = Arc::new(Mutex::new(pass));

    let name = reader.name().to_owned();
    let flush = options.flush.flush;
    let most = if flush { batch } else { block_rows(batch, reader.layout().elements()) };
    let rows = Rows { reader, most, k, flush };
    let (blocks, computed) = start(job, rows, &pass, &timings);
    let progress = Progress::new(&options.common, io, "rows", None);
    let coded = Coded { name, targets, groups: GroupCount::new(k, options.tail.into()) };
    let written = write(options, io, coded, &computed, &blocks, &progress, &timings);
    // The process may end while the computer still waits for a reader that waits for its source.
    // Holding the session keeps it from libtorch while libtorch is taken down.
    std::mem::forget(pass.lock().unwrap_or_else(PoisonError::into_inner));
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

/// Starts the reader, the uploader and the computer; `job` names their work in messages. Returns where to
/// give blocks back and where outputs come from.
fn start(
    job: String,
    rows: Rows,
    pass: &Arc<Mutex<Pass>>,
    timings: &Arc<Timings>,
) -> (SyncSender<Vec<Vec<u8>>>, Receiver<Result<Outputs>>) {
    // There is always room for all blocks, so giving one back never waits.
    let (to_reader, free) = sync_channel(BLOCKS);
    let (to_uploader, blocks) = sync_channel(1);
    let (to_computer, queries) = sync_channel(1);
    let (to_caller, free_bytes) = sync_channel(BLOCKS);
    let (to_writer, outputs) = sync_channel(1);
    for _ in 0..BLOCKS {
        let _ = to_reader.send(Block::default());
        let _ = to_caller.send(Vec::new());
    }
    let (pass, timings) = (Arc::clone(pass), Arc::clone(timings));
    let upload = pass.lock().unwrap_or_else(PoisonError::into_inner).upload();
    thread::spawn(move || read(rows, &free, &to_uploader, &timings));
    thread::spawn({
        let job = job.clone();
        move || {
            if let Err(error) = copy(&job, &upload, &blocks, &to_reader, &to_computer) {
                let _ = to_computer.send(Err(error));
            }
        }
    });
    thread::spawn(move || {
        let last = compute(&job, &pass, &queries, &free_bytes, &to_writer);
        // The writer may be gone; then nobody wants to know.
        let _ = to_writer.send(last);
    });
    (to_caller, outputs)
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
    computed: &Receiver<Result<Outputs>>,
    blocks: &SyncSender<Vec<Vec<u8>>>,
    progress: &Progress,
    timings: &Timings,
) -> Result<u64> {
    let mut open: Option<Vec<RowWriter<Output>>> = None;
    let mut rows = 0;
    for outputs in computed {
        let outputs = outputs?;
        let mut writers = match open.take() {
            Some(writers) => writers,
            None => create(options, io, &coded.targets, outputs.layouts)?,
        };
        if outputs.last {
            coded.groups.finish().with_context(|| coded.name)?;
            timings.measure(Phase::Write, || writers.into_iter().try_for_each(output::commit))?;
            return Ok(rows);
        }
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
        // At the end of the stream nobody takes blocks back.
        let _ = blocks.send(outputs.bytes);
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

/// Reads blocks until the stream or its takers end.
fn read(
    mut rows: Rows,
    free: &Receiver<Block>,
    to_uploader: &SyncSender<Result<Block, StreamError>>,
    timings: &Timings,
) {
    for mut block in free {
        let read = timings.measure(Phase::Read, || rows.read(&mut block.values));
        block.items.clear();
        block.items.extend(rows.reader.take_opened());
        let end = !matches!(read, Ok((_, More::Maybe)));
        let read = read.map(|(rows, _)| rows);
        let read = read.map(|rows| Block { rows, ..block });
        if to_uploader.send(read).is_err() || end {
            return;
        }
    }
}

/// Copies blocks to the device until there are no more, or nobody takes them.
fn copy(
    job: &str,
    upload: &Upload,
    blocks: &Receiver<Result<Block, StreamError>>,
    to_reader: &SyncSender<Block>,
    to_computer: &SyncSender<Result<Uploaded>>,
) -> Result<()> {
    upload.begin()?;
    for block in blocks {
        let mut block = block?;
        if block.rows == 0 {
            continue;
        }
        let queries = upload.rows(block.rows, block.values.values()).with_context(|| job.to_owned())?;
        let uploaded = Uploaded { rows: block.rows, queries, items: std::mem::take(&mut block.items) };
        // The reader is gone once it has read everything.
        let _ = to_reader.send(block);
        if to_computer.send(Ok(uploaded)).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

/// Answers blocks until there are no more; returns the last.
fn compute(
    job: &str,
    pass: &Mutex<Pass>,
    blocks: &Receiver<Result<Uploaded>>,
    free: &Receiver<Vec<Vec<u8>>>,
    to_writer: &SyncSender<Result<Outputs>>,
) -> Result<Outputs> {
    let pass = || pass.lock().unwrap_or_else(PoisonError::into_inner);
    for block in blocks {
        let Uploaded { rows, queries, items } = block?;
        let mut bytes = free.recv()?;
        pass().run(&queries, &mut bytes).with_context(|| job.to_owned())?;
        let layouts = pass().layouts().with_context(|| job.to_owned())?;
        let outputs = Outputs { rows, bytes, layouts, items, last: false };
        to_writer.send(Ok(outputs)).map_err(|_| anyhow!("the writer is gone"))?;
    }
    let layouts = pass().layouts().with_context(|| job.to_owned())?;
    Ok(Outputs { rows: 0, bytes: Vec::new(), layouts, items: Vec::new(), last: true })
}
