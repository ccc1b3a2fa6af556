//! `parm-load`: load on model servers. The measurement is in `parm_oip::load` and `parm_workload`; this crate
//! connects to the servers, and writes the output.

mod drill;
mod json;
mod live;
mod targets;
mod trials;

use std::fmt::Write as _;
use std::io::{BufWriter, IntoInnerError, Write};
use std::time::SystemTime;

use anyhow::{Context, Result, bail};
use parm::counted;
use parm_cli::output::{Compression, Lines, Output, Target as File};
use parm_cli::tools::load::Load;
use parm_cli::{Exit, Io, Progress, Usage, signals};
use parm_workload::{
    Record, Row, Search, Summary, Trial, drill_table, slices_table, table, write_histograms,
};
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub use json::Report;
use live::Live;
use targets::Target;
use trials::Trials;

/// Runs the tool.
///
/// # Errors
/// A server that cannot be reached, a model that it does not have, queries or labels that do not fit it,
/// records that cannot be written, or no answer at all.
pub fn run(options: &Load, io: &mut Io) -> Result<Exit> {
    for (option, file) in [("--records", &options.records), ("--histogram", &options.histogram)] {
        if *file == Some(File::Stdout) {
            return Err(Usage::error(format!(
                "{option} -: standard output is for the table, expected a file"
            )));
        }
    }
    if options.json {
        io.record_inputs();
        options.ca.iter().chain(&options.drill).for_each(|path| io.note_file(path));
    }
    let expected = trials::expected(options)?;
    let trials = Trials::new(options, expected, io)?;
    let runtime = Runtime::new().context("the runtime")?;
    let targets = targets::reach(options, &runtime, io)?;
    let mut records = Lines::new(options.records.as_ref(), io)?;
    let create = |file: &File| file.create(io, Compression::ByName(3)).map(BufWriter::new);
    let histogram = options.histogram.as_ref().map(create).transpose()?;

    let (signal, stop) = on_signal();
    // Progress is updated when a request has ended, so that drawing does not delay the sending of requests.
    let total = options.find.is_none().then(|| trials.requests(targets.len()));
    let progress = Progress::new(&options.common, io, "requests", total);
    let began = SystemTime::now();
    let mut live = Live::default();
    let each = |record: &Record| {
        progress.advance(1);
        if let Some(line) = live.add(record) {
            progress.note(line);
        }
        records.add(record)
    };
    let after = |name: Option<&str>, trial: &Trial| {
        progress.suspend(|| complain(options, io, name, trial));
    };
    let (rows, searches) = if options.find.is_some() {
        trials.find(&targets, runtime.handle(), &stop, each, after)?
    } else {
        (trials.run(&targets, runtime.handle(), &stop, each, after)?, Vec::new())
    };
    drop(progress);
    // Does not wait for running calls.
    runtime.shutdown_background();
    records.commit().context("records")?;
    if let Some(mut histogram) = histogram {
        write_histograms(&rows, began, &mut histogram).context("histogram")?;
        let histogram = histogram.into_inner().map_err(IntoInnerError::into_error);
        histogram.map_err(Into::into).and_then(Output::commit).context("histogram")?;
    }
    print(options, io, &targets, &rows, &searches)?;
    let answered: u64 = rows.iter().map(|row| row.sum(Summary::answered)).sum();
    options.common.count(io, &counted(answered, "answer"));
    if let Ok(signal) = signal.try_recv() {
        return Ok(Exit::Signal(signal));
    }
    let unmet = match &options.find {
        Some(_) => searches.iter().any(|search| search.held().is_none()),
        None => rows.iter().flat_map(|row| &row.trials).any(|trial| !trial.unmet.is_empty()),
    };
    if unmet {
        return Ok(Exit::Unmet);
    }
    if answered == 0 {
        let mut trials = rows.iter().flat_map(|row| &row.trials);
        let first = trials.find_map(|trial| trial.summary.first_error.as_deref());
        bail!("found no answer to any request: {}", first.unwrap_or("none was sent"));
    }
    Ok(Exit::Done)
}

/// A watch that becomes true at the first signal; the second signal ends the process.
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

/// Warns about failures, requests that were not sent, and delays of the generator, and says what is not as expected.
fn complain(options: &Load, io: &mut Io, name: Option<&str>, trial: &Trial) {
    let name = name.map_or(String::new(), |name| format!("{name}, "));
    let summary = &trial.summary;
    let rate = summary.rate;
    let mut warn = |text: &str| options.common.warn(io, &format!("{name}{rate}/s: {text}"));
    let ms = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.3} ms"));
    // Requests fail above the rate that is searched, and what is given up did not fail.
    let failed = if options.find.is_none() { summary.failed() - summary.given_up() } else { 0 };
    if failed > 0 {
        let all = failed + summary.answered();
        let first = summary.first_error.as_deref().map(|error| format!("; the first: {error}"));
        warn(&format!("{failed} of {} failed{}", counted(all, "request"), first.unwrap_or_default()));
    }
    if summary.not_sent() > 0 && options.find.is_none() {
        let (count, most) = (summary.not_sent(), options.in_flight);
        let count = counted(count, "request");
        let verb = if summary.not_sent() == 1 { "was" } else { "were" };
        warn(&format!("{count} {verb} not sent, since {most} were open: see --in-flight"));
    }
    if summary.is_late() {
        warn(&format!(
            "requests were sent up to {} late (P99), and the median latency is {}: latencies tell of this \
             machine, too",
            ms(summary.late_ms(0.99)),
            ms(summary.within_ms(0.5)),
        ));
    }
    for reason in trial.unmet.iter().filter(|_| options.expect.is_some()) {
        // If standard error is closed, the exit code is left.
        let _ = writeln!(io.stderr, "{}: {name}{rate}/s: {reason}", io.tool);
    }
}

fn print(
    options: &Load,
    io: &mut Io,
    targets: &[Target],
    rows: &[Row<Trial>],
    searches: &[Search],
) -> Result<()> {
    let text = if options.json {
        let report = Report::new(options, targets, rows, searches, io.made_by());
        format!("{}\n", serde_json::to_string(&report)?)
    } else {
        let mut text = table(rows);
        for more in [slices_table(rows), drill_table(rows)] {
            if !more.is_empty() {
                let _ = write!(text, "\n{more}");
            }
        }
        for (target, search) in targets.iter().zip(searches) {
            let name = target.name.as_ref().map_or(String::new(), |name| format!("{name}: "));
            let rate = |rate: Option<f64>| rate.map_or("no rate".to_owned(), |rate| format!("{rate:.3}/s"));
            let find = options.find.as_deref().unwrap_or_default();
            let (held, missed) = (rate(search.held()), rate(search.missed()));
            let _ = writeln!(text, "{name}{find} holds at {held}, does not hold at {missed}");
        }
        text
    };
    io.print(&text)
}
