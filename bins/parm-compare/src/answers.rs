//! Every answer that any scheme needs, asked for once.

use std::path::{Path, PathBuf};

use anyhow::{Result, ensure};
use parm::Dtype;
use parm::codes::{Code, Encoder};
use parm::npy::RowLayout;
use parm_cli::Progress;
use parm_cli::options::ModelOptions;
use parm_cli::sibling::{self, Predictions};
use parm_cli::tools::compare::Compare;

use crate::network;
use crate::queries::Queries;
use crate::scheme::Scheme;

/// The answers of all workers of all groups.
pub(crate) struct Answers {
    queries: usize,
    /// That of the options first, then those that were trained with a code.
    deployed: Vec<Deployed>,
    /// By scheme.
    own: Vec<Own>,
    /// The deployed model of each scheme.
    models: Vec<usize>,
}

/// A deployed model.
pub(crate) struct Deployed {
    pub(crate) file: PathBuf,
    /// Its answers to the queries, then to the coded queries of each scheme that it answers.
    pub(crate) answers: Predictions,
}

/// The answers that belong to one scheme.
enum Own {
    /// None but the queries' own.
    Queries,
    /// Of parity models, `[groups]` rows each.
    Parities(Vec<Predictions>),
    /// Rows of the deployed model's answers, from this one on, `[groups, n]`.
    Coded(usize),
}

impl Answers {
    /// Asks the models.
    ///
    /// # Errors
    /// A model that cannot be run, parity models whose outputs are not those of the deployed model.
    pub(crate) fn ask(
        options: &Compare,
        queries: &Queries,
        schemes: &[Scheme],
        progress: &Progress,
    ) -> Result<Self> {
        let mut files = vec![options.model.clone()];
        let mut models = Vec::new();
        for scheme in schemes {
            let file = scheme.code.joint_model().unwrap_or_else(|| options.model.clone());
            models.push(files.iter().position(|known| *known == file).unwrap_or_else(|| {
                files.push(file);
                files.len() - 1
            }));
        }
        let mut own: Vec<Own> = Vec::new();
        let mut totals = vec![queries.count; files.len()];
        for (Scheme { code, .. }, &model) in schemes.iter().zip(&models) {
            own.push(if code.interpolating().is_some() {
                let first = totals[model];
                totals[model] += queries.groups(code.k()).1 * code.workers();
                Own::Coded(first)
            } else if code.trained().is_some() {
                Own::Parities(Vec::new())
            } else {
                Own::Queries
            });
        }
        progress.expect(totals.iter().sum::<usize>() as u64);
        let mut deployed: Vec<Deployed> = Vec::new();
        for (model, (file, total)) in files.into_iter().zip(totals).enumerate() {
            // What makes the coded queries that it answers.
            let mut coded = Vec::new();
            for ((Scheme { code, .. }, own), _) in
                schemes.iter().zip(&own).zip(&models).filter(|(_, of)| **of == model)
            {
                if let Own::Coded(_) = own {
                    coded.push((code, code.encoder(&queries.shape, &network::loader(options))?));
                }
            }
            let answers = ask_deployed(options, &file, queries, total, &coded, progress)?;
            if let Some(first) = deployed.first() {
                same_shape(&file, &answers, first)?;
            }
            deployed.push(Deployed { file, answers });
        }
        for ((scheme, own), &model) in schemes.iter().zip(&mut own).zip(&models) {
            if let Own::Parities(answers) = own {
                *answers = parity_answers(options, &scheme.code, queries, &deployed[model])?;
            }
        }
        Ok(Self { queries: queries.count, deployed, own, models })
    }

    /// Elements of a prediction.
    ///
    /// # Errors
    /// Predictions that are no vectors.
    pub(crate) fn elements(&self) -> Result<usize> {
        let Predictions { shape, .. } = &self.deployed[0].answers;
        ensure!(shape.len() < 2, "found predictions of shape {shape:?}, expected [d]");
        Ok(self.deployed[0].answers.elements())
    }

    /// Queries that were asked.
    pub(crate) fn queries(&self) -> usize {
        self.queries
    }

    /// The deployed models, that of the options first.
    pub(crate) fn deployed(&self) -> &[Deployed] {
        &self.deployed
    }

    /// The answers of the deployed model of the scheme of this index: its own predictions come first.
    pub(crate) fn of(&self, index: usize) -> &Predictions {
        &self.deployed[self.models[index]].answers
    }

    /// The answer of one worker of a group, by the scheme's index.
    pub(crate) fn answer(&self, index: usize, scheme: &Scheme, group: usize, worker: usize) -> &[f32] {
        let (k, deployed) = (scheme.k(), self.of(index));
        match &self.own[index] {
            Own::Coded(first) => deployed.row(first + group * scheme.code.workers() + worker),
            Own::Parities(answers) if worker >= k => answers[worker - k].row(group),
            // Spare workers are dealt round-robin over the queries.
            Own::Parities(_) | Own::Queries => deployed.row(group * k + worker % k),
        }
    }
}

/// The answers of a deployed model to the queries, and to what these codes make of them.
fn ask_deployed(
    options: &Compare,
    file: &Path,
    queries: &Queries,
    total: usize,
    coded: &[(&Code, Encoder)],
    progress: &Progress,
) -> Result<Predictions> {
    let layout = RowLayout::new(Dtype::F32, queries.shape.clone());
    sibling::infer(file, &about(file, options), options.compute, layout, total as u64, |out| {
        out.write(&queries.values[..queries.count * queries.elements()])?;
        progress.advance(queries.count as u64);
        for (code, encoder) in coded {
            let (values, groups) = queries.groups(code.k());
            let mut made = Vec::new();
            for group in values.chunks_exact(code.k() * queries.elements()) {
                encoder.encode(0..code.workers(), group, &mut made)?;
                out.write(&made)?;
            }
            progress.advance((groups * code.workers()) as u64);
        }
        Ok(())
    })
}

/// What the options say of a model that may have begun as the deployed model, whose inputs and outputs it then
/// has; a native one has one of each.
fn about(file: &Path, options: &Compare) -> ModelOptions {
    let is_native = file.extension().is_some_and(|kind| kind == "safetensors");
    if is_native && file != options.model { ModelOptions::default() } else { options.model_options.clone() }
}

/// Sees that a model has outputs of the shape that the deployed model has.
fn same_shape(file: &Path, found: &Predictions, expected: &Deployed) -> Result<()> {
    ensure!(
        found.shape == expected.answers.shape,
        "{}: found outputs of shape {:?}, expected {:?} as {} has",
        file.display(),
        found.shape,
        expected.answers.shape,
        expected.file.display()
    );
    Ok(())
}

/// The outputs for the parity queries of a trained code, by parity.
fn parity_answers(
    options: &Compare,
    code: &Code,
    queries: &Queries,
    deployed: &Deployed,
) -> Result<Vec<Predictions>> {
    let (r, elements) = (code.r(), queries.elements());
    let encoder = code.encoder(&queries.shape, &network::loader(options))?;
    let mut coded = Vec::new();
    encoder.encode(0..r, queries.groups(code.k()).0, &mut coded)?;
    let models = code.parity_models();
    let mut answers = Vec::new();
    for parity in 0..r {
        let model = models.get(parity).unwrap_or(&deployed.file);
        let groups = coded.chunks_exact(r * elements);
        let rows: Vec<f32> =
            groups.flat_map(|group| &group[parity * elements..][..elements]).copied().collect();
        let answer = ask(model, options, &queries.shape, &rows)?;
        same_shape(model, &answer, deployed)?;
        answers.push(answer);
    }
    Ok(answers)
}

/// Asks a model for its outputs for rows of this shape.
fn ask(model: &Path, options: &Compare, shape: &[usize], rows: &[f32]) -> Result<Predictions> {
    let layout = RowLayout::new(Dtype::F32, shape);
    let count = rows.len() / layout.elements();
    sibling::infer(model, &about(model, options), options.compute, layout, count as u64, |out| {
        Ok(out.write(rows)?)
    })
}
