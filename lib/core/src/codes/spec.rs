//! What is said of a code, on the command line or in a file: its name and its parameters, with their defaults
//! and the limit on its size.

use std::fmt;
use std::str::FromStr;

use nalgebra::DMatrix;

use super::geometry::Points;
use super::interpolating::{InterpolatingCode, MAX_WORKERS, Redundancy};
use super::linear::{CodeError, LinearCode};

/// The name of a code that needs no training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
}

impl CodeName {
    /// All names, for messages and tests.
    pub const ALL: [Self; 7] = [
        Self::Sum,
        Self::Concat,
        Self::Replicate,
        Self::None,
        Self::Berrut,
        Self::FloaterHormann,
        Self::Spline,
    ];

    /// The name, as options and files have it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Concat => "concat",
            Self::Replicate => "replicate",
            Self::None => "none",
            Self::Berrut => "berrut",
            Self::FloaterHormann => "floater-hormann",
            Self::Spline => "spline",
        }
    }

    /// True if all coded queries run on the deployed model, and predictions are interpolated.
    #[must_use]
    pub fn interpolates(self) -> bool {
        matches!(self, Self::Berrut | Self::FloaterHormann | Self::Spline)
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

/// A code that a [`CodeSpec`] describes.
#[derive(Clone, Debug, PartialEq)]
pub enum SpecifiedCode {
    /// One that keeps the queries and adds parities; those of `concat` are tiled images.
    Systematic(LinearCode),
    /// One whose coded queries all run on the deployed model.
    Interpolating(InterpolatingCode),
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
        match self.name {
            CodeName::Sum | CodeName::Replicate => self.r.unwrap_or(1),
            CodeName::Concat => 1,
            CodeName::None | CodeName::Berrut | CodeName::FloaterHormann | CodeName::Spline => 0,
        }
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

    /// Makes the code.
    ///
    /// # Errors
    /// k = 0, more than [`MAX_WORKERS`] workers (before anything is allocated), or parameters that make no
    /// code.
    pub fn make(&self) -> Result<SpecifiedCode, CodeError> {
        if self.k == 0 {
            return Err(CodeError::NoQueries);
        }
        let (k, r, redundancy) = (self.k, self.parities(), self.redundancy());
        if self.workers() > MAX_WORKERS {
            let Redundancy { stragglers, byzantine } = redundancy;
            return Err(if self.name.interpolates() {
                CodeError::Workers { workers: self.workers(), k, stragglers, byzantine }
            } else {
                CodeError::Size { k, r }
            });
        }
        let points = self.points.unwrap_or_default();
        let [lambda_e, lambda_d] = self.lambdas;
        Ok(match (self.name, &self.weights) {
            (CodeName::Sum, Some(weights)) => {
                SpecifiedCode::Systematic(LinearCode::weighted(k, weights.clone())?)
            }
            (CodeName::Sum | CodeName::Concat, _) => SpecifiedCode::Systematic(LinearCode::sum(k, r)?),
            (CodeName::Replicate, _) => SpecifiedCode::Systematic(LinearCode::replicate(k, r)?),
            (CodeName::None, _) => SpecifiedCode::Systematic(LinearCode::none(k)?),
            (CodeName::Berrut, _) => {
                SpecifiedCode::Interpolating(InterpolatingCode::berrut(k, redundancy, points)?)
            }
            (CodeName::FloaterHormann, _) => {
                let degree = self.degree.unwrap_or(1);
                let code = InterpolatingCode::floater_hormann(k, redundancy, points, degree)?;
                SpecifiedCode::Interpolating(code)
            }
            (CodeName::Spline, _) => {
                let lambdas = [lambda_e.unwrap_or(LAMBDA_E), lambda_d.unwrap_or(LAMBDA_D)];
                SpecifiedCode::Interpolating(InterpolatingCode::spline(k, redundancy, points, lambdas)?)
            }
        })
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
            assert!(matches!(spec.make(), Err(CodeError::Size { .. } | CodeError::Workers { .. })), "{name}");
            assert_eq!(CodeSpec::new(name, 0).make(), Err(CodeError::NoQueries));
        }
        let wide = CodeSpec { r: Some(usize::MAX), ..CodeSpec::new(CodeName::Sum, 2) };
        assert_eq!(wide.make(), Err(CodeError::Size { k: 2, r: usize::MAX }));
        let late = CodeSpec { stragglers: Some(usize::MAX), ..CodeSpec::new(CodeName::Spline, 2) };
        assert!(matches!(late.make(), Err(CodeError::Workers { .. })));
    }

    #[test]
    fn what_is_left_out_has_its_default() {
        let made = |spec: &CodeSpec| spec.make().unwrap();
        let spline = CodeSpec::new(CodeName::Spline, 4);
        assert_eq!(made(&spline), made(&CodeSpec { lambdas: [Some(0.0), Some(1e-6)], ..spline.clone() }));
        assert_ne!(made(&spline), made(&CodeSpec { lambdas: [Some(0.0); 2], ..spline.clone() }));
        let blended = CodeSpec::new(CodeName::FloaterHormann, 4);
        assert_eq!(made(&blended), made(&CodeSpec { degree: Some(1), ..blended.clone() }));
        let flat = CodeSpec { degree: Some(0), ..blended };
        assert_eq!(made(&flat), made(&CodeSpec::new(CodeName::Berrut, 4)));
        assert_eq!(
            made(&CodeSpec::new(CodeName::Sum, 3)),
            SpecifiedCode::Systematic(LinearCode::sum(3, 1).unwrap())
        );
    }
}
