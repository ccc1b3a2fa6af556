//! Runs cooperating futures in one task.
//!
//! Handing work from task to task costs more than a small request itself: the runtime may move the other
//! task to another thread, which has to be woken.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use futures_util::task::AtomicWaker;
use hyper::rt::Executor;

/// The most polls in a row, so that a future that always wakes itself lets others run.
const IN_A_ROW: usize = 16;

const WAITING: u8 = 0;
const POLLED: u8 = 1;
const WOKEN: u8 = 2;

/// A future that is polled again at once when it was woken during its poll.
///
/// The parts of a connection of hyper communicate through channels, so that each request wakes the task that
/// is being polled. The runtime would put that task at the end of its queue and wake another thread to take
/// it, which costs two context switches.
pub struct Repolled<F> {
    future: F,
    wake_state: Arc<WakeState>,
}

/// The state of the future, and the task to wake while it waits.
#[derive(Default)]
struct WakeState {
    state: AtomicU8,
    task: AtomicWaker,
}

impl Wake for WakeState {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == WAITING {
            self.task.wake();
        }
    }
}

impl<F: Future + Unpin> Repolled<F> {
    /// Wraps a future.
    pub fn new(future: F) -> Self {
        Self { future, wake_state: Arc::default() }
    }
}

impl<F: Future + Unpin> Future for Repolled<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        let wake_state = Arc::clone(&self.wake_state);
        wake_state.task.register(context.waker());
        let waker = Waker::from(Arc::clone(&wake_state));
        for _ in 0..IN_A_ROW {
            wake_state.state.store(POLLED, Ordering::Release);
            let polled = Pin::new(&mut self.future).poll(&mut Context::from_waker(&waker));
            if polled.is_ready() {
                return polled;
            }
            let waits =
                wake_state.state.compare_exchange(POLLED, WAITING, Ordering::AcqRel, Ordering::Acquire);
            if waits.is_ok() {
                return Poll::Pending;
            }
        }
        context.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The futures that an HTTP/2 connection spawns, until [`together`] polls them.
#[derive(Clone, Default)]
pub struct Spawned(Arc<Mutex<Vec<Part>>>);

type Part = Pin<Box<dyn Future<Output = ()> + Send>>;

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Spawned {
    fn execute(&self, future: F) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Box::pin(future));
    }
}

/// Runs a future and all futures that it spawns in one task, until the first one is done.
pub async fn together<T>(main: impl Future<Output = T>, spawned: Spawned) -> T {
    let mut main = pin!(main);
    let mut others = FuturesUnordered::new();
    Repolled::new(poll_fn(|context| {
        let end = main.as_mut().poll(context);
        others.extend(std::mem::take(&mut *spawned.0.lock().unwrap_or_else(PoisonError::into_inner)));
        while let Poll::Ready(Some(())) = others.poll_next_unpin(context) {}
        end
    }))
    .await
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::AtomicUsize;

    use super::*;

    /// Counts the wakes of a task.
    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Polls a future that wakes itself `times` times before it is done. Returns the poll, the wakes of the
    /// task, and the future's waker.
    fn poll(times: usize) -> (Poll<()>, usize, Option<Waker>) {
        let count = Arc::new(Count::default());
        let (mut left, mut inner) = (times, None);
        let future = poll_fn(|context: &mut Context<'_>| {
            inner = Some(context.waker().clone());
            if left == 0 {
                return Poll::Pending;
            }
            left -= 1;
            context.waker().wake_by_ref();
            if left == 0 && times.is_multiple_of(2) { Poll::Ready(()) } else { Poll::Pending }
        });
        let mut again = Repolled::new(future);
        let polled = Pin::new(&mut again).poll(&mut Context::from_waker(&Waker::from(Arc::clone(&count))));
        drop(again);
        (polled, count.0.load(Ordering::Relaxed), inner)
    }

    #[test]
    fn a_future_that_wakes_itself_is_polled_again_and_no_task_is_woken() {
        assert_eq!((poll(4).0, poll(4).1), (Poll::Ready(()), 0));
        assert_eq!((poll(5).0, poll(5).1), (Poll::Pending, 0));
    }

    #[test]
    fn a_future_that_always_wakes_itself_yields() {
        let (polled, woken, _) = poll(2 * IN_A_ROW);
        assert_eq!((polled, woken), (Poll::Pending, 1));
    }

    #[test]
    fn a_future_that_is_woken_while_it_waits_wakes_its_task_once() {
        let count = Arc::new(Count::default());
        let mut inner = None;
        let mut again = Repolled::new(poll_fn(|context: &mut Context<'_>| {
            inner = Some(context.waker().clone());
            Poll::<()>::Pending
        }));
        let task = Waker::from(Arc::clone(&count));
        assert!(Pin::new(&mut again).poll(&mut Context::from_waker(&task)).is_pending());
        drop(again);
        let inner = inner.unwrap();
        inner.wake_by_ref();
        inner.wake_by_ref();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }
}
