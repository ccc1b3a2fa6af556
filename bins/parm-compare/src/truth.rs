//! What predictions are compared with, and what the comparison comes to.

use std::borrow::Cow;

use anyhow::{Context, Result, ensure};
use parm::measures::{Measures, Tally};
use parm::npy::RowBuffer;
use parm::score::{Fate, Interval, Measure, Row, Scorer, rank, top1};
use parm::task::{Spread, TOLERANCE};
use parm::{Task, measures};
use parm_cli::input::Reading;
use parm_cli::options::choose_task;
use parm_cli::sibling::Predictions;
use parm_cli::tools::compare::Compare;
use parm_cli::{Input, Io};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use crate::answers::Answers;
use crate::json::Against;
use crate::scheme::Scheme;

/// What predictions are compared with.
pub(crate) struct Truth {
    pub(crate) task: Task,
    known: Known,
}

enum Known {
    /// The classes of the queries.
    Labels(Vec<i64>),
    /// Their true values or boxes, one behind the other.
    Rows(Vec<f64>),
    /// Nothing but the deployed model's own predictions.
    Nothing,
}

/// The file of the truth, read before any model is asked.
pub(crate) enum Read {
    Labels(Vec<i64>),
    Rows { values: Vec<f64>, elements: usize },
    Nothing,
}

impl Read {
    /// Reads the labels, values or boxes of so many queries.
    pub(crate) fn new(options: &Compare, count: usize, reading: Reading, io: &mut Io) -> Result<Self> {
        let check = |input: &Input, what: &str, found: usize| {
            let data = &options.data;
            ensure!(
                found == count,
                "{input}: found {found} {what}, expected {count}: one for each row of {data}"
            );
            Ok(())
        };
        if let Some(input) = &options.labels {
            let labels = input.labels(io, reading)?;
            check(input, "labels", labels.len())?;
            return Ok(Self::Labels(labels));
        }
        let Some(input) = options.values.as_ref().or(options.boxes.as_ref()) else {
            return Ok(Self::Nothing);
        };
        let mut rows = input.rows(io, reading)?;
        let layout = rows.layout().clone();
        let is_flat = layout.dtype.is_float() && layout.shape.len() < 2;
        ensure!(is_flat, "{input}: found rows of {layout}, expected floats, one or [d] a row");
        let mut values = RowBuffer::<f64>::default();
        let found = rows.read(usize::MAX, &mut values)?;
        check(input, "rows", found)?;
        let (values, elements) = (values.values()[..found * layout.elements()].to_vec(), layout.elements());
        let is_wrong = |row: &&[f64]| row.iter().any(|value| !value.is_finite());
        if let Some(row) = values.chunks_exact(elements.max(1)).position(|row| is_wrong(&row)) {
            anyhow::bail!("{input}: row {row}: found a value that is not finite, expected numbers");
        }
        Ok(Self::Rows { values, elements })
    }
}

impl Truth {
    /// The truth for the predictions of these answers, and their task.
    pub(crate) fn new(options: &Compare, read: Read, answers: &Answers, schemes: &[Scheme]) -> Result<Self> {
        let elements = answers.elements()?;
        let asked = options.task.with(&[
            ("--labels", options.labels.is_some(), Task::Classify),
            ("--values", options.values.is_some(), Task::Regress),
            ("--boxes", options.boxes.is_some(), Task::Boxes),
        ])?;
        let said = schemes.iter().filter_map(|scheme| scheme.code.task());
        let said = said.reduce(|first, next| if first == Task::Classify { next } else { first });
        let task = choose_task(asked.as_ref(), said, elements)?;
        // Codes of another task were trained for other predictions.
        for scheme in schemes {
            choose_task(asked.as_ref(), scheme.code.task(), elements).with_context(|| scheme.name.clone())?;
        }
        let known = match read {
            Read::Labels(labels) => {
                let wrong = labels.iter().enumerate().find(|&(_, &label)| label as usize >= elements);
                if let (Some((row, label)), Some(input)) = (wrong, &options.labels) {
                    anyhow::bail!("{input}: row {row}: found label {label}, expected 0 to {}", elements - 1);
                }
                Known::Labels(labels)
            }
            Read::Rows { values, elements: found } => {
                let input = options.values.iter().chain(&options.boxes).map(Input::to_string);
                let input = input.collect::<String>();
                ensure!(
                    found == elements,
                    "{input}: found rows of {found} values, expected {elements} as of the model"
                );
                Known::Rows(values)
            }
            Read::Nothing => Known::Nothing,
        };
        Ok(Self { task, known })
    }

    /// What the scores measure: accuracy, R², the cosine or the IoU.
    pub(crate) fn measure(&self) -> &'static str {
        match self.task {
            Task::Classify => "accuracy",
            Task::Regress => "R2",
            Task::Embed => "cosine",
            Task::Boxes => "IoU",
        }
    }

    /// The measure of a deployed model's own predictions; none if nothing else is known to compare them with.
    pub(crate) fn of_deployed(&self, own: &Predictions) -> Option<f64> {
        match &self.known {
            Known::Labels(labels) => {
                let is_right =
                    |&(row, &label): &(usize, &i64)| top1(own.row(row)) == usize::try_from(label).ok();
                Some(labels.iter().enumerate().filter(is_right).count() as f64 / labels.len().max(1) as f64)
            }
            Known::Rows(rows) => {
                let (measures, elements) = (self.measures(own), own.elements());
                let mut tally = Tally::new(measures.width(), 1);
                for (row, truth) in rows.chunks_exact(elements).enumerate() {
                    tally.count(0, &measures.row(&wide(own.row(row)), truth));
                }
                measures.main(&tally.total())
            }
            Known::Nothing => None,
        }
    }

    /// What predictions are compared with.
    pub(crate) fn against(&self) -> Against {
        if matches!(self.known, Known::Nothing) { Against::Deployed } else { Against::Truth }
    }

    fn measures(&self, own: &Predictions) -> Measures {
        let deviation = Spread::of(&own.values, own.elements()).deviation();
        let origin = match &self.known {
            Known::Rows(rows) => rows[..own.elements()].to_vec(),
            _ => wide(own.row(0)),
        };
        Measures::new(self.task, self.task.agreement(TOLERANCE * deviation), &origin)
    }

    /// Counts of nothing yet, for so many groups of a deployed model with these predictions.
    pub(crate) fn board<'a>(&'a self, own: &'a Predictions, groups: usize) -> Board<'a> {
        let classes = |labels| Board::Classes { labels, own, scorer: Scorer::new(vec![1], groups) };
        match &self.known {
            Known::Labels(labels) => return classes(Cow::Borrowed(&labels[..])),
            Known::Nothing if self.task == Task::Classify => {
                let own = own.values.chunks_exact(own.elements());
                return classes(own.map(|row| top1(row).unwrap_or_default() as i64).collect());
            }
            _ => {}
        }
        let measures = self.measures(own);
        let tally = || Tally::new(measures.width(), groups);
        Board::Measured {
            truth: self,
            own,
            guess: Spread::of(&own.values, own.elements()).mean().to_vec(),
            available: tally(),
            degraded: tally(),
            all: tally(),
            compared: [0; 2],
            measures,
        }
    }
}

fn wide(row: &[f32]) -> Vec<f64> {
    row.iter().map(|value| f64::from(*value)).collect()
}

/// The counts of a scheme.
pub(crate) enum Board<'a> {
    Classes {
        labels: Cow<'a, [i64]>,
        own: &'a Predictions,
        scorer: Scorer,
    },
    Measured {
        truth: &'a Truth,
        own: &'a Predictions,
        measures: Measures,
        /// What stands for a prediction that nothing rebuilt: the mean of the deployed model's.
        guess: Vec<f64>,
        available: Tally,
        degraded: Tally,
        all: Tally,
        /// Reconstructions that agree with the deployed model's own predictions, and all of them.
        compared: [u64; 2],
    },
}

/// What counts come to.
pub(crate) struct Scores {
    pub(crate) available: Option<f64>,
    pub(crate) degraded: Option<f64>,
    pub(crate) all: Option<f64>,
    pub(crate) agreement: Option<f64>,
}

impl Board<'_> {
    /// Counts the prediction of a query, if there is one.
    pub(crate) fn count(&mut self, group: usize, query: usize, fate: Fate, prediction: Option<&[f32]>) {
        match self {
            Self::Classes { labels, own, scorer } => {
                let rank = prediction.and_then(|prediction| rank(prediction, labels[query] as usize));
                let agrees = prediction.map(|prediction| top1(prediction) == top1(own.row(query)));
                scorer.count(group, Row { fate, rank, agrees });
            }
            Self::Measured { truth, own, measures, guess, available, degraded, all, compared } => {
                let own = wide(own.row(query));
                let elements = own.len();
                let to = match &truth.known {
                    Known::Rows(rows) => &rows[query * elements..][..elements],
                    _ => &own,
                };
                let prediction = prediction.map(wide);
                let sums = measures.row(prediction.as_ref().unwrap_or(guess), to);
                all.count(group, &sums);
                match fate {
                    Fate::Available => available.count(group, &sums),
                    Fate::Reconstructed => {
                        degraded.count(group, &sums);
                        let agrees = prediction.is_some_and(|row| measures.agreement().agrees(&row, &own));
                        *compared = [compared[0] + u64::from(agrees), compared[1] + 1];
                    }
                    Fate::Unsolved => {}
                }
            }
        }
    }

    /// The scores; what nothing rebuilt is guessed.
    pub(crate) fn scores(&self) -> Scores {
        match self {
            Self::Classes { own, scorer, .. } => Scores {
                available: scorer.score(Measure::Available, 0),
                degraded: scorer.score(Measure::Degraded, 0),
                all: scorer.score(Measure::AllGuessed(own.elements()), 0),
                agreement: scorer.score(Measure::Agreement, 0),
            },
            Self::Measured { measures, available, degraded, all, compared: [agreed, compared], .. } => {
                let of = |tally: &measures::Tally| measures.main(&tally.total());
                Scores {
                    available: of(available),
                    degraded: of(degraded),
                    all: of(all),
                    agreement: (*compared > 0).then(|| *agreed as f64 / *compared as f64),
                }
            }
        }
    }

    /// The 95 % interval of the score of all predictions.
    pub(crate) fn interval(&self, seed: u64) -> Option<Interval> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        match self {
            Self::Classes { own, scorer, .. } => {
                scorer.intervals(&[(Measure::AllGuessed(own.elements()), 0)], &mut rng).remove(0)
            }
            Self::Measured { measures, all, .. } => all.interval(|sums| measures.main(sums), &mut rng),
        }
    }
}
