//! How parm-serve.json names a code: by name, with parameters, or by the directory of a trained code.

use std::path::PathBuf;

use parm::codes::{CodeName, CodeSpec, Parameter};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A code: one without parameters, or a code directory.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "Fields", into = "Fields")]
#[schemars(with = "Fields")]
pub enum CodeChoice {
    /// By its name, with its parameters.
    Named(CodeSpec),
    /// A code directory that parm-train wrote.
    Directory(PathBuf),
}

impl Default for CodeChoice {
    fn default() -> Self {
        Self::Named(CodeSpec { r: Some(1), ..CodeSpec::new(CodeName::Sum, 2) })
    }
}

/// A code by its name and parameters, or the directory of a trained code.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Code")]
struct Fields {
    /// The name of a code: see parm(7); or `directory`: the directory of a trained code.
    #[schemars(schema_with = "names")]
    name: String,
    /// The number of queries of a group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    k: Option<usize>,
    /// Parities of a group; null: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r: Option<usize>,
    /// Answers that may be missing, of codes whose coded queries all run on the deployed model; null: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<usize>,
    /// The blending degree of `floater-hormann`; null: 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    degree: Option<usize>,
    /// The weight of smoothness of `spline`, both of the curve through the queries and of that through the
    /// answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lambda: Option<f64>,
    /// The smoothness of the curve through the queries; null: `lambda`, or 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lambda_e: Option<f64>,
    /// The smoothness of the curve through the answers; null: `lambda`, or 1e-6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    lambda_d: Option<f64>,
    /// The directory of a trained code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    directory: Option<PathBuf>,
}

/// The name that stands for the directory of a trained code.
const DIRECTORY: &str = "directory";

/// The codes that a server uses: the baselines are policies of their own.
fn served() -> impl Iterator<Item = CodeName> {
    CodeName::ALL.into_iter().filter(|name| !name.is_baseline())
}

fn names(_: &mut SchemaGenerator) -> Schema {
    let names: Vec<&str> = served().map(CodeName::as_str).chain([DIRECTORY]).collect();
    json_schema!({"type": "string", "enum": names})
}

/// A code that the file names wrongly.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum CodeError {
    #[error("found the code '{0}', expected one of {names}", names = served().map(CodeName::as_str).collect::<Vec<_>>().join(", "))]
    Name(String),
    #[error("found '{field}' for the code {name}, which has no such parameter")]
    Parameter { field: &'static str, name: String },
    #[error("found no '{field}', which the code {name} needs")]
    Missing { field: &'static str, name: String },
}

impl TryFrom<Fields> for CodeChoice {
    type Error = CodeError;

    fn try_from(fields: Fields) -> Result<Self, CodeError> {
        let Fields { name, k, r, s, degree, lambda, lambda_e, lambda_d, directory } = fields;
        let known = served().find(|known| known.as_str() == name);
        if known.is_none() && name != DIRECTORY {
            return Err(CodeError::Name(name));
        }
        let takes = |parameter| known.is_some_and(|known| known.takes(parameter));
        // One that is fixed may not be said.
        let has_r = takes(Parameter::R) && known.is_some_and(|known| known.fixed_parities().is_none());
        for (field, given, belongs) in [
            ("k", k.is_some(), known.is_some()),
            ("r", r.is_some(), has_r),
            ("s", s.is_some(), takes(Parameter::Stragglers)),
            ("degree", degree.is_some(), takes(Parameter::Degree)),
            ("lambda", lambda.is_some(), takes(Parameter::Lambda)),
            ("lambda_e", lambda_e.is_some(), takes(Parameter::Lambda)),
            ("lambda_d", lambda_d.is_some(), takes(Parameter::Lambda)),
            ("directory", directory.is_some(), known.is_none()),
        ] {
            if given && !belongs {
                return Err(CodeError::Parameter { field, name });
            }
        }
        let Some(known) = known else {
            let missing = CodeError::Missing { field: "directory", name };
            return directory.map(Self::Directory).ok_or(missing);
        };
        let k = k.ok_or(CodeError::Missing { field: "k", name })?;
        let lambdas = [lambda_e.or(lambda), lambda_d.or(lambda)];
        Ok(Self::Named(CodeSpec { r, stragglers: s, degree, lambdas, ..CodeSpec::new(known, k) }))
    }
}

impl From<CodeChoice> for Fields {
    fn from(choice: CodeChoice) -> Self {
        match choice {
            CodeChoice::Directory(directory) => {
                Self { name: DIRECTORY.to_owned(), directory: Some(directory), ..Self::default() }
            }
            CodeChoice::Named(CodeSpec { name, k, r, stragglers, degree, lambdas, .. }) => {
                let [lambda_e, lambda_d] = lambdas;
                let (name, k, s) = (name.to_string(), Some(k), stragglers);
                Self { name, k, r, s, degree, lambda_e, lambda_d, ..Self::default() }
            }
        }
    }
}
