//! What a runtime did in the last ten minutes, in slices of ten seconds, for the status page.

use std::collections::VecDeque;
use std::time::Duration;

use parm_engine::{Counters, State};

use super::stats::Times;

/// The length of a slice, and the number that is kept.
const SLICE: Duration = Duration::from_secs(10);
const SLICES: u32 = 60;

/// What happened within a slice of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slice {
    /// Its begin, since the start of the runtime.
    pub begin: Duration,
    /// Its length; that of the last slice is shorter.
    pub length: Duration,
    /// The number of queries that were answered.
    pub answers: u64,
    /// Of these, the number that got a reconstruction.
    pub reconstructed: u64,
    /// Reconstructions that agreed with the prediction that came later, and that did not.
    pub agreed: u64,
    /// See `agreed`.
    pub disagreed: u64,
    /// The median, P99 and P99.9 of the times from arrival to answer; 0 without answers.
    pub latency: [Duration; 3],
    /// What the policy `auto` gave to queries at the end; none for other policies.
    pub state: Option<State>,
}

/// The finished slices, and the one that goes on.
#[derive(Clone, Debug, Default)]
pub(super) struct History {
    finished: VecDeque<Slice>,
    begin: Duration,
    times: Times,
    /// The counters at the begin of the slice.
    from: Counters,
}

impl History {
    /// Ends the slices that are over. It is called before each event, so that what the event counts is in the slice
    /// of its time.
    pub(super) fn advance(&mut self, now: Duration, counters: &Counters, state: Option<State>) {
        let open = now.saturating_sub(self.begin);
        if open < SLICE {
            return;
        }
        // After a long silence most slices are too old to be kept.
        let over = open.as_nanos() / SLICE.as_nanos();
        if let Ok(over) = u32::try_from(over)
            && over > SLICES + 1
        {
            self.finish(counters, state);
            self.begin += SLICE * (over - SLICES - 1);
        }
        while now >= self.begin + SLICE {
            self.finish(counters, state);
        }
    }

    fn finish(&mut self, counters: &Counters, state: Option<State>) {
        self.finished.push_back(self.open(SLICE, counters, state));
        if self.finished.len() > SLICES as usize {
            self.finished.pop_front();
        }
        (self.begin, self.times, self.from) = (self.begin + SLICE, Times::default(), *counters);
    }

    /// Records the time to answer a query.
    pub(super) fn answered(&mut self, time: Duration) {
        self.times.record(time);
    }

    /// All slices up to now, the oldest first.
    pub(super) fn slices(&self, now: Duration, counters: &Counters, state: Option<State>) -> Vec<Slice> {
        let last = self.open(now.saturating_sub(self.begin), counters, state);
        let oldest = now.saturating_sub(SLICE * SLICES);
        self.finished.iter().copied().filter(|slice| slice.begin >= oldest).chain([last]).collect()
    }

    fn open(&self, length: Duration, counters: &Counters, state: Option<State>) -> Slice {
        Slice {
            begin: self.begin,
            length,
            answers: self.times.count(),
            reconstructed: counters.reconstructed - self.from.reconstructed,
            agreed: counters.agreed - self.from.agreed,
            disagreed: counters.disagreed - self.from.disagreed,
            latency: [0.5, 0.99, 0.999].map(|share| self.times.within(share)),
            state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: f64) -> Duration {
        Duration::from_secs_f64(seconds)
    }

    #[test]
    fn answers_are_counted_in_the_slice_of_their_time() {
        let (mut history, mut counters) = (History::default(), Counters::default());
        for (seconds, ms) in [(1.0, 5), (9.9, 5), (10.0, 80), (25.0, 5)] {
            history.advance(at(seconds), &counters, Some(State::Coded));
            counters.reconstructed += 1;
            history.answered(Duration::from_millis(ms));
        }
        let slices = history.slices(at(27.5), &counters, None);
        let counts: Vec<(u64, u64)> =
            slices.iter().map(|slice| (slice.answers, slice.reconstructed)).collect();
        assert_eq!(counts, [(2, 2), (1, 1), (1, 1)]);
        assert_eq!((slices[1].begin, slices[1].length), (at(10.0), at(10.0)));
        assert_eq!((slices[2].begin, slices[2].length), (at(20.0), at(7.5)));
        assert!(
            slices[1].latency[0] >= Duration::from_millis(80)
                && slices[0].latency[2] < Duration::from_millis(6)
        );
        assert_eq!((slices[0].state, slices[2].state), (Some(State::Coded), None));
    }

    #[test]
    fn what_is_older_than_ten_minutes_is_forgotten_even_after_a_long_silence() {
        let (mut history, mut counters) = (History::default(), Counters::default());
        for second in 0..2000 {
            history.advance(at(f64::from(second)), &counters, None);
            history.answered(Duration::from_millis(1));
        }
        let slices = history.slices(at(2000.0), &counters, None);
        assert_eq!(slices.iter().map(|slice| slice.answers).sum::<u64>(), 600);
        assert!(slices.len() <= SLICES as usize + 1 && slices[0].begin == at(1400.0), "{:?}", slices[0]);
        counters.agreed = 3;
        history.advance(at(1e6), &counters, None);
        let slices = history.slices(at(1e6), &counters, None);
        assert_eq!(slices.iter().map(|slice| slice.answers + slice.agreed).sum::<u64>(), 0);
        assert!(slices.len() <= SLICES as usize + 1, "{}", slices.len());
        assert!(slices.windows(2).all(|pair| pair[0].begin + SLICE == pair[1].begin));
    }
}
