//! Queries to parity queries: reads whole coding groups, writes one row per group and parity, or the
//! n coded queries of each group.

use anyhow::{Context, Result, bail};
use parm::codes::{Code, InterpolatingCode, apply, encode_groups, row_major};
use parm::group::GroupCount;
use parm::npy::{RowBuffer, RowLayout, RowReader, RowWriter};
use parm::{Dtype, Float, LinearCode, Tail};
use parm_cli::input::Source;
use parm_cli::options::{AnyCode, ChosenCode};
use parm_cli::output::{Target, commit};
use parm_cli::tools::encode::Encode;
use parm_cli::{Exit, Io, Output, Progress, Usage};

/// A stream of parity queries, and the parity that it is of.
type ParityStream = (usize, RowWriter<Output>);

/// Encodes the queries of a stream.
///
/// # Errors
/// Options that contradict each other, a code or a stream that is refused, rows that do not fill
/// their groups, an output that cannot be written.
pub fn run(options: &Encode, io: &mut Io) -> Result<Exit> {
    let (rows, groups) = match options.curve.choose(&options.code, io)? {
        AnyCode::Systematic(chosen) => run_systematic(options, io, *chosen),
        AnyCode::Interpolating(code) => run_interpolating(options, io, &code),
    }?;
    options.common.count(io, "parm-encode", &format!("encoded {rows} queries in {groups} groups"));
    Ok(Exit::Done)
}

/// Returns the queries read and the groups written.
fn run_systematic(options: &Encode, io: &mut Io, chosen: ChosenCode) -> Result<(u64, u64)> {
    let targets = targets(options, chosen.linear.r())?;
    let input = options.input.rows(io, options.read.window())?;
    let layout = input.layout();
    if let Some(file) = chosen.file.filter(|file| file.query_shape != layout.shape) {
        bail!(
            "{}: found queries of shape {:?}, but the code {} was trained for {:?}",
            input.name(),
            layout.shape,
            options.code.code,
            file.query_shape
        );
    }
    let parity_layout = RowLayout::new(layout.dtype.encoded(), layout.shape.clone());
    let mut outputs = Vec::new();
    for (parity, target) in targets {
        let output = target.rows(io, options.compress.compression(), parity_layout.clone())?;
        outputs.push((parity, output));
    }
    let progress = Progress::new(&options.common, io, "queries", Some(0));
    let tail = options.tail.into();
    match parity_layout.dtype {
        Dtype::F64 => encode::<f64>(input, &chosen.linear, tail, outputs, &progress),
        _ => encode::<f32>(input, &chosen.linear, tail, outputs, &progress),
    }
}

/// Returns the queries read and the groups written.
fn run_interpolating(options: &Encode, io: &mut Io, code: &InterpolatingCode) -> Result<(u64, u64)> {
    if options.parity_index.is_some() {
        return Err(Usage::error(format!(
            "--parity-index goes with codes with parities, not with --code {}: it writes one stream",
            options.code.code
        )));
    }
    let input = options.input.rows(io, options.read.window())?;
    let layout = RowLayout::new(input.layout().dtype.encoded(), input.layout().shape.clone());
    let output = options.output.rows(io, options.compress.compression(), layout.clone())?;
    let progress = Progress::new(&options.common, io, "queries", Some(0));
    let tail = options.tail.into();
    match layout.dtype {
        Dtype::F64 => interpolate::<f64>(input, code, tail, output, &progress),
        _ => interpolate::<f32>(input, code, tail, output, &progress),
    }
}

/// Returns the queries read and the groups written.
fn interpolate<T: Float>(
    mut input: RowReader<Source>,
    code: &InterpolatingCode,
    tail: Tail,
    mut output: RowWriter<Output>,
    progress: &Progress,
) -> Result<(u64, u64)> {
    let (k, n, elements) = (code.k(), code.workers(), input.layout().elements());
    let block_rows = (input.layout().rows_per_block() / n).max(1) * k;
    let matrix: Vec<T> = row_major(&code.encoding());
    let mut count = GroupCount::new(k, tail);
    let mut queries = RowBuffer::<T>::default();
    let (mut last, mut coded) = (Vec::new(), Vec::new());
    loop {
        let rows = input.read(block_rows, &mut queries)?;
        for item_rows in input.take_opened() {
            progress.expect(item_rows);
            output.announce(count.open_item(item_rows) * n as u64);
        }
        let (whole, left_over) = queries.values()[..rows * elements].split_at(rows / k * k * elements);
        coded.resize(rows / k * n * elements, T::zeroed());
        let groups = whole.chunks_exact(k * elements);
        for (group, coded) in groups.zip(coded.chunks_exact_mut(n * elements)) {
            apply(&matrix, group, elements, coded);
        }
        output.write(&coded)?;
        if tail == Tail::Pad && !left_over.is_empty() {
            last.extend_from_slice(left_over);
            while last.len() < k * elements {
                last.extend_from_slice(&left_over[left_over.len() - elements..]);
            }
            coded.resize(n * elements, T::zeroed());
            apply(&matrix, &last, elements, &mut coded);
            output.write(&coded)?;
        }
        progress.advance(rows as u64);
        if rows < block_rows {
            break;
        }
    }
    let groups = count.finish().with_context(|| input.name().to_owned())?;
    commit(output)?;
    Ok((count.rows(), groups))
}

/// Which parity goes where.
fn targets(options: &Encode, r: usize) -> Result<Vec<(usize, Target)>> {
    let numbered = |parity: usize| match &options.output {
        Target::Path(path) => Target::Path(path.to_string_lossy().replace("{}", &parity.to_string()).into()),
        Target::Stdout => Target::Stdout,
    };
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

/// Returns the queries read and the groups written.
fn encode<T: Float>(
    mut input: RowReader<Source>,
    code: &LinearCode,
    tail: Tail,
    mut outputs: Vec<ParityStream>,
    progress: &Progress,
) -> Result<(u64, u64)> {
    let (k, elements) = (code.k(), input.layout().elements());
    let block_rows = (input.layout().rows_per_block() / k).max(1) * k;
    let weights = |code: &LinearCode, parity| code.weights(parity).into_iter().map(T::from_f64).collect();
    let full_weights: Vec<Vec<T>> = outputs.iter().map(|(parity, _)| weights(code, *parity)).collect();
    let mut count = GroupCount::new(k, tail);
    let mut queries = RowBuffer::<T>::default();
    let mut parity_queries = Vec::new();
    loop {
        let rows = input.read(block_rows, &mut queries)?;
        for item_rows in input.take_opened() {
            progress.expect(item_rows);
            let groups = count.open_item(item_rows);
            for (_, output) in &mut outputs {
                output.announce(groups);
            }
        }
        let (whole, left_over) = queries.values()[..rows * elements].split_at(rows / k * k * elements);
        for ((parity, output), weights_of_group) in outputs.iter_mut().zip(&full_weights) {
            encode_groups(weights_of_group, whole, elements, &mut parity_queries);
            output.write(&parity_queries)?;
            if tail == Tail::Pad && !left_over.is_empty() {
                let short: Vec<T> = weights(&code.padded(rows % k), *parity);
                encode_groups(&short, left_over, elements, &mut parity_queries);
                output.write(&parity_queries)?;
            }
        }
        progress.advance(rows as u64);
        if rows < block_rows {
            break;
        }
    }
    let groups = count.finish().with_context(|| input.name().to_owned())?;
    for (_, output) in outputs {
        commit(output)?;
    }
    Ok((count.rows(), groups))
}
