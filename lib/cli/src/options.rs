//! Blocks of options that tools share; the same thing is spelled the same way in all of them.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, ColorChoice, ValueEnum};
use nalgebra::DMatrix;
use parm::codes::geometry::Points;
use parm::codes::{Code, CodeName, CodeSpec, InterpolatingCode, SpecifiedCode};

use parm::npy::{RowBuffer, RowLayout, RowReader, RowWriter, Shard, Window};
use parm::{Activation, CodeFile, DeviceChoice, LinearCode, Tail};
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

impl From<When> for ColorChoice {
    fn from(when: When) -> Self {
        match when {
            When::Auto => Self::Auto,
            When::Always => Self::Always,
            When::Never => Self::Never,
        }
    }
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
    /// terminal, it prints a line each second and one at the end.
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

    /// CPU threads for one operation of a model [default: one per core; parm-train: 1]
    ///
    /// Small models are fastest with 1. Trainings are bit-identical only with 1.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,

    /// Let GPUs multiply f32 matrices and convolve in TF32
    ///
    /// TF32 keeps ten bits of the mantissa: it is faster, and outputs differ by about a thousandth. Without it,
    /// GPUs compute in full f32.
    #[arg(long)]
    pub tf32: bool,
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
    pub fn write(self, report: &impl Serialize) -> Result<()> {
        let Some(mut output) = self.0 else { return Ok(()) };
        serde_json::to_writer_pretty(&mut output, report).context("the timings")?;
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
    #[arg(short, value_name = "K", value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub k: Option<u32>,

    /// Parity queries of a coding group [default: 1; with 'none' 0]
    #[arg(short, value_name = "R", value_parser = clap::value_parser!(u32).range(0..=4096))]
    pub r: Option<u32>,

    /// A file of weights [r, k] in place of the default, (i+1)^j for parity j and slot i
    #[arg(long, value_name = "W.npy")]
    pub weights: Option<PathBuf>,
}

/// A code chosen on the command line.
#[derive(Clone, Debug)]
pub struct ChosenCode {
    /// The code.
    pub linear: LinearCode,
    /// How parity queries are made.
    pub encoding: Encoding,
    /// The directory's description, if it came from one.
    pub file: Option<CodeFile>,
    /// The model that encodes `[k, …]` to `[r, …]`, if it is learned.
    pub encoder: Option<PathBuf>,
    /// The model that decodes `[k + r, …]` to `[k, …]`, if the linear code does not.
    pub decoder: Option<PathBuf>,
}

/// How parity queries are made of queries, where not by a learned encoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// As the code's weighted sums.
    Weights,
    /// As one image of k smaller ones.
    Tiles,
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
    /// Options that contradict each other, a code directory or a file of weights that is refused.
    pub fn choose(&self, io: &mut Io) -> Result<ChosenCode> {
        let Ok(name) = self.name().parse::<CodeName>() else { return self.trained(&self.code) };
        if self.weights.is_some() && name != CodeName::Sum {
            return Err(Usage::error(format!("--weights goes with --code sum, not with --code {name}")));
        }
        match (name, self.r) {
            (CodeName::Concat, Some(r)) if r != 1 => {
                return Err(Usage::error("--code concat has one parity query: leave out -r"));
            }
            (CodeName::None, Some(1..)) => {
                return Err(Usage::error("--code none has no parity queries: leave out -r"));
            }
            _ => {}
        }
        let made = match &self.weights {
            Some(path) => self.weighted(io, path)?.make().with_context(|| path.display().to_string()),
            None => Ok(self.spec(name)?.make()?),
        };
        match made? {
            SpecifiedCode::Systematic(linear) => {
                let encoding = if name == CodeName::Concat { Encoding::Tiles } else { Encoding::Weights };
                Ok(ChosenCode { linear, encoding, file: None, encoder: None, decoder: None })
            }
            SpecifiedCode::Interpolating(_) => {
                Err(Usage::error(format!("--code {name} has no parity queries, and so no parity models")))
            }
        }
    }

    /// What the options say of a code of this name.
    fn spec(&self, name: CodeName) -> Result<CodeSpec> {
        let k = self.k.ok_or_else(|| Usage::error(format!("--code {name} needs -k K")))?;
        Ok(CodeSpec { r: self.r.map(|r| r as usize), ..CodeSpec::new(name, k as usize) })
    }

    /// The code `sum` with the weights of a file.
    fn weighted(&self, io: &mut Io, path: &Path) -> Result<CodeSpec> {
        let mut rows = Input::Path(path.to_owned()).rows(io, Window::Normal)?;
        let [columns] = rows.layout().shape[..] else {
            let found = rows.layout();
            anyhow::bail!("{}: found rows of {found}, expected weights [r, k]", path.display());
        };
        let mut values = RowBuffer::<f64>::default();
        let count = rows.read(4097, &mut values)?;
        let weights = DMatrix::from_row_slice(count, columns, &values.values()[..count * columns]);
        let (r, k) = (self.r.map_or(count, |r| r as usize), self.k.map_or(columns, |k| k as usize));
        if (count, columns) != (r, k) {
            anyhow::bail!("{}: found weights of {count}x{columns}, expected r x k = {r}x{k}", path.display());
        }
        Ok(CodeSpec { r: Some(r), weights: Some(weights), ..CodeSpec::new(CodeName::Sum, k) })
    }

    fn trained(&self, directory: &Path) -> Result<ChosenCode> {
        if !directory.exists() {
            return Err(Usage::error(format!(
                "--code {}: found neither a code of that name ({}) nor a directory",
                self.code.display(),
                CodeName::ALL.map(CodeName::as_str).join(", ")
            )));
        }
        let file = CodeFile::load(directory)?;
        for (flag, asked, has) in [("-k", self.k, file.k), ("-r", self.r, file.r)] {
            if let Some(asked) = asked.filter(|&asked| asked as usize != has) {
                anyhow::bail!(
                    "{}: the code has {flag} {has}, but {flag} {asked} was asked for",
                    directory.display()
                );
            }
        }
        let part = |name: &Option<String>| name.as_ref().map(|name| directory.join(name));
        let encoding = if file.code == "concat" { Encoding::Tiles } else { Encoding::Weights };
        Ok(ChosenCode {
            linear: file.linear()?,
            encoding,
            encoder: part(&file.encoder),
            decoder: part(&file.decoder),
            file: Some(file),
        })
    }
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
    #[arg(long, value_name = "S", value_parser = clap::value_parser!(u32).range(0..=4096))]
    pub stragglers: Option<u32>,

    /// Answers of a group that may be wrong [default: 0]
    #[arg(long, value_name = "E", value_parser = clap::value_parser!(u32).range(0..=1024))]
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

/// Any code: one that keeps the queries and adds parities, or one that interpolates.
#[derive(Clone, Debug)]
pub enum AnyCode {
    /// `sum`, `concat`, `replicate`, `none`, or a trained code.
    Systematic(Box<ChosenCode>),
    /// `berrut`, `floater-hormann` or `spline`.
    Interpolating(InterpolatingCode),
}

impl AnyCode {
    /// Queries of a group.
    #[must_use]
    pub fn k(&self) -> usize {
        match self {
            Self::Systematic(chosen) => chosen.linear.k(),
            Self::Interpolating(code) => code.k(),
        }
    }
}

impl CurveOptions {
    /// Makes the code that the options describe, together with those of the code.
    ///
    /// # Errors
    /// As [`CodeOptions::choose`]; options that belong to another code.
    pub fn choose(&self, code: &CodeOptions, io: &mut Io) -> Result<AnyCode> {
        let name = code.name();
        let known = name.parse::<CodeName>().ok().filter(|name| name.interpolates());
        let interpolating = known.is_some();
        for (flag, given, belongs, owner) in [
            (
                "-r",
                code.r.is_some(),
                !interpolating,
                "codes with parities, not interpolating ones (see --stragglers)",
            ),
            ("--weights", code.weights.is_some(), !interpolating, "--code sum"),
            ("--stragglers", self.stragglers.is_some(), interpolating, "interpolating codes"),
            ("--byzantine", self.byzantine.is_some(), interpolating, "interpolating codes"),
            ("--points", self.points.is_some(), interpolating, "interpolating codes"),
            ("--degree", self.degree.is_some(), name == "floater-hormann", "--code floater-hormann"),
            ("--lambda-e", self.lambda_e.is_some(), name == "spline", "--code spline"),
            ("--lambda-d", self.lambda_d.is_some(), name == "spline", "--code spline"),
        ] {
            if given && !belongs {
                return Err(Usage::error(format!("{flag} goes with {owner}, not with --code {name}")));
            }
        }
        let Some(name) = known else { return Ok(AnyCode::Systematic(Box::new(code.choose(io)?))) };
        let spec = CodeSpec {
            stragglers: self.stragglers.map(|s| s as usize),
            byzantine: self.byzantine.map(|e| e as usize),
            points: self.points.map(Points::from),
            degree: self.degree.map(|d| d as usize),
            lambdas: [self.lambda_e, self.lambda_d],
            ..code.spec(name)?
        };
        match spec.make().map_err(|error| Usage::error(format!("--code {name}: {error}")))? {
            SpecifiedCode::Interpolating(code) => Ok(AnyCode::Interpolating(code)),
            SpecifiedCode::Systematic(_) => Ok(AnyCode::Systematic(Box::new(code.choose(io)?))),
        }
    }
}
