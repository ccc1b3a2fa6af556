//! Tests of training with a model that is no native network: it has dropout, a count of its batches, and a
//! parameter that nothing depends on.

use std::cell::Cell;
use std::path::Path;

use tch::{Device, Kind, TchError, Tensor};

use super::lesson::Lesson;
use super::objective::Own;
use super::state::Learner;
use super::tests::{recipe, rows};
use super::{BatchNorm, Environment, Loss, Precision, Recipe, TrainError, Truth};
use crate::model::{Model, ModelError};
use crate::numbers::{Entry, Numbers, Part};
use crate::timings::Timings;
use crate::trainable::{Mode, Trainable};

#[derive(Debug)]
struct Toy {
    numbers: Numbers,
    /// The share of queries' numbers that are dropped.
    dropout: f64,
    /// Whether outputs have no gradient, as those of argmax.
    is_detached: bool,
}

impl Toy {
    fn new(dropout: f64) -> Self {
        let entries = vec![
            Entry::new("weight", &[2, 3], Part::Learned),
            Entry::new("unused", &[2], Part::Learned),
            Entry::new("num_batches_tracked", &[], Part::Integers),
        ];
        let weight = Tensor::from_slice(&[0.3_f32, -0.1, 0.2, -0.4, 0.5, 0.7]).view([2, 3]);
        let tensors = [weight, Tensor::from_slice(&[1_f32, 2.0]), Tensor::from(0_i64)];
        Self { numbers: Numbers::of(entries, &tensors, Device::Cpu).unwrap(), dropout, is_detached: false }
    }

    fn count(model: &dyn Trainable) -> i64 {
        model.numbers().views()[2].int64_value(&[])
    }
}

impl Trainable for Toy {
    fn numbers(&self) -> &Numbers {
        &self.numbers
    }

    fn with(&self, numbers: Numbers) -> Result<Box<dyn Trainable>, TchError> {
        Ok(Box::new(Self { numbers, dropout: self.dropout, is_detached: self.is_detached }))
    }

    fn forward(&self, queries: &Tensor, mode: Mode) -> Result<Tensor, TchError> {
        let [weight, _, count] = self.numbers.views() else { panic!("three tensors") };
        let trains = mode != Mode::Evaluate;
        if trains {
            let _ = count.shallow_clone().f_add_scalar_(1)?;
        }
        let outputs = queries.f_dropout(self.dropout, trains)?.f_linear::<Tensor>(weight, None)?;
        if self.is_detached { outputs.f_detach() } else { Ok(outputs) }
    }

    fn save(&self, path: &Path) -> Result<(), ModelError> {
        crate::network::checkpoint::write(path, &"a toy", &self.numbers.named())?;
        Ok(())
    }

    fn extension(&self) -> &'static str {
        "pt2"
    }

    fn is_random(&self) -> bool {
        self.dropout > 0.0
    }

    fn into_model(self: Box<Self>) -> Model {
        panic!("a toy is nothing to use")
    }
}

/// Trains a toy in this folder; `stop` says after how many minibatches to stop.
fn train(
    folder: &Path,
    toy: &Toy,
    recipe: &Recipe,
    stop: Option<u32>,
) -> Result<Box<dyn Trainable>, TrainError> {
    let _generator = crate::fixtures::generator();
    let queries = rows(40);
    let labels: Vec<i64> = (0..40).map(|row| row % 2).collect();
    let truth = Truth::classes(&labels, &queries, 2, crate::Device::CPU).unwrap();
    let begin = Box::new(|_, _| Ok(toy.with(toy.numbers.copy(Device::Cpu)?)?));
    let lesson = Lesson {
        objective: &Own { queries: &queries, truth: &truth, loss: Loss::CrossEntropy },
        learners: vec![Learner { name: "base".into(), alone: true, begin, learns: true }],
        settings: std::collections::BTreeMap::new(),
        stream: 0,
        device: crate::Device::CPU,
    };
    let batches = Cell::new(0);
    let timings = Timings::new(|| 0.0);
    let mut environment = Environment {
        folder: folder.into(),
        clock: &|| 0.0,
        watch: &mut |_| {},
        step: &mut |_| {},
        stop: &|| {
            batches.set(batches.get() + 1);
            stop.is_some_and(|most| batches.get() > most)
        },
        timings: &timings,
    };
    Ok(lesson.train(recipe, &mut environment)?.remove(0))
}

/// Trains a toy in one go and in three parts, broken off in the middle of the second epoch and between the last
/// two, and returns the model.
fn unbroken_and_resumed(toy: &Toy, recipe: &Recipe) -> Box<dyn Trainable> {
    let (whole, part) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Eight minibatches in each of four epochs.
    let unbroken = train(whole.path(), toy, recipe, None).unwrap();
    // Other users of libtorch's generator change nothing.
    let _ = Tensor::rand([17], (Kind::Float, Device::Cpu));
    let resuming = Recipe { resume: true, ..recipe.clone() };
    assert!(matches!(train(part.path(), toy, recipe, Some(11)), Err(TrainError::Stopped { epoch: 1 })));
    assert!(matches!(train(part.path(), toy, &resuming, Some(13)), Err(TrainError::Stopped { epoch: 3 })));
    let resumed = train(part.path(), toy, &resuming, None).unwrap();
    for (one, other) in unbroken.numbers().views().iter().zip(resumed.numbers().views()) {
        assert_eq!(one, other);
    }
    for name in ["checkpoint.safetensors", "best.pt2"] {
        let [one, other] = [&whole, &part].map(|folder| std::fs::read(folder.path().join(name)).unwrap());
        assert!(one == other, "{name}");
    }
    // A best epoch has the count of its own time.
    assert!(Toy::count(&*unbroken) > 0 && Toy::count(&*unbroken) % 8 == 0);
    unbroken
}

fn weight(model: &dyn Trainable) -> Tensor {
    model.numbers().views()[0].detach_copy()
}

#[test]
fn a_training_with_dropout_and_counts_is_resumed_to_the_bit() {
    let trained = unbroken_and_resumed(&Toy::new(0.5), &recipe(8));
    let plain = unbroken_and_resumed(&Toy::new(0.0), &recipe(8));
    assert_ne!(weight(&*trained), weight(&*plain), "dropout took part");
}

#[test]
fn warm_up_clipping_and_averages_are_resumed_to_the_bit() {
    let plain = weight(&*unbroken_and_resumed(&Toy::new(0.5), &recipe(8)));
    for recipe in [
        Recipe { warm_up: 1.5, ..recipe(8) },
        Recipe { clip: Some(0.1), ..recipe(8) },
        Recipe { average: Some(0.9), ..recipe(8) },
        Recipe { warm_up: 0.5, clip: Some(1.0), average: Some(0.99), ..recipe(8) },
    ] {
        let other = weight(&*unbroken_and_resumed(&Toy::new(0.5), &recipe));
        assert_ne!(plain, other, "{recipe:?}");
    }
}

#[test]
fn the_average_of_the_weights_is_what_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    // One minibatch: the average moves by 1 - 2/11 of the way.
    let recipe = Recipe { epochs: 1, batch: 64, rate: 0.1, ..recipe(8) };
    let toy = Toy::new(0.0);
    let start = weight(&toy);
    let step = weight(&*train(folder.path(), &toy, &recipe, None).unwrap()) - &start;
    let averaged = Recipe { average: Some(0.9), ..recipe };
    let found = weight(&*train(folder.path(), &toy, &averaged, None).unwrap()) - start;
    assert!((found - step * (9.0 / 11.0)).abs().max().double_value(&[]) < 1e-6);
}

#[test]
fn a_parameter_that_the_loss_does_not_depend_on_stays() {
    let folder = tempfile::tempdir().unwrap();
    let toy = Toy::new(0.0);
    let trained = train(folder.path(), &toy, &recipe(8), None).unwrap();
    let [[weight, unused, _], [start, same, _]] = [&*trained, &toy as &dyn Trainable]
        .map(|model| [0, 1, 2].map(|at| model.numbers().views()[at].copy()));
    assert!(weight != start && unused == same);
}

#[test]
fn outputs_without_a_gradient_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let toy = Toy { is_detached: true, ..Toy::new(0.0) };
    assert!(matches!(train(folder.path(), &toy, &recipe(8), None), Err(TrainError::NoGradient)));
}

#[test]
fn mixed_precision_of_a_model_that_has_none_of_its_own_is_autocast() {
    let toy: &dyn Trainable = &Toy::new(0.0);
    let queries = Tensor::from_slice(&[1.001_f32, 2.003, -0.507]).view([1, 3]);
    let answer =
        |precision| toy.answer(&queries, Mode::Train { precision, norm: BatchNorm::Train }).unwrap().detach();
    let (full, mixed) = (answer(Precision::Full), answer(Precision::Mixed));
    assert_eq!((full.kind(), mixed.kind()), (Kind::Float, Kind::Float));
    assert_eq!(full, toy.answer(&queries, Mode::Evaluate).unwrap());
    let difference = (&full - &mixed).abs().max().double_value(&[]);
    assert!(difference > 0.0 && difference < 0.02, "{difference}");
    // It is trained so, with weights of f32.
    let folder = tempfile::tempdir().unwrap();
    let mixed = Recipe { precision: Precision::Mixed, ..recipe(8) };
    let trained = train(folder.path(), &Toy::new(0.0), &mixed, None).unwrap();
    assert!(
        trained.numbers().views()[0].kind() == Kind::Float
            && trained.numbers().views()[0] != toy.numbers().views()[0]
    );
}
