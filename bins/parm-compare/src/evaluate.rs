//! Losing workers, decoding and counting.

use std::iter::repeat_n;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;
use parm::codes::{Code, Decoder, combine};
use parm::score::{Fate, Interval, Measure, Row, Scorer, rank, top1};
use parm_cli::tools::compare::Compare;
use rand::seq::index;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::answers::{Answers, ask};
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
    /// Decoding one group, on average; not known of a model, which decodes many at once.
    pub(crate) decode: Option<Duration>,
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

/// Workers of a group, those that are lost being false.
struct Draw {
    group: usize,
    available: Vec<bool>,
}

/// Evaluates the scheme of this index.
///
/// # Errors
/// A learned decoder that cannot be run.
pub(crate) fn evaluate(
    index: usize,
    scheme: &Scheme,
    answers: &Answers,
    labels: &[i64],
    losses: Losses,
    options: &Compare,
) -> Result<Evaluation> {
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
    let mut draw = |lose: &mut dyn FnMut(&mut [bool], &mut ChaCha8Rng)| {
        let draw = |group| {
            let mut available = vec![true; k + extra];
            lose(&mut available, &mut rng);
            Draw { group, available }
        };
        (0..groups).flat_map(|group| repeat_n(group, draws)).map(draw).collect::<Vec<_>>()
    };
    let exact = draw(&mut |available, rng| {
        for worker in index::sample(rng, k + extra, extra) {
            available[worker] = false;
        }
    });
    let at_rate = draw(&mut |available, rng| available.fill_with(|| !rng.random_bool(rate)));
    let mut score = |drawn: &[Draw]| {
        let mut scorer = Scorer::new(vec![1], groups);
        match scheme.decoder() {
            Some(model) => counter.count_learned(&model, drawn, options, &mut scorer)?,
            None => drawn.iter().for_each(|draw| counter.count(draw, &mut scorer)),
        }
        anyhow::Ok((scorer, counter.decode))
    };
    let (scorer, decode) = score(&exact)?;
    let (scorer_at_rate, _) = score(&at_rate)?;
    let all = Measure::AllGuessed(classes);
    Ok(Evaluation {
        name: scheme.name.clone(),
        k,
        extra,
        is_baseline: scheme.is_baseline(),
        available: scorer.score(Measure::Available, 0),
        degraded: scorer.score(Measure::Degraded, 0),
        all: scorer.score(all, 0),
        interval: scorer.intervals(&[(all, 0)], &mut ChaCha8Rng::seed_from_u64(seed)).remove(0),
        at_rate: scorer_at_rate.score(all, 0),
        agreement: scorer.score(Measure::Agreement, 0),
        decode: scheme.decoder().is_none().then(|| decode / exact.len().max(1) as u32),
    })
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
    /// Counts the predictions of one group; workers beyond the scheme's own are idle.
    fn count(&mut self, draw: &Draw, scorer: &mut Scorer) {
        let available = &draw.available[..self.scheme.code.workers()];
        let begin = Instant::now();
        let decoding = self.decoder.decoding(available);
        self.decode += begin.elapsed();
        if !matches!(self.scheme.runs, Runs::Coded) {
            self.count_available(draw, scorer);
        }
        for &slot in &decoding.unsolved {
            self.count_one(draw.group, slot, Fate::Unsolved, None, scorer);
        }
        let mut row = std::mem::take(&mut self.row);
        for reconstruction in &decoding.rebuilt {
            let terms = &reconstruction.terms;
            let begin = Instant::now();
            let weights: Vec<f32> = terms.iter().map(|&(_, weight)| weight as f32).collect();
            let answer = |&(worker, _): &(usize, f64)| {
                self.answers.answer(self.index, self.scheme, draw.group, worker)
            };
            let rows: Vec<&[f32]> = terms.iter().map(answer).collect();
            combine(&weights, &rows, &mut row);
            self.decode += begin.elapsed();
            self.count_one(draw.group, reconstruction.slot, Fate::Reconstructed, Some(&row), scorer);
        }
        self.row = row;
    }

    /// Counts all groups, a model rebuilding what they lack: no more than they have parity outputs.
    fn count_learned(
        &mut self,
        model: &Path,
        drawn: &[Draw],
        options: &Compare,
        scorer: &mut Scorer,
    ) -> Result<()> {
        let (k, workers, classes) = (self.scheme.k(), self.scheme.code.workers(), self.row.len());
        let lost = |draw: &Draw| draw.available[..k].iter().filter(|available| !**available).count();
        let parities = |draw: &Draw| draw.available[k..].iter().filter(|available| **available).count();
        let asked = |draw: &&Draw| (1..=parities(draw)).contains(&lost(draw));
        let mut rows = Vec::new();
        for draw in drawn.iter().filter(asked) {
            for worker in 0..workers {
                if draw.available[worker] {
                    rows.extend(self.answers.answer(self.index, self.scheme, draw.group, worker));
                } else {
                    rows.extend(repeat_n(0.0, classes));
                }
            }
        }
        let rebuilt = ask(model, options, &[workers, classes], &rows)?;
        let mut rebuilt = rebuilt.values.chunks_exact(k * classes);
        for draw in drawn {
            self.count_available(draw, scorer);
            let rows = if asked(&draw) { rebuilt.next() } else { None };
            for slot in (0..k).filter(|&slot| !draw.available[slot]) {
                let row = rows.map(|rows| &rows[slot * classes..][..classes]);
                let fate = if row.is_some() { Fate::Reconstructed } else { Fate::Unsolved };
                self.count_one(draw.group, slot, fate, row, scorer);
            }
        }
        Ok(())
    }

    /// Counts the predictions that arrived as they are.
    fn count_available(&self, draw: &Draw, scorer: &mut Scorer) {
        let k = self.scheme.k();
        for slot in (0..k).filter(|&slot| draw.available[slot]) {
            let own = self.answers.prediction(draw.group * k + slot);
            self.count_one(draw.group, slot, Fate::Available, Some(own), scorer);
        }
    }

    fn count_one(
        &self,
        group: usize,
        slot: usize,
        fate: Fate,
        prediction: Option<&[f32]>,
        scorer: &mut Scorer,
    ) {
        let query = group * self.scheme.k() + slot;
        let rank = prediction.and_then(|prediction| rank(prediction, self.labels[query] as usize));
        let agrees = prediction.map(|prediction| top1(prediction) == top1(self.answers.prediction(query)));
        scorer.count(group, Row { fate, rank, agrees });
    }
}
