//! What is said of a code, on the command line or in a file: its name and its parameters, with their defaults
//! and the limit on its size.

use std::fmt;
use std::str::FromStr;

use nalgebra::DMatrix;

use serde::{Deserialize, Serialize};

use super::error::{CodeError, MAX_WORKERS};
use super::geometry::Points;
use super::interpolating::{InterpolatingCode, Redundancy};
use super::linear::LinearCode;
use super::matrices::{Decoding, Matrices};

/// The name of a code. This file is the only one that tells codes apart by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CodeName {
    /// P_j = Σ_i w_ji·X_i, answered by parity models.
    Sum,
    /// Images, shrunk and tiled into one; answered by a parity model, and decoded as `sum`.
    Concat,
    /// The baseline: every query on several workers.
    Replicate,
    /// The baseline: no parity queries.
    None,
    /// Berrut's rational interpolant; coded queries run on the deployed model.
    Berrut,
    /// That of Floater and Hormann.
    FloaterHormann,
    /// Cubic smoothing splines; coded queries run on the deployed model.
    Spline,
    /// A learned encoder, which only the directory of a trained code has.
    Learned,
}

/// A parameter that some codes have, and others do not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parameter {
    /// Parities of a group.
    R,
    /// Weights of its own.
    Weights,
    /// Answers that may be missing.
    Stragglers,
    /// Answers that may be wrong.
    Byzantine,
    /// The points of the workers.
    Points,
    /// The blending degree.
    Degree,
    /// The smoothness of the curve through the queries, or through the answers.
    Lambda,
}

impl CodeName {
    /// The codes that need no training, by which they are named in options and files.
    pub const ALL: [Self; 7] = [
        Self::Sum,
        Self::Concat,
        Self::Replicate,
        Self::None,
        Self::Berrut,
        Self::FloaterHormann,
        Self::Spline,
    ];

    /// Its name, and what its coded queries are.
    fn about(self) -> (&'static str, &'static str) {
        match self {
            Self::Sum => ("sum", "Weighted sums"),
            Self::Concat => ("concat", "One image tiled from the k shrunk images"),
            Self::Replicate => ("replicate", "Some of the queries, a second time"),
            Self::None => ("none", "None"),
            Self::Berrut => ("berrut", "Berrut's rational interpolant"),
            Self::FloaterHormann => ("floater-hormann", "The rational interpolant of Floater and Hormann"),
            Self::Spline => ("spline", "Smoothing splines"),
            Self::Learned => ("learned", "A learned encoder"),
        }
    }

    /// The name, as options and files have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        self.about().0
    }

    /// What its coded queries are, in a few words.
    #[must_use]
    pub fn summary(self) -> &'static str {
        self.about().1
    }

    /// True if all coded queries run on the deployed model, and predictions are interpolated.
    #[must_use]
    pub fn interpolates(self) -> bool {
        matches!(self, Self::Berrut | Self::FloaterHormann | Self::Spline)
    }

    /// True of the two trivial schemes that a code has to beat.
    #[must_use]
    pub fn is_baseline(self) -> bool {
        matches!(self, Self::Replicate | Self::None)
    }

    /// The parities of a group, where the code has a fixed number of them; an interpolating code has none.
    #[must_use]
    pub fn fixed_parities(self) -> Option<usize> {
        match self {
            Self::Concat => Some(1),
            Self::None | Self::Berrut | Self::FloaterHormann | Self::Spline => Some(0),
            _ => None,
        }
    }

    /// True if parity models are trained for it, or an encoder or a decoder.
    #[must_use]
    pub fn is_trained(self) -> bool {
        !self.interpolates() && !self.is_baseline()
    }

    /// The codes that models are trained for.
    pub fn trained() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain([Self::Learned]).filter(|name| name.is_trained())
    }

    /// The codes that a directory may hold: those that models are trained for, and those whose deployed model is
    /// trained together with them.
    pub fn in_directories() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain([Self::Learned]).filter(|name| !name.is_baseline())
    }

    /// Whether a parameter is one of this code.
    #[must_use]
    pub fn takes(self, parameter: Parameter) -> bool {
        match parameter {
            Parameter::R => !self.interpolates(),
            Parameter::Weights => self == Self::Sum,
            Parameter::Stragglers | Parameter::Byzantine | Parameter::Points => self.interpolates(),
            Parameter::Degree => self == Self::FloaterHormann,
            Parameter::Lambda => self == Self::Spline,
        }
    }
}

impl fmt::Display for CodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CodeName {
    type Err = UnknownCode;

    fn from_str(name: &str) -> Result<Self, UnknownCode> {
        Self::ALL.into_iter().find(|code| code.as_str() == name).ok_or_else(|| UnknownCode(name.to_owned()))
    }
}

/// A name that no code has.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found code '{}', expected {}", .0, CodeName::ALL.map(CodeName::as_str).join(", "))]
pub struct UnknownCode(pub String);

/// A code by its name and parameters. What is left out has a default; parameters of other codes are not looked
/// at.
#[derive(Clone, Debug, PartialEq)]
pub struct CodeSpec {
    /// Its name.
    pub name: CodeName,
    /// Queries of a group.
    pub k: usize,
    /// Parities of a group, of codes that have some: 1 by default; of `concat` it is 1, and of `none` 0.
    pub r: Option<usize>,
    /// The weights `[r, k]` of `sum`: w_ji = (i+1)^j by default.
    pub weights: Option<DMatrix<f64>>,
    /// Answers of a group that may be missing, of interpolating codes: 1 by default.
    pub stragglers: Option<usize>,
    /// Answers of a group that may be wrong, of interpolating codes: 0 by default.
    pub byzantine: Option<usize>,
    /// The points of the workers, of interpolating codes: ApproxIFER's by default.
    pub points: Option<Points>,
    /// The blending degree of `floater-hormann`: 1 by default.
    pub degree: Option<usize>,
    /// The weights of smoothness of `spline`, λ_e on the queries and λ_d on the answers: 0 and 1e-6 by default.
    pub lambdas: [Option<f64>; 2],
}

/// The matrices of a code, by kind.
#[derive(Clone, Debug, PartialEq)]
pub enum CodeKind {
    /// Those of a code that keeps the queries and adds parities; [`concat`](super::concat) decodes with them,
    /// too, though it encodes by tiling.
    Systematic(LinearCode),
    /// Those of a code whose coded queries all run on the deployed model.
    Interpolating(InterpolatingCode),
}

impl CodeKind {
    fn matrices(&self) -> &dyn Matrices {
        match self {
            Self::Systematic(code) => code,
            Self::Interpolating(code) => code,
        }
    }

    /// The matrix `[coded queries, k]` of weighted sums: E without the queries of a code that keeps them.
    #[must_use]
    pub fn parity_matrix(&self) -> DMatrix<f64> {
        match self {
            Self::Systematic(code) => code.parity_matrix().clone(),
            Self::Interpolating(code) => code.encoding(),
        }
    }
}

impl Matrices for CodeKind {
    fn k(&self) -> usize {
        self.matrices().k()
    }

    fn workers(&self) -> usize {
        self.matrices().workers()
    }

    fn encoding(&self) -> DMatrix<f64> {
        self.matrices().encoding()
    }

    fn decoding(&self, available: &[bool]) -> Decoding {
        self.matrices().decoding(available)
    }
}

impl From<LinearCode> for CodeKind {
    fn from(code: LinearCode) -> Self {
        Self::Systematic(code)
    }
}

impl From<InterpolatingCode> for CodeKind {
    fn from(code: InterpolatingCode) -> Self {
        Self::Interpolating(code)
    }
}

/// The smoothness of `spline`'s curve through the queries, λ_e: it goes through all of them.
pub const LAMBDA_E: f64 = 0.0;

/// The smoothness of `spline`'s curve through the answers, λ_d.
pub const LAMBDA_D: f64 = 1e-6;

impl CodeSpec {
    /// A code with all defaults.
    #[must_use]
    pub fn new(name: CodeName, k: usize) -> Self {
        Self {
            name,
            k,
            r: None,
            weights: None,
            stragglers: None,
            byzantine: None,
            points: None,
            degree: None,
            lambdas: [None; 2],
        }
    }

    /// What a group must bear, of interpolating codes.
    #[must_use]
    pub fn redundancy(&self) -> Redundancy {
        Redundancy { stragglers: self.stragglers.unwrap_or(1), byzantine: self.byzantine.unwrap_or(0) }
    }

    /// Parities of a group; 0 of interpolating codes.
    #[must_use]
    pub fn parities(&self) -> usize {
        self.name.fixed_parities().or(self.r).unwrap_or(1)
    }

    /// Workers of a group.
    #[must_use]
    pub fn workers(&self) -> usize {
        if self.name.interpolates() {
            self.redundancy().workers(self.k)
        } else {
            self.k.saturating_add(self.parities())
        }
    }

    /// Sees that a group has no more than [`MAX_WORKERS`] workers.
    ///
    /// # Errors
    /// The size of the code.
    pub fn check_size(&self) -> Result<(), CodeError> {
        let (k, r, workers) = (self.k, self.r.unwrap_or(0).max(self.parities()), self.workers());
        let Redundancy { stragglers, byzantine } = self.redundancy();
        match self.name.interpolates() {
            true if workers > MAX_WORKERS => Err(CodeError::Workers { workers, k, stragglers, byzantine }),
            false if k.saturating_add(r) > MAX_WORKERS => Err(CodeError::Size { k, r }),
            _ => Ok(()),
        }
    }

    /// Makes the matrices.
    ///
    /// # Errors
    /// k = 0, a group that is too large, or parameters that make no code; nothing is allocated before these
    /// are checked.
    pub fn matrices(&self) -> Result<CodeKind, CodeError> {
        if self.k == 0 {
            return Err(CodeError::NoQueries);
        }
        self.check_size()?;
        let (k, redundancy, points) = (self.k, self.redundancy(), self.points.unwrap_or_default());
        let [lambda_e, lambda_d] = self.lambdas;
        let interpolating = match self.name {
            CodeName::Berrut => InterpolatingCode::berrut(k, redundancy, points),
            CodeName::FloaterHormann => {
                InterpolatingCode::floater_hormann(k, redundancy, points, self.degree.unwrap_or(1))
            }
            CodeName::Spline => {
                let lambdas = [lambda_e.unwrap_or(LAMBDA_E), lambda_d.unwrap_or(LAMBDA_D)];
                InterpolatingCode::spline(k, redundancy, points, lambdas)
            }
            _ => return self.parity_weights().map(CodeKind::Systematic),
        };
        Ok(interpolating?.into())
    }

    /// Makes the weights of the parities of a code that keeps its queries. Those of a learned encoder are its
    /// linear decoder's.
    fn parity_weights(&self) -> Result<LinearCode, CodeError> {
        let (k, r) = (self.k, self.parities());
        match (self.name, &self.weights) {
            (CodeName::Replicate, _) => LinearCode::replicate(k, r),
            (CodeName::None, _) => LinearCode::none(k),
            (_, Some(weights)) => LinearCode::weighted(k, weights.clone()),
            (_, None) => LinearCode::sum(k, r),
        }
    }

    /// True if its parity query is one image of k smaller ones, and no weighted sum.
    #[must_use]
    pub fn is_tiled(&self) -> bool {
        self.name == CodeName::Concat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_both_ways() {
        for name in CodeName::ALL {
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        let error = "sun".parse::<CodeName>().unwrap_err().to_string();
        assert_eq!(
            error,
            "found code 'sun', expected sum, concat, replicate, none, berrut, floater-hormann, spline"
        );
    }

    #[test]
    fn the_size_of_a_code_is_limited_before_it_is_made() {
        for name in CodeName::ALL {
            let spec = CodeSpec::new(name, usize::MAX);
            assert!(
                matches!(spec.matrices(), Err(CodeError::Size { .. } | CodeError::Workers { .. })),
                "{name}"
            );
            assert_eq!(CodeSpec::new(name, 0).matrices(), Err(CodeError::NoQueries));
        }
        let wide = CodeSpec { r: Some(usize::MAX), ..CodeSpec::new(CodeName::Sum, 2) };
        assert_eq!(wide.matrices(), Err(CodeError::Size { k: 2, r: usize::MAX }));
        let late = CodeSpec { stragglers: Some(usize::MAX), ..CodeSpec::new(CodeName::Spline, 2) };
        assert!(matches!(late.matrices(), Err(CodeError::Workers { .. })));
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let made = |spec: &CodeSpec| spec.matrices().unwrap();
        let spline = CodeSpec::new(CodeName::Spline, 4);
        assert_eq!(made(&spline), made(&CodeSpec { lambdas: [Some(0.0), Some(1e-6)], ..spline.clone() }));
        assert_ne!(made(&spline), made(&CodeSpec { lambdas: [Some(0.0); 2], ..spline.clone() }));
        let blended = CodeSpec::new(CodeName::FloaterHormann, 4);
        assert_eq!(made(&blended), made(&CodeSpec { degree: Some(1), ..blended.clone() }));
        let flat = CodeSpec { degree: Some(0), ..blended };
        assert_eq!(made(&flat), made(&CodeSpec::new(CodeName::Berrut, 4)));
        assert_eq!(
            made(&CodeSpec::new(CodeName::Sum, 3)),
            CodeKind::Systematic(LinearCode::sum(3, 1).unwrap())
        );
    }
}
