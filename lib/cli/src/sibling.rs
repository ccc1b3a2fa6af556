//! Running models from tools that do not link libtorch: through `parm-infer`, the sibling that lies
//! beside the running program.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use parm::npy::{RowBuffer, RowLayout, RowReader, RowWriter, WriteError};

use crate::options::Compute;

/// The predictions of a model: `[rows, elements]`.
#[derive(Clone, Debug, PartialEq)]
pub struct Predictions {
    /// The values, row by row.
    pub values: Vec<f32>,
    /// The shape of one prediction.
    pub shape: Vec<usize>,
}

impl Predictions {
    /// Numbers of one prediction.
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

/// Asks a model for its predictions of `rows` queries, which `feed` writes.
///
/// # Errors
/// A sibling that is missing or fails (it then has said why on standard error), and those of `feed`.
pub fn infer(
    model: &Path,
    compute: Compute,
    queries: RowLayout,
    rows: u64,
    feed: impl FnOnce(&mut RowWriter<ChildStdin>) -> Result<(), WriteError> + Send,
) -> Result<Predictions> {
    let program = program()?;
    let mut command = Command::new(&program);
    command.arg("--model").arg(model).args(["--progress", "never", "--device", &compute.device.to_string()]);
    if let Some(threads) = compute.threads {
        command.args(["--threads", &threads.to_string()]);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("{}: cannot be started", program.display()))?;
    let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        bail!("{}: has no pipes", program.display());
    };
    let result = thread::scope(|scope| {
        let feeding = scope.spawn(move || {
            let mut writer = RowWriter::new(stdin, queries);
            writer.announce(rows);
            feed(&mut writer)?;
            writer.finish().map(drop)
        });
        let predictions = read_all(stdout);
        let written = feeding.join().map_err(|_| anyhow!("the writer of queries panicked"))?;
        anyhow::Ok((predictions, written))
    });
    check(&mut child, &program)?;
    let (predictions, written) = result?;
    written?;
    predictions
}

/// Why a sibling failed stands on standard error already; this says that it did.
fn check(child: &mut Child, program: &Path) -> Result<()> {
    let status = child.wait().with_context(|| format!("{}: cannot be waited for", program.display()))?;
    if !status.success() {
        bail!("{} failed ({status})", program.display());
    }
    Ok(())
}

fn read_all(source: impl Read) -> Result<Predictions> {
    let mut rows = RowReader::new(source, "parm-infer")?;
    let mut buffer = RowBuffer::<f32>::default();
    let count = rows.read(usize::MAX, &mut buffer)?;
    let mut values = buffer.into_values();
    values.truncate(count * rows.layout().elements());
    Ok(Predictions { values, shape: rows.layout().shape.clone() })
}

/// The path of `parm-infer`: beside the running program, which may be a test in a folder below.
fn program() -> Result<PathBuf> {
    let own = std::env::current_exe().context("the path of this program is not known")?;
    let beside = own.ancestors().skip(1).take(2).map(|folder| folder.join("parm-infer"));
    let found = beside.into_iter().find(|path| path.is_file());
    found.with_context(|| {
        format!("found no parm-infer beside {}, expected it there to run models", own.display())
    })
}
