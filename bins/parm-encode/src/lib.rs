//! Queries to coded queries: reads whole coding groups, and writes for each group one row per parity,
//! or n rows that all run on the deployed model.

mod groups;
mod learned;

use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result};
use parm::codes::{Code, NetworkError};
use parm::counted;
use parm::npy::{RowLayout, RowReader, RowWriter};
use parm::{Dtype, Float, Tail};
use parm_cli::input::Source;
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
    let targets = match code.interpolating() {
        None => parities(options, code.r())?,
        Some(_) => all_workers(options, code.workers())?,
    };
    let input = options.shard.rows(&options.input, io, options.read.reading(), code.k())?;
    let layout = input.layout();
    if let Some(trained) = code.trained() {
        let checked = trained.file.check_queries(&trained.directory, &layout.shape);
        checked.with_context(|| input.name().to_owned())?;
    }
    let (rows, groups) = match (code.learned_encoder(), layout.dtype.encoded()) {
        (Some(model), _) => learned::encode(options, io, model, (code.k(), code.r()), &targets, input),
        (None, Dtype::F64) => encode::<f64>(options, io, &code, &targets, input),
        (None, _) => encode::<f32>(options, io, &code, &targets, input),
    }?;
    options.common.count(io, &format!("encoded {} in {}", counted(rows, "query"), counted(groups, "group")));
    Ok(Exit::Done)
}

/// One stream of coded queries: which of each group, and where they go.
type Stream = (Range<usize>, Target);

/// Which parity goes where.
fn parities(options: &Encode, r: usize) -> Result<Vec<Stream>> {
    let numbered = |parity| options.output.numbered(parity);
    let stream = |parity| (parity..parity + 1, numbered(parity));
    match (options.parity_index, r) {
        (_, 0) => Err(Usage::error("this code has no parity queries (r = 0): there is nothing to encode")),
        (Some(parity), _) if parity >= r => {
            Err(Usage::error(format!("found --parity-index {parity}, expected 0 to {} (r = {r})", r - 1)))
        }
        (Some(parity), _) => Ok(vec![stream(parity)]),
        (None, 1) => Ok(vec![stream(0)]),
        (None, _) if numbered(0) == numbered(1) => Err(Usage::error(format!(
            "r = {r} parities are {r} streams: pick one with --parity-index J, or name a file for each \
             with -o 'name-{{}}.npy'"
        ))),
        (None, _) => Ok((0..r).map(stream).collect()),
    }
}

/// Where the one stream of a code goes whose coded queries all run on the deployed model.
fn all_workers(options: &Encode, n: usize) -> Result<Vec<Stream>> {
    if options.parity_index.is_some() {
        return Err(Usage::error(format!(
            "--parity-index goes with codes with parities, not with --code {}: it writes one stream",
            options.code.code.display()
        )));
    }
    Ok(vec![(0..n, options.output.clone())])
}

/// Returns the queries read and the groups written.
fn encode<T: Float>(
    options: &Encode,
    io: &mut Io,
    code: &Code,
    targets: &[Stream],
    mut input: RowReader<Source>,
) -> Result<(u64, u64)> {
    let layout = RowLayout::new(T::DTYPE, input.layout().shape.clone());
    // Learned encoders run elsewhere.
    let no_network = |_: &Path, _: &[usize]| Err(NetworkError("it is not loaded here".to_owned()));
    let encoder = code.encoder(&layout.shape, &no_network).with_context(|| input.name().to_owned())?;
    let open = |(which, target): &Stream| -> Result<(Range<usize>, RowWriter<Output>)> {
        Ok((which.clone(), target.rows(io, options.compress.compression(), layout.clone())?))
    };
    let mut outputs = targets.iter().map(open).collect::<Result<Vec<_>>>()?;
    let progress = Progress::new(&options.common, io, "queries", Some(0));
    let mut coded = Vec::new();
    let counts = groups::read::<T>(&mut input, code.k(), Tail::from(options.tail), options.flush, |part| {
        match part {
            Part::Item { rows, groups } => {
                progress.expect(rows);
                for (which, output) in &mut outputs {
                    output.announce(groups * which.len() as u64);
                }
            }
            Part::Groups(queries) => {
                for (which, output) in &mut outputs {
                    encoder.encode(which.clone(), queries, &mut coded)?;
                    output.write(&coded)?;
                    if options.flush.flush {
                        output.flush()?;
                    }
                }
                progress.advance((queries.len() / layout.elements()) as u64);
            }
        }
        Ok(())
    })?;
    outputs.into_iter().try_for_each(|(_, output)| commit(output))?;
    Ok(counts)
}
