//! The limit of the memory for all request and response bodies together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parm_oip::{Error, Status};

/// The limit, and the bytes that are reserved.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
}

/// The bytes that one request has reserved; dropping it releases them.
#[derive(Debug)]
pub(super) struct Reservation {
    budget: Arc<Budget>,
    bytes: AtomicUsize,
}

impl Budget {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, used: AtomicUsize::new(0) })
    }
}

impl Reservation {
    pub(super) fn new(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget: Arc::clone(budget), bytes: AtomicUsize::new(0) })
    }

    /// Reserves more bytes.
    ///
    /// # Errors
    /// [`Status::Unavailable`] if the limit does not allow it.
    pub(super) fn reserve(&self, bytes: usize) -> Result<(), Error> {
        let Budget { limit, used } = &*self.budget;
        let more = |used: usize| used.checked_add(bytes).filter(|sum| sum <= limit);
        match used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => {
                self.bytes.fetch_add(bytes, Ordering::Relaxed);
                Ok(())
            }
            Err(used) => {
                let text = format!("overloaded: bodies take {used} bytes, {bytes} more would exceed {limit}");
                Err(Error::new(Status::Unavailable, text))
            }
        }
    }

    /// The bytes that are reserved.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Moves the reserved bytes to a new reservation.
    pub(super) fn split_off(&self) -> Arc<Self> {
        let bytes = self.bytes.swap(0, Ordering::Relaxed);
        Arc::new(Self { budget: Arc::clone(&self.budget), bytes: AtomicUsize::new(bytes) })
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(*self.bytes.get_mut(), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reservation_is_released_once() {
        let budget = Budget::new(100);
        let used = || budget.used.load(Ordering::Relaxed);
        let (one, other) = (Reservation::new(&budget), Reservation::new(&budget));
        one.reserve(60).unwrap();
        let error = other.reserve(41).unwrap_err();
        assert_eq!((error.status, used()), (Status::Unavailable, 60), "{error}");
        assert!(error.message.contains("60 bytes") && error.message.contains("exceed 100"), "{error}");
        other.reserve(usize::MAX).unwrap_err();
        other.reserve(40).unwrap();
        let handed = one.split_off();
        drop(one);
        assert_eq!(used(), 100);
        drop(handed);
        assert_eq!(used(), 40);
        drop(other);
        assert_eq!(used(), 0);
    }
}
