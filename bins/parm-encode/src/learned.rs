//! Learned encoders: groups pass through the sibling `parm-infer`, `[k, …]` to `[r, …]`.

use std::path::Path;
use std::process::ChildStdout;

use anyhow::{Result, bail};
use parm::npy::{RowLayout, RowReader, RowWriter};
use parm::{Dtype, Tail};
use parm_cli::input::Source;
use parm_cli::output::commit;
use parm_cli::tools::encode::Encode;
use parm_cli::{Io, Output, Progress, sibling};

use crate::Stream;
use crate::groups::{self, Part};

/// Encodes by a model. Returns the queries read and the groups written.
pub(crate) fn encode(
    options: &Encode,
    io: &mut Io,
    model: &Path,
    (k, r): (usize, usize),
    targets: &[Stream],
    mut input: RowReader<Source>,
) -> Result<(u64, u64)> {
    let shape: Vec<usize> = std::iter::once(k).chain(input.layout().shape.iter().copied()).collect();
    let (tail, flush) = (Tail::from(options.tail), options.flush);
    let feed = move |queries: &mut RowWriter<_>| {
        groups::read::<f32>(&mut input, k, tail, flush, |part| {
            match part {
                Part::Item { groups, .. } => queries.announce(groups),
                Part::Groups(groups) => queries.write(groups)?,
            }
            Ok(())
        })
    };
    let drain = |coded: &mut sibling::Outputs| write(options, io, (k, r), targets, coded.reader()?);
    let layout = RowLayout::new(Dtype::F32, shape);
    let (counts, outputs) = sibling::through(model, options.compute, flush, layout, feed, drain)?;
    outputs.into_iter().try_for_each(commit)?;
    Ok(counts)
}

/// Writes coded queries, r to a group, to the streams of their parities.
fn write(
    options: &Encode,
    io: &mut Io,
    (k, r): (usize, usize),
    targets: &[Stream],
    coded: &mut RowReader<ChildStdout>,
) -> Result<Vec<RowWriter<Output>>> {
    let layout = match coded.layout().shape.split_first() {
        Some((&first, shape)) if first == r => RowLayout::new(coded.layout().dtype, shape),
        _ => bail!("found coded queries of {} from the encoder, expected [r = {r}, …]", coded.layout()),
    };
    let compression = options.compress.compression();
    let open = |(_, target): &Stream| target.rows(io, compression, layout.clone());
    let mut outputs = targets.iter().map(open).collect::<Result<Vec<_>>>()?;
    let progress = Progress::new(&options.common, io, "queries", Some(0));
    let flush = options.flush.flush;
    let groups_per_block = if flush { 1 } else { coded.layout().rows_per_block() };
    let mut bytes = Vec::new();
    loop {
        let groups = coded.read_raw(groups_per_block, &mut bytes)?;
        for item_groups in coded.take_opened() {
            progress.expect(item_groups * k as u64);
            for output in &mut outputs {
                output.announce(item_groups);
            }
        }
        for group in bytes[..groups * coded.layout().bytes()].chunks_exact(coded.layout().bytes()) {
            for ((which, _), output) in targets.iter().zip(&mut outputs) {
                output.write_raw(&group[which.start * layout.bytes()..][..layout.bytes()])?;
                if flush {
                    output.flush()?;
                }
            }
        }
        progress.advance((groups * k) as u64);
        if groups < groups_per_block {
            return Ok(outputs);
        }
    }
}
