//! Runs jobs on several threads, with results in the order of the jobs.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use anyhow::{Context, Result};

/// Runs all jobs on a number of threads, by default one for each core.
///
/// # Errors
/// The first error in the order of the jobs.
pub(crate) fn in_parallel<J: Sync, T: Send>(
    threads: Option<u32>,
    jobs: &[J],
    work: impl Fn(&J) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let cores = || thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.map_or_else(cores, |threads| threads as usize).min(jobs.len());
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(jobs.len())));
    thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(job) = jobs.get(number) else { return };
                    let result = work(job);
                    let Ok(mut done) = done.lock() else { return };
                    done.push((number, result));
                }
            });
        }
    });
    let mut done = done.into_inner().ok().context("a thread ended early")?;
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, result)| result).collect()
}
