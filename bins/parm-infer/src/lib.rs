//! `parm-infer`: a stream of queries to a stream of a model's outputs.
//!
//! Three threads, each with one block in hand and one waiting: the reader turns bytes into floats,
//! the computer into outputs, and the caller's thread writes. Blocks pass in order, so the outputs
//! stand in the order of the queries, and empty blocks go back to be filled again.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use parm::npy::{RowBuffer, RowLayout, RowReader, RowWriter, StreamError};
use parm_cli::input::Source;
use parm_cli::tools::infer::Infer;
use parm_cli::{Exit, Io, Output, Progress, output};
use parm_torch::device;
use parm_torch::{Model, Session};

const NAME: &str = "parm-infer";

/// Blocks between two threads: one that is worked on at either side, and one that waits.
const BLOCKS: usize = 3;

/// Queries on their way to the model.
struct Queries {
    rows: usize,
    values: RowBuffer<f32>,
    /// Rows of the items that begin within this block.
    items: Vec<u64>,
}

/// Outputs on their way to the writer.
struct Outputs {
    rows: usize,
    bytes: Vec<u8>,
    layout: RowLayout,
    items: Vec<u64>,
    /// Nothing comes after this block, which has no rows.
    last: bool,
}

/// Runs the tool.
///
/// # Errors
/// Anything that keeps it from writing one output for each query; see the messages.
pub fn run(options: &Infer, io: &mut Io) -> Result<Exit> {
    let chosen = device::prepare(options.compute.device, options.compute.threads)?;
    if let Some(note) = &chosen.note {
        options.common.note(io, NAME, note);
    }
    let model = Model::load(&options.model, chosen.device)?;
    let reader = options.input.rows(io, options.read.window())?;
    let job = format!("{} on {}", options.model.display(), reader.name());
    let session = Session::new(model, chosen.device, &reader.layout().shape).with_context(|| job.clone())?;
    let session = Arc::new(Mutex::new(session));

    let (blocks, computed) = start(job, reader, &session, options.batch as usize);
    let progress = Progress::new(&options.common, io, "rows", None);
    let written = write(options, io, &computed, &blocks, &progress);
    // The process may end while the computer still waits for a reader that waits for its source.
    // Holding the session keeps it from libtorch while libtorch is taken down.
    std::mem::forget(session.lock().unwrap_or_else(PoisonError::into_inner));
    drop(progress);
    let rows = written?;
    options.common.count(io, NAME, &format!("{rows} rows answered"));
    Ok(Exit::Done)
}

/// Starts the reader and the computer; `job` names their work in messages. Returns where to give
/// blocks back and where outputs come from.
fn start(
    job: String,
    reader: RowReader<Source>,
    session: &Arc<Mutex<Session>>,
    batch: usize,
) -> (SyncSender<Vec<u8>>, Receiver<Result<Outputs>>) {
    // There is always room for all blocks, so giving one back never waits.
    let (to_reader, free) = sync_channel(BLOCKS);
    let (to_computer, queries) = sync_channel(1);
    let (to_caller, free_bytes) = sync_channel(BLOCKS);
    let (to_writer, outputs) = sync_channel(1);
    for _ in 0..BLOCKS {
        let _ = to_reader.send(Queries { rows: 0, values: RowBuffer::default(), items: Vec::new() });
        let _ = to_caller.send(Vec::new());
    }
    thread::spawn(move || read(reader, batch, &free, &to_computer));
    let session = Arc::clone(session);
    thread::spawn(move || {
        let last = compute(&job, &session, &queries, &to_reader, &free_bytes, &to_writer);
        // The writer may be gone; then nobody wants to know.
        let _ = to_writer.send(last);
    });
    (to_caller, outputs)
}

/// Writes outputs until the last; returns their rows.
fn write(
    options: &Infer,
    io: &mut Io,
    computed: &Receiver<Result<Outputs>>,
    blocks: &SyncSender<Vec<u8>>,
    progress: &Progress,
) -> Result<u64> {
    let mut open: Option<RowWriter<Output>> = None;
    let mut rows = 0;
    for outputs in computed {
        let outputs = outputs?;
        let mut writer = match open.take() {
            Some(writer) => writer,
            None => options.write.rows(io, outputs.layout)?,
        };
        if outputs.last {
            output::commit(writer)?;
            return Ok(rows);
        }
        for rows in outputs.items {
            writer.announce(rows);
        }
        writer.write_raw(&outputs.bytes)?;
        rows += outputs.rows as u64;
        progress.advance(outputs.rows as u64);
        // At the end of the stream nobody takes blocks back.
        let _ = blocks.send(outputs.bytes);
        open = Some(writer);
    }
    bail!("{}: the computation ended early", options.model.display())
}

/// Reads blocks until the stream or its takers end.
fn read(
    mut reader: RowReader<Source>,
    batch: usize,
    free: &Receiver<Queries>,
    to_computer: &SyncSender<Result<Queries, StreamError>>,
) {
    for mut block in free {
        let read = reader.read(batch, &mut block.values);
        block.items.clear();
        block.items.extend(reader.take_opened());
        let end = !matches!(read, Ok(rows) if rows == batch);
        let read = read.map(|rows| Queries { rows, ..block });
        if to_computer.send(read).is_err() || end {
            return;
        }
    }
}

/// Answers blocks until there are no more; returns the last.
fn compute(
    job: &str,
    session: &Mutex<Session>,
    queries: &Receiver<Result<Queries, StreamError>>,
    to_reader: &SyncSender<Queries>,
    free: &Receiver<Vec<u8>>,
    to_writer: &SyncSender<Result<Outputs>>,
) -> Result<Outputs> {
    let session = || session.lock().unwrap_or_else(PoisonError::into_inner);
    for block in queries {
        let mut block = block?;
        if block.rows == 0 {
            continue;
        }
        let mut bytes = free.recv()?;
        let layout = session()
            .run(block.rows, block.values.values(), &mut bytes)
            .with_context(|| job.to_owned())?
            .clone();
        let items = std::mem::take(&mut block.items);
        let outputs = Outputs { rows: block.rows, bytes, layout, items, last: false };
        // The reader is gone once it has read everything.
        let _ = to_reader.send(block);
        to_writer.send(Ok(outputs)).map_err(|_| anyhow!("the writer is gone"))?;
    }
    let layout = session().output().with_context(|| job.to_owned())?.clone();
    Ok(Outputs { rows: 0, bytes: Vec::new(), layout, items: Vec::new(), last: true })
}
