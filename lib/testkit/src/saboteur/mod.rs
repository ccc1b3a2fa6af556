//! A model server, over HTTP/1.1 in JSON or over gRPC, that sabotages: unrequested, doubled, swapped and refused
//! answers, errors of the protocol, and NaN where parity queries are asked. The ids of its answers are honest.

mod grpc;
mod http;

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};

use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Rows with an element of this magnitude or more are refused by all.
pub const TOO_LARGE: f64 = 1e5;

/// What is wrong with an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It comes a second time at once.
    Twice,
    /// It comes a second time when the next request has come, before its answer.
    TwiceLater,
    /// It comes a second time after a while, when nothing is asked.
    Unrequested,
    /// It is that of the request before, on whatever connection.
    Swapped,
    /// It is a refusal.
    Refused,
    /// It is no HTTP, or breaks a rule of HTTP/2.
    Garbage,
    /// Half of it comes, and the end.
    Half,
    /// The connection ends in its place.
    None,
    /// Interim replies come first, a few or without end.
    Interim,
    /// Parity queries are answered with NaN, others well.
    NotANumber,
}

impl Fault {
    /// All of them.
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

/// A server that lives as long as the test's process. Its model adds the elements of each row of `x`, under any
/// name.
#[derive(Clone, Debug)]
pub struct Saboteur {
    /// Its address.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    /// None: it is honest.
    draws: Option<Mutex<Draws>>,
    /// Whether it commits a fault.
    commits: fn(Fault) -> bool,
    before: Mutex<Vec<u8>>,
    counts: [AtomicU64; Fault::ALL.len()],
}

/// What decides which answers are sabotaged, and how.
#[derive(Debug)]
struct Draws {
    random: ChaCha8Rng,
    /// The faults that are left of a round: each comes once in every round, so that few calls see them all.
    left: Vec<Fault>,
}

impl Saboteur {
    /// Starts a server over HTTP that sabotages a third of all answers, as a seed says; without one it is honest.
    ///
    /// # Panics
    /// If the machine has no free port.
    #[must_use]
    pub fn http(seed: Option<u64>) -> Self {
        Self::start(seed, |_| true, http::converse)
    }

    /// The same over gRPC, but it refuses nothing: where two of the saboteurs of a test refuse a request, the
    /// refusal is taken for right.
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
                // How a connection ends is the client's to see.
                thread::spawn(move || converse(&shared, &stream));
            }
        });
        Self { address, shared }
    }

    /// How often it did what.
    #[must_use]
    pub fn counts(&self) -> Vec<(Fault, u64)> {
        let count = |(fault, count): (Fault, &AtomicU64)| (fault, count.load(Ordering::Relaxed));
        let all = Fault::ALL.into_iter().zip(&self.shared.counts);
        all.filter(|&(fault, _)| (self.shared.commits)(fault)).map(count).collect()
    }
}

impl Shared {
    /// What is wrong with the next answer.
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

    /// Keeps an answer; gives the one before.
    fn swap(&self, answer: Vec<u8>) -> Vec<u8> {
        std::mem::replace(&mut *self.before.lock().unwrap_or_else(PoisonError::into_inner), answer)
    }
}
