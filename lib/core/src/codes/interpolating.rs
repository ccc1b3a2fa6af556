//! Codes whose coded queries all run on the deployed model: `berrut`, `floater-hormann`, `spline`.
//!
//! Worker i answers the interpolant of the queries at z_i. F of it is nearly the interpolant of the
//! predictions, and the curve through the answers that arrived gives all k predictions, the more
//! nearly the more arrive: *ApproxIFER* (AAAI 2022) with Berrut's interpolant, *NeRCC* and *LeTCC*
//! with smoothing splines.

use nalgebra::DMatrix;

use super::error::{CodeError, MAX_WORKERS};
use super::geometry::{Curve, Points, query_points};
use super::matrices::{Decoding, Matrices, Reconstruction};

/// What a group of workers must bear.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Redundancy {
    /// Answers that may be missing, s.
    pub stragglers: usize,
    /// Answers that may be wrong, e.
    pub byzantine: usize,
}

impl Redundancy {
    /// The workers of a group of k queries: k + s, or with wrong answers to locate 2k + 2e + s − 1
    /// (ApproxIFER, section 4).
    #[must_use]
    pub fn workers(self, k: usize) -> usize {
        let (s, e) = (self.stragglers, self.byzantine);
        let honest = if e == 0 { k } else { k.saturating_mul(2).saturating_add(e.saturating_mul(2)) - 1 };
        honest.saturating_add(s)
    }
}

/// A code that interpolates: k queries on n workers, all of them running the deployed model.
#[derive(Clone, Debug, PartialEq)]
pub struct InterpolatingCode {
    redundancy: Redundancy,
    strict: bool,
    decode: Curve,
    queries: Vec<f64>,
    workers: Vec<f64>,
    encoding: DMatrix<f64>,
}

impl InterpolatingCode {
    /// A code with any two curves.
    ///
    /// # Errors
    /// k = 0, too many workers, a λ that is negative or not a number.
    pub fn new(
        k: usize,
        redundancy: Redundancy,
        points: Points,
        encode: Curve,
        decode: Curve,
    ) -> Result<Self, CodeError> {
        if k == 0 {
            return Err(CodeError::NoQueries);
        }
        let workers = redundancy.workers(k);
        if workers > MAX_WORKERS {
            let Redundancy { stragglers, byzantine } = redundancy;
            return Err(CodeError::Workers { workers, k, stragglers, byzantine });
        }
        for curve in [encode, decode] {
            if let Curve::Spline { lambda } = curve
                && !(lambda.is_finite() && lambda >= 0.0)
            {
                return Err(CodeError::Lambda(lambda));
            }
        }
        let (queries, workers) = (query_points(k), points.workers(workers));
        let encoding = encode.matrix(&queries, &workers);
        Ok(Self { redundancy, strict: false, decode, queries, workers, encoding })
    }

    /// `berrut`: Berrut's rational interpolant both ways.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn berrut(k: usize, redundancy: Redundancy, points: Points) -> Result<Self, CodeError> {
        Self::floater_hormann(k, redundancy, points, 0)
    }

    /// `floater-hormann`: their rational interpolant of blending degree d both ways.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn floater_hormann(
        k: usize,
        redundancy: Redundancy,
        points: Points,
        degree: usize,
    ) -> Result<Self, CodeError> {
        let curve = Curve::Rational { degree };
        Self::new(k, redundancy, points, curve, curve)
    }

    /// `spline`: smoothing splines, of weight λ_e on the queries and λ_d on the answers.
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn spline(
        k: usize,
        redundancy: Redundancy,
        points: Points,
        [lambda_e, lambda_d]: [f64; 2],
    ) -> Result<Self, CodeError> {
        let (encode, decode) = (Curve::Spline { lambda: lambda_e }, Curve::Spline { lambda: lambda_d });
        Self::new(k, redundancy, points, encode, decode)
    }

    /// The same code, but groups with fewer answers than [`needed`](Self::needed) stay unsolved.
    #[must_use]
    pub fn strict(self) -> Self {
        Self { strict: true, ..self }
    }

    /// The answers that the code was laid out for, n − s.
    #[must_use]
    pub fn needed(&self) -> usize {
        self.workers.len() - self.redundancy.stragglers
    }

    /// What the code was laid out for.
    #[must_use]
    pub fn redundancy(&self) -> Redundancy {
        self.redundancy
    }

    /// The points of the workers, z_0 > z_1 > …
    #[must_use]
    pub fn worker_points(&self) -> &[f64] {
        &self.workers
    }

    /// D_F, `[k, survivors]`, for the workers that answered, in ascending order.
    ///
    /// # Panics
    /// If there is no such worker.
    #[must_use]
    pub fn decoding_matrix(&self, survivors: &[usize]) -> DMatrix<f64> {
        let points: Vec<f64> = survivors.iter().map(|&worker| self.workers[worker]).collect();
        self.decode.matrix(&points, &self.queries)
    }
}

impl Matrices for InterpolatingCode {
    fn k(&self) -> usize {
        self.queries.len()
    }

    fn workers(&self) -> usize {
        self.workers.len()
    }

    fn encoding(&self) -> DMatrix<f64> {
        self.encoding.clone()
    }

    /// Any answer at all determines all predictions, more or less; without one, or with fewer than
    /// [`needed`](Self::needed) of a [`strict`](Self::strict) code, all are unsolved.
    fn decoding(&self, available: &[bool]) -> Decoding {
        assert_eq!(available.len(), self.workers(), "one entry per worker");
        let survivors: Vec<usize> = (0..available.len()).filter(|&worker| available[worker]).collect();
        let least = if self.strict { self.needed() } else { 1 };
        if survivors.len() < least.max(1) {
            return Decoding::nothing((0..self.k()).collect());
        }
        let matrix = self.decoding_matrix(&survivors);
        let rebuild = |slot: usize| {
            let terms =
                survivors.iter().enumerate().map(|(column, &worker)| (worker, matrix[(slot, column)]));
            Reconstruction { slot, terms: terms.filter(|(_, c)| *c != 0.0).collect() }
        };
        let condition = matrix.row_iter().map(|row| row.iter().map(|c| c.abs()).sum()).fold(1.0, f64::max);
        Decoding { rebuilt: (0..self.k()).map(rebuild).collect(), unsolved: Vec::new(), condition }
    }
}
