//! Work that would keep a serving thread for long is done on other threads, a few at once.

use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::oip::{Error, Status};

/// Text of this size or less is read and written where it is: that takes about a millisecond.
pub(super) const LITTLE: usize = 256 << 10;

/// The other threads.
pub(super) struct Aside(Arc<Semaphore>);

impl Aside {
    /// Half as many as there are cores, so that the others serve on.
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Arc::new(Semaphore::new((cores / 2).max(1))))
    }

    /// Does some work, on another thread if it may take long.
    ///
    /// # Errors
    /// The work's, and [`Status::Internal`] where it panics.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        is_long: bool,
        work: impl FnOnce() -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if !is_long {
            return work();
        }
        let failed = |error: &dyn std::error::Error| Error::new(Status::Internal, error.to_string());
        let permit = Arc::clone(&self.0).acquire_owned().await.map_err(|error| failed(&error))?;
        let done = tokio::task::spawn_blocking(move || {
            // It goes on if nobody waits for it any more.
            let _permit = permit;
            work()
        });
        done.await.map_err(|error| failed(&error))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_long_is_in_nobodys_way_and_bounded() {
        let aside = Arc::new(Aside(Arc::new(Semaphore::new(2))));
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let gone = Arc::new(std::sync::Mutex::new(gone));
        let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let long: Vec<_> = (0..5)
            .map(|_| {
                let (aside, gone, begun) = (Arc::clone(&aside), Arc::clone(&gone), Arc::clone(&begun));
                tokio::spawn(async move {
                    let work = move || {
                        begun.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        gone.lock().unwrap().recv().unwrap();
                        Ok(())
                    };
                    aside.run(true, work).await
                })
            })
            .collect();
        while begun.load(std::sync::atomic::Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        // The only thread of this test serves on.
        assert_eq!(aside.run(false, || Ok(7)).await, Ok(7));
        assert_eq!(begun.load(std::sync::atomic::Ordering::SeqCst), 2);
        (0..5).for_each(|_| go.send(()).unwrap());
        for long in long {
            long.await.unwrap().unwrap();
        }
        assert_eq!(aside.run(true, || Err::<(), _>(Error::invalid("no"))).await, Err(Error::invalid("no")));
    }
}
