//! Tests of hostile inputs: an allocator that counts, and a loop over many inputs on all cores.
#![allow(unsafe_code)] // an allocator cannot be written without

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::time::Instant;
use std::{env, thread};

/// The memory that this thread holds, and the bytes that have arrived at it.
struct Account {
    live: Cell<isize>,
    arrived: Cell<isize>,
    factor: Cell<isize>,
    /// The largest amount of live memory beyond factor × arrived.
    excess: Cell<isize>,
}

thread_local! {
    static ACCOUNT: Account = const {
        Account { live: Cell::new(0), arrived: Cell::new(0), factor: Cell::new(2), excess: Cell::new(0) }
    };
}

impl Account {
    fn allocate(&self, bytes: isize) {
        self.live.set(self.live.get() + bytes);
        let excess = self.live.get() - self.factor.get() * self.arrived.get();
        self.excess.set(self.excess.get().max(excess));
    }
}

/// The system's allocator, with an account for each thread; a test makes it its
/// `#[global_allocator]`.
#[derive(Debug)]
pub struct Counting;

fn count(bytes: isize) {
    // A thread that is ending has no account any more.
    let _ = ACCOUNT.try_with(|account| account.allocate(bytes));
}

// SAFETY: every call is passed to the system's allocator unchanged. The counting neither allocates (the
// account is const and has no destructor) nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller keeps the contract of the system's allocator, which is the same.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size().cast_signed()));
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    /// Counts the growth: large blocks are moved by remapping, not copied.
    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size.cast_signed() - layout.size().cast_signed());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

/// Runs `read` and returns its result with the most bytes that it held beyond factor × [`arrived`].
pub fn account<T>(factor: usize, read: impl FnOnce() -> T) -> (T, isize) {
    let before = ACCOUNT.with(|account| {
        account.arrived.set(0);
        account.factor.set(factor.cast_signed());
        account.excess.set(account.live.get());
        account.live.get()
    });
    let result = read();
    (result, ACCOUNT.with(|account| account.excess.get()) - before)
}

/// Counts bytes that arrive at this thread.
pub fn arrived(bytes: usize) {
    ACCOUNT.with(|account| account.arrived.set(account.arrived.get() + bytes.cast_signed()));
}

/// Calls `check` with inputs 0 to `inputs` on all cores. It returns the result of [`account`], and whether
/// the input was read to its end. `PARM_SOAK=NUMBER` sets another number of inputs, and
/// `PARM_HOSTILE_INPUT=I` runs and shows a single one.
///
/// # Panics
/// If a check panics, with the input's number; or if almost all inputs or almost none are read to their end,
/// so that they are too tame or too wild to test anything.
pub fn soak(inputs: u64, show: impl Fn(u64), check: impl Fn(u64) -> (isize, bool) + Sync) {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    if let Some(i) = number("PARM_HOSTILE_INPUT") {
        show(i);
        check(i);
        return;
    }
    let inputs = number("PARM_SOAK").unwrap_or(inputs);
    let threads = thread::available_parallelism().map_or(1, usize::from) as u64;
    let begin = Instant::now();
    let work = |thread| {
        let (mut worst, mut whole) = (0, 0);
        for i in (thread..inputs).step_by(threads as usize) {
            let Ok((excess, read)) = panic::catch_unwind(AssertUnwindSafe(|| check(i))) else {
                panic!("input {i}: see it again with PARM_HOSTILE_INPUT={i}");
            };
            worst = worst.max(excess);
            whole += u64::from(read);
        }
        (worst, whole)
    };
    let results = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|thread| scope.spawn(move || work(thread))).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect::<Vec<_>>()
    });
    let worst = results.iter().map(|&(worst, _)| worst).max().unwrap_or(0);
    let whole: u64 = results.iter().map(|&(_, whole)| whole).sum();
    eprintln!(
        "{inputs} inputs in {:.1} s: {whole} read to their end, the others refused; at most {worst} bytes \
         over the factor",
        begin.elapsed().as_secs_f64()
    );
    assert!(inputs < 1000 || (inputs / 20..inputs * 19 / 20).contains(&whole), "{whole}");
}
