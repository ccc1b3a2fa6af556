//! Runs work that would block a serving thread for long on a bounded number of blocking threads.

use std::sync::Arc;

use tokio::sync::Semaphore;

use parm_oip::{Error, Status};

/// The size up to which JSON is parsed and written on the serving thread, which takes about a millisecond.
pub(super) const LITTLE: usize = 256 << 10;

/// A bounded number of blocking threads.
pub(super) struct Blocking(Arc<Semaphore>);

impl Blocking {
    /// Half as many as there are cores, so that the other cores keep serving.
    pub(super) fn new() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self(Arc::new(Semaphore::new((cores / 2).max(1))))
    }

    /// Runs some work, on a blocking thread if it may take long.
    ///
    /// # Errors
    /// The error of the work, or [`Status::Internal`] if it panics.
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
            // The work continues when its request is cancelled; it keeps its permit.
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
    async fn long_work_is_bounded_and_does_not_block_the_serving_thread() {
        let blocking = Arc::new(Blocking(Arc::new(Semaphore::new(2))));
        let (go, gone) = std::sync::mpsc::channel::<()>();
        let gone = Arc::new(std::sync::Mutex::new(gone));
        let begun = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let long: Vec<_> = (0..5)
            .map(|_| {
                let (blocking, gone, begun) = (Arc::clone(&blocking), Arc::clone(&gone), Arc::clone(&begun));
                tokio::spawn(async move {
                    let work = move || {
                        begun.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
                        gone.lock().unwrap().recv().unwrap();
                        Ok(())
                    };
                    blocking.run(true, work).await
                })
            })
            .collect();
        while begun.load(std::sync::atomic::Ordering::SeqCst) < 2 {
            tokio::task::yield_now().await;
        }
        // The only serving thread of this test is still free.
        assert_eq!(blocking.run(false, || Ok(7)).await, Ok(7));
        assert_eq!(begun.load(std::sync::atomic::Ordering::SeqCst), 2);
        (0..5).for_each(|_| go.send(()).unwrap());
        for long in long {
            long.await.unwrap().unwrap();
        }
        assert_eq!(
            blocking.run(true, || Err::<(), _>(Error::invalid("no"))).await,
            Err(Error::invalid("no"))
        );
    }
}
