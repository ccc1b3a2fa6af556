//! What is compared: codes, trained ones, and the baselines, each with k queries and a number of extra
//! workers.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use parm::codes::{Code, CodeSpec, LinearCode, SpecifiedCode};
use parm::{CodeFile, counted};
use parm_cli::Usage;
use parm_cli::tools::compare::Compare;

use crate::answers::Queries;

/// One line of the table.
pub(crate) struct Scheme {
    pub(crate) name: String,
    /// Extra workers of a group, all of them on top of one for each query; as many are lost.
    pub(crate) extra: usize,
    pub(crate) code: Box<dyn Code + Sync>,
    pub(crate) runs: Runs,
}

/// Which model answers the workers of a group.
pub(crate) enum Runs {
    /// The deployed model answers the queries themselves; the parity queries are answered as the code
    /// says.
    Trained(Box<Trained>),
    /// The deployed model answers the queries themselves; spare workers answer some again. No parity
    /// query need be asked: the answers are known.
    Copies,
    /// The deployed model answers n coded queries.
    Coded,
}

impl Scheme {
    pub(crate) fn k(&self) -> usize {
        self.code.k()
    }

    /// The model that decodes, if the code does not.
    pub(crate) fn decoder(&self) -> Option<PathBuf> {
        match &self.runs {
            Runs::Trained(code) => code.file.decoder.as_deref().map(|name| code.part(name)),
            Runs::Copies | Runs::Coded => None,
        }
    }

    /// Whether it is one of the trivial schemes that a code has to beat.
    pub(crate) fn is_baseline(&self) -> bool {
        matches!(self.runs, Runs::Copies)
    }
}

/// A code that was trained.
#[derive(Clone)]
pub(crate) struct Trained {
    pub(crate) file: CodeFile,
    pub(crate) directory: PathBuf,
}

impl Trained {
    /// The file of a part.
    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What it is called in the table: by its directory, too, if another one of its size is of its kind.
    fn name(&self, all: &[Self]) -> String {
        let decoder = if self.file.decoder.is_some() { ", learned decoder" } else { "" };
        let kind = |of: &Self| (of.file.code.clone(), of.file.decoder.is_some(), of.file.k, of.file.r);
        let alike = all.iter().filter(|other| kind(other) == kind(self)).count();
        let directory = if alike > 1 { format!(", {}", self.directory.display()) } else { String::new() };
        format!("{} (trained{decoder}{directory})", self.file.code)
    }
}

/// All schemes, by k and extra workers, baselines first.
pub(crate) fn list(options: &Compare, queries: &Queries) -> Result<Vec<Scheme>> {
    let mut trained: Vec<Trained> = Vec::new();
    for directory in &options.code_dir {
        let file = CodeFile::load(directory)?;
        file.check_queries(directory, &queries.shape).with_context(|| options.data.to_string())?;
        file.check_model(directory, &options.model)?;
        if trained.iter().any(|other| other.directory == *directory) {
            return Err(Usage::error(format!("--code-dir {}: given twice", directory.display())));
        }
        trained.push(Trained { file, directory: directory.clone() });
    }
    let asked =
        options.k.iter().flat_map(|&k| options.lost.iter().map(move |&lost| (k as usize, lost as usize)));
    let own = trained.iter().map(|Trained { file, .. }| (file.k, file.r));
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
        let mut add = |name: &str, code: Box<dyn Code + Sync>, runs| {
            schemes.push(Scheme { name: name.into(), extra, code, runs });
        };
        add("none", Box::new(LinearCode::none(k)?), Runs::Copies);
        add("replicate", Box::new(LinearCode::replicate(k, extra)?), Runs::Copies);
        for code in trained.iter().filter(|code| (code.file.k, code.file.r) == (k, extra)) {
            let runs = Runs::Trained(Box::new(code.clone()));
            add(&code.name(&trained), Box::new(code.file.linear()?), runs);
        }
        for &interpolation in &options.codes {
            let name = interpolation.into();
            let spec = CodeSpec {
                stragglers: Some(extra),
                points: Some(options.points.into()),
                degree: Some(options.degree),
                lambdas: [Some(options.lambda_e), Some(options.lambda_d)],
                ..CodeSpec::new(name, k)
            };
            if let SpecifiedCode::Interpolating(code) = spec.make()? {
                add(name.as_str(), Box::new(code), Runs::Coded);
            }
        }
    }
    Ok(schemes)
}
