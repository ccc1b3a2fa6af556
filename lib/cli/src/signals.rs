//! What a signal leaves behind: nothing. Temporary files are removed before the tool ends by it.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// Whether the first signal is only noted.
static POSTPONED: AtomicBool = AtomicBool::new(false);

/// Where signals go in place of ending the process.
static FORWARDED: Mutex<Option<Sender<i32>>> = Mutex::new(None);

/// The signal that servers take as an order to read their configuration again.
pub const HANGUP: i32 = SIGHUP;

/// The signal that was noted, or 0.
static NOTED: AtomicI32 = AtomicI32::new(0);

/// The temporary files that exist now. Signals belong to the process, so this does too.
static TEMPORARY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn temporary() -> MutexGuard<'static, Vec<PathBuf>> {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Notes a temporary file or directory for as long as it lives.
#[derive(Debug)]
pub struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// From now on, a signal that ends the process removes it.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        temporary().push(path.to_owned());
        Self(path.to_owned())
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        temporary().retain(|path| *path != self.0);
    }
}

/// Removes temporary files when SIGINT, SIGTERM or SIGHUP comes, and then lets it do what it does.
///
/// A file that grows beyond the limit of files (`ulimit -f`) is from now on an error of writing, as a full disk
/// is, and does not end the process.
///
/// # Errors
/// The system's.
pub fn handle() -> std::io::Result<()> {
    // SAFETY: to ignore a signal needs no handler.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    let mut signals = Signals::new([SIGINT, SIGTERM, SIGHUP])?;
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        for signal in signals.forever() {
            let forwarded = FORWARDED.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if forwarded.is_some_and(|to| to.send(signal).is_ok()) {
                continue;
            }
            if POSTPONED.swap(false, Ordering::SeqCst) {
                NOTED.store(signal, Ordering::SeqCst);
                continue;
            }
            // Held until the process is gone, so that no file is renamed or made meanwhile.
            let files = temporary();
            for path in files.iter() {
                let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
            }
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

/// From now on the first signal is only noted, so that a tool may save what it has; the second ends the
/// process as ever.
pub fn postpone() {
    POSTPONED.store(true, Ordering::SeqCst);
}

/// From now on signals are sent there, and do nothing else.
pub fn forward(to: Sender<i32>) {
    *FORWARDED.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
}

/// From now on signals end the process again.
pub fn no_longer_forward() {
    *FORWARDED.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The signal that came since [`postpone`].
#[must_use]
pub fn noted() -> Option<u8> {
    u8::try_from(NOTED.load(Ordering::SeqCst)).ok().filter(|&signal| signal > 0)
}
