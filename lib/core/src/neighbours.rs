//! The nearest neighbours of embeddings, by their cosine.

use nalgebra::{DMatrix, DMatrixView};

/// The neighbours that are counted: recall@10.
pub const NEIGHBOURS: usize = 10;

/// The most similarities that are held at once.
const AT_ONCE: usize = 1 << 24;

/// Embeddings among which neighbours are looked up.
pub struct Neighbours {
    /// Rows of length 1, `[rows, elements]`.
    rows: DMatrix<f32>,
}

impl Neighbours {
    /// Takes rows of so many elements.
    #[must_use]
    pub fn new(values: &[f32], elements: usize) -> Self {
        let elements = elements.max(1);
        let mut unit = values.to_vec();
        for row in unit.chunks_exact_mut(elements) {
            let norm = row.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
            if norm > 0.0 {
                for x in row {
                    *x = (f64::from(*x) / norm) as f32;
                }
            }
        }
        Self { rows: DMatrix::from_row_slice(values.len() / elements, elements, &unit) }
    }

    /// The nearest rows of each query, the nearest first; of equally near ones the first. `own` has the row of each
    /// query itself, which is not its neighbour. What is not a number is nobody's neighbour and has none.
    #[must_use]
    pub fn nearest(&self, queries: &[f32], own: &[usize]) -> Vec<Vec<usize>> {
        let (rows, elements) = self.rows.shape();
        let block = (AT_ONCE / rows.max(1)).max(1);
        let mut nearest = Vec::with_capacity(own.len());
        for (queries, own) in queries.chunks(block * elements).zip(own.chunks(block)) {
            // The lengths of queries change no order.
            let cosines = &self.rows * DMatrixView::from_slice(queries, elements, own.len());
            nearest.extend(
                cosines.column_iter().zip(own).map(|(cosines, &own)| largest(cosines.as_slice(), own)),
            );
        }
        nearest
    }
}

/// The indices of the largest values but this one.
fn largest(values: &[f32], but: usize) -> Vec<usize> {
    let mut found: Vec<(f32, usize)> = Vec::with_capacity(NEIGHBOURS + 1);
    for (index, &value) in values.iter().enumerate() {
        let is_full = found.len() == NEIGHBOURS;
        if index == but || value.is_nan() || (is_full && found.last().is_some_and(|last| value <= last.0)) {
            continue;
        }
        let place = found.partition_point(|&(other, _)| other >= value);
        found.insert(place, (value, index));
        found.truncate(NEIGHBOURS);
    }
    found.into_iter().map(|(_, index)| index).collect()
}

/// The share of a row's own neighbours that were found; 0 if it has none.
#[must_use]
pub fn recall(own: &[usize], found: &[usize]) -> f64 {
    let hits = own.iter().filter(|row| found.contains(row)).count();
    hits as f64 / own.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::cosine;
    use proptest::prelude::*;

    /// All rows but the own one, sorted by cosine.
    fn naive(rows: &[[f32; 3]], query: &[f32; 3], own: usize) -> Vec<usize> {
        let mut others: Vec<usize> = (0..rows.len()).filter(|&row| row != own).collect();
        let by_cosine = |row: usize| cosine(query, &rows[row]);
        others.sort_by(|&a, &b| by_cosine(b).total_cmp(&by_cosine(a)));
        others.truncate(NEIGHBOURS);
        others
    }

    proptest! {
        #[test]
        fn neighbours_are_those_of_a_sort_by_cosine(
            rows in prop::collection::vec(prop::array::uniform3(-9.0_f32..9.0), 2..40),
            query in prop::array::uniform3(-9.0_f32..9.0),
        ) {
            let neighbours = Neighbours::new(rows.as_flattened(), 3);
            let queries = [rows.clone(), vec![query]].concat();
            let own: Vec<usize> = (0..rows.len()).chain([0]).collect();
            for ((found, query), &own) in
                neighbours.nearest(queries.as_flattened(), &own).iter().zip(&queries).zip(&own)
            {
                let expected = naive(&rows, query, own);
                prop_assert_eq!(found.len(), expected.len());
                // Cosines that are nearly equal may change places.
                for (&found, &expected) in found.iter().zip(&expected) {
                    let [found, expected] = [found, expected].map(|row| cosine(query, &rows[row]));
                    prop_assert!((found - expected).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn equal_rows_are_neighbours_in_their_order_and_what_is_not_a_number_is_none() {
        let mut values = vec![1.0_f32; 14 * 2];
        values[3 * 2] = f32::NAN;
        let neighbours = Neighbours::new(&values, 2);
        let found = neighbours.nearest(&[2.0, 2.0, f32::NAN, 1.0], &[1, 3]);
        assert_eq!(found, [vec![0, 2, 4, 5, 6, 7, 8, 9, 10, 11], vec![]]);
    }

    #[test]
    fn recall_is_the_share_of_own_neighbours() {
        assert_eq!(recall(&[1, 2, 3, 4], &[4, 9, 2]), 0.5);
        assert_eq!((recall(&[1], &[]), recall(&[], &[1])), (0.0, 0.0));
    }
}
