//! Coding groups: row i of a stream belongs to group ⌊i/k⌋ and has slot i mod k in it.

use crate::words::counted;

/// What becomes of the last rows of a stream when k does not divide their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tail {
    /// They are an error.
    #[default]
    Error,
    /// The last row is repeated until the group is full; decoders know that the repeats are one
    /// unknown.
    Pad,
    /// They get no parity query, so nothing can rebuild them.
    Drop,
}

/// A stream whose rows do not fill its groups, under [`Tail::Error`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found {}, which do not fill groups of k = {k} ({} left over); expected a multiple of k, \
     or --tail pad (repeat the last row) or --tail drop (leave them out)",
    counted(*rows, "row"),
    rows % *k as u64
)]
pub struct TailError {
    /// Rows of the whole stream.
    pub rows: u64,
    /// Queries of a group.
    pub k: usize,
}

/// Counts the groups of a stream as its items are opened, so that the items of a stream with one
/// row per group can be announced before their rows are read.
#[derive(Clone, Debug)]
pub struct GroupCount {
    k: usize,
    tail: Tail,
    rows: u64,
    groups: u64,
}

impl GroupCount {
    /// Counts groups of `k` rows.
    #[must_use]
    pub fn new(k: usize, tail: Tail) -> Self {
        Self { k, tail, rows: 0, groups: 0 }
    }

    /// Notes an item of `rows` rows; returns by how many groups the stream has grown.
    ///
    /// With [`Tail::Pad`] a group counts once its first row is known, else once its last is: the
    /// rows that are still missing come with a later item or from the padding.
    pub fn open_item(&mut self, rows: u64) -> u64 {
        self.rows += rows;
        let k = self.k as u64;
        let groups = if self.tail == Tail::Pad { self.rows.div_ceil(k) } else { self.rows / k };
        let new = groups - self.groups;
        self.groups = groups;
        new
    }

    /// The groups of the whole stream, when all of its items were opened.
    ///
    /// # Errors
    /// [`TailError`] if rows are left over and that is not allowed.
    pub fn finish(&self) -> Result<u64, TailError> {
        if self.tail == Tail::Error && !self.rows.is_multiple_of(self.k as u64) {
            return Err(TailError { rows: self.rows, k: self.k });
        }
        Ok(self.groups)
    }

    /// Rows of all items opened so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn splitting_a_stream_changes_no_count(items in prop::collection::vec(0_u64..20, 1..8), k in 1_usize..6) {
            let rows: u64 = items.iter().sum();
            for tail in [Tail::Pad, Tail::Drop, Tail::Error] {
                let mut split = GroupCount::new(k, tail);
                let total: u64 = items.iter().map(|&rows| split.open_item(rows)).sum();
                let mut whole = GroupCount::new(k, tail);
                prop_assert_eq!(whole.open_item(rows), total);
                prop_assert_eq!(whole.finish(), split.finish());
            }
        }
    }

    #[test]
    fn left_over_rows_are_counted_as_the_tail_says() {
        let count = |tail| {
            let mut count = GroupCount::new(4, tail);
            count.open_item(10);
            count.finish()
        };
        assert_eq!(count(Tail::Pad), Ok(3));
        assert_eq!(count(Tail::Drop), Ok(2));
        let error = count(Tail::Error).unwrap_err();
        assert!(error.to_string().contains("10 rows"), "{error}");
        assert!(error.to_string().contains("2 left over"), "{error}");
        assert!(error.to_string().contains("--tail pad"), "{error}");
    }
}
