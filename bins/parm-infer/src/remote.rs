//! A server's model: batches of queries are sent as they come, several at a time, and answers are written
//! in the order of the queries.

use std::collections::VecDeque;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail, ensure};
use parm::Dtype;
use parm::dtype::Float;
use parm::npy::{RowBuffer, RowLayout, RowReader, RowWriter, StreamError};
use parm_cli::input::Source;
use parm_cli::tools::infer::Infer;
use parm_cli::tools::load::EncodingOption;
use parm_cli::{Exit, Io, Output, Progress, output};
use parm_serving::client;
use parm_serving::config::{Encoding, Remote};
use parm_serving::instance::{CallContext, Instance, within};
use parm_serving::load::{Queries, Rows, Source as Given};
use parm_serving::oip::{Datatype, InferResponse, ModelMetadata, RequestedOutput, TensorMetadata};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The most bytes of an answer.
const BODY: usize = 256 << 20;

/// Queries on their way to the server.
struct Block {
    count: usize,
    rows: Rows,
    /// Rows of the items that begin within this block.
    items: Vec<u64>,
}

/// What the server answered to a block.
struct Answer {
    count: usize,
    rows: Rows,
    items: Vec<u64>,
}

/// A model of a server.
struct Server {
    /// Its name and the server's, for messages.
    job: String,
    instance: Arc<dyn Instance>,
    metadata: ModelMetadata,
    version: String,
    timeout: Duration,
}

/// Runs the tool with the model `name` of the server at `url`.
///
/// # Errors
/// Anything that keeps it from writing one output for each query; see the messages.
pub(crate) fn run(options: &Infer, url: &str, name: &str, io: &mut Io) -> Result<Exit> {
    let reader = options.input.rows(io, options.read.window())?;
    let runtime = Runtime::new().context("the runtime")?;
    let progress = Progress::new(&options.common, io, "rows", None);
    let answered = runtime.block_on(async {
        let server = reach(options, url, name, reader.name()).await?;
        answer(options, io, Arc::new(server), reader, &progress).await
    });
    // Calls that nobody waits for are not waited for.
    runtime.shutdown_background();
    drop(progress);
    let rows = answered?;
    options.common.count(io, crate::NAME, &format!("{rows} rows answered"));
    Ok(Exit::Done)
}

/// The model at the first address of the server that knows it.
async fn reach(options: &Infer, url: &str, name: &str, input: &str) -> Result<Server> {
    let remote = Remote {
        url: url.to_owned(),
        encoding: match options.encoding {
            EncodingOption::Auto => Encoding::Auto,
            EncodingOption::Json => Encoding::Json,
            EncodingOption::Binary => Encoding::Binary,
            EncodingOption::Grpc => Encoding::Grpc,
        },
        headers: options.header.iter().cloned().collect(),
        ca: options.ca.clone(),
        ..Remote::default()
    };
    let job = format!("{url}: model {name}");
    let version = options.model_version.clone();
    let mut first = None;
    for address in client::resolve(url).await.map_err(|error| anyhow!("{error}"))? {
        let instance = client::connect(&remote, address, BODY).map_err(|error| anyhow!("{error}"))?;
        match instance.metadata(name, &version).await {
            Ok(metadata) => {
                let outputs = metadata.outputs.len();
                ensure!(outputs < 2, "{job}: found {outputs} outputs, expected 1");
                // Servers are free with what they leave out.
                let metadata = ModelMetadata { name: name.to_owned(), ..metadata };
                let timeout = Duration::from_secs_f64(options.timeout / 1e3);
                return Ok(Server { job: format!("{job} on {input}"), instance, metadata, version, timeout });
            }
            Err(error) => {
                first.get_or_insert(error);
            }
        }
    }
    let error = first.map_or("found no address, expected one".to_owned(), |error| error.to_string());
    Err(anyhow!("{job}: {error}"))
}

/// Sends blocks and writes what comes back; returns the rows.
async fn answer(
    options: &Infer,
    io: &mut Io,
    server: Arc<Server>,
    reader: RowReader<Source>,
    progress: &Progress,
) -> Result<u64> {
    let kind = server.metadata.inputs.first().map(|input| input.datatype);
    let layout = sent_as(reader.layout(), kind);
    let (to_caller, mut blocks) = mpsc::channel(1);
    let batch = options.batch as usize;
    thread::spawn(move || read(reader, kind, batch, &to_caller));

    let mut flying: VecDeque<JoinHandle<Result<Answer>>> = VecDeque::new();
    let mut open: Option<RowWriter<Output>> = None;
    let (mut sent, mut rows, mut more) = (0, 0, true);
    while more || !flying.is_empty() {
        tokio::select! {
            block = blocks.recv(), if more && flying.len() < options.concurrency as usize => match block {
                Some(block) => {
                    let block: Block = block?;
                    let first = sent;
                    sent += block.count as u64;
                    let server = Arc::clone(&server);
                    flying.push_back(tokio::spawn(async move { server.call(block, first).await }));
                }
                None => more = false,
            },
            answer = front(&mut flying), if !flying.is_empty() => {
                flying.pop_front();
                let answer = answer?;
                let mut writer = match open.take() {
                    Some(writer) => writer,
                    None => options.write.rows(io, answer.rows.layout.clone())?,
                };
                ensure!(
                    *writer.layout() == answer.rows.layout,
                    "{}: found outputs of {}, expected {} as for the first batch",
                    server.job,
                    answer.rows.layout,
                    writer.layout()
                );
                for rows in answer.items {
                    writer.announce(rows);
                }
                writer.write_raw(&answer.rows.data)?;
                rows += answer.count as u64;
                progress.advance(answer.count as u64);
                open = Some(writer);
            }
        }
    }
    let writer = match open {
        Some(writer) => writer,
        // What outputs look like shows from one that is thrown away.
        None => options.write.rows(io, server.call(zeros(layout)?, 0).await?.rows.layout)?,
    };
    output::commit(writer)?;
    Ok(rows)
}

/// The answer to the oldest block on its way.
async fn front(flying: &mut VecDeque<JoinHandle<Result<Answer>>>) -> Result<Answer> {
    match flying.front_mut() {
        Some(task) => task.await?,
        None => std::future::pending().await,
    }
}

/// What rows of a stream become for an input: floats of its own type, or what they are.
fn sent_as(layout: &RowLayout, input: Option<Datatype>) -> RowLayout {
    let dtype = match input {
        Some(Datatype::Fp32) => Dtype::F32,
        Some(Datatype::Fp64) => Dtype::F64,
        _ => layout.dtype,
    };
    RowLayout::new(dtype, layout.shape.clone())
}

/// Reads blocks until the stream or their taker ends.
fn read(
    mut reader: RowReader<Source>,
    input: Option<Datatype>,
    batch: usize,
    to_caller: &mpsc::Sender<Result<Block, StreamError>>,
) {
    let layout = sent_as(reader.layout(), input);
    loop {
        let block = block(&mut reader, &layout, batch);
        let end = !matches!(&block, Ok(block) if block.count == batch);
        let nothing = matches!(&block, Ok(block) if block.count == 0);
        if !nothing && to_caller.blocking_send(block).is_err() || end {
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

/// A row of zeros, in place of those that a stream does not have.
fn zeros(layout: RowLayout) -> Result<Block> {
    let bytes = layout.elements().checked_mul(layout.dtype.size()).filter(|&bytes| bytes <= BODY);
    let bytes = bytes.with_context(|| format!("found rows of {layout}, expected at most {BODY} bytes"))?;
    Ok(Block { count: 1, rows: Rows { layout, data: vec![0; bytes].into() }, items: Vec::new() })
}

impl Server {
    /// The answer to a block whose first row has this number.
    async fn call(&self, block: Block, first: u64) -> Result<Answer> {
        let Block { count, rows, items } = block;
        let last = first + count as u64 - 1;
        let place = || format!("{}: rows {first} to {last}", self.job);
        let rows = Given::Given(rows);
        // A misfit is one of the stream, not of these rows.
        let queries = Queries::new(&self.version, &self.metadata, count, &[], rows)
            .with_context(|| self.job.clone())?;
        let mut request = queries.request(0);
        let wanted =
            |output: &TensorMetadata| RequestedOutput { name: output.name.clone(), ..Default::default() };
        request.outputs = self.metadata.outputs.iter().map(wanted).collect();
        let call = CallContext { timeout: Some(self.timeout), ..CallContext::default() };
        let response = within(self.timeout, self.instance.infer(request, call)).await.with_context(place)?;
        let rows = rows_of(&response, count).with_context(place)?;
        Ok(Answer { count, rows, items })
    }
}

/// The rows of an answer's one output.
fn rows_of(response: &InferResponse, count: usize) -> Result<Rows> {
    let [output] = &response.outputs[..] else {
        bail!("found {} outputs, expected 1", response.outputs.len());
    };
    let shape = match &output.shape[..] {
        [rows, shape @ ..] if *rows == count as u64 => shape,
        shape => bail!("found outputs of shape {shape:?} for {count} queries, expected one row each"),
    };
    let data = output.data.contiguous();
    // As the outputs of models in this process, BF16 is written as f4, whose upper half it is.
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
