//! A stream of queries, whole groups at a time.

use anyhow::{Context, Result};
use parm::group::GroupCount;
use parm::npy::{RowBuffer, RowReader};
use parm::{Float, Tail};
use parm_cli::input::Source;
use parm_cli::options::FlushOption;

/// What is found in a stream of queries.
pub(crate) enum Part<'a, T> {
    /// An item begins.
    Item {
        /// Its rows.
        rows: u64,
        /// The groups that will have come when it ends and have not been counted before.
        groups: u64,
    },
    /// Queries of whole groups, `[groups, k, elements]`.
    Groups(&'a [T]),
}

/// Reads a stream to its end and passes on what it finds, with `flush` each group as soon as it is whole. Returns the
/// queries and the groups; the last group is padded, dropped or an error, as the tail says.
pub(crate) fn read<T: Float>(
    input: &mut RowReader<Source>,
    k: usize,
    tail: Tail,
    FlushOption { flush }: FlushOption,
    mut take: impl FnMut(Part<'_, T>) -> Result<()>,
) -> Result<(u64, u64)> {
    let layout = input.layout();
    let groups_per_block = if flush { 1 } else { (layout.rows_per_block() / k).max(1) };
    let (elements, block_rows) = (layout.elements(), groups_per_block * k);
    let mut count = GroupCount::new(k, tail);
    let mut queries = RowBuffer::<T>::default();
    loop {
        let rows = input.read(block_rows, &mut queries)?;
        for item_rows in input.take_opened() {
            take(Part::Item { rows: item_rows, groups: count.open_item(item_rows) })?;
        }
        let (whole, left_over) = queries.values()[..rows * elements].split_at(rows / k * k * elements);
        if !whole.is_empty() {
            take(Part::Groups(whole))?;
        }
        if tail == Tail::Pad && !left_over.is_empty() {
            take(Part::Groups(&pad(left_over, k, elements)))?;
        }
        if rows < block_rows {
            break;
        }
    }
    let groups = count.finish().with_context(|| input.name().to_owned())?;
    Ok((count.rows(), groups))
}

/// A group whose last row is repeated until it has k.
fn pad<T: Float>(rows: &[T], k: usize, elements: usize) -> Vec<T> {
    let last = &rows[rows.len() - elements..];
    let mut group = rows.to_vec();
    while group.len() < k * elements {
        group.extend_from_slice(last);
    }
    group
}
