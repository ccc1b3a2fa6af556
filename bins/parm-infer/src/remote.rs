//! Runs a model of a server: sends batches of queries while they are read, several at a time, and writes
//! answers in the order of the queries.

use std::sync::Arc;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use parm::dtype::Float;
use parm::npy::{RowBuffer, RowLayout, RowReader, RowWriter, StreamError};
use parm::{Dtype, counted};
use parm_cli::input::Source;
use parm_cli::options::FlushOption;
use parm_cli::tools::infer::Infer;
use parm_cli::{Exit, Io, Output, Progress, output};
use parm_config::Encoding;
use parm_oip::client::blocking::{Caller, Promise};
use parm_oip::client::{self, BODY};
use parm_oip::instance::Instance;
use parm_oip::load::{Queries, Rows, Source as Given};
use parm_oip::{Datatype, InferResponse, ModelMetadata, RequestedOutput, TensorMetadata};

/// A block of queries.
struct Block {
    count: usize,
    rows: Rows,
    /// The numbers of rows of the items that begin in this block.
    items: Vec<u64>,
}

/// A model of a server.
struct Server {
    /// Its name and the server's, for messages.
    job: String,
    caller: Caller,
    instance: Arc<dyn Instance>,
    metadata: ModelMetadata,
    version: String,
    timeout: Duration,
    /// The chosen output of several; none: the first.
    output: Option<String>,
    /// Set if the model accepts only one row at a time.
    single: Option<Single>,
}

/// The shape of the only row.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Single {
    /// `[1, …]`, in answers as well.
    Batch,
    /// The shape of the row itself.
    Bare,
}

/// A block that was sent, and its answer.
struct Sent {
    /// The indices of its first and last row.
    span: (u64, u64),
    count: usize,
    items: Vec<u64>,
    answer: Promise,
}

/// Runs the tool with the model `name` of the server at `url`.
///
/// # Errors
/// Any problem that prevents one output for each query.
pub(crate) fn run(options: &Infer, url: &str, name: &str, io: &mut Io) -> Result<Exit> {
    let together = options.rows_together();
    let reader = options.shard.rows(&options.input, io, options.read.reading(), together)?;
    let progress = Progress::new(&options.common, io, "rows", None);
    let server = reach(options, url, name, &reader)?;
    let rows = answer(options, io, &Arc::new(server), reader, &progress);
    drop(progress);
    let rows = rows?;
    options.common.count(io, &format!("{} answered", counted(rows, "row")));
    Ok(Exit::Done)
}

/// The model at the first address of the server that has it.
fn reach(options: &Infer, url: &str, name: &str, reader: &RowReader<Source>) -> Result<Server> {
    let encoding = options.encoding.among(Encoding::ALL);
    let remote = client::remote(url, encoding, &options.header, options.ca.as_deref());
    let version = options.model_version.clone();
    let caller = Caller::new(options.concurrency as usize).context("the calls")?;
    let (instance, mut metadata) = caller.reach(&remote, name, &version, BODY)?;
    let job = format!("{url}: model {name}");
    let output = options.model_options.output_name.clone();
    if let Some(wanted) = &output {
        let names: Vec<&str> = metadata.outputs.iter().map(|output| output.name.as_str()).collect();
        ensure!(
            names.is_empty() || names.contains(&wanted.as_str()),
            "{job}: found outputs [{}], expected '{wanted}' among them",
            names.join(", ")
        );
    }
    let layout = reader.layout();
    if metadata.inputs.is_empty() {
        metadata.inputs.push(TensorMetadata::of_rows(&options.input_name, layout));
    }
    let single = metadata.inputs.first().and_then(|input| single(&input.shape, &layout.shape));
    let timeout = Duration::from_secs_f64(options.timeout / 1e3);
    let job = format!("{job} on {}", reader.name());
    Ok(Server { job, caller, instance, metadata, version, timeout, output, single })
}

/// The [`Single`] of an input of this shape for these rows, if it accepts one at a time.
fn single(input: &[i64], row: &[usize]) -> Option<Single> {
    let fits = |axes: &[i64]| {
        axes.len() == row.len() && axes.iter().zip(row).all(|(&axis, &has)| axis < 0 || axis == has as i64)
    };
    match input {
        [1, axes @ ..] if fits(axes) => Some(Single::Batch),
        [-1, axes @ ..] if fits(axes) => None,
        [] => None,
        axes => fits(axes).then_some(Single::Bare),
    }
}

/// Sends blocks and writes their answers; returns the number of rows.
fn answer(
    options: &Infer,
    io: &mut Io,
    server: &Arc<Server>,
    reader: RowReader<Source>,
    progress: &Progress,
) -> Result<u64> {
    let layout = sent_as(reader.layout(), server.input());
    // One more answer is being waited for outside of the channel.
    let (to_writer, answers) = sync_channel(options.concurrency as usize - 1);
    let batch = if server.single.is_some() { 1 } else { options.batch as usize };
    let sender = Arc::clone(server);
    let flush = options.flush;
    thread::spawn(move || read(&sender, reader, batch, flush, &to_writer));

    let mut open: Option<RowWriter<Output>> = None;
    let mut rows = 0;
    for sent in answers {
        let Sent { span, count, items, answer } = sent?;
        let answer = server.rows(span, count, answer)?;
        let mut writer = match open.take() {
            Some(writer) => writer,
            None => options.write.rows(io, answer.layout.clone())?,
        };
        ensure!(
            *writer.layout() == answer.layout,
            "{}: found outputs of {}, expected {} as for the first batch",
            server.job,
            answer.layout,
            writer.layout()
        );
        for rows in items {
            writer.announce(rows);
        }
        writer.write_raw(&answer.data)?;
        if options.flush.flush {
            writer.flush()?;
        }
        rows += count as u64;
        progress.advance(count as u64);
        open = Some(writer);
    }
    let writer = if let Some(writer) = open {
        writer
    } else {
        // Without queries, a query of zeros shows the layout of outputs.
        let Sent { span, count, answer, .. } = server.send(zeros(layout)?, 0)?;
        options.write.rows(io, server.rows(span, count, answer)?.layout)?
    };
    output::commit(writer)?;
    Ok(rows)
}

/// The type of rows for an input: its own float type if both are floats, otherwise that of the stream.
fn sent_as(layout: &RowLayout, input: Option<Datatype>) -> RowLayout {
    let dtype = match input {
        Some(Datatype::Fp32) => Dtype::F32,
        Some(Datatype::Fp64) => Dtype::F64,
        _ => layout.dtype,
    };
    RowLayout::new(dtype, layout.shape.clone())
}

/// Reads and sends blocks until the stream or the receiver of answers ends.
fn read(
    server: &Server,
    mut reader: RowReader<Source>,
    batch: usize,
    FlushOption { flush }: FlushOption,
    to_writer: &SyncSender<Result<Sent>>,
) {
    let layout = sent_as(reader.layout(), server.input());
    let mut first = 0;
    loop {
        let wanted = if flush { reader.rows_at_once(batch, 1) } else { Ok(batch) };
        let block = wanted.and_then(|wanted| block(&mut reader, &layout, wanted));
        let count = block.as_ref().map_or(0, |block| block.count);
        if block.is_ok() && count == 0 {
            return;
        }
        let sent = block.map_err(Into::into).and_then(|block| server.send(block, first));
        let end = sent.is_err() || (count < batch && !flush);
        first += count as u64;
        if to_writer.send(sent).is_err() || end {
            return;
        }
    }
}

fn block(reader: &mut RowReader<Source>, layout: &RowLayout, batch: usize) -> Result<Block, StreamError> {
    let mut data = Vec::new();
    let count = if layout.dtype == reader.layout().dtype {
        let count = reader.read_raw(batch, &mut data)?;
        data.truncate(count * layout.bytes());
        count
    } else if layout.dtype == Dtype::F32 {
        floats::<f32>(reader, batch, &mut data)?
    } else {
        floats::<f64>(reader, batch, &mut data)?
    };
    let items = reader.take_opened().collect();
    Ok(Block { count, rows: Rows { layout: layout.clone(), data: data.into() }, items })
}

fn floats<T: Float>(
    reader: &mut RowReader<Source>,
    batch: usize,
    data: &mut Vec<u8>,
) -> Result<usize, StreamError> {
    let mut values = RowBuffer::<T>::default();
    let count = reader.read(batch, &mut values)?;
    T::encode(&values.values()[..count * reader.layout().elements()], T::DTYPE, data);
    Ok(count)
}

/// A row of zeros.
fn zeros(layout: RowLayout) -> Result<Block> {
    let bytes = layout.elements().checked_mul(layout.dtype.size()).filter(|&bytes| bytes <= BODY);
    let bytes = bytes.with_context(|| format!("found rows of {layout}, expected at most {BODY} bytes"))?;
    Ok(Block { count: 1, rows: Rows { layout, data: vec![0; bytes].into() }, items: Vec::new() })
}

impl Server {
    /// The element type of its input, if it is known.
    fn input(&self) -> Option<Datatype> {
        self.metadata.inputs.first().map(|input| input.datatype)
    }

    /// Sends a block whose first row has this number.
    fn send(&self, block: Block, first: u64) -> Result<Sent> {
        let Block { count, rows, items } = block;
        let rows = Given::Given(rows);
        // An error concerns the stream, not these rows.
        let queries = Queries::new(&self.version, &self.metadata, count, &[], rows)
            .with_context(|| self.job.clone())?;
        let mut request = queries.request(0);
        let wanted =
            |output: &TensorMetadata| RequestedOutput { name: output.name.clone(), ..Default::default() };
        let outputs = &self.metadata.outputs;
        let named = outputs.iter().find(|output| Some(&output.name) == self.output.as_ref());
        request.outputs = named.or(outputs.first()).map(wanted).into_iter().collect();
        let answer = self.caller.call(&self.instance, request, self.timeout);
        Ok(Sent { span: (first, first + count as u64 - 1), count, items, answer })
    }

    /// The output rows of an answer to the rows of a span.
    fn rows(&self, (first, last): (u64, u64), count: usize, answer: Promise) -> Result<Rows> {
        let response = answer.wait().map_err(anyhow::Error::from);
        response
            .and_then(|response| self.rows_of(&response, count))
            .with_context(|| format!("{}: rows {first} to {last}", self.job))
    }

    /// The rows of the chosen output.
    fn rows_of(&self, response: &InferResponse, count: usize) -> Result<Rows> {
        let mut outputs = response.outputs.iter();
        let output = match &self.output {
            None => outputs.next().context("found no output, expected one")?,
            Some(wanted) => outputs
                .find(|output| output.name == *wanted)
                .with_context(|| format!("found no output '{wanted}', expected it"))?,
        };
        let shape = match &output.shape[..] {
            shape if self.single == Some(Single::Bare) => shape,
            [rows, shape @ ..] if *rows == count as u64 => shape,
            shape => bail!("found outputs of shape {shape:?} for {count} queries, expected one row each"),
        };
        let data = output.data.contiguous();
        // As for local models, BF16 is written as f4.
        let (dtype, data) = match (output.datatype, output.datatype.dtype()) {
            (Datatype::Bf16, _) => {
                (Dtype::F32, data.chunks_exact(2).flat_map(|half| [&[0, 0], half].concat()).collect())
            }
            (_, Some(dtype)) => (dtype, data),
            (other, None) => bail!("found outputs of {other}, expected numbers or truth values"),
        };
        let shape = shape.iter().map(|&axis| usize::try_from(axis)).collect::<Result<Vec<_>, _>>()?;
        Ok(Rows { layout: RowLayout::new(dtype, shape), data })
    }
}
