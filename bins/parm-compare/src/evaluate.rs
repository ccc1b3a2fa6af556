//! Losing workers, decoding and counting.

use std::iter::repeat_n;
use std::time::{Duration, Instant};

use anyhow::Result;
use parm::codes::Decoder;
use parm::score::{Fate, Interval};
use parm::statistics::Estimate;
use parm_cli::tools::compare::Compare;
use rand::seq::index;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::answers::Answers;
use crate::network;
use crate::scheme::Scheme;
use crate::truth::{Board, Scores, Truth};

/// What one scheme came to.
pub(crate) struct Evaluation<'a> {
    pub(crate) scheme: &'a Scheme,
    /// The measure of its deployed model; none without a truth.
    pub(crate) deployed: Option<f64>,
    /// A_a: the measure of the task (accuracy, R², cosine or IoU) of the deployed model where its own prediction
    /// arrived.
    pub(crate) available: Option<f64>,
    /// A_d: that of what was rebuilt; of an interpolating code that is everything.
    pub(crate) degraded: Option<f64>,
    /// A_all, what nothing rebuilt being guessed.
    pub(crate) all: Option<f64>,
    pub(crate) interval: Option<Interval>,
    /// A_all when each worker is lost with the probability that was asked for.
    pub(crate) at_rate: Option<f64>,
    pub(crate) agreement: Option<f64>,
    /// The scores under the losses of each seed; those above are of all together.
    pub(crate) seeds: Vec<Seeded>,
    /// Decoding one group, on average; not known of a model, which decodes many at once.
    pub(crate) decode: Option<Duration>,
}

impl Evaluation<'_> {
    /// The standard deviation of A_all over the seeds; none for one seed.
    pub(crate) fn deviation(&self) -> Option<f64> {
        let all: Vec<f64> = self.seeds.iter().filter_map(|of| of.scores.all).collect();
        Estimate::of(&all)?.deviation
    }
}

/// The scores under the losses of a seed.
pub(crate) struct Seeded {
    pub(crate) seed: u64,
    pub(crate) scores: Scores,
    /// A_all when each worker is lost with the probability that was asked for.
    pub(crate) at_rate: Option<f64>,
}

/// How workers are lost.
#[derive(Clone, Copy)]
pub(crate) struct Losses<'a> {
    /// Draws for each group.
    pub(crate) draws: usize,
    /// The probability of each worker to be lost, where not as many are lost as there are extra ones.
    pub(crate) rate: f64,
    /// The losses are drawn with each of these.
    pub(crate) seeds: &'a [u64],
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
pub(crate) fn evaluate<'a>(
    index: usize,
    scheme: &'a Scheme,
    answers: &Answers,
    truth: &Truth,
    losses: Losses<'_>,
    options: &Compare,
) -> Result<Evaluation<'a>> {
    let Losses { draws, rate, seeds } = losses;
    let (k, extra) = (scheme.k(), scheme.extra);
    let groups = answers.queries() / k;
    let own = answers.of(index);
    let decoder = scheme.code.decoder(&own.shape, &network::loader(options))?;
    let mut counter = Counter { index, scheme, answers, decoder };
    // A board of all losses, beside that of each seed: of as many losses as extra workers, and of the rate.
    let [mut all, mut all_at_rate] = [(); 2].map(|()| truth.board(own, groups));
    let (mut decode, mut by_seed) = (Duration::ZERO, Vec::new());
    for &seed in seeds {
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
        let (board, took) = counter.score(&exact, truth.board(own, groups), &mut all)?;
        let (board_at_rate, _) = counter.score(&at_rate, truth.board(own, groups), &mut all_at_rate)?;
        decode += took;
        by_seed.push(Seeded { seed, scores: board.scores(), at_rate: board_at_rate.scores().all });
    }
    let Scores { available, degraded, all: of_all, agreement } = all.scores();
    let drawn = (groups * draws * seeds.len()).max(1) as u32;
    Ok(Evaluation {
        scheme,
        deployed: truth.of_deployed(own),
        available,
        degraded,
        all: of_all,
        interval: all.interval(seeds.first().copied().unwrap_or_default()),
        at_rate: all_at_rate.scores().all,
        agreement,
        seeds: by_seed,
        decode: scheme.code.learned_decoder().is_none().then(|| decode / drawn),
    })
}

/// Decodes groups and counts what comes of them.
struct Counter<'a> {
    index: usize,
    scheme: &'a Scheme,
    answers: &'a Answers,
    decoder: Decoder,
}

impl Counter<'_> {
    /// Counts the predictions of groups on a board of their own, which it returns, and on another one. Returns the time
    /// that decoding took, too.
    fn score<'b>(
        &mut self,
        drawn: &[Draw],
        mut own: Board<'b>,
        all: &mut Board<'b>,
    ) -> Result<(Board<'b>, Duration)> {
        let is_learned = self.scheme.code.learned_decoder().is_some();
        // A model decodes all groups in one run; the time of others is that of single groups.
        let at_once = if is_learned { drawn.len().max(1) } else { 1 };
        let mut took = Duration::ZERO;
        for drawn in drawn.chunks(at_once) {
            took += self.count(drawn, &mut [&mut own, &mut *all])?;
        }
        Ok((own, took))
    }

    /// Counts the predictions of groups, and returns the time that decoding took; workers beyond the scheme's own are
    /// idle.
    fn count(&mut self, drawn: &[Draw], boards: &mut [&mut Board<'_>]) -> Result<Duration> {
        let elements = self.answers.of(self.index).elements();
        let workers = self.scheme.code.workers();
        let available: Vec<&[bool]> = drawn.iter().map(|draw| &draw.available[..workers]).collect();
        let answer =
            |at: usize, worker| self.answers.answer(self.index, self.scheme, drawn[at].group, worker);
        // Of each prediction that was missing its group and slot, and what was rebuilt.
        let (mut found, mut values) = (Vec::new(), Vec::new());
        let begin = Instant::now();
        self.decoder.decode(elements, &available, answer, |at, slot, rebuilt| {
            values.extend_from_slice(rebuilt.map_or(&[][..], |(row, _)| row));
            found.push((drawn[at].group, slot, rebuilt.is_some()));
        })?;
        let took = begin.elapsed();
        if self.scheme.code.interpolating().is_none() {
            for draw in drawn {
                self.count_available(draw, boards);
            }
        }
        let mut rows = values.chunks_exact(elements);
        for (group, slot, is_rebuilt) in found {
            let row = if is_rebuilt { rows.next() } else { None };
            let fate = if is_rebuilt { Fate::Reconstructed } else { Fate::Unsolved };
            for board in &mut *boards {
                board.count(group, group * self.scheme.k() + slot, fate, row);
            }
        }
        Ok(took)
    }

    /// Counts the predictions that arrived as they are.
    fn count_available(&self, draw: &Draw, boards: &mut [&mut Board<'_>]) {
        let k = self.scheme.k();
        for slot in (0..k).filter(|&slot| draw.available[slot]) {
            let query = draw.group * k + slot;
            let own = self.answers.of(self.index).row(query);
            for board in &mut *boards {
                board.count(draw.group, query, Fate::Available, Some(own));
            }
        }
    }
}
