//! Runs models for tools that do not link libtorch, through `parm-infer` beside the running program.

use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use parm::npy::{RowBuffer, RowLayout, RowReader, RowWriter, StreamError};

use crate::options::{Compute, ConstantOption, FlushOption, ModelOptions};
use crate::run::is_closed_pipe;
use crate::tools::infer::Infer;

/// The predictions of a model: `[rows, elements]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// The values, row by row.
    pub values: Vec<f32>,
    /// The shape of one prediction.
    pub shape: Vec<usize>,
}

impl Predictions {
    /// The number of elements of one prediction.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// One prediction.
    ///
    /// # Panics
    /// If there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f32] {
        let elements = self.elements();
        &self.values[row * elements..][..elements]
    }
}

/// The predictions of a model for `rows` queries, which `feed` writes.
///
/// # Errors
/// parm-infer is missing or fails (it has written the cause to standard error), or an error of `feed`.
pub fn infer(
    model: &Path,
    options: &ModelOptions,
    compute: Compute,
    queries: RowLayout,
    rows: u64,
    feed: impl FnOnce(&mut RowWriter<ChildStdin>) -> Result<()> + Send,
) -> Result<Predictions> {
    let (mut child, stdin, stdout) = start(model, options, compute, FlushOption::default())?;
    let result = thread::scope(|scope| {
        let feeding = scope.spawn(move || {
            let mut writer = RowWriter::new(stdin, queries);
            writer.announce(rows);
            feed(&mut writer)?;
            writer.finish()?;
            anyhow::Ok(())
        });
        let predictions = read_all(stdout);
        let written = feeding.join().map_err(|_| anyhow!("the writer of queries panicked"))?;
        anyhow::Ok((predictions, written))
    });
    check(&mut child)?;
    let (predictions, written) = result?;
    written?;
    predictions
}

/// The outputs of a model, whose stream is opened when they are first wanted: it begins with the first answer.
pub struct Outputs {
    unopened: Option<ChildStdout>,
    reader: Option<RowReader<ChildStdout>>,
}

impl Outputs {
    /// The stream of outputs. Waits for its first header.
    ///
    /// # Errors
    /// A stream that is refused.
    pub fn reader(&mut self) -> Result<&mut RowReader<ChildStdout>> {
        if let Some(stdout) = self.unopened.take() {
            self.reader = Some(RowReader::new(stdout, Infer::NAME)?);
        }
        self.reader.as_mut().context("the outputs of parm-infer were refused")
    }
}

/// Streams rows through a model: `feed` announces and writes rows of `queries` in a thread of its own,
/// `drain` reads the model's outputs. Returns the results of both.
///
/// # Errors
/// The error of `feed`, since it causes all others; otherwise parm-infer is missing or fails (it has written
/// the cause to standard error); otherwise the error of `drain`.
pub fn through<F: Send + 'static, D>(
    model: &Path,
    compute: Compute,
    flush: FlushOption,
    queries: RowLayout,
    feed: impl FnOnce(&mut RowWriter<ChildStdin>) -> Result<F> + Send + 'static,
    drain: impl FnOnce(&mut Outputs) -> Result<D>,
) -> Result<(F, D)> {
    let (child, stdin, stdout) = start(model, &ModelOptions::default(), compute, flush)?;
    let child = Arc::new(Mutex::new(child));
    let failure = Arc::new(Mutex::new(None));
    let feeding = thread::spawn({
        let (child, failure) = (Arc::clone(&child), Arc::clone(&failure));
        move || {
            let mut writer = RowWriter::new(stdin, queries);
            let result = feed(&mut writer).and_then(|result| Ok((result, writer.finish()?)));
            result.map(|(result, _)| result).map_err(|error| {
                if !is_closed_pipe(&error) {
                    *lock(&failure) = Some(error);
                    // Killed, since it would also report an input that ends early.
                    let _ = lock(&child).kill();
                }
            })
        }
    });
    let read = || {
        let mut outputs = Outputs { unopened: Some(stdout), reader: None };
        let drained = drain(&mut outputs)?;
        // parm-infer can only end when its outputs have been read.
        outputs.reader()?.skip_rest()?;
        anyhow::Ok(drained)
    };
    let drained = match read() {
        Err(error) if !error.is::<StreamError>() => {
            // Nothing reads the outputs. The feeding thread may wait for its source; it ends with the
            // process.
            let _ = lock(&child).kill();
            let _ = lock(&child).wait();
            return Err(error);
        }
        drained => drained,
    };
    // The outputs have ended, so that parm-infer ends too.
    let checked = check(&mut lock(&child));
    if let Some(error) = lock(&failure).take() {
        return Err(error);
    }
    checked?;
    let drained = drained?;
    match feeding.join() {
        Ok(Ok(result)) => Ok((result, drained)),
        _ => bail!("parm-infer ended before its input"),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn start(
    model: &Path,
    options: &ModelOptions,
    compute: Compute,
    flush: FlushOption,
) -> Result<(Child, ChildStdin, ChildStdout)> {
    let program = program()?;
    let mut command = Command::new(&program);
    command.arg("--model").arg(model).args(["--progress", "never", "--device", &compute.device.to_string()]);
    if let Some(activation) = options.activation {
        command.args(["--activation", activation.name()]);
    }
    if let Some(output) = &options.output_name {
        command.args(["--output-name", output]);
    }
    if let Some(input) = &options.query_input {
        command.args(["--input", input]);
    }
    for ConstantOption { name, file } in &options.constants {
        let mut value = OsString::from(format!("{name}="));
        value.push(file);
        command.arg("--constant").arg(value);
    }
    if let Some(threads) = compute.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    if compute.tf32 {
        command.arg("--tf32");
    }
    if flush.flush {
        command.arg("--flush");
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{}: cannot be started", program.display()))?;
    match (child.stdin.take(), child.stdout.take()) {
        (Some(stdin), Some(stdout)) => Ok((child, stdin, stdout)),
        _ => bail!("{}: has no pipes", program.display()),
    }
}

/// Reports that parm-infer failed. It has written the cause to standard error.
fn check(child: &mut Child) -> Result<()> {
    let status = child.wait().context("parm-infer cannot be waited for")?;
    if !status.success() {
        bail!("parm-infer failed ({status})");
    }
    Ok(())
}

fn read_all(source: impl Read) -> Result<Predictions> {
    let mut rows = RowReader::new(source, Infer::NAME)?;
    let mut buffer = RowBuffer::<f32>::default();
    let count = rows.read(usize::MAX, &mut buffer)?;
    let mut values = buffer.into_values();
    values.truncate(count * rows.layout().elements());
    Ok(Predictions { values, shape: rows.layout().shape.clone() })
}

/// The path of `parm-infer`: beside the running program, or one folder above a running test.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join(Infer::NAME));
    let found = beside.into_iter().find(|path| path.is_file());
    found.with_context(|| {
        format!("found no parm-infer beside {}, expected it there to run models", own.display())
    })
}
