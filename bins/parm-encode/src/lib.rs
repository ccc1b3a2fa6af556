//! Queries to coded queries: reads whole coding groups, and writes for each group one row per parity,
//! or n rows that all run on the deployed model.

mod groups;
mod learned;

use anyhow::{Context, Result};
use parm::codes::concat::Concat;
use parm::codes::{Code, InterpolatingCode, apply, encode_groups, row_major};
use parm::counted;
use parm::npy::{RowLayout, RowReader, RowWriter};
use parm::{Dtype, Float, LinearCode, Tail};
use parm_cli::input::Source;
use parm_cli::options::{AnyCode, ChosenCode, Encoding};
use parm_cli::output::{Target, commit};
use parm_cli::tools::encode::Encode;
use parm_cli::{Exit, Io, Output, Progress, Usage};

use crate::groups::Part;

/// Encodes the queries of a stream.
///
/// # Errors
/// Options that contradict each other, a code or a stream that is refused, rows that do not fill
/// their groups, an output that cannot be written.
pub fn run(options: &Encode, io: &mut Io) -> Result<Exit> {
    let code = options.curve.choose(&options.code, io)?;
    let targets = match &code {
        AnyCode::Systematic(chosen) => parities(options, chosen.linear.r())?,
        AnyCode::Interpolating(_) => workers(options)?,
    };
    let k = match &code {
        AnyCode::Systematic(chosen) => chosen.linear.k(),
        AnyCode::Interpolating(code) => code.k(),
    };
    let input = options.shard.rows(&options.input, io, options.read.reading(), k)?;
    let layout = input.layout();
    if let AnyCode::Systematic(chosen) = &code
        && let Some(file) = &chosen.file
    {
        file.check_queries(&options.code.code, &layout.shape).with_context(|| input.name().to_owned())?;
    }
    let (rows, groups) = if let AnyCode::Systematic(chosen) = &code
        && let Some(model) = &chosen.encoder
    {
        learned::encode(options, io, model, (chosen.linear.k(), chosen.linear.r()), &targets, input)
    } else {
        match layout.dtype.encoded() {
            Dtype::F64 => encode::<f64>(options, io, &code, &targets, input),
            _ => encode::<f32>(options, io, &code, &targets, input),
        }
    }?;
    options.common.count(io, &format!("encoded {} in {}", counted(rows, "query"), counted(groups, "group")));
    Ok(Exit::Done)
}

/// Which parity goes where.
fn parities(options: &Encode, r: usize) -> Result<Vec<(usize, Target)>> {
    let numbered = |parity| options.output.numbered(parity);
    match (options.parity_index, r) {
        (_, 0) => Err(Usage::error("this code has no parity queries (r = 0): there is nothing to encode")),
        (Some(parity), _) if parity >= r => {
            Err(Usage::error(format!("found --parity-index {parity}, expected 0 to {} (r = {r})", r - 1)))
        }
        (Some(parity), _) => Ok(vec![(parity, numbered(parity))]),
        (None, 1) => Ok(vec![(0, numbered(0))]),
        (None, _) if numbered(0) == numbered(1) => Err(Usage::error(format!(
            "r = {r} parities are {r} streams: pick one with --parity-index J, or name a file for each \
             with -o 'name-{{}}.npy'"
        ))),
        (None, _) => Ok((0..r).map(|parity| (parity, numbered(parity))).collect()),
    }
}

/// Where the one stream of a code goes whose coded queries all run on the deployed model.
fn workers(options: &Encode) -> Result<Vec<(usize, Target)>> {
    if options.parity_index.is_some() {
        return Err(Usage::error(format!(
            "--parity-index goes with codes with parities, not with --code {}: it writes one stream",
            options.code.code.display()
        )));
    }
    Ok(vec![(0, options.output.clone())])
}

/// What makes one stream of whole groups of queries.
enum Encoder<T> {
    /// One weighted sum per group.
    Sum(Vec<T>),
    /// One image per group.
    Tiles(Concat<T>),
    /// n rows per group, by the matrix `[n, k]`.
    Workers { matrix: Vec<T>, n: usize },
}

impl<T: Float> Encoder<T> {
    fn of_parity(chosen: &ChosenCode, parity: usize, shape: &[usize]) -> Result<Self> {
        Ok(match chosen.encoding {
            Encoding::Weights => Self::Sum(weights(&chosen.linear, parity)),
            Encoding::Tiles => Self::Tiles(Concat::new(chosen.linear.k(), shape)?),
        })
    }

    fn of_workers(code: &InterpolatingCode) -> Self {
        Self::Workers { matrix: row_major(&code.encoding()), n: code.workers() }
    }

    fn rows_per_group(&self) -> usize {
        if let Self::Workers { n, .. } = self { *n } else { 1 }
    }

    /// Encodes `[groups, k, elements]` to `[groups, rows per group, elements]`.
    fn encode(&self, queries: &[T], elements: usize, out: &mut Vec<T>) {
        match self {
            Self::Sum(weights) => encode_groups(weights, queries, elements, out),
            Self::Tiles(tiles) => tiles.encode_groups(queries, out),
            Self::Workers { matrix, n } => {
                let k = matrix.len() / n;
                let groups = queries.chunks_exact(k * elements);
                out.resize(groups.len() * n * elements, T::zeroed());
                for (group, out) in groups.zip(out.chunks_exact_mut(n * elements)) {
                    apply(matrix, group, elements, out);
                }
            }
        }
    }
}

fn weights<T: Float>(code: &LinearCode, parity: usize) -> Vec<T> {
    code.weights(parity).into_iter().map(T::from_f64).collect()
}

/// Returns the queries read and the groups written.
fn encode<T: Float>(
    options: &Encode,
    io: &mut Io,
    code: &AnyCode,
    targets: &[(usize, Target)],
    mut input: RowReader<Source>,
) -> Result<(u64, u64)> {
    let layout = RowLayout::new(T::DTYPE, input.layout().shape.clone());
    let mut outputs: Vec<(Encoder<T>, RowWriter<Output>)> = Vec::new();
    for (parity, target) in targets {
        let encoder = match code {
            AnyCode::Systematic(chosen) => {
                Encoder::of_parity(chosen, *parity, &layout.shape).with_context(|| input.name().to_owned())?
            }
            AnyCode::Interpolating(code) => Encoder::of_workers(code),
        };
        outputs.push((encoder, target.rows(io, options.compress.compression(), layout.clone())?));
    }
    let progress = Progress::new(&options.common, io, "queries", Some(0));
    let (k, elements) = (code.k(), layout.elements());
    let mut coded = Vec::new();
    let counts = groups::read::<T>(&mut input, k, Tail::from(options.tail), |part| {
        match part {
            Part::Item { rows, groups } => {
                progress.expect(rows);
                for (encoder, output) in &mut outputs {
                    output.announce(groups * encoder.rows_per_group() as u64);
                }
            }
            Part::Groups(queries) => {
                for (encoder, output) in &mut outputs {
                    encoder.encode(queries, elements, &mut coded);
                    output.write(&coded)?;
                }
                progress.advance((queries.len() / elements) as u64);
            }
        }
        Ok(())
    })?;
    outputs.into_iter().try_for_each(|(_, output)| commit(output))?;
    Ok(counts)
}
