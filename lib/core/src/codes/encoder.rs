//! Encoding: groups of queries to coded queries.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use nalgebra::DMatrix;

use super::concat::{Concat, ConcatError};
use super::kernel::{apply, combine, encode_groups, row_major};
use super::learned::{LoadNetwork, Network, NetworkError};
use crate::dtype::Float;

/// Makes the coded queries of groups of k queries of one shape: the r parity queries, or of a code whose
/// coded queries all run on the deployed model all n.
pub struct Encoder {
    k: usize,
    coded: usize,
    elements: usize,
    how: How,
}

enum How {
    /// Row i of the matrix `[coded queries, k]` makes coded query i.
    Weighted(DMatrix<f64>),
    Tiled(Concat),
    Learned(Arc<dyn Network>),
}

/// Queries that a code cannot encode, or a learned encoder that cannot be loaded.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EncoderError {
    /// Queries that cannot be tiled.
    #[error(transparent)]
    Concat(#[from] ConcatError),
    /// A network that cannot be loaded.
    #[error(transparent)]
    Network(#[from] NetworkError),
}

impl Encoder {
    /// Weighted sums: row i of the matrix `[coded queries, k]` makes coded query i, of this many elements.
    pub(super) fn weighted(matrix: DMatrix<f64>, elements: usize) -> Self {
        Self { k: matrix.ncols(), coded: matrix.nrows(), elements, how: How::Weighted(matrix) }
    }

    /// One image of k smaller ones.
    pub(super) fn tiled(k: usize, shape: &[usize]) -> Result<Self, ConcatError> {
        let concat = Concat::new(k, shape)?;
        Ok(Self { k, coded: 1, elements: concat.elements(), how: How::Tiled(concat) })
    }

    /// By the network of a file, `[groups, k, …]` to `[groups, r, …]`.
    pub(super) fn learned(
        file: &Path,
        (k, r): (usize, usize),
        shape: &[usize],
        load: &LoadNetwork<'_>,
    ) -> Result<Self, NetworkError> {
        let network = load(file, &[&[k], shape].concat())?;
        Ok(Self { k, coded: r, elements: shape.iter().product(), how: How::Learned(network) })
    }

    /// Coded queries of a group.
    #[must_use]
    pub fn coded(&self) -> usize {
        self.coded
    }

    /// True if a network makes all coded queries of a group at once.
    #[must_use]
    pub fn is_learned(&self) -> bool {
        matches!(self.how, How::Learned(_))
    }

    /// Makes these coded queries of whole groups: `queries` is `[groups, k, elements]`, and `out` becomes
    /// `[groups, coded queries, elements]`.
    ///
    /// # Errors
    /// The network's, or a network that gives another number of values.
    ///
    /// # Panics
    /// If the group has no such coded queries.
    pub fn encode<T: Float>(
        &self,
        which: Range<usize>,
        queries: &[T],
        out: &mut Vec<T>,
    ) -> Result<(), NetworkError> {
        let (elements, size) = (self.elements, self.k * self.elements);
        match &self.how {
            How::Weighted(matrix) => {
                let matrix = row_major::<T>(&matrix.rows(which.start, which.len()).into_owned());
                if which.len() == 1 {
                    encode_groups(&matrix, queries, elements, out);
                } else {
                    let groups = queries.chunks_exact(size);
                    out.resize(groups.len() * which.len() * elements, T::zeroed());
                    for (group, out) in groups.zip(out.chunks_exact_mut(which.len() * elements)) {
                        apply(&matrix, group, elements, out);
                    }
                }
            }
            How::Tiled(concat) => concat.encode_groups(queries, out),
            How::Learned(network) => {
                let groups = queries.len() / size.max(1);
                let queries: Vec<f32> = queries.iter().map(|value| value.to_f64() as f32).collect();
                let coded = network.run(groups, &queries)?;
                let (found, expected) = (coded.len(), groups * self.coded * elements);
                if found != expected {
                    return Err(NetworkError(format!(
                        "found {found} values from the learned encoder, expected {expected}: {} coded queries \
                         for each group",
                        self.coded
                    )));
                }
                let rows = |group: &[f32]| {
                    let rows = &group[which.start * elements..which.end * elements];
                    rows.iter().map(|&value| T::from_f64(value.into())).collect::<Vec<_>>()
                };
                out.clear();
                out.extend(coded.chunks_exact(self.coded * elements).flat_map(rows));
            }
        }
        Ok(())
    }

    /// Makes one coded query of one group, from the queries in some of its slots; the others count as zeros.
    /// All queries and `out` have as many elements, and `scratch` is room to work in. A network makes all
    /// coded queries at once: for several of one group, see [`encode`](Self::encode).
    ///
    /// # Errors
    /// The network's.
    ///
    /// # Panics
    /// If the group has no such coded query, or no such slot.
    pub fn encode_one<T: Float>(
        &self,
        index: usize,
        queries: &[(usize, &[T])],
        scratch: &mut Vec<T>,
        out: &mut [T],
    ) -> Result<(), NetworkError> {
        match &self.how {
            How::Weighted(matrix) => {
                let weight = |slot| T::from_f64(matrix[(index, slot)]);
                let (weights, rows): (Vec<T>, Vec<&[T]>) =
                    queries.iter().map(|&(slot, row)| (weight(slot), row)).unzip();
                combine(&weights, &rows, out);
            }
            How::Tiled(concat) => {
                let zeros = vec![T::zeroed(); out.len()];
                let mut rows = vec![&zeros[..]; self.k];
                for &(slot, row) in queries {
                    rows[slot] = row;
                }
                concat.encode(&rows, scratch, out);
            }
            How::Learned(_) => {
                let mut group = vec![T::zeroed(); self.k * self.elements];
                for &(slot, row) in queries {
                    group[slot * self.elements..][..self.elements].copy_from_slice(row);
                }
                self.encode(index..index + 1, &group, scratch)?;
                out.copy_from_slice(scratch);
            }
        }
        Ok(())
    }
}
