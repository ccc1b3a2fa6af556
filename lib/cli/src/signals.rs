//! Signals: temporary files are removed before a signal ends the tool.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Mutex, MutexGuard, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use signal_hook::low_level::emulate_default_handler;

/// True if the first signal is only recorded.
static POSTPONED: AtomicBool = AtomicBool::new(false);

/// The receiver of signals, if they do not end the process.
static FORWARDED: Mutex<Option<Sender<i32>>> = Mutex::new(None);

/// The signal that tells servers to reload their configuration.
pub const HANGUP: i32 = SIGHUP;

/// The recorded signal, or 0.
static NOTED: AtomicI32 = AtomicI32::new(0);

/// The present temporary files of the process.
static TEMPORARY: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

fn temporary() -> MutexGuard<'static, Vec<PathBuf>> {
    TEMPORARY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers a temporary file or directory as long as this value lives.
#[derive(Debug)]
pub struct TemporaryFile(PathBuf);

impl TemporaryFile {
    /// Registers it: a signal that ends the process removes it.
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

/// Removes temporary files at SIGINT, SIGTERM or SIGHUP, before the signal ends the process.
///
/// A file that exceeds the size limit (`ulimit -f`) becomes a write error, like a full disk, and does not end
/// the process.
///
/// # Errors
/// The system's.
pub fn handle() -> std::io::Result<()> {
    // SAFETY: ignoring a signal needs no handler.
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
            // Held until the process ends, so that no file is renamed or created meanwhile.
            let files = temporary();
            for path in files.iter() {
                let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
            }
            let _ = emulate_default_handler(signal);
        }
    })?;
    Ok(())
}

/// From now on the first signal is only recorded, so that a tool can save its work; the second one ends the
/// process.
pub fn postpone() {
    POSTPONED.store(true, Ordering::SeqCst);
}

/// From now on signals are only sent to this channel.
pub fn forward(to: Sender<i32>) {
    *FORWARDED.lock().unwrap_or_else(PoisonError::into_inner) = Some(to);
}

/// From now on signals end the process again.
pub fn no_longer_forward() {
    *FORWARDED.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// The signal that was recorded since [`postpone`].
#[must_use]
pub fn noted() -> Option<u8> {
    u8::try_from(NOTED.load(Ordering::SeqCst)).ok().filter(|&signal| signal > 0)
}
