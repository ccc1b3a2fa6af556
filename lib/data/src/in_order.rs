//! Runs work on several threads, with results in order.

use std::sync::mpsc::sync_channel;
use std::thread;

/// Runs `work` on every item with a number of threads, and passes the results to `sink` in the order of the
/// items. There are at most three results for each thread at a time. The first error, in the order of the
/// items, ends it.
///
/// # Panics
/// If `work` panics.
pub fn in_order<I: Sync, O: Send, E: Send>(
    threads: usize,
    items: &[I],
    work: impl Fn(&I) -> Result<O, E> + Sync,
    mut sink: impl FnMut(O) -> Result<(), E>,
) -> Result<(), E> {
    let threads = threads.clamp(1, items.len().max(1));
    thread::scope(|scope| {
        let work = &work;
        // Thread t works on items t, t + threads, …; receiving from the threads in turn gives the order.
        let results: Vec<_> = (0..threads)
            .map(|first| {
                let (sender, receiver) = sync_channel(1);
                scope.spawn(move || {
                    for item in items.iter().skip(first).step_by(threads) {
                        // The receiver is closed after an error.
                        if sender.send(work(item)).is_err() {
                            break;
                        }
                    }
                });
                receiver
            })
            .collect();
        for (_, results) in items.iter().zip(results.iter().cycle()) {
            // A thread that ends early has panicked, which the scope passes on.
            let Ok(result) = results.recv() else { break };
            sink(result?)?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order() {
        for (threads, count) in [(1, 5), (3, 0), (3, 1), (4, 100), (64, 10)] {
            let items: Vec<u64> = (0..count).collect();
            let mut found = Vec::new();
            let work = |&item: &u64| {
                // The first items of each turn finish last.
                thread::sleep(std::time::Duration::from_micros((count - item) % 7 * 50));
                Ok::<_, ()>(item)
            };
            in_order(threads, &items, work, |item| {
                found.push(item);
                Ok(())
            })
            .unwrap();
            assert_eq!(found, items, "{threads} threads");
        }
    }

    #[test]
    fn the_first_error_ends_it() {
        let items: Vec<u64> = (0..1000).collect();
        let mut found = 0;
        let work = |&item: &u64| if item % 10 == 7 { Err(item) } else { Ok(item) };
        let error = in_order(3, &items, work, |_| {
            found += 1;
            Ok(())
        })
        .unwrap_err();
        assert_eq!((error, found), (7, 7));
        assert_eq!(in_order(3, &items, |&item| Ok(item), |item| Err(item + 1)).unwrap_err(), 1);
    }
}
