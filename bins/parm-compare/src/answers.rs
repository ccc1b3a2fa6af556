//! Every answer that any scheme needs, asked for once.

use std::path::Path;

use anyhow::{Result, ensure};
use parm::Dtype;
use parm::codes::Code;
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
    /// The deployed model's: the queries', then those of each scheme whose coded queries it answers.
    deployed: Predictions,
    /// By scheme.
    own: Vec<Own>,
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
        let layout = RowLayout::new(Dtype::F32, queries.shape.clone());
        let mut own = Vec::new();
        let mut total = queries.count;
        // Those whose coded queries the deployed model answers, with what makes them.
        let mut coded = Vec::new();
        for Scheme { code, .. } in schemes {
            own.push(if code.interpolating().is_some() {
                let first = total;
                total += queries.groups(code.k()).1 * code.workers();
                coded.push((code, code.encoder(&queries.shape, &network::loader(options))?));
                Own::Coded(first)
            } else if code.trained().is_some() {
                Own::Parities(Vec::new())
            } else {
                Own::Queries
            });
        }
        progress.expect(total as u64);
        let deployed = sibling::infer(
            &options.model,
            &options.model_options,
            options.compute,
            layout.clone(),
            total as u64,
            |out| {
                out.write(&queries.values[..queries.count * queries.elements()])?;
                progress.advance(queries.count as u64);
                for (code, encoder) in &coded {
                    let (values, groups) = queries.groups(code.k());
                    let mut made = Vec::new();
                    for group in values.chunks_exact(code.k() * queries.elements()) {
                        encoder.encode(0..code.workers(), group, &mut made)?;
                        out.write(&made)?;
                    }
                    progress.advance((groups * code.workers()) as u64);
                }
                Ok(())
            },
        )?;
        for (scheme, own) in schemes.iter().zip(&mut own) {
            if let Own::Parities(answers) = own {
                *answers = parity_answers(options, &scheme.code, queries, &deployed)?;
            }
        }
        Ok(Self { queries: queries.count, deployed, own })
    }

    /// Classes of a prediction.
    ///
    /// # Errors
    /// Predictions that are no classes.
    pub(crate) fn classes(&self) -> Result<usize> {
        let shape = &self.deployed.shape;
        ensure!(shape.len() == 1, "found predictions of shape {shape:?}, expected [classes]");
        ensure!(
            shape[0] > 1,
            "found predictions of one number, which tell no classes apart: expected two classes or more, since \
             codes are compared by the class that comes first"
        );
        Ok(shape[0])
    }

    /// Queries that were asked.
    pub(crate) fn queries(&self) -> usize {
        self.queries
    }

    /// The deployed model's own prediction of a query.
    pub(crate) fn prediction(&self, query: usize) -> &[f32] {
        self.deployed.row(query)
    }

    /// The answer of one worker of a group, by the scheme's index.
    pub(crate) fn answer(&self, index: usize, scheme: &Scheme, group: usize, worker: usize) -> &[f32] {
        let k = scheme.k();
        match &self.own[index] {
            Own::Coded(first) => self.deployed.row(first + group * scheme.code.workers() + worker),
            Own::Parities(answers) if worker >= k => answers[worker - k].row(group),
            // Spare workers are dealt round-robin over the queries.
            Own::Parities(_) | Own::Queries => self.deployed.row(group * k + worker % k),
        }
    }
}

/// The outputs for the parity queries of a trained code, by parity.
fn parity_answers(
    options: &Compare,
    code: &Code,
    queries: &Queries,
    deployed: &Predictions,
) -> Result<Vec<Predictions>> {
    let (r, elements) = (code.r(), queries.elements());
    let encoder = code.encoder(&queries.shape, &network::loader(options))?;
    let mut coded = Vec::new();
    encoder.encode(0..r, queries.groups(code.k()).0, &mut coded)?;
    let models = code.parity_models();
    let mut answers = Vec::new();
    for parity in 0..r {
        // A parity model that may have begun as the deployed model has its inputs and outputs; a native one has
        // one of each.
        let native = ModelOptions::default();
        let (model, about) = match models.get(parity) {
            Some(model) if model.extension().is_some_and(|kind| kind == "safetensors") => (model, &native),
            Some(model) => (model, &options.model_options),
            None => (&options.model, &options.model_options),
        };
        let groups = coded.chunks_exact(r * elements);
        let rows: Vec<f32> =
            groups.flat_map(|group| &group[parity * elements..][..elements]).copied().collect();
        let answer = ask(model, about, options, &queries.shape, &rows)?;
        ensure!(
            answer.shape == deployed.shape,
            "{}: found outputs of shape {:?}, expected {:?} as {} has",
            model.display(),
            answer.shape,
            deployed.shape,
            options.model.display()
        );
        answers.push(answer);
    }
    Ok(answers)
}

/// Asks a model for its outputs for rows of this shape.
fn ask(
    model: &Path,
    about: &ModelOptions,
    options: &Compare,
    shape: &[usize],
    rows: &[f32],
) -> Result<Predictions> {
    let layout = RowLayout::new(Dtype::F32, shape);
    let count = rows.len() / layout.elements();
    sibling::infer(model, about, options.compute, layout, count as u64, |out| Ok(out.write(rows)?))
}
