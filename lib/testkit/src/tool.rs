//! Runs the tools as processes, with input from a thread and a timeout.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// The timeout of a tool.
const TIMEOUT: Duration = Duration::from_mins(2);

/// A call of one of the tools.
pub struct Tool {
    command: Command,
    stdin: Vec<u8>,
    /// A signal to send, and the file that must have content first.
    signal: Option<(String, PathBuf)>,
}

/// The result of a call.
#[derive(Debug)]
pub struct Outcome {
    /// The exit code; 128 plus the signal's number if one ended it.
    pub code: i32,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error.
    pub stderr: String,
}

/// The folder of the tools that belong to the running test.
///
/// # Panics
/// If the test does not run where cargo puts tests.
#[must_use]
pub fn folder() -> PathBuf {
    let test = std::env::current_exe().expect("a running test has a path");
    test.ancestors().nth(2).expect("a test lies in target/PROFILE/deps").to_owned()
}

impl Tool {
    /// A call of the tool of this name, as `parm-encode`.
    ///
    /// # Panics
    /// If it was not built.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let path = folder().join(name);
        assert!(path.exists(), "{} is not built: run `make` first", path.display());
        let mut command = Command::new(path);
        command.env_remove("NO_COLOR");
        // Servers of tests are on this machine.
        command.env("NO_PROXY", "127.0.0.1");
        Self { command, stdin: Vec::new(), signal: None }
    }

    /// Adds arguments, separated by white space.
    #[must_use]
    pub fn args(mut self, arguments: &str) -> Self {
        self.command.args(arguments.split_whitespace());
        self
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<std::ffi::OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// Runs it in this folder.
    #[must_use]
    pub fn within(mut self, folder: &Path) -> Self {
        self.command.current_dir(folder);
        self
    }

    /// Gives it this input.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = bytes.into();
        self
    }

    /// Runs it, and sends it this signal, as `INT`, once the file has content.
    ///
    /// # Panics
    /// As [`run`](Self::run).
    #[must_use]
    pub fn interrupt(mut self, signal: &str, once: &Path) -> Outcome {
        self.signal = Some((signal.into(), once.into()));
        self.run()
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// If it cannot be started, or hangs.
    #[must_use]
    pub fn run(mut self) -> Outcome {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the tool starts");
        let mut stdin = child.stdin.take().expect("piped");
        let input = self.stdin;
        if let Some((signal, once)) = self.signal {
            let kill = [format!("-{signal}"), child.id().to_string()];
            thread::spawn(move || {
                while !once.metadata().is_ok_and(|file| file.len() > 0) {
                    thread::sleep(Duration::from_millis(1));
                }
                Command::new("kill").args(kill).status()
            });
        }
        // The tool may end without reading all of its input.
        thread::spawn(move || drop(stdin.write_all(&input)));
        let stdout = collect(child.stdout.take().expect("piped"));
        let stderr = collect(child.stderr.take().expect("piped"));
        let outputs = stdout.recv_timeout(TIMEOUT).and_then(|out| Ok((out, stderr.recv_timeout(TIMEOUT)?)));
        let Ok((stdout, stderr)) = outputs else {
            let _ = child.kill();
            panic!("{:?} hangs", self.command);
        };
        let status = child.wait().expect("the tool can be waited for");
        let signal = std::os::unix::process::ExitStatusExt::signal(&status).unwrap_or_default();
        let code = status.code().unwrap_or(128 + signal);
        Outcome { code, stdout, stderr: String::from_utf8_lossy(&stderr).into_owned() }
    }
}

impl Outcome {
    /// Asserts that the call succeeded without messages; returns its output.
    ///
    /// # Panics
    /// If it did not.
    #[must_use]
    pub fn output(self) -> Vec<u8> {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "expected success in silence");
        self.stdout
    }
}

fn collect(mut from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}
