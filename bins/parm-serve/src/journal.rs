//! Writes the journal of a model on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use parm_cli::Io;
use parm_cli::output::{Lines, Target};
use parm_serving::runtime::{JournalEntry, JournalSender};

/// How often the thread looks whether the server has stopped.
const POLL: Duration = Duration::from_millis(50);

/// The thread that writes the journal.
pub(crate) struct Writer {
    thread: JoinHandle<Result<()>>,
    stopped: Arc<AtomicBool>,
}

impl Writer {
    /// Creates the file, and starts the thread.
    ///
    /// # Errors
    /// A file that cannot be created.
    pub(crate) fn start(target: &Target, io: &mut Io) -> Result<(Self, JournalSender)> {
        let lines = Lines::new(Some(target), io)?;
        let (sender, entries) = channel();
        let stopped = Arc::new(AtomicBool::new(false));
        let write = {
            let stopped = Arc::clone(&stopped);
            move || write(lines, &entries, &stopped)
        };
        let thread = std::thread::Builder::new().name("journal".into()).spawn(write)?;
        Ok((Self { thread, stopped }, sender))
    }

    /// Ends the file, after the server has stopped.
    ///
    /// # Errors
    /// Entries that could not be written.
    pub(crate) fn finish(self) -> Result<()> {
        self.stopped.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| anyhow!("its thread panicked")).flatten().context("journal")
    }
}

/// Writes entries until the server has stopped; its tasks may hold the sender for longer.
fn write(mut lines: Lines, entries: &Receiver<JournalEntry>, stopped: &AtomicBool) -> Result<()> {
    loop {
        match entries.recv_timeout(POLL) {
            Ok(entry) => lines.add(&entry)?,
            Err(RecvTimeoutError::Timeout) if !stopped.load(Ordering::Relaxed) => {}
            // A model that was unloaded ends it, too.
            Err(_) => return lines.commit(),
        }
    }
}
