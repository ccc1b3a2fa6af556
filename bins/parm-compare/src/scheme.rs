//! What is compared: codes, trained ones, and the baselines, each with k queries and a number of extra
//! workers.

use anyhow::{Context, Result, ensure};
use parm::codes::{Code, CodeName, CodeSpec};
use parm::counted;
use parm_cli::Usage;
use parm_cli::tools::compare::Compare;
use schemars::JsonSchema;
use serde::Serialize;

use crate::queries::Queries;

/// One line of the table.
pub(crate) struct Scheme {
    pub(crate) name: String,
    /// Extra workers of a group, all of them on top of one for each query; as many are lost.
    pub(crate) extra: usize,
    pub(crate) code: Code,
}

impl Scheme {
    pub(crate) fn k(&self) -> usize {
        self.code.k()
    }

    /// Whether it is one of the trivial schemes that a code has to beat. The deployed model answers the
    /// queries themselves, and spare workers answer some again: their answers are known.
    pub(crate) fn is_baseline(&self) -> bool {
        self.code.name().is_baseline()
    }
}

/// How a trained code came to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Training {
    /// For a deployed model that was there.
    Trained,
    /// Together with its deployed model.
    Joint,
}

/// How a code came to be; none if it is not trained.
pub(crate) fn training(code: &Code) -> Option<Training> {
    let trained = code.trained()?;
    Some(if trained.file.joint().is_some() { Training::Joint } else { Training::Trained })
}

/// What a trained code is called: by its directory, too, if another one of its size is of its kind.
fn trained_name(code: &Code, all: &[Code]) -> String {
    let learned = |of: &Code| of.learned_decoder().is_some();
    let kind = |of: &Code| (of.name(), training(of), learned(of), of.k(), extra(of));
    let alike = all.iter().filter(|other| kind(other) == kind(code)).count();
    let directory = code.trained().filter(|_| alike > 1).map(|of| of.directory.display().to_string());
    let training = training(code).map(|training| match training {
        Training::Trained => "trained".to_owned(),
        Training::Joint => "joint".to_owned(),
    });
    let decoder = learned(code).then(|| "learned-decoder".to_owned());
    let parts = [Some(code.name().to_string()), training, decoder, directory];
    parts.into_iter().flatten().collect::<Vec<_>>().join(":")
}

/// Extra workers of a group of a trained code.
fn extra(code: &Code) -> usize {
    code.workers() - code.k()
}

/// All schemes, by k and extra workers, baselines first.
pub(crate) fn list(options: &Compare, queries: &Queries) -> Result<Vec<Scheme>> {
    let mut trained: Vec<Code> = Vec::new();
    for directory in &options.code_dir {
        let code = Code::load(directory)?;
        if let Some(of) = code.trained() {
            let checked = of.file.check_queries(directory, &queries.shape);
            checked.with_context(|| options.data.to_string())?;
            // A deployed model that was trained with its code comes with it.
            if of.file.joint().is_none() {
                of.file.check_model(directory, &options.model)?;
            }
        }
        if trained.iter().filter_map(Code::trained).any(|other| other.directory == *directory) {
            return Err(Usage::error(format!("--code-dir {}: given twice", directory.display())));
        }
        trained.push(code);
    }
    let asked =
        options.k.iter().flat_map(|&k| options.lost.iter().map(move |&lost| (k as usize, lost as usize)));
    let own = trained.iter().map(|code| (code.k(), extra(code)));
    let mut sizes: Vec<(usize, usize)> = asked.chain(own).collect();
    sizes.sort_unstable();
    sizes.dedup();

    let mut schemes = Vec::new();
    for (k, extra) in sizes {
        ensure!(
            queries.count >= k,
            "{}: found {}, expected at least one group of k = {k}",
            options.data,
            counted(queries.count, "row")
        );
        let mut add = |name: String, code| schemes.push(Scheme { name, extra, code });
        for name in [CodeName::None, CodeName::Replicate] {
            add(name.to_string(), Code::new(&CodeSpec { r: Some(extra), ..CodeSpec::new(name, k) })?);
        }
        for code in trained.iter().filter(|code| (code.k(), self::extra(code)) == (k, extra)) {
            add(trained_name(code, &trained), code.clone());
        }
        for &name in &options.codes {
            let spec = CodeSpec {
                stragglers: Some(extra),
                points: Some(options.points.into()),
                degree: Some(options.degree),
                lambdas: [Some(options.lambda_e), Some(options.lambda_d)],
                ..CodeSpec::new(name, k)
            };
            add(name.to_string(), Code::new(&spec)?);
        }
    }
    Ok(schemes)
}
