//! The times of a program's phases, which `--timings` writes.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};

use crate::device::{Device, PeakMemory};

/// A phase of a program's work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Finding the device, and loading the GPU code.
    Start,
    /// Reading models, and in a training all rows.
    Load,
    /// Reading a stream.
    Read,
    /// Copying queries or rows to the device.
    Upload,
    /// Making coded queries.
    Encode,
    /// Running and training models.
    Compute,
    /// Copying outputs from the device.
    Download,
    /// Writing results and checkpoints.
    Write,
}

impl Phase {
    const ALL: [(Self, &str); 8] = [
        (Self::Start, "start"),
        (Self::Load, "load"),
        (Self::Read, "read"),
        (Self::Upload, "upload"),
        (Self::Encode, "encode"),
        (Self::Compute, "compute"),
        (Self::Download, "download"),
        (Self::Write, "write"),
    ];
}

/// The most times of a phase that are kept for the median.
const KEPT: usize = 10_000;

/// The times of one phase.
#[derive(Clone, Debug, Default)]
struct Spent {
    /// Their sum, in seconds.
    seconds: f64,
    /// The number of pieces of work.
    times: u64,
    /// The times of the first pieces, in seconds.
    first: Vec<f64>,
}

/// The times of the phases of a program. Phases of different threads overlap, so that their sum can exceed
/// the total.
pub struct Timings {
    /// Returns the time in seconds since some moment.
    clock: Box<dyn Fn() -> f64 + Send + Sync>,
    /// The time at which this was made.
    begin: f64,
    /// By phase.
    spent: Mutex<[Spent; Phase::ALL.len()]>,
}

impl Timings {
    /// Timings that begin now; the clock returns seconds since some moment.
    pub fn new(clock: impl Fn() -> f64 + Send + Sync + 'static) -> Self {
        Self { begin: clock(), clock: Box::new(clock), spent: Mutex::default() }
    }

    /// Does a piece of work, and adds its time to the phase.
    pub fn measure<T>(&self, phase: Phase, work: impl FnOnce() -> T) -> T {
        self.measure_on(Device::CPU, phase, work)
    }

    /// As [`measure`](Self::measure), for work on a device: waits until the thread's stream has finished it,
    /// since a GPU computes asynchronously.
    pub fn measure_on<T>(&self, device: Device, phase: Phase, work: impl FnOnce() -> T) -> T {
        let begin = (self.clock)();
        let result = work();
        device.synchronize();
        let seconds = (self.clock)() - begin;
        let spent = &mut self.lock()[phase as usize];
        spent.seconds += seconds;
        spent.times += 1;
        if spent.first.len() < KEPT {
            spent.first.push(seconds);
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, [Spent; Phase::ALL.len()]> {
        // The sums are consistent even if a thread panicked.
        self.spent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Serialize for Spent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut sorted = self.first.clone();
        sorted.sort_by(f64::total_cmp);
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry("seconds", &self.seconds)?;
        map.serialize_entry("times", &self.times)?;
        map.serialize_entry("median", &sorted.get(sorted.len() / 2).copied().unwrap_or(0.0))?;
        map.end()
    }
}

/// For each phase: the sum in seconds, the number of pieces, and the median; and the total in seconds.
impl Serialize for Timings {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        let spent = self.lock();
        for (phase, name) in Phase::ALL {
            map.serialize_entry(name, &spent[phase as usize])?;
        }
        map.serialize_entry("total", &((self.clock)() - self.begin))?;
        map.end()
    }
}

/// What the file of `--timings` says.
#[derive(Serialize)]
pub struct Report<'a> {
    program: &'static str,
    device: String,
    rows: u64,
    seconds: &'a Timings,
    device_memory: Option<PeakMemory>,
}

impl<'a> Report<'a> {
    /// What a program's work on so many rows took, up to now.
    #[must_use]
    pub fn new(program: &'static str, device: Device, rows: u64, seconds: &'a Timings) -> Self {
        let device_memory = device.peak_memory();
        Self { program, device: device.to_string(), rows, seconds, device_memory }
    }
}

impl fmt::Debug for Timings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timings").field("spent", &self.spent).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn phases_add_up_by_name_beside_the_total() {
        // Each reading of this clock advances it by a second.
        let ticks = AtomicU32::new(0);
        let timings = Timings::new(move || f64::from(ticks.fetch_add(1, Ordering::Relaxed)));
        assert_eq!(timings.measure(Phase::Load, || 7), 7);
        timings.measure_on(Device::CPU, Phase::Compute, || ());
        timings.measure(Phase::Compute, || timings.measure(Phase::Write, || ()));
        let found = serde_json::to_value(&timings).unwrap();
        let spent = |seconds: f64, times: u64, median: f64| serde_json::json!({"seconds": seconds, "times": times, "median": median});
        assert_eq!(found["load"], spent(1.0, 1, 1.0));
        assert_eq!(found["compute"], spent(4.0, 2, 3.0));
        assert_eq!(found["write"], spent(1.0, 1, 1.0));
        assert_eq!(found["upload"], spent(0.0, 0, 0.0));
        assert_eq!((&found["total"], found.as_object().unwrap().len()), (&9.0.into(), 9));
    }
}
