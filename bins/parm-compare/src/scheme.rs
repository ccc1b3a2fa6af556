//! What is compared: codes, trained ones, and the baselines, each with k queries and a number of extra
//! workers.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use parm::CodeFile;
use parm::codes::{Code, InterpolatingCode, LinearCode, Redundancy};
use parm_cli::tools::compare::{Compare, Interpolation};

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
pub(crate) struct Trained {
    pub(crate) file: CodeFile,
    pub(crate) directory: PathBuf,
}

impl Trained {
    /// The file of a part.
    pub(crate) fn part(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// What it is called in the table.
    fn name(&self) -> String {
        let decoder = if self.file.decoder.is_some() { ", learned decoder" } else { "" };
        format!("{} (trained{decoder})", self.file.code)
    }
}

/// All schemes, by k and extra workers, baselines first.
pub(crate) fn list(options: &Compare, queries: &Queries) -> Result<Vec<Scheme>> {
    let mut trained = Vec::new();
    for directory in &options.code_dir {
        let file = CodeFile::load(directory)?;
        let name = directory.display();
        ensure!(
            file.query_shape == queries.shape,
            "{}: found queries of shape {:?}, but the code {name} was trained for {:?}",
            options.data,
            queries.shape,
            file.query_shape
        );
        trained.push((directory, file));
    }
    let asked =
        options.k.iter().flat_map(|&k| options.lost.iter().map(move |&lost| (k as usize, lost as usize)));
    let own = trained.iter().map(|(_, file)| (file.k, file.r));
    let mut sizes: Vec<(usize, usize)> = asked.chain(own).collect();
    sizes.sort_unstable();
    sizes.dedup();

    let mut schemes = Vec::new();
    for (k, extra) in sizes {
        ensure!(
            queries.count >= k,
            "{}: found {} rows, expected at least one group of k = {k}",
            options.data,
            queries.count
        );
        let mut add = |name: &str, code: Box<dyn Code + Sync>, runs| {
            schemes.push(Scheme { name: name.into(), extra, code, runs });
        };
        add("none", Box::new(LinearCode::none(k)?), Runs::Copies);
        add("replicate", Box::new(LinearCode::replicate(k, extra)?), Runs::Copies);
        for (directory, file) in trained.iter().filter(|(_, file)| (file.k, file.r) == (k, extra)) {
            let linear = file.linear()?;
            let trained = Trained { file: file.clone(), directory: (*directory).clone() };
            add(&trained.name(), Box::new(linear), Runs::Trained(Box::new(trained)));
        }
        let redundancy = Redundancy { stragglers: extra, byzantine: 0 };
        let points = options.points.into();
        for &interpolation in &options.codes {
            let (name, code) = match interpolation {
                Interpolation::Berrut => ("berrut", InterpolatingCode::berrut(k, redundancy, points)?),
                Interpolation::FloaterHormann => (
                    "floater-hormann",
                    InterpolatingCode::floater_hormann(k, redundancy, points, options.degree)?,
                ),
                Interpolation::Spline => {
                    let lambdas = [options.lambda_e, options.lambda_d];
                    ("spline", InterpolatingCode::spline(k, redundancy, points, lambdas)?)
                }
            };
            add(name, Box::new(code), Runs::Coded);
        }
    }
    Ok(schemes)
}
