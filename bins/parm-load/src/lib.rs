//! `parm-load`: load on a model server. What it does is in `parm_serving::load`; here are its options, the
//! way to the server, and its output.

use std::io::{BufReader, BufWriter, IntoInnerError, Write};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use parm::npy::Window;
use parm_cli::output::{Compression, Output, Target};
use parm_cli::tools::load::{ArrivalsOption, EncodingOption, Load, ShapeOption};
use parm_cli::{Exit, Input, Io, Usage, signals};
use parm_serving::client;
use parm_serving::config::{Encoding, Remote};
use parm_serving::load::{
    Arrivals, Plan, Queries, Record, RowShape, Rows, Source, Span, Summary, Trace, json, measure, table,
};
use tokio::runtime::Runtime;
use tokio::sync::watch;

/// The most bytes of an answer.
const BODY: usize = 256 << 20;

/// How long requests are sent, where nothing is said of it.
const SECONDS: f64 = 10.0;

/// Runs the tool.
///
/// # Errors
/// A server that cannot be reached, a model that it does not have, queries that do not fit it, records
/// that cannot be written, or no answer at all.
pub fn run(options: &Load, io: &mut Io) -> Result<Exit> {
    if options.records == Some(Target::Stdout) {
        return Err(Usage::error("--records -: standard output is for the table, expected a file"));
    }
    let source = source(options, io)?;
    let runtime = Runtime::new().context("the runtime")?;
    let remote = remote(options);
    let reached = client::reach(&remote, &options.model, &options.model_version, BODY);
    let (instance, metadata) = runtime.block_on(reached)?;
    let shape = |shape: &ShapeOption| RowShape { input: shape.input.clone(), shape: shape.shape.clone() };
    let shapes: Vec<RowShape> = options.shape.iter().map(shape).collect();
    let rows = options.rows as usize;
    let queries = Queries::new(&options.model_version, &metadata, rows, &shapes, source)
        .with_context(|| format!("{}: model {}", options.url, options.model))?;
    let queries = Arc::new(queries);
    let create = |target: &Target| target.create(io, Compression::ByName(3)).map(BufWriter::new);
    let mut records = options.records.as_ref().map(create).transpose()?;

    let (signal, stop) = on_signal();
    let mut summaries = Vec::with_capacity(options.rate.len());
    let trace = options.trace.as_ref().map(|input| trace(input, io)).transpose()?;
    let rates = match &trace {
        Some(trace) if options.rate.is_empty() => vec![trace.rate()],
        _ => options.rate.clone(),
    };
    let arrivals = arrivals(options, trace);
    for rate in rates {
        let plan = plan(options, &arrivals, rate);
        let summary = measure(runtime.handle(), &instance, &queries, &plan, &stop, |record| {
            records.as_mut().map_or(Ok(()), |records| write(records, record))
        })
        .context("records")?;
        complain(options, io, &summary);
        summaries.push(summary);
        if *stop.borrow() {
            break;
        }
    }
    // Calls that nobody waits for are not waited for.
    runtime.shutdown_background();
    if let Some(records) = records {
        let output: Output = records.into_inner().map_err(IntoInnerError::into_error).context("records")?;
        output.commit()?;
    }
    print(options, io, &summaries)?;
    let answered: u64 = summaries.iter().map(Summary::answered).sum();
    options.common.count(io, "parm-load", &format!("{answered} answers"));
    if let Ok(signal) = signal.try_recv() {
        return Ok(Exit::Signal(signal));
    }
    if answered == 0 {
        let first = summaries.iter().find_map(|summary| summary.first_error.as_deref());
        bail!("found no answer to any request: {}", first.unwrap_or("none was sent"));
    }
    Ok(Exit::Done)
}

/// The rows that are sent.
fn source(options: &Load, io: &mut Io) -> Result<Source> {
    let Some(input) = &options.data else { return Ok(Source::Random(options.seed)) };
    let mut rows = input.rows(io, options.read.window())?;
    let layout = rows.layout().clone();
    let mut data = Vec::new();
    rows.read_raw(usize::MAX, &mut data)?;
    Ok(Source::Given(Rows { layout, data: data.into() }))
}

/// The server that is asked.
fn remote(options: &Load) -> Remote {
    Remote {
        url: options.url.clone(),
        encoding: match options.encoding {
            EncodingOption::Auto => Encoding::Auto,
            EncodingOption::Json => Encoding::Json,
            EncodingOption::Binary => Encoding::Binary,
            EncodingOption::Grpc => Encoding::Grpc,
        },
        headers: options.header.iter().cloned().collect(),
        ca: options.ca.clone(),
        ..Remote::default()
    }
}

/// The arrivals to replay.
fn trace(input: &Input, io: &mut Io) -> Result<Trace> {
    Trace::read(BufReader::new(input.bytes(io, Window::Normal)?)).with_context(|| input.to_string())
}

fn arrivals(options: &Load, trace: Option<Trace>) -> Arrivals {
    match (trace, options.arrivals) {
        (Some(trace), _) => Arrivals::Trace(Arc::new(trace)),
        (None, ArrivalsOption::Poisson) => Arrivals::Poisson,
        (None, ArrivalsOption::Constant) => Arrivals::Constant,
    }
}

fn plan(options: &Load, arrivals: &Arrivals, rate: f64) -> Plan {
    // A trace ends by itself.
    let most = if options.trace.is_some() { f64::from(u32::MAX) } else { SECONDS };
    let seconds = Duration::from_secs_f64(options.seconds.unwrap_or(most));
    Plan {
        name: None,
        trial: None,
        arrivals: arrivals.clone(),
        rate,
        seed: options.seed,
        warm_up: Duration::from_secs_f64(options.warm_up),
        span: options.queries.map_or(Span::Time(seconds), Span::Requests),
        timeout: Duration::from_secs_f64(options.timeout / 1e3),
        in_flight: options.in_flight as usize,
    }
}

/// What becomes true at the first signal, which is kept; the second one ends the process.
fn on_signal() -> (std::sync::mpsc::Receiver<u8>, watch::Receiver<bool>) {
    let (to_signals, signalled) = std::sync::mpsc::channel();
    signals::forward(to_signals);
    let (keep, kept) = std::sync::mpsc::channel();
    let (stop, stopped) = watch::channel(false);
    std::thread::spawn(move || {
        if let Ok(signal) = signalled.recv() {
            signals::no_longer_forward();
            let _ = keep.send(u8::try_from(signal).unwrap_or(u8::MAX));
            stop.send_replace(true);
        }
    });
    (kept, stopped)
}

fn write(records: &mut impl Write, record: &Record) -> std::io::Result<()> {
    serde_json::to_writer(&mut *records, record)?;
    records.write_all(b"\n")
}

/// Says what is to be known of a measurement beside its numbers.
fn complain(options: &Load, io: &mut Io, summary: &Summary) {
    let rate = summary.rate;
    let mut warn = |text: &str| options.common.warn(io, "parm-load", &format!("{rate}/s: {text}"));
    let ms = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.3} ms"));
    if summary.failed() > 0 {
        let all = summary.failed() + summary.answered();
        let first = summary.first_error.as_deref().map(|error| format!("; the first: {error}"));
        warn(&format!("{} of {all} requests failed{}", summary.failed(), first.unwrap_or_default()));
    }
    if summary.not_sent() > 0 {
        let (count, most) = (summary.not_sent(), options.in_flight);
        warn(&format!("{count} requests were not sent, since {most} were on their way: see --in-flight"));
    }
    if summary.is_late() {
        warn(&format!(
            "requests were sent up to {} late (P99), and the median latency is {}: latencies tell of this \
             machine, too",
            ms(summary.late_ms(0.99)),
            ms(summary.within_ms(0.5)),
        ));
    }
}

fn print(options: &Load, io: &mut Io, summaries: &[Summary]) -> Result<()> {
    let text = if options.json {
        let mut report = json(summaries);
        report["url"] = options.url.clone().into();
        report["model"] = options.model.clone().into();
        report["rows"] = options.rows.into();
        report["seed"] = options.seed.into();
        format!("{report}\n")
    } else {
        table(summaries)
    };
    let mut stdout = io.take_stdout().context("standard output is closed")?;
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("standard output: cannot write")
}
