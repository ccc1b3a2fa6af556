//! The standard streams as values, so that a tool's work can be called in-process.

use std::fs::File;
use std::io::{self, IsTerminal, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::FileTypeExt;
use std::path::PathBuf;

/// The standard streams of a tool, and what is known of them.
pub struct Io {
    stdin: Option<Box<dyn Read + Send>>,
    stdout: Option<Box<dyn Write + Send>>,
    /// The command line, for records of what made a file.
    pub command: String,
    /// Where to keep what can be made or fetched anew: `$XDG_CACHE_HOME/parm`, or `~/.cache/parm`.
    pub cache: Option<PathBuf>,
    /// Where messages go.
    pub stderr: Box<dyn Write + Send>,
    /// Which of them are terminals.
    pub terminals: Terminals,
    /// Standard output is a pipe: another program comes after this one.
    pub stdout_pipe: bool,
}

/// Which standard streams are terminals.
#[derive(Clone, Copy, Debug, Default)]
#[allow(missing_docs)]
pub struct Terminals {
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
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
        let words: Vec<_> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
        Ok(Self {
            command: words.join(" "),
            cache: cache(),
            stdin: Some(Box::new(input)),
            stdout: Some(Box::new(output)),
            stderr: Box::new(io::stderr()),
            terminals: Terminals {
                stdin: stdin.is_terminal(),
                stdout: stdout.is_terminal(),
                stderr: io::stderr().is_terminal(),
            },
            stdout_pipe,
        })
    }

    /// Streams of one's own, none of them a terminal.
    pub fn new(
        stdin: impl Read + Send + 'static,
        stdout: impl Write + Send + 'static,
        stderr: impl Write + Send + 'static,
    ) -> Self {
        Self {
            command: String::new(),
            cache: None,
            stdin: Some(Box::new(stdin)),
            stdout: Some(Box::new(stdout)),
            stderr: Box::new(stderr),
            terminals: Terminals::default(),
            stdout_pipe: false,
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

/// The folder that the environment names for caches.
fn cache() -> Option<PathBuf> {
    let absolute = |name| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let folder = absolute("XDG_CACHE_HOME").or_else(|| Some(absolute("HOME")?.join(".cache")))?;
    Some(folder.join("parm"))
}
