//! What a model predicts, and when two predictions agree.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::dtype::Float;
use crate::score::{intersection_over_union, top1};

/// What a model predicts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// The logits of classes.
    #[default]
    Classify,
    /// One or more values.
    Regress,
    /// A vector whose direction counts.
    Embed,
    /// A box: corner, width and height.
    Boxes,
}

/// A share of the standard deviation of values: see [`Task::agreement`]. Values that are all wrong by as much have
/// R² = 0.96; of values with a normal distribution, their mean is within it for 16 %.
pub const TOLERANCE: f64 = 0.2;

/// The least cosine of embeddings that agree: an angle of 26 degrees.
pub const LEAST_COSINE: f64 = 0.9;

/// The least intersection over union of boxes that agree.
pub const LEAST_OVERLAP: f64 = 0.5;

/// A word that names no task.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("found '{found}', expected {}", expected.join(", "))]
pub struct UnknownTask {
    /// The word.
    pub found: String,
    /// The words that do.
    pub expected: Vec<&'static str>,
}

impl Task {
    /// All tasks.
    pub const ALL: [Self; 4] = [Self::Classify, Self::Regress, Self::Embed, Self::Boxes];

    /// Its name, for options and parm-serve.json.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Classify => "classify",
            Self::Regress => "regress",
            Self::Embed => "embed",
            Self::Boxes => "boxes",
        }
    }

    /// What its predictions are, for `code.json` and the files of native models.
    #[must_use]
    pub fn output(self) -> &'static str {
        match self {
            Self::Classify => "logits",
            Self::Regress => "values",
            Self::Embed => "embeddings",
            Self::Boxes => "boxes",
        }
    }

    /// The task with this [name](Self::name).
    ///
    /// # Errors
    /// [`UnknownTask`].
    pub fn from_name(name: &str) -> Result<Self, UnknownTask> {
        Self::find(name, Self::name)
    }

    /// The task with this [output](Self::output).
    ///
    /// # Errors
    /// [`UnknownTask`].
    pub fn from_output(output: &str) -> Result<Self, UnknownTask> {
        Self::find(output, Self::output)
    }

    fn find(word: &str, of: fn(Self) -> &'static str) -> Result<Self, UnknownTask> {
        Self::ALL
            .into_iter()
            .find(|task| of(*task) == word)
            .ok_or_else(|| UnknownTask { found: word.to_owned(), expected: Self::ALL.map(of).to_vec() })
    }

    /// The task of predictions of so many numbers, if nothing else is known: one number tells no classes apart.
    #[must_use]
    pub fn of_elements(elements: usize) -> Self {
        if elements == 1 { Self::Regress } else { Self::Classify }
    }

    /// Why a prediction of so many numbers is none of this task; `None` if it may be one.
    #[must_use]
    pub fn misfit(self, elements: usize) -> Option<Misfit> {
        let fits = match self {
            Self::Classify | Self::Embed => elements > 1,
            Self::Regress => elements > 0,
            Self::Boxes => elements == 4,
        };
        (!fits).then_some(Misfit { task: self, elements })
    }

    /// The task of predictions of so many numbers: the one that was asked for, or else what the file of a code or a
    /// model says, or else that of the [size](Self::of_elements). Files say `logits` by default, so this word gives
    /// way to any other task.
    ///
    /// # Errors
    /// [`TaskError`].
    pub fn choose(asked: Option<Self>, said: Option<Self>, elements: usize) -> Result<Self, TaskError> {
        let said = said.filter(|said| *said != Self::Classify);
        let task = match (asked, said) {
            (Some(asked), Some(said)) if asked != said => return Err(TaskError::Other { asked, said }),
            (asked, said) => asked.or(said).unwrap_or_else(|| Self::of_elements(elements)),
        };
        task.misfit(elements).map_or(Ok(task), |misfit| Err(misfit.into()))
    }

    /// When two predictions agree. `tolerance` is the largest distance of values that agree: a share
    /// ([`TOLERANCE`]) of the [deviation](Spread::deviation) of the deployed model's predictions.
    #[must_use]
    pub fn agreement(self, tolerance: f64) -> Agreement {
        match self {
            Self::Classify => Agreement::Top1,
            Self::Regress => Agreement::Distance(tolerance),
            Self::Embed => Agreement::Cosine(LEAST_COSINE),
            Self::Boxes => Agreement::Overlap(LEAST_OVERLAP),
        }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A task that predictions do not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TaskError {
    /// A file says another one.
    #[error("found the task {asked}, expected {said}: the outputs are {}", said.output())]
    Other {
        /// The task that was asked for.
        asked: Task,
        /// The task of the file.
        said: Task,
    },
    /// Their size.
    #[error(transparent)]
    Misfit(#[from] Misfit),
}

/// Predictions of a size that a task does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Misfit {
    /// The task.
    pub task: Task,
    /// The numbers of a prediction.
    pub elements: usize,
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { task, elements } = self;
        let why = if *task == Task::Classify { ", which tell no classes apart" } else { "" };
        let found = if *elements == 1 { format!("one number{why}") } else { format!("{elements} numbers") };
        let expected = match task {
            Task::Classify | Task::Embed => "two or more",
            Task::Regress => "one or more",
            Task::Boxes => "4: corner, width and height",
        };
        write!(f, "found predictions of {found}, expected {expected} for the task {task}")
    }
}

/// Tasks in files that name them by their [outputs](Task::output).
pub mod output {
    use serde::{Deserialize, Deserializer, Serializer, de};

    use super::Task;

    /// Writes the word for its outputs.
    ///
    /// # Errors
    /// The serializer's.
    #[allow(clippy::trivially_copy_pass_by_ref)] // serde asks for it
    pub fn serialize<S: Serializer>(task: &Task, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(task.output())
    }

    /// Reads the word for its outputs.
    ///
    /// # Errors
    /// Another word.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Task, D::Error> {
        let word = String::deserialize(deserializer)?;
        Task::from_output(&word).map_err(|error| de::Error::custom(format!("output: {error}")))
    }
}

/// When two predictions agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Agreement {
    /// They have the same top-1.
    Top1,
    /// Their Euclidean distance is at most this.
    Distance(f64),
    /// Their [cosine] is at least this.
    Cosine(f64),
    /// Their intersection over union is at least this.
    Overlap(f64),
}

impl Agreement {
    /// Whether two predictions agree. What is not a number agrees with nothing, but as a class.
    #[must_use]
    pub fn agrees<T: Float>(self, a: &[T], b: &[T]) -> bool {
        match self {
            Self::Top1 => top1(a) == top1(b),
            Self::Distance(most) => {
                let squares = a.iter().zip(b).map(|(a, b)| (a.to_f64() - b.to_f64()).powi(2));
                a.len() == b.len() && squares.sum::<f64>().sqrt() <= most
            }
            Self::Cosine(least) => cosine(a, b) >= least,
            Self::Overlap(least) => {
                let [a, b] = [a, b].map(as_box);
                a.zip(b).is_some_and(|(a, b)| intersection_over_union(&a, &b) >= least)
            }
        }
    }
}

/// A prediction as a box; none if it has not four numbers, or one that is not a number.
#[must_use]
pub fn as_box<T: Float>(row: &[T]) -> Option<[f32; 4]> {
    let row: [f32; 4] = row.iter().map(|value| value.to_f64() as f32).collect::<Vec<_>>().try_into().ok()?;
    row.iter().all(|value| !value.is_nan()).then_some(row)
}

/// The cosine of the angle between two vectors; 0 if one is zero, not a number if one has such a value.
#[must_use]
pub fn cosine<T: Float>(a: &[T], b: &[T]) -> f64 {
    let dot = |a: &[T], b: &[T]| a.iter().zip(b).map(|(a, b)| a.to_f64() * b.to_f64()).sum::<f64>();
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    if norms == 0.0 { 0.0 } else { (dot(a, b) / norms).clamp(-1.0, 1.0) }
}

/// The mean and the deviation of rows, which come one by one (Welford, 1962).
#[derive(Clone, Debug, Default)]
pub struct Spread {
    rows: u64,
    mean: Vec<f64>,
    /// The sum of the squared distances from the mean.
    scatter: f64,
}

impl Spread {
    /// The spread of these rows of so many elements.
    pub fn of<T: Float>(values: &[T], elements: usize) -> Self {
        let mut spread = Self::default();
        values.chunks_exact(elements.max(1)).for_each(|row| spread.add(row));
        spread
    }

    /// Adds a row, of as many elements as the first.
    pub fn add<T: Float>(&mut self, row: &[T]) {
        self.rows += 1;
        self.mean.resize(row.len(), 0.0);
        for (mean, value) in self.mean.iter_mut().zip(row) {
            let before = value.to_f64() - *mean;
            *mean += before / self.rows as f64;
            self.scatter += before * (value.to_f64() - *mean);
        }
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// The mean row; empty without rows.
    #[must_use]
    pub fn mean(&self) -> &[f64] {
        &self.mean
    }

    /// The standard deviation: the root of the sum of the variances of all elements. 0 without rows.
    #[must_use]
    pub fn deviation(&self) -> f64 {
        if self.rows == 0 { 0.0 } else { (self.scatter / self.rows as f64).max(0.0).sqrt() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_task_has_a_name_and_an_output_and_other_words_are_refused() {
        for task in Task::ALL {
            assert_eq!(Task::from_name(task.name()), Ok(task));
            assert_eq!(Task::from_output(task.output()), Ok(task));
            assert_eq!(serde_json::to_value(task).unwrap(), task.name());
        }
        let error = Task::from_output("classify").unwrap_err().to_string();
        assert_eq!(error, "found 'classify', expected logits, values, embeddings, boxes");
        let error = Task::from_name("logits").unwrap_err().to_string();
        assert_eq!(error, "found 'logits', expected classify, regress, embed, boxes");
    }

    #[test]
    fn a_task_has_predictions_of_its_size() {
        for (task, fit, misfits) in [
            (Task::Classify, 2, &[0, 1][..]),
            (Task::Embed, 64, &[0, 1]),
            (Task::Regress, 1, &[0]),
            (Task::Boxes, 4, &[1, 3, 5]),
        ] {
            assert_eq!(task.misfit(fit), None);
            assert!(misfits.iter().all(|&elements| task.misfit(elements).is_some()), "{task}");
        }
        let text = |task: Task, elements| task.misfit(elements).map(|misfit| misfit.to_string());
        let classes = "found predictions of one number, which tell no classes apart, expected two or more for the \
                       task classify";
        assert_eq!(text(Task::Classify, 1).as_deref(), Some(classes));
        let boxes = "found predictions of 3 numbers, expected 4: corner, width and height for the task boxes";
        assert_eq!(text(Task::Boxes, 3).as_deref(), Some(boxes));
        assert_eq!([1, 2].map(Task::of_elements), [Task::Regress, Task::Classify]);
    }

    #[test]
    fn the_task_that_is_asked_for_goes_before_the_file_but_must_not_contradict_it() {
        let choose =
            |asked, said, elements| Task::choose(asked, said, elements).map_err(|error| error.to_string());
        assert_eq!(choose(None, None, 10), Ok(Task::Classify));
        assert_eq!(choose(None, Some(Task::Classify), 1), Ok(Task::Regress));
        assert_eq!(choose(None, Some(Task::Embed), 10), Ok(Task::Embed));
        assert_eq!(choose(Some(Task::Embed), Some(Task::Classify), 10), Ok(Task::Embed));
        let other = "found the task regress, expected embed: the outputs are embeddings";
        assert_eq!(choose(Some(Task::Regress), Some(Task::Embed), 10), Err(other.to_owned()));
        assert!(choose(Some(Task::Classify), None, 1).unwrap_err().contains("tell no classes apart"));
        assert!(choose(None, Some(Task::Boxes), 5).unwrap_err().contains("found predictions of 5 numbers"));
    }

    #[test]
    fn predictions_agree_by_the_measure_of_their_task() {
        let agree = |task: Task, a: &[f32], b: &[f32]| task.agreement(0.5).agrees(a, b);
        for (task, own, near, far) in [
            (Task::Classify, &[1.0, 2.0][..], &[-5.0, 0.0][..], &[2.0, 1.0][..]),
            (Task::Regress, &[1.0, 2.0], &[1.3, 2.3], &[1.4, 2.4]),
            (Task::Embed, &[1.0, 0.0], &[20.0, 9.0], &[2.0, 1.0]),
            (Task::Boxes, &[0.0, 0.0, 2.0, 2.0], &[0.0, 0.0, 2.0, 1.1], &[0.0, 0.0, 2.0, 0.9]),
        ] {
            assert!(agree(task, own, own) && agree(task, near, own), "{task}");
            assert!(!agree(task, far, own), "{task}");
            if task != Task::Classify {
                assert!(!agree(task, &[f32::NAN; 4][..own.len()], own), "{task}");
                assert!(!agree(task, &own[1..], own), "{task}: another size");
            }
        }
    }

    proptest! {
        #[test]
        fn cosines_and_spreads_are_those_of_the_naive_formulas(
            rows in prop::collection::vec(prop::array::uniform3(-100.0_f64..100.0), 2..20),
        ) {
            let (a, b) = (rows[0], rows[1]);
            let norm = |v: [f64; 3]| v.iter().map(|x| x * x).sum::<f64>().sqrt();
            let naive = (a[0] * b[0] + a[1] * b[1] + a[2] * b[2]) / norm(a) / norm(b);
            prop_assert!((cosine(&a, &b) - naive).abs() < 1e-9);

            let spread = Spread::of(rows.as_flattened(), 3);
            let count = rows.len() as f64;
            let mean = |i: usize| rows.iter().map(|row| row[i]).sum::<f64>() / count;
            let variance = |i: usize| rows.iter().map(|row| (row[i] - mean(i)).powi(2)).sum::<f64>() / count;
            for i in 0..3 {
                prop_assert!((spread.mean()[i] - mean(i)).abs() < 1e-9);
            }
            let deviation = (variance(0) + variance(1) + variance(2)).sqrt();
            prop_assert!((spread.deviation() - deviation).abs() < 1e-9 * deviation.max(1.0));
        }
    }

    #[test]
    fn a_zero_vector_has_no_direction_and_no_rows_have_no_deviation() {
        assert_eq!(cosine(&[0.0, 0.0], &[1.0, 2.0]), 0.0);
        assert!(cosine(&[f32::NAN, 0.0], &[1.0, 2.0]).is_nan());
        assert_eq!(Spread::default().deviation(), 0.0);
    }
}
