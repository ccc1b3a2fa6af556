//! The standard streams as values, so that a tool's work can be called in-process.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;

/// The standard streams of a tool, and what is known of them.
pub struct Io {
    stdin: Option<Box<dyn Read + Send>>,
    stdout: Option<Box<dyn Write + Send>>,
    /// Where messages go.
    pub stderr: Box<dyn Write + Send>,
    /// Standard input is a terminal.
    pub stdin_terminal: bool,
    /// Standard output is a terminal.
    pub stdout_terminal: bool,
    /// Standard output is a pipe: another program comes after this one.
    pub stdout_pipe: bool,
    /// Standard error is a terminal.
    pub stderr_terminal: bool,
}

impl Io {
    /// The process's own streams. Standard input and output are unbuffered: tools read and write
    /// large blocks.
    ///
    /// # Errors
    /// A standard stream that is closed.
    pub fn process() -> io::Result<Self> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        let unbuffered = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned().map(File::from);
        let (input, output) = (unbuffered(stdin.as_fd())?, unbuffered(stdout.as_fd())?);
        let stdout_pipe = output.metadata().is_ok_and(|data| data.file_type().is_fifo());
        Ok(Self {
            stdin: Some(Box::new(input)),
            stdout: Some(Box::new(output)),
            stderr: Box::new(io::stderr()),
            stdin_terminal: stdin.is_terminal(),
            stdout_terminal: stdout.is_terminal(),
            stdout_pipe,
            stderr_terminal: io::stderr().is_terminal(),
        })
    }

    /// Streams of one's own, none of them a terminal.
    pub fn new(
        stdin: impl Read + Send + 'static,
        stdout: impl Write + Send + 'static,
        stderr: impl Write + Send + 'static,
    ) -> Self {
        Self {
            stdin: Some(Box::new(stdin)),
            stdout: Some(Box::new(stdout)),
            stderr: Box::new(stderr),
            stdin_terminal: false,
            stdout_terminal: false,
            stdout_pipe: false,
            stderr_terminal: false,
        }
    }

    /// Standard input, once: only one input may be `-`.
    pub fn take_stdin(&mut self) -> Option<Box<dyn Read + Send>> {
        self.stdin.take()
    }

    /// Standard output, once.
    pub fn take_stdout(&mut self) -> Option<Box<dyn Write + Send>> {
        self.stdout.take()
    }
}
