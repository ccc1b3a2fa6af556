//! A model server that commits faults, over HTTP/1.1 with JSON or over gRPC: unrequested, repeated, swapped
//! and refused answers, violations of the protocol, and NaN as answers to parity queries. The ids of its
//! answers are right.

mod grpc;
mod http;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// The magnitude of an element from which all saboteurs refuse a row.
pub const TOO_LARGE: f64 = 1e5;

/// A fault of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It is sent twice.
    Twice,
    /// It is sent again after the next request, before the answer to that.
    TwiceLater,
    /// It is sent again after a while, without a request.
    Unrequested,
    /// It is the answer to the previous request, on any connection.
    Swapped,
    /// It is a refusal.
    Refused,
    /// It is not HTTP, or violates HTTP/2.
    Garbage,
    /// The connection ends after half of it.
    Half,
    /// The connection ends without an answer.
    None,
    /// Interim responses come before it, a few or without end.
    Interim,
    /// Parity queries are answered with NaN.
    NotANumber,
}

impl Fault {
    /// All faults.
    pub const ALL: [Self; 10] = [
        Self::Twice,
        Self::TwiceLater,
        Self::Unrequested,
        Self::Swapped,
        Self::Refused,
        Self::Garbage,
        Self::Half,
        Self::None,
        Self::Interim,
        Self::NotANumber,
    ];
}

/// A server that lives as long as the test's process. Its model, under any name, sums the elements of each
/// row of `x`.
#[derive(Clone, Debug)]
pub struct Saboteur {
    /// Its address.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// None: it commits no faults.
    draws: Option<Mutex<Draws>>,
    /// Whether it commits a fault.
    commits: fn(Fault) -> bool,
    before: Mutex<Vec<u8>>,
    counts: [AtomicU64; Fault::ALL.len()],
}

/// The random choice of faults.
#[derive(Debug)]
struct Draws {
    random: ChaCha8Rng,
    /// The remaining faults of a round. Each fault comes once in every round, so that few calls see them all.
    left: Vec<Fault>,
}

impl Saboteur {
    /// Starts a server over HTTP that commits faults in a third of all answers, chosen by a seed; without a
    /// seed in none.
    ///
    /// # Panics
    /// If the machine has no free port.
    #[must_use]
    pub fn http(seed: Option<u64>) -> Self {
        Self::start(seed, |_| true, http::converse)
    }

    /// Starts a server over gRPC that refuses nothing: if two saboteurs of a test refused a request, the
    /// refusal would be accepted.
    ///
    /// # Panics
    /// If the machine has no free port.
    #[must_use]
    pub fn grpc(seed: Option<u64>) -> Self {
        Self::start(seed, |fault| fault != Fault::Refused, grpc::converse)
    }

    fn start(
        seed: Option<u64>,
        commits: fn(Fault) -> bool,
        converse: fn(&Shared, &TcpStream) -> io::Result<()>,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let draws = |seed| Draws { random: ChaCha8Rng::seed_from_u64(seed), left: Vec::new() };
        let draws = seed.map(|seed| Mutex::new(draws(seed)));
        let shared =
            Arc::new(Shared { draws, commits, before: Mutex::default(), counts: Default::default() });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&serving);
                // The client sees how the connection ends.
                thread::spawn(move || converse(&shared, &stream));
            }
        });
        Self { address, shared }
    }

    /// The counts of faults.
    #[must_use]
    pub fn counts(&self) -> Vec<(Fault, u64)> {
        let count = |(fault, count): (Fault, &AtomicU64)| (fault, count.load(Ordering::Relaxed));
        let all = Fault::ALL.into_iter().zip(&self.shared.counts);
        all.filter(|&(fault, _)| (self.shared.commits)(fault)).map(count).collect()
    }
}

impl Shared {
    /// The fault of the next answer.
    fn fault(&self) -> Option<Fault> {
        let mut draws = self.draws.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let Draws { random, left } = &mut *draws;
        if random.random_range(0..3) > 0 {
            return None;
        }
        if left.is_empty() {
            left.extend(Fault::ALL.into_iter().filter(|&fault| (self.commits)(fault)));
            left.shuffle(random);
        }
        let fault = left.pop()?;
        for (count, _) in self.counts.iter().zip(Fault::ALL).filter(|(_, other)| *other == fault) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        Some(fault)
    }

    /// Keeps an answer, and returns the previous one.
    fn swap(&self, answer: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut *self.before.lock().unwrap_or_else(PoisonError::into_inner), answer)
    }
}
