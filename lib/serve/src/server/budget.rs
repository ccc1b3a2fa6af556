//! The memory that bodies and answers under way may take together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::oip::{Error, Status};

/// What all requests share.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// What one request has taken of it, and gives back when it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    budget: Arc<Budget>,
    bytes: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }
}

impl Held {
    pub(super) fn new(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget: Arc::clone(budget), bytes: AtomicUsize::new(0) })
    }

    /// Takes so many bytes more.
    ///
    /// # Errors
    /// There are not so many left.
    pub(super) fn take(&self, bytes: usize) -> Result<(), Error> {
        let Budget { limit, used } = &*self.budget;
        let more = |used: usize| used.checked_add(bytes).filter(|sum| sum <= limit);
        match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(used) => {
                let text = format!(
                    "overloaded: {used} bytes of bodies are under way, {bytes} more would be over {limit}"
                );
                Err(Error::new(Status::Unavailable, text))
            }
        }
    }

    /// What was taken.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Hands over all that was taken.
    pub(super) fn hand_over(&self) -> Arc<Self> {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        Arc::new(Self { budget: Arc::clone(&self.budget), bytes: AtomicUsize::new(bytes) })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_given_back_once() {
        let budget = Budget::new(100);
        let used = || budget.used.load(Ordering::Relaxed);
        let (one, other) = (Held::new(&budget), Held::new(&budget));
        one.take(60).unwrap();
        let error = other.take(41).unwrap_err();
        assert_eq!((error.status, used()), (Status::Unavailable, 60), "{error}");
        assert!(error.message.contains("60 bytes") && error.message.contains("over 100"), "{error}");
        other.take(usize::MAX).unwrap_err();
        other.take(40).unwrap();
        let handed = one.hand_over();
        drop(one);
        assert_eq!(used(), 100);
        drop(handed);
        assert_eq!(used(), 40);
        drop(other);
        assert_eq!(used(), 0);
    }
}
