//! The standard streams as values, so that tests can call a tool in-process.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context;

use crate::provenance::{Invocation, Provenance};

/// Which of the descriptors 0 to 2 were closed at the start of the process.
static CLOSED: [AtomicBool; 3] = [const { AtomicBool::new(false) }; 3];

/// Records which standard descriptors are closed. Rust's runtime opens /dev/null in their place before
/// `main`, and data written there would be lost without an error; therefore this runs before the runtime.
extern "C" fn note_closed() {
    for (descriptor, closed) in (0..).zip(&CLOSED) {
        // SAFETY: this call only checks whether the descriptor is open.
        let flags = unsafe { libc::fcntl(descriptor, libc::F_GETFD) };
        closed.store(flags == -1, Ordering::Relaxed);
    }
}

// SAFETY: the system calls the functions of this section, in which pointers to functions belong, once
// before `main`. This one needs nothing that the runtime sets up.
#[used]
#[unsafe(link_section = ".init_array")]
static NOTE_CLOSED: extern "C" fn() = note_closed;

/// True if this descriptor was closed at the start of the process.
pub(crate) fn was_closed(descriptor: i32) -> bool {
    let closed = usize::try_from(descriptor).ok().and_then(|descriptor| CLOSED.get(descriptor));
    closed.is_some_and(|closed| closed.load(Ordering::Relaxed))
}

/// Closes the standard descriptors that were closed at the start of the process.
pub(crate) fn close_again() {
    for descriptor in (0..3).filter(|&descriptor| was_closed(descriptor)) {
        // SAFETY: it is /dev/null, which Rust's runtime opened, and nothing owns it.
        unsafe { libc::close(descriptor) };
    }
}

/// A standard stream that is closed.
struct Closed;

impl Closed {
    fn error() -> io::Error {
        io::Error::from_raw_os_error(libc::EBADF)
    }
}

impl Read for Closed {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(Self::error())
    }
}

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(Self::error())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The standard streams of a tool, and its environment.
pub struct Io {
    /// The name of the tool: the prefix of its messages.
    pub tool: &'static str,
    stdin: Option<Box<dyn Read + Send>>,
    stdout: Option<Box<dyn Write + Send>>,
    pub(crate) provenance: Provenance,
    /// The folder for caches: `$XDG_CACHE_HOME/parm`, or `~/.cache/parm`.
    pub cache: Option<PathBuf>,
    /// The stream of messages.
    pub stderr: Box<dyn Write + Send>,
    /// Which of the streams are terminals.
    pub terminals: Terminals,
    /// True if standard output is a pipe to another program.
    pub stdout_pipe: bool,
}

/// Which standard streams are terminals.
#[derive(Clone, Copy, Debug, Default)]
pub struct Terminals {
    /// Standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
}

impl Io {
    /// The process's own streams. Standard input and output are unbuffered, since tools read and write large
    /// blocks. A closed stream is an error when it is used.
    ///
    /// Standard output moves to a descriptor of its own, which child processes do not inherit, and descriptor
    /// 1 becomes standard error, so that the output of libraries does not get into the data.
    ///
    /// # Errors
    /// The system's.
    pub fn process(tool: &'static str, invocation: Invocation) -> io::Result<Self> {
        let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
        let unbuffered = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from);
        let (input, output) = (unbuffered(stdin.as_fd())?, unbuffered(stdout.as_fd())?);
        // SAFETY: both are open descriptors, and all data goes through the copy that was made above.
        if unsafe { libc::dup2(stderr.as_raw_fd(), stdout.as_raw_fd()) } == -1 {
            return Err(io::Error::last_os_error());
        }
        let stdout_pipe = output.metadata().is_ok_and(|data| data.file_type().is_fifo());
        let terminals = Terminals {
            stdin: stdin.is_terminal(),
            stdout: output.is_terminal(),
            stderr: stderr.is_terminal(),
        };
        Ok(Self {
            tool,
            provenance: invocation.into(),
            cache: cache(),
            stdin: Some(if was_closed(0) { Box::new(Closed) } else { Box::new(input) }),
            stdout: Some(if was_closed(1) { Box::new(Closed) } else { Box::new(output) }),
            stderr: Box::new(stderr),
            terminals,
            stdout_pipe,
        })
    }

    /// Given streams, none of them a terminal.
    pub fn new(
        tool: &'static str,
        stdin: impl Read + Send + 'static,
        stdout: impl Write + Send + 'static,
        stderr: impl Write + Send + 'static,
    ) -> Self {
        Self {
            tool,
            provenance: Provenance::default(),
            cache: None,
            stdin: Some(Box::new(stdin)),
            stdout: Some(Box::new(stdout)),
            stderr: Box::new(stderr),
            terminals: Terminals::default(),
            stdout_pipe: false,
        }
    }

    /// Standard input, once: only one input may be `-`.
    pub(crate) fn take_stdin(&mut self) -> Option<Box<dyn Read + Send>> {
        self.stdin.take()
    }

    /// Standard output, once.
    pub(crate) fn take_stdout(&mut self) -> Option<Box<dyn Write + Send>> {
        self.stdout.take()
    }

    /// Prints the text of a report, which is all that goes to standard output.
    ///
    /// # Errors
    /// Standard output is taken, or cannot be written.
    pub fn print(&mut self, text: &str) -> anyhow::Result<()> {
        let mut stdout = self.take_stdout().context("standard output is closed")?;
        stdout
            .write_all(text.as_bytes())
            .and_then(|()| stdout.flush())
            .context("standard output: cannot write")
    }
}

/// The folder for caches, from the environment.
fn cache() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(folder.join("parm"))
}
