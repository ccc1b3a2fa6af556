//! Every answer that any scheme needs, asked for once.

use std::path::Path;

use anyhow::{Result, ensure};
use parm::Dtype;
use parm::codes::concat::Concat;
use parm::codes::{apply, encode_groups, row_major};
use parm::npy::{RowLayout, WriteError};
use parm_cli::Progress;
use parm_cli::options::ModelOptions;
use parm_cli::sibling::{self, Predictions};
use parm_cli::tools::compare::Compare;

use crate::scheme::{Runs, Scheme, Trained};

/// The user's queries: `[count, shape…]`.
pub(crate) struct Queries {
    pub(crate) values: Vec<f32>,
    pub(crate) count: usize,
    pub(crate) shape: Vec<usize>,
}

impl Queries {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The rows of whole groups of k, and what they are in number.
    fn groups(&self, k: usize) -> (&[f32], usize) {
        let groups = self.count / k;
        (&self.values[..groups * k * self.elements()], groups)
    }
}

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
        for scheme in schemes {
            own.push(match &scheme.runs {
                Runs::Coded => {
                    let first = total;
                    total += queries.groups(scheme.k()).1 * scheme.code.workers();
                    Own::Coded(first)
                }
                Runs::Trained(_) => Own::Parities(Vec::new()),
                Runs::Copies => Own::Queries,
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
                schemes.iter().filter(|scheme| matches!(scheme.runs, Runs::Coded)).try_for_each(|scheme| {
                    let (values, groups) = queries.groups(scheme.k());
                    let (elements, workers) = (queries.elements(), scheme.code.workers());
                    let matrix = row_major::<f32>(&scheme.code.encoding());
                    let mut coded = vec![0.0; workers * elements];
                    for group in values.chunks_exact(scheme.k() * elements) {
                        apply(&matrix, group, elements, &mut coded);
                        out.write(&coded)?;
                    }
                    progress.advance((groups * workers) as u64);
                    Ok::<_, WriteError>(())
                })
            },
        )?;
        for (scheme, own) in schemes.iter().zip(&mut own) {
            if let (Runs::Trained(code), Own::Parities(answers)) = (&scheme.runs, own) {
                *answers = parity_answers(options, code, queries, &deployed)?;
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
    code: &Trained,
    queries: &Queries,
    deployed: &Predictions,
) -> Result<Vec<Predictions>> {
    let coded = encode(options, code, queries)?;
    let mut answers = Vec::new();
    for (parity, rows) in coded.iter().enumerate() {
        // Parity models say all about themselves.
        let (model, about) = match code.file.parity.get(parity) {
            Some(name) => (code.part(name), ModelOptions::default()),
            None => (options.model.clone(), options.model_options.clone()),
        };
        let answer = ask_as(&model, &about, options, &queries.shape, rows)?;
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

/// The parity queries of all groups: r times `[groups, elements]`.
fn encode(options: &Compare, code: &Trained, queries: &Queries) -> Result<Vec<Vec<f32>>> {
    let (file, elements) = (&code.file, queries.elements());
    let (values, groups) = queries.groups(file.k);
    if let Some(encoder) = &file.encoder {
        let shape: Vec<usize> = [&[file.k], queries.shape.as_slice()].concat();
        let coded = ask(&code.part(encoder), options, &shape, values)?;
        let size = coded.elements() / file.r;
        let parity = |j| (0..groups).flat_map(move |group| [group * file.r + j]);
        let rows = |j| parity(j).flat_map(|row| &coded.values[row * size..][..size]).copied().collect();
        return Ok((0..file.r).map(rows).collect());
    }
    let mut parities = Vec::new();
    if file.code == "concat" {
        let mut tiled = Vec::new();
        Concat::<f32>::new(file.k, &queries.shape)?.encode_groups(values, &mut tiled);
        parities.push(tiled);
    } else {
        for weights in &file.weights {
            let weights: Vec<f32> = weights.iter().map(|&weight| weight as f32).collect();
            let mut sums = Vec::new();
            encode_groups(&weights, values, elements, &mut sums);
            parities.push(sums);
        }
    }
    Ok(parities)
}

/// Asks a model for its outputs for rows of this shape.
pub(crate) fn ask(model: &Path, options: &Compare, shape: &[usize], rows: &[f32]) -> Result<Predictions> {
    ask_as(model, &ModelOptions::default(), options, shape, rows)
}

fn ask_as(
    model: &Path,
    about: &ModelOptions,
    options: &Compare,
    shape: &[usize],
    rows: &[f32],
) -> Result<Predictions> {
    let layout = RowLayout::new(Dtype::F32, shape);
    let count = rows.len() / layout.elements();
    sibling::infer(model, about, options.compute, layout, count as u64, |out| out.write(rows))
}
