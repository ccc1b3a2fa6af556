//! Losing workers, decoding and counting.

use std::time::{Duration, Instant};

use parm::codes::{Code, Decoder, combine};
use parm::score::{Fate, Interval, Measure, Row, Scorer, rank, top1};
use rand::seq::index;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::answers::Answers;
use crate::scheme::{Runs, Scheme};

/// What one scheme came to.
pub(crate) struct Evaluation {
    pub(crate) name: String,
    pub(crate) k: usize,
    pub(crate) extra: usize,
    pub(crate) is_baseline: bool,
    /// A_a: accuracy of the deployed model where its own prediction arrived.
    pub(crate) available: Option<f64>,
    /// A_d: accuracy of what was rebuilt; of an interpolating code that is everything.
    pub(crate) degraded: Option<f64>,
    /// A_all, what nothing rebuilt being guessed.
    pub(crate) all: Option<f64>,
    pub(crate) interval: Option<Interval>,
    /// A_all when each worker is lost with the probability that was asked for.
    pub(crate) at_rate: Option<f64>,
    pub(crate) agreement: Option<f64>,
    /// Decoding one group, on average.
    pub(crate) decode: Duration,
}

/// How workers are lost.
#[derive(Clone, Copy)]
pub(crate) struct Losses {
    /// Draws for each group.
    pub(crate) draws: usize,
    /// The probability of each worker to be lost, where not as many are lost as there are extra ones.
    pub(crate) rate: f64,
    pub(crate) seed: u64,
}

/// Evaluates the scheme of this index.
pub(crate) fn evaluate(
    index: usize,
    scheme: &Scheme,
    answers: &Answers,
    labels: &[i64],
    losses: Losses,
) -> Evaluation {
    let Losses { draws, rate, seed } = losses;
    let (k, extra) = (scheme.k(), scheme.extra);
    let groups = answers.queries() / k;
    let classes = answers.prediction(0).len();
    let mut counter = Counter {
        index,
        scheme,
        answers,
        labels,
        decoder: Decoder::new(&*scheme.code),
        row: vec![0.0; classes],
        decode: Duration::ZERO,
    };
    // The same losses for all schemes of one size: a worker that is lost may also be an idle one.
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(((k as u64) << 32) | extra as u64);
    let mut scorer = Scorer::new(vec![1], groups);
    let mut available = vec![true; k + extra];
    for group in 0..groups {
        for _ in 0..draws {
            available.fill(true);
            for worker in index::sample(&mut rng, k + extra, extra) {
                available[worker] = false;
            }
            counter.count(group, &available, &mut scorer);
        }
    }
    let decode = counter.decode / (groups * draws).max(1) as u32;
    let mut at_rate = Scorer::new(vec![1], groups);
    for group in 0..groups {
        for _ in 0..draws {
            available.fill_with(|| !rng.random_bool(rate));
            counter.count(group, &available, &mut at_rate);
        }
    }
    let all = Measure::AllGuessed(classes);
    Evaluation {
        name: scheme.name.clone(),
        k,
        extra,
        is_baseline: scheme.is_baseline(),
        available: scorer.score(Measure::Available, 0),
        degraded: scorer.score(Measure::Degraded, 0),
        all: scorer.score(all, 0),
        interval: scorer.intervals(&[(all, 0)], &mut ChaCha8Rng::seed_from_u64(seed)).remove(0),
        at_rate: at_rate.score(all, 0),
        agreement: scorer.score(Measure::Agreement, 0),
        decode,
    }
}

/// Decodes groups and counts what comes of them.
struct Counter<'a> {
    index: usize,
    scheme: &'a Scheme,
    answers: &'a Answers,
    labels: &'a [i64],
    decoder: Decoder<&'a (dyn Code + Sync)>,
    row: Vec<f32>,
    /// The time that decoding took.
    decode: Duration,
}

impl Counter<'_> {
    /// Counts the predictions of one group whose available workers are these; those beyond the scheme's
    /// own are idle.
    fn count(&mut self, group: usize, available: &[bool], scorer: &mut Scorer) {
        let Self { index, scheme, answers, labels, decoder, row, decode } = self;
        let k = scheme.k();
        let available = &available[..scheme.code.workers()];
        let begin = Instant::now();
        let decoding = decoder.decoding(available);
        *decode += begin.elapsed();
        let mut count = |slot: usize, fate, prediction: Option<&[f32]>| {
            let query = group * k + slot;
            let rank = prediction.and_then(|prediction| rank(prediction, labels[query] as usize));
            let agrees = prediction.map(|prediction| top1(prediction) == top1(answers.prediction(query)));
            scorer.count(group, Row { fate, rank, agrees });
        };
        if !matches!(scheme.runs, Runs::Coded) {
            for slot in (0..k).filter(|&slot| available[slot]) {
                count(slot, Fate::Available, Some(answers.prediction(group * k + slot)));
            }
        }
        for &slot in &decoding.unsolved {
            count(slot, Fate::Unsolved, None);
        }
        for reconstruction in &decoding.rebuilt {
            let terms = &reconstruction.terms;
            let begin = Instant::now();
            let weights: Vec<f32> = terms.iter().map(|&(_, weight)| weight as f32).collect();
            let rows: Vec<&[f32]> =
                terms.iter().map(|&(worker, _)| answers.answer(*index, scheme, group, worker)).collect();
            combine(&weights, &rows, row);
            *decode += begin.elapsed();
            count(reconstruction.slot, Fate::Reconstructed, Some(row));
        }
    }
}
