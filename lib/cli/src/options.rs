//! Blocks of options that tools share; the same thing is spelled the same way in all of them.

use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::builder::{OsStringValueParser, PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, ColorChoice, ValueEnum};
use nalgebra::DMatrix;
use parm::codes::geometry::Points;
use parm::codes::{Code, CodeName, CodeSpec, MAX_WORKERS, Parameter, UnknownCode};
use parm::npy::{Array, RowBuffer, RowLayout, RowReader, RowWriter, Shard, Window};
use parm::{Activation, DeviceChoice, MadeBy, Tail, Task};
use serde::Serialize;

use crate::exit::Usage;
use crate::input::{Input, Reading, Source};
use crate::io::Io;
use crate::output::{Compression, Output, Target};

/// When to do something that depends on a terminal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// If standard error is a terminal.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl When {
    /// Whether a stream has colors: with `Auto` if it is a terminal, unless the environment variable `NO_COLOR` is set.
    #[must_use]
    pub fn colors(self, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
        }
    }
}

impl From<When> for ColorChoice {
    fn from(when: When) -> Self {
        match when {
            When::Auto => Self::Auto,
            When::Always => Self::Always,
            When::Never => Self::Never,
        }
    }
}

/// A report whose JSON has a schema; see [`run_with_schema`](crate::run_with_schema).
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct SchemaOption {
    /// Print the JSON Schema of what --json prints, and stop
    #[arg(long, exclusive = true)]
    pub schema: bool,
}

/// Whether answers wait for others.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Streams")]
pub struct FlushOption {
    /// Write each answer as soon as its group, or the batch of its item, has been read
    ///
    /// For a program that waits for an answer before it writes the next rows. Otherwise rows are read in large
    /// blocks, which is faster.
    #[arg(long)]
    pub flush: bool,
}

/// The options that all tools have.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Messages")]
pub struct Common {
    /// Print errors only
    ///
    /// Warnings, notes and progress bars are left out.
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,

    /// Print what was done
    ///
    /// The last line on standard error counts what was read and written.
    #[arg(short, long, global = true)]
    pub verbose: bool,

    /// When to show a progress bar on standard error
    ///
    /// With 'auto', only on a terminal, and only in the last program of a pipe. With 'always' and without a
    /// terminal, it prints a line each second, in trainings every five, and one at the end.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub progress: When,

    /// When to color messages
    ///
    /// With 'auto', on a terminal, unless the environment variable `NO_COLOR` is set.
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub color: When,
}

impl Common {
    /// Writes a warning to standard error, unless --quiet.
    pub fn warn(&self, io: &mut Io, message: &str) {
        if !self.quiet {
            // Nothing is left to do when standard error is closed.
            let _ = writeln!(io.stderr, "{}: warning: {message}", io.tool);
        }
    }

    /// Writes a note to standard error, unless --quiet.
    pub fn note(&self, io: &mut Io, message: &str) {
        if !self.quiet {
            let _ = writeln!(io.stderr, "{}: note: {message}", io.tool);
        }
    }

    /// Writes the result of long work to standard error: if --verbose, and on a terminal unless --quiet.
    pub fn report(&self, io: &mut Io, message: &str) {
        if self.verbose || (io.terminals.stderr && !self.quiet) {
            let _ = writeln!(io.stderr, "{}: {message}", io.tool);
        }
    }

    /// Writes the count line to standard error, if --verbose.
    pub fn count(&self, io: &mut Io, message: &str) {
        if self.verbose {
            let _ = writeln!(io.stderr, "{}: {message}", io.tool);
        }
    }
}

/// How streams are read.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Streams")]
pub struct ReadOptions {
    /// Allow compressed input that needs more than 8 MiB of memory
    ///
    /// Input that is compressed with zstd is detected by its first bytes. Streams from 'zstd --ultra' or 'zstd
    /// --long' need this option, and up to 2 GiB.
    #[arg(long)]
    pub long: bool,

    /// Read records of two bytes (V2) as bfloat16
    ///
    /// .npy has no type for bfloat16; ml_dtypes (JAX) writes V2 instead. The rows become f4, which holds each
    /// value exactly.
    #[arg(long)]
    pub bf16: bool,
}

impl ReadOptions {
    /// How the bytes of streams are read.
    #[must_use]
    pub fn reading(self) -> Reading {
        Reading { window: if self.long { Window::Long } else { Window::Normal }, bf16: self.bf16 }
    }
}

/// Which part of the streams is worked on.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Streams")]
pub struct ShardOption {
    /// Process only part I of N, from 1/N to N/N, in whole groups; parts differ by at most one group
    ///
    /// The streams must be files, since their lengths must be known. 'parm-data cat' of the outputs of all
    /// parts, in their order, equals the output of one call for all rows.
    #[arg(long, value_name = "I/N")]
    pub shard: Option<Shard>,
}

impl ShardOption {
    /// Opens a stream with a row for each query, in groups of k: all of it, or the shard.
    ///
    /// # Errors
    /// As [`Input::rows`] and [`Input::items`].
    pub fn rows(self, input: &Input, io: &mut Io, reading: Reading, k: usize) -> Result<RowReader<Source>> {
        let Some(shard) = self.shard else { return input.rows(io, reading) };
        let items = input.items(reading)?;
        let rows = shard.rows(items.rows(), k as u64);
        Ok(RowReader::new(input.part(&items, rows, reading)?, input.to_string())?)
    }
}

/// Where and how a stream is written.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Streams")]
pub struct WriteOptions {
    /// Where to write
    #[arg(short, long, value_name = "FILE", default_value = "-")]
    pub output: Target,

    /// How it is compressed.
    #[command(flatten)]
    pub compress: CompressOptions,
}

impl WriteOptions {
    /// Opens the output as a stream of rows.
    ///
    /// # Errors
    /// As [`Target::create`].
    pub fn rows(&self, io: &mut Io, layout: RowLayout) -> Result<RowWriter<Output>> {
        self.output.rows(io, self.compress.compression(), layout)
    }
}

/// Whether streams are compressed.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Streams")]
pub struct CompressOptions {
    /// Compress the output with zstd
    ///
    /// LEVEL is 1 (fast) to 19 (small). Output files whose names end in '.zst' are always compressed.
    #[arg(
        long,
        value_name = "LEVEL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "3",
        value_parser = clap::value_parser!(i32).range(1..=19)
    )]
    pub zstd: Option<i32>,
}

impl CompressOptions {
    /// Whether an output is compressed.
    #[must_use]
    pub fn compression(self) -> Compression {
        self.zstd.map_or(Compression::ByName(3), Compression::Zstd)
    }
}

/// Where models run.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Computing")]
pub struct Compute {
    /// The device: auto, cpu, cuda or cuda:N
    ///
    /// With 'auto', the first GPU if it is usable, otherwise the CPU.
    #[arg(long, value_name = "DEVICE", default_value = "auto")]
    pub device: DeviceChoice,

    /// CPU threads of a model [default: one per core; parm-train: 1]
    ///
    /// Threads of parm-infer compute different rows; elsewhere, and for large networks of linear layers alone, they
    /// share each operation. Batches of less than four million multiplications of such a network take one thread, except
    /// in TorchScript. Trainings are bit-identical only with 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,

    /// Let GPUs multiply f32 matrices and convolve in TF32
    ///
    /// TF32 keeps ten bits of the mantissa: it is faster, and outputs differ by about a thousandth. Without it,
    /// GPUs compute in full f32.
    #[arg(long)]
    pub tf32: bool,
}

/// What may change the outputs of a model by rounding, for speed.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "Computing")]
pub struct TuningOptions {
    /// Whether to optimise the model for answering
    ///
    /// With 'auto', batch normalisations become part of convolutions and linear layers, constants are computed once,
    /// and a CPU computes with oneDNN's layers, weights in its order and channels last; TorchScript is frozen and
    /// optimised by libtorch. Outputs differ by rounding: by less than 1e-4 of the largest.
    #[arg(long, value_name = "WHEN", default_value = "auto")]
    pub optimize: Optimize,

    /// The precision of matrix products and convolutions
    ///
    /// bf16 keeps eight bits of the mantissa: outputs differ by about a hundredth. It is faster on GPUs and on CPUs
    /// that compute with it.
    #[arg(long, value_name = "PRECISION", default_value = "f32")]
    pub precision: TuningPrecision,
}

/// Whether to optimise models.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimize {
    /// If it can be done
    Auto,
    /// Compute each operator as the file has it
    Off,
}

/// The precision of answers.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum TuningPrecision {
    /// f32
    F32,
    /// bf16 for products and convolutions, f32 for the rest
    Bf16,
}

/// What the file of a model leaves open.
#[derive(Args, Clone, Debug, Default)]
pub struct ModelOptions {
    /// The activation of an MLP if its file does not contain it: relu, gelu, tanh, sigmoid, silu or leaky-relu
    ///
    /// The state dict of an MLP that Python saved contains only the weights. Without this option its activation
    /// is taken to be relu, with a warning. Files of parm-train and TorchScript contain the activation.
    #[arg(long, value_name = "NAME")]
    pub activation: Option<Activation>,

    /// The output to use if the model has several: its key, or its index from 0 [default: the first]
    #[arg(long, value_name = "NAME")]
    pub output_name: Option<String>,

    /// The input that is the query, if the model has several
    ///
    /// The name of an argument of the model's forward function; parm-infer --describe lists them. It can be left
    /// out if all others are constants.
    #[arg(long = "input", value_name = "NAME")]
    pub query_input: Option<String>,

    /// An input that is the same for all queries, from a file (repeatable)
    ///
    /// The file has the input's shape. If the input has a row for each query, as an attention mask, the file has
    /// one row, which is used for all queries.
    #[arg(
        long = "constant",
        value_name = "NAME=FILE.npy",
        value_parser = OsStringValueParser::new().try_map(|text| ConstantOption::parse(&text))
    )]
    pub constants: Vec<ConstantOption>,
}

/// The part of an exported program that is used.
#[derive(Args, Clone, Debug, Default)]
pub struct PartOptions {
    /// Begin behind a node of an exported program: its value is the query
    ///
    /// The names of nodes are those of PyTorch's graph (print(program.graph)), such as relu_1; a wrong one lists some.
    /// What is behind the node must come from its value, and from inputs that are not before it.
    #[arg(long, value_name = "NODE")]
    pub from: Option<String>,

    /// End at a node of an exported program: its value is the output
    #[arg(long, value_name = "NODE", conflicts_with = "output_name")]
    pub to: Option<String>,
}

/// An input that is the same for all queries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConstantOption {
    /// The input's name.
    pub name: String,
    /// The file with its values.
    pub file: PathBuf,
}

/// A value of `--constant` without a name or a file.
#[derive(Debug, thiserror::Error)]
#[error("expected NAME=FILE.npy, the name of an input and its file")]
pub struct NoConstant;

impl ConstantOption {
    /// Parses `NAME=FILE`. File names need not be UTF-8.
    fn parse(text: &OsStr) -> Result<Self, NoConstant> {
        let bytes = text.as_bytes();
        let split = bytes.iter().position(|&byte| byte == b'=').ok_or(NoConstant)?;
        let name = std::str::from_utf8(&bytes[..split]).map_err(|_| NoConstant)?;
        let file = PathBuf::from(OsStr::from_bytes(&bytes[split + 1..]));
        if name.is_empty() || file.as_os_str().is_empty() {
            return Err(NoConstant);
        }
        Ok(Self { name: name.into(), file })
    }
}

impl ModelOptions {
    /// Reads the files of the constants, by name.
    ///
    /// # Errors
    /// A file that cannot be read, or is no `.npy` stream.
    pub fn read_constants(&self, io: &mut Io) -> Result<Vec<(String, Array)>> {
        let read = |constant: &ConstantOption| {
            let rows = Input::Path(constant.file.clone()).rows(io, Window::default())?;
            Ok((constant.name.clone(), rows.read_array()?))
        };
        self.constants.iter().map(read).collect()
    }

    /// Whether any of them is given.
    #[must_use]
    pub fn is_given(&self) -> bool {
        let Self { activation, output_name, query_input, constants } = self;
        activation.is_some() || output_name.is_some() || query_input.is_some() || !constants.is_empty()
    }
}

/// Where to say how the time was spent.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Computing")]
pub struct TimingsOption {
    /// Write the times of the phases as JSON, at the end of a successful run
    ///
    /// The phases are start (finding the device), load (models; in a training also the rows), read (the
    /// stream), upload (to the device), encode, compute, download and write. Each has its total seconds, its
    /// count and its median time; the phases of a stream overlap. On a GPU the program waits for the end of
    /// each phase, which takes a little time, and also writes the most memory that was used, in bytes.
    #[arg(long, value_name = "FILE.json")]
    pub timings: Option<Target>,
}

/// The file of timings, if there is to be one. Dropped before it is written, it leaves no trace.
pub struct TimingsFile(Option<Output>);

impl TimingsOption {
    /// Opens the file: before the work, so that no work is lost where it cannot be.
    ///
    /// # Errors
    /// A file that cannot be created.
    pub fn create(&self, io: &mut Io) -> Result<TimingsFile> {
        let create = |target: &Target| target.create(io, Compression::ByName(3));
        self.timings.as_ref().map(create).transpose().map(TimingsFile)
    }
}

impl TimingsFile {
    /// Writes the file, and gives it its name.
    ///
    /// # Errors
    /// The system's.
    pub fn write(self, report: &impl Serialize, made_by: MadeBy) -> Result<()> {
        #[derive(Serialize)]
        struct Described<'a, R> {
            #[serde(flatten)]
            report: &'a R,
            made_by: MadeBy,
        }

        let Some(mut output) = self.0 else { return Ok(()) };
        serde_json::to_writer_pretty(&mut output, &Described { report, made_by }).context("the timings")?;
        output.write_all(b"\n")?;
        output.commit()
    }
}

/// What becomes of the last rows when k does not divide their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum TailOption {
    /// They are an error
    #[default]
    Error,
    /// The last row is repeated until the group is full
    Pad,
    /// They get no parity query
    Drop,
}

impl From<TailOption> for Tail {
    fn from(tail: TailOption) -> Self {
        match tail {
            TailOption::Error => Self::Error,
            TailOption::Pad => Self::Pad,
            TailOption::Drop => Self::Drop,
        }
    }
}

/// Which code to use.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Code")]
pub struct CodeOptions {
    /// The code: sum, concat, replicate, none, berrut, floater-hormann, spline, or a trained code's directory
    ///
    /// 'sum' is a weighted sum of the k queries of a group. 'concat' tiles k images into one; it is decoded
    /// like 'sum' with r = 1. 'berrut', 'floater-hormann' and 'spline' interpolate: they need no parity model,
    /// and all their coded queries run on the deployed model. 'replicate' (a baseline) sends r of the k queries
    /// a second time. 'none' (a baseline) has no parity queries. The directory of a trained code contains its
    /// k, r and weights, and its learned encoder and decoder.
    #[arg(long, value_name = "NAME|DIR")]
    pub code: PathBuf,

    /// Queries of a coding group
    ///
    /// Required with the name of a code; with a directory it must be that of the code.
    #[arg(short, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub k: Option<u32>,

    /// Parity queries of a coding group [default: 1; with 'none' 0]
    #[arg(short, value_name = "R")]
    pub r: Option<u32>,

    /// A file of weights [r, k] in place of the default, (i+1)^j for parity j and slot i
    #[arg(long, value_name = "W.npy")]
    pub weights: Option<PathBuf>,
}

impl CodeOptions {
    /// The name of the code, or of its directory; empty if that is not UTF-8, which only a directory's is.
    #[must_use]
    pub fn name(&self) -> &str {
        self.code.to_str().unwrap_or_default()
    }

    /// Makes the code that the options describe.
    ///
    /// # Errors
    /// Options that contradict each other, a code directory or a file of weights that is refused, and codes
    /// that interpolate.
    pub fn choose(&self, io: &mut Io) -> Result<Code> {
        let code = self.any(&CurveOptions::default(), io)?;
        if code.interpolating().is_some() {
            let name = code.name();
            return Err(Usage::error(format!(
                "--code {name} has no parity queries, and so no parity models"
            )));
        }
        Ok(code)
    }

    fn any(&self, curve: &CurveOptions, io: &mut Io) -> Result<Code> {
        let Ok(name) = self.name().parse::<CodeName>() else { return self.trained(&self.code) };
        if self.weights.is_some() && !name.takes(Parameter::Weights) {
            return Err(Usage::error(format!("--weights goes with --code sum, not with --code {name}")));
        }
        if let (Some(fixed), Some(r)) = (name.fixed_parities(), self.r)
            && r as usize != fixed
        {
            let has = if fixed == 0 { "no parity queries" } else { "one parity query" };
            return Err(Usage::error(format!("--code {name} has {has}: leave out -r")));
        }
        if let Some(path) = &self.weights {
            return Code::new(&self.weighted(name, io, path)?).with_context(|| path.display().to_string());
        }
        let k = self.k.ok_or_else(|| Usage::error(format!("--code {name} needs -k K")))?;
        let spec = CodeSpec {
            r: self.r.map(|r| r as usize),
            stragglers: curve.stragglers.map(|s| s as usize),
            byzantine: curve.byzantine.map(|e| e as usize),
            points: curve.points.map(Points::from),
            degree: curve.degree.map(|d| d as usize),
            lambdas: [curve.lambda_e, curve.lambda_d],
            ..CodeSpec::new(name, k as usize)
        };
        Code::new(&spec).map_err(|error| Usage::error(format!("--code {name}: {error}")))
    }

    /// A code with the weights of a file.
    fn weighted(&self, name: CodeName, io: &mut Io, path: &Path) -> Result<CodeSpec> {
        let mut rows = Input::Path(path.to_owned()).rows(io, Window::Normal)?;
        let [columns] = rows.layout().shape[..] else {
            let found = rows.layout();
            anyhow::bail!("{}: found rows of {found}, expected weights [r, k]", path.display());
        };
        let mut values = RowBuffer::<f64>::default();
        let count = rows.read(MAX_WORKERS + 1, &mut values)?;
        let weights = DMatrix::from_row_slice(count, columns, &values.values()[..count * columns]);
        let (r, k) = (self.r.map_or(count, |r| r as usize), self.k.map_or(columns, |k| k as usize));
        if (count, columns) != (r, k) {
            anyhow::bail!("{}: found weights of {count}x{columns}, expected r x k = {r}x{k}", path.display());
        }
        Ok(CodeSpec { r: Some(r), weights: Some(weights), ..CodeSpec::new(name, k) })
    }

    fn trained(&self, directory: &Path) -> Result<Code> {
        if !directory.exists() {
            return Err(Usage::error(format!(
                "--code {}: found neither a code of that name ({}) nor a directory",
                self.code.display(),
                CodeName::ALL.map(CodeName::as_str).join(", ")
            )));
        }
        let code = Code::load(directory)?;
        for (flag, asked, has) in [("-k", self.k, code.k()), ("-r", self.r, code.r())] {
            if let Some(asked) = asked.filter(|&asked| asked as usize != has) {
                anyhow::bail!(
                    "{}: the code has {flag} {has}, but {flag} {asked} was asked for",
                    directory.display()
                );
            }
        }
        Ok(code)
    }
}

/// Reads one of these names.
pub(crate) fn code_name(names: impl Iterator<Item = CodeName>) -> impl TypedValueParser<Value = CodeName> {
    let names: Vec<CodeName> = names.collect();
    let values = names.iter().map(|name| PossibleValue::new(name.as_str()).help(name.summary()));
    PossibleValuesParser::new(values).try_map(move |found| {
        let known = names.iter().find(|name| name.as_str() == found);
        known.copied().ok_or(UnknownCode(found))
    })
}

/// What the model predicts.
#[derive(Args, Clone, Copy, Debug, Default)]
pub struct TaskOption {
    /// What a prediction is [default: what the code or the model says, or what the other options and the rows mean]
    ///
    /// The task decides how predictions are compared, and with it losses, scores and confidences. One number a row
    /// is a value, whatever else is said of it. See parm(7).
    #[arg(long, value_name = "WHAT", value_parser = task())]
    pub task: Option<Task>,
}

/// A task that the options ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedTask {
    /// The option that does.
    from: String,
    /// The task.
    pub task: Task,
}

impl TaskOption {
    /// The task that the options ask for: this one, or that of the first option among these that is given.
    ///
    /// # Errors
    /// Options of different tasks.
    pub fn with(self, given: &[(&str, bool, Task)]) -> Result<Option<AskedTask>> {
        let mut given = given.iter().filter(|(_, given, _)| *given);
        let first = given.clone().next().map(|(flag, _, task)| (*flag, *task));
        let (from, task) = match (self.task, first) {
            (Some(task), _) => (format!("--task {task}"), task),
            (None, Some((flag, task))) => (flag.to_owned(), task),
            (None, None) => return Ok(None),
        };
        match given.find(|(.., other)| *other != task) {
            Some((flag, _, other)) => {
                Err(Usage::error(format!("{from}: found {flag}, which goes with --task {other} alone")))
            }
            None => Ok(Some(AskedTask { from, task })),
        }
    }
}

/// The task of predictions of so many numbers: see [`Task::choose`].
///
/// # Errors
/// A task that contradicts the file of the code or the model, or that such predictions do not have.
pub fn choose_task(asked: Option<&AskedTask>, said: Option<Task>, elements: usize) -> Result<Task> {
    Task::choose(asked.map(|asked| asked.task), said, elements).map_err(|error| match asked {
        Some(AskedTask { from, .. }) => Usage::error(format!("{from}: {error}")),
        None => error.into(),
    })
}

fn task() -> impl TypedValueParser<Value = Task> {
    let help = |task: Task| match task {
        Task::Classify => "the logits of classes",
        Task::Regress => "one or more values",
        Task::Embed => "a vector whose direction counts",
        Task::Boxes => "a box: corner, width and height",
    };
    let values = Task::ALL.map(|task| PossibleValue::new(task.name()).help(help(task)));
    PossibleValuesParser::new(values).try_map(|found| Task::from_name(&found))
}

/// Where workers stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PointsOption {
    /// cos(i pi/n), as in ApproxIFER's program
    Approxifer,
    /// Chebyshev's points of the first kind
    Chebyshev1,
    /// Chebyshev's points of the second kind
    Chebyshev2,
}

impl From<PointsOption> for Points {
    fn from(points: PointsOption) -> Self {
        match points {
            PointsOption::Approxifer => Self::ApproxIfer,
            PointsOption::Chebyshev1 => Self::Chebyshev1,
            PointsOption::Chebyshev2 => Self::Chebyshev2,
        }
    }
}

/// The parameters of interpolating codes.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Interpolating codes")]
pub struct CurveOptions {
    /// Workers of a group that may be late or lost [default: 1]
    ///
    /// A group of k queries has n = k + S workers; with --byzantine E > 0, n = 2k + 2E + S - 1.
    #[arg(long, value_name = "S")]
    pub stragglers: Option<u32>,

    /// Answers of a group that may be wrong [default: 0]
    #[arg(long, value_name = "E")]
    pub byzantine: Option<u32>,

    /// The points of the workers [default: approxifer]
    #[arg(long, value_name = "WHICH")]
    pub points: Option<PointsOption>,

    /// The blending degree of 'floater-hormann' [default: 1]
    ///
    /// 0 makes it 'berrut'.
    #[arg(long, value_name = "D", value_parser = clap::value_parser!(u32).range(0..=64))]
    pub degree: Option<u32>,

    /// The smoothness of the curve through the queries, for 'spline' [default: 0]
    ///
    /// With 0 it goes through all of them.
    #[arg(long, value_name = "X")]
    pub lambda_e: Option<f64>,

    /// The smoothness of the curve through the answers, for 'spline' [default: 1e-6]
    #[arg(long, value_name = "X")]
    pub lambda_d: Option<f64>,
}

impl CurveOptions {
    /// Makes the code that the options describe, together with those of the code.
    ///
    /// # Errors
    /// As [`CodeOptions::choose`], though codes may interpolate; options that belong to another code.
    pub fn choose(&self, code: &CodeOptions, io: &mut Io) -> Result<Code> {
        let known = code.name().parse::<CodeName>().ok();
        // A directory says all about its code.
        let takes = |parameter| known.map_or(parameter == Parameter::R, |name| name.takes(parameter));
        for (flag, given, parameter, owner) in [
            (
                "-r",
                code.r.is_some(),
                Parameter::R,
                "codes with parities, not interpolating ones (see --stragglers)",
            ),
            ("--weights", code.weights.is_some(), Parameter::Weights, "--code sum"),
            ("--stragglers", self.stragglers.is_some(), Parameter::Stragglers, "interpolating codes"),
            ("--byzantine", self.byzantine.is_some(), Parameter::Byzantine, "interpolating codes"),
            ("--points", self.points.is_some(), Parameter::Points, "interpolating codes"),
            ("--degree", self.degree.is_some(), Parameter::Degree, "--code floater-hormann"),
            ("--lambda-e", self.lambda_e.is_some(), Parameter::Lambda, "--code spline"),
            ("--lambda-d", self.lambda_d.is_some(), Parameter::Lambda, "--code spline"),
        ] {
            if given && !takes(parameter) {
                let name = code.name();
                return Err(Usage::error(format!("{flag} goes with {owner}, not with --code {name}")));
            }
        }
        code.any(self, io)
    }
}
