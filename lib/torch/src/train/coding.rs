//! Trains the parts of a code, and scores it.

use nalgebra::DMatrix;
use parm::codes::{CodeError, CodeKind, Matrices};
use parm::task::TOLERANCE;
use parm::{LinearCode, Task};
use tch::{Kind, TchError, Tensor};

use super::lesson::{Lesson, count, split, validation_groups};
use super::objective::{Answers, Coded, Compared, Deployed, Encoder, Tiles, none};
use super::scenarios::Scenarios;
use super::start::Begin;
use super::{Environment, Fit, Loss, Recipe, Rows, Start, TrainError, Truth, settings};
use crate::device::Device;
use crate::model::Model;
use crate::trainable::Trainable;

/// The deployed model of a code.
#[derive(Clone, Debug)]
pub enum DeployedPlan<'a> {
    /// It stays as it is.
    Fixed {
        /// Its predictions of the queries.
        predictions: &'a Rows,
        /// The hash of the model, or of its recorded predictions.
        sha256: &'a str,
        /// The model, if it is more than its recorded predictions.
        model: Option<&'a Model>,
    },
    /// It is trained together with the code.
    Joint(Joint<'a>),
}

/// A deployed model that is trained together with its code, to answer queries as the truth says and to be rebuilt
/// well.
#[derive(Clone, Debug)]
pub struct Joint<'a> {
    /// What it begins as.
    pub start: Start<'a>,
    /// The loss of its own predictions against the truth.
    pub loss: Loss,
    /// λ, the weight of the loss of what is rebuilt beside it.
    pub weight: f64,
}

/// How parity queries are made.
#[derive(Clone, Debug)]
pub enum EncoderPlan<'a> {
    /// By the code's weighted sums, or its interpolant.
    Sum,
    /// As tiled images, with one parity query.
    Concat,
    /// By a network, `[k, …]` to `[r, …]`.
    Learned(Start<'a>),
}

/// The models that answer coded queries.
#[derive(Clone, Debug)]
pub enum AnswersPlan<'a> {
    /// Parity models, one for each parity.
    Parity(Vec<Start<'a>>),
    /// The deployed model.
    Deployed,
}

/// How predictions are rebuilt.
#[derive(Clone, Debug)]
pub enum DecoderPlan<'a> {
    /// By the code's matrices.
    Linear,
    /// By a network, `[k + r, …]` to `[k, …]`.
    Learned(Start<'a>),
}

/// A code whose parts are trained, and the training data.
#[derive(Clone)]
pub struct Coding<'a> {
    /// The queries.
    pub queries: &'a Rows,
    /// The deployed model.
    pub deployed: DeployedPlan<'a>,
    /// The labels, values or boxes of the queries, for scores and for losses against them.
    pub truth: Option<&'a Truth>,
    /// What the predictions are.
    pub task: Task,
    /// The size of the code, and its matrices if the encoder or decoder uses them.
    pub code: &'a CodeKind,
    /// How coded queries are made.
    pub encoder: EncoderPlan<'a>,
    /// The models that answer them.
    pub answers: AnswersPlan<'a>,
    /// How predictions are rebuilt.
    pub decoder: DecoderPlan<'a>,
    /// The loss.
    pub loss: Loss,
    /// The values that it compares.
    pub compared: Compared,
    /// The stream of random numbers, which differs between the trainings of one seed.
    pub stream: u64,
    /// Where to compute.
    pub device: Device,
}

/// The trained parts of a code.
#[derive(Debug, Default)]
pub struct Trained {
    /// The deployed model, if it was trained.
    pub deployed: Option<Model>,
    /// The encoder, if it was learned.
    pub encoder: Option<Model>,
    /// The parity models, by parity; empty if the deployed model answers.
    pub parity: Vec<Model>,
    /// The decoder, if it was learned.
    pub decoder: Option<Model>,
}

/// The scores of a code on the validation rows, under every single loss.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CodeScores {
    /// A_a, the accuracy of the deployed model; none without labels.
    pub available: Option<f64>,
    /// A_d, the accuracy of the reconstructions; none without labels.
    pub degraded: Option<f64>,
    /// The share of reconstructions that agree with the deployed model's own predictions; none without validation
    /// rows.
    pub agreement: Option<f64>,
    /// The IoU of the reconstructions with the true boxes, or with the deployed model's own; only for boxes.
    pub fit: Option<Fit>,
    /// R² of the reconstructions against the deployed model's own predictions; only for values.
    pub determination: Option<f64>,
    /// R² of the deployed model's own predictions, and of the reconstructions, against the true values.
    pub true_determinations: [Option<f64>; 2],
    /// The mean absolute error of the reconstructions; only for values.
    pub absolute_error: Option<f64>,
    /// The mean cosine of the reconstructions and the deployed model's own predictions; only for embeddings.
    pub cosine: Option<f64>,
    /// The share of the ten nearest neighbours of the deployed model's own predictions that are found; only for
    /// embeddings.
    pub recall: Option<f64>,
    /// The number of scored reconstructions.
    pub reconstructions: u64,
}

impl<'a> Coding<'a> {
    /// Trains the parts together. Returns those of the epoch with the best score of the task (agreement, R²,
    /// mean cosine or mean IoU) under every single loss of the validation rows, among equals those of the lowest loss; without validation rows those of the
    /// last epoch.
    ///
    /// # Errors
    /// [`TrainError`], by kind.
    pub fn train(&self, recipe: &Recipe, environment: &mut Environment<'_>) -> Result<Trained, TrainError> {
        let starts = self.starts();
        let alone = starts.len() == 1;
        let weights = weights(self.code);
        let (task, deployed) = match &self.deployed {
            DeployedPlan::Fixed { sha256, .. } => ("code", (*sha256).to_owned()),
            DeployedPlan::Joint(Joint { loss, weight, .. }) => {
                ("joint", format!("{loss:?} + {weight} of the code's"))
            }
        };
        let mut own = vec![
            ("task", format!("{task} {} {}", self.code.k(), self.stream)),
            ("deployed", deployed),
            ("weights", format!("{weights:?}")),
            ("encoder", self.encoder.name().into()),
            ("loss", format!("{:?} of {:?}", self.loss, self.compared)),
        ];
        let parts = starts
            .iter()
            .map(|(name, start)| Ok((name.clone(), start.record()?)))
            .collect::<Result<Vec<(String, String)>, TrainError>>()?;
        own.extend(parts.iter().map(|(name, value)| (name.as_str(), value.clone())));
        let lesson = Lesson {
            objective: &self.objective()?,
            settings: settings(&own, self.queries, recipe),
            learners: starts.into_iter().map(|(name, start)| start.learner(&name, alone)).collect(),
            stream: self.stream,
            device: self.device,
        };
        if lesson.learners.iter().all(|learner| !learner.learns) {
            return Err(TrainError::Nothing);
        }
        self.check_parity_models()?;
        let mut models = lesson.train(recipe, environment)?.into_iter().map(Trainable::into_model);
        let mut trained = Trained::default();
        if let DeployedPlan::Joint(_) = self.deployed {
            trained.deployed = models.next();
        }
        if matches!(self.encoder, EncoderPlan::Learned(_)) {
            trained.encoder = models.next();
        }
        if let AnswersPlan::Parity(starts) = &self.answers {
            trained.parity = models.by_ref().take(starts.len()).collect();
        }
        trained.decoder = models.next();
        Ok(trained)
    }

    /// Scores the code with these trained parts on the validation rows.
    ///
    /// # Errors
    /// libtorch's; rows that do not fit.
    pub fn score(&self, trained: Trained, recipe: &Recipe) -> Result<CodeScores, TrainError> {
        let objective = self.objective()?;
        let groups = validation_groups(&split(&objective, recipe)?, &objective, recipe, self.device)?;
        let Trained { deployed, encoder, parity, decoder } = trained;
        let models: Vec<Model> = deployed.into_iter().chain(encoder).chain(parity).chain(decoder).collect();
        let answer = |at: usize, queries: &Tensor| models.get(at).ok_or_else(none)?.forward(queries);
        let counts = count(&objective, &answer, &groups)?;
        Ok(CodeScores {
            available: counts.available(),
            degraded: counts.accuracy(),
            agreement: counts.agreement(),
            fit: counts.fit(),
            determination: counts.determination(),
            true_determinations: counts.true_determinations(),
            absolute_error: counts.absolute(),
            cosine: counts.cosine(),
            recall: counts.recall()?,
            reconstructions: counts.rows(),
        })
    }

    /// The largest distance of values that agree.
    fn tolerance(&self) -> Result<f64, TchError> {
        let values = match (self.task, &self.deployed, self.truth) {
            (Task::Regress, DeployedPlan::Fixed { predictions, .. }, _) => &predictions.tensor,
            (Task::Regress, DeployedPlan::Joint(_), Some(truth)) => truth.tensor(),
            _ => return Ok(0.0),
        };
        Ok(TOLERANCE * deviation(values)?)
    }

    /// The models, by name: the deployed one, encoder, parity models, decoder.
    fn starts(&self) -> Vec<(String, Start<'a>)> {
        let mut starts = Vec::new();
        if let DeployedPlan::Joint(Joint { start, .. }) = &self.deployed {
            starts.push(("deployed".to_owned(), start.clone()));
        }
        if let EncoderPlan::Learned(start) = &self.encoder {
            starts.push(("encoder".to_owned(), start.clone()));
        }
        if let AnswersPlan::Parity(parity) = &self.answers {
            starts.extend(parity.iter().enumerate().map(|(j, start)| (format!("parity-{j}"), start.clone())));
        }
        if let DecoderPlan::Learned(start) = &self.decoder {
            starts.push(("decoder".to_owned(), start.clone()));
        }
        starts
    }

    /// Sees that the models that are to answer parity queries answer a row as the deployed model does.
    fn check_parity_models(&self) -> Result<(), TrainError> {
        let AnswersPlan::Parity(starts) = &self.answers else { return Ok(()) };
        let expected = match &self.deployed {
            DeployedPlan::Fixed { predictions, .. } => predictions.shape().to_vec(),
            DeployedPlan::Joint(Joint { start, .. }) => self.output_shape(start)?,
        };
        for start in starts {
            let found = self.output_shape(start)?;
            if found.iter().product::<usize>() != expected.iter().product::<usize>() {
                return Err(TrainError::Outputs { found, expected });
            }
        }
        Ok(())
    }

    fn output_shape(&self, start: &Start<'_>) -> Result<Vec<usize>, TrainError> {
        match &start.begin {
            Begin::Native { description, .. } => Ok(description.prediction_shape.clone()),
            Begin::Copy(model) => self.queries.output_shape(model),
        }
    }

    fn objective(&self) -> Result<Coded<'a>, TrainError> {
        if let DeployedPlan::Fixed { predictions, .. } = &self.deployed {
            let (found, expected) = (predictions.count(), self.queries.count());
            if found != expected {
                return Err(TrainError::Count { what: "predictions", found, expected });
            }
        }
        if self.loss == Loss::CrossEntropy && !matches!(self.truth, Some(Truth::Classes(_))) {
            return Err(TrainError::Unlabelled);
        }
        let mut models = 0;
        let mut next = |count| {
            models += count;
            models - count
        };
        let deployed = match &self.deployed {
            DeployedPlan::Fixed { predictions, .. } => Deployed::Fixed(predictions),
            DeployedPlan::Joint(_) if self.truth.is_none() => return Err(TrainError::Unlabelled),
            DeployedPlan::Joint(Joint { loss, weight, .. }) => {
                next(1);
                Deployed::Joint { loss: *loss, weight: *weight }
            }
        };
        let encoder = match &self.encoder {
            EncoderPlan::Sum => Encoder::Weights,
            EncoderPlan::Concat => Encoder::Tiles(Tiles::new(self.queries, self.code.k(), self.device)?),
            EncoderPlan::Learned(_) => Encoder::Network(next(1)),
        };
        let answers = match (&self.answers, &self.deployed) {
            (AnswersPlan::Parity(starts), _) => Answers::Networks(next(starts.len())),
            (AnswersPlan::Deployed, DeployedPlan::Joint(_)) => Answers::Joint,
            (AnswersPlan::Deployed, DeployedPlan::Fixed { model, .. }) => {
                Answers::Deployed(model.ok_or(TrainError::Nothing)?)
            }
        };
        let weights = weights(self.code);
        let (k, r) = (self.code.k(), weights.len());
        let (decoder, scenarios): (_, Box<dyn Fn(usize) -> _>) = match &self.decoder {
            DecoderPlan::Linear => (None, Box::new(|most| Scenarios::linear(self.code, most, self.device))),
            DecoderPlan::Learned(_) => {
                (Some(next(1)), Box::new(|most| Scenarios::learned(k, r, most, self.device)))
            }
        };
        // Answers that are located as wrong are left out like those that are missing.
        let most = match self.code {
            CodeKind::Systematic(code) => code.r(),
            CodeKind::Interpolating(code) => code.redundancy().stragglers + code.redundancy().byzantine,
        };
        Ok(Coded {
            queries: self.queries,
            deployed,
            truth: self.truth,
            task: self.task,
            tolerance: self.tolerance()?,
            code: self.code,
            encoder,
            answers,
            decoder,
            loss: self.loss,
            compared: self.compared,
            learnt: scenarios(most)?,
            single: scenarios(most.min(1))?,
            weights,
        })
    }
}

/// The weights of the queries in each coded query.
fn weights(code: &CodeKind) -> Vec<Vec<f64>> {
    code.parity_matrix().row_iter().map(|row| row.iter().copied().collect()).collect()
}

/// The standard deviation of rows of values: the root of the sum of the variances of all elements.
fn deviation(values: &Tensor) -> Result<f64, TchError> {
    let values = values.f_to_kind(Kind::Double)?;
    let errors = values.f_sub(&values.f_mean_dim(0, true, Kind::Double)?)?;
    let variance = errors.f_square()?.f_sum(Kind::Double)?.double_value(&[]) / values.size()[0].max(1) as f64;
    Ok(variance.sqrt())
}

impl EncoderPlan<'_> {
    fn name(&self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Concat => "concat",
            Self::Learned(_) => "learned",
        }
    }
}

/// The code with only parity `j` of this one.
///
/// # Errors
/// A parity that the code does not have.
pub fn single(code: &LinearCode, j: usize) -> Result<CodeKind, CodeError> {
    let weights = code.weights(j);
    let row = DMatrix::from_row_slice(1, weights.len(), &weights);
    Ok(LinearCode::weighted(weights.len(), row)?.into())
}
