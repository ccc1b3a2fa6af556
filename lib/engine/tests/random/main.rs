//! Random events for random engines, with a driver that checks all that it is told.
//!
//! What is proved of each episode: every query is answered once, or was cancelled; every answer is
//! the right one of the right row, by arithmetic in a field in which the models are linear; no
//! answer is late without saying so; work goes to instances in rotation that have the role and the
//! room; every row is released once, after its answer, and used by nothing later; nothing is held
//! at the end; bounds hold throughout. Events are also late, twice, of the past, and out of order.
//!
//! 10 million events; the ignored test `soak` has 1000 million (`make soak`). An episode is its
//! seed: `PARM_ENGINE_SEED=S` replays one.

mod driver;
mod field;
mod perform;
mod scenario;

use std::env;
use std::time::Instant;

use driver::Driver;

/// Events of one episode.
const EPISODE: u64 = 20_000;

/// Says which episode it was when one fails.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("episode {0} failed; replay it with PARM_ENGINE_SEED={0}", self.0);
        }
    }
}

fn episodes(seeds: impl Iterator<Item = u64>) {
    let begin = Instant::now();
    let mut total = scenario::Seen::default();
    let mut events = 0;
    for seed in seeds {
        let _named = Named(seed);
        let seen = Driver::new(seed).run(EPISODE);
        total.add(&seen);
        events += EPISODE;
        if events.is_multiple_of(100_000_000) {
            eprintln!("{events} events");
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    eprintln!("{events} events in {seconds:.1} s: {total:?}");
    if events > 100 * EPISODE {
        total.assert_all_kinds();
    }
}

fn run(events: u64) {
    match env::var("PARM_ENGINE_SEED") {
        Ok(seed) => {
            let seed = seed.parse().expect("PARM_ENGINE_SEED is a number");
            episodes(seed..=seed);
        }
        Err(_) => episodes(0..events / EPISODE),
    }
}

#[test]
fn ten_million_events() {
    run(10_000_000);
}

#[test]
#[ignore = "takes minutes: make soak"]
fn soak() {
    run(1_000_000_000);
}
