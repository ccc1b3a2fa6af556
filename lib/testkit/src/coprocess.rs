//! A tool in a pipe whose other end waits for its answers.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use crate::npy::f4_values_so_far;
use crate::tool::folder;
use crate::wait::BOUND;

/// A tool that runs with pipes to its standard input and output.
pub struct Coprocess {
    process: Child,
    stdin: Option<ChildStdin>,
    pieces: Receiver<Vec<u8>>,
    /// What it has written.
    written: Vec<u8>,
}

impl Coprocess {
    /// Starts the tool of this name in a folder, with arguments that are separated by white space.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(name: &str, arguments: &str, within: &Path) -> Self {
        let mut command = Command::new(folder().join(name));
        command.args(arguments.split_whitespace()).current_dir(within);
        let mut process =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the tool starts");
        let mut stdout = process.stdout.take().expect("piped");
        let (sender, pieces) = mpsc::channel();
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(read @ 1..) = stdout.read(&mut piece) {
                if sender.send(piece[..read].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { stdin: process.stdin.take(), process, pieces, written: Vec::new() }
    }

    /// Writes to its standard input.
    ///
    /// # Panics
    /// If it does not read.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stdin.as_mut().expect("piped").write_all(bytes).expect("the tool reads");
    }

    /// Waits until it has written this many floats since its start, and returns all of them.
    ///
    /// # Panics
    /// If it does not write them.
    #[must_use]
    pub fn answers(&mut self, count: usize) -> Vec<f32> {
        loop {
            let values = f4_values_so_far(&self.written);
            if values.len() >= count {
                return values;
            }
            match self.pieces.recv_timeout(BOUND) {
                Ok(piece) => self.written.extend(piece),
                Err(error) => panic!("{error}: found {} answers, expected {count}", values.len()),
            }
        }
    }

    /// Ends its input, and asserts that it ends well.
    ///
    /// # Panics
    /// If it fails.
    pub fn end(mut self) {
        self.stdin = None;
        let status = self.process.wait().expect("the tool can be waited for");
        assert!(status.success(), "{status}");
    }
}

impl Drop for Coprocess {
    fn drop(&mut self) {
        // One that has ended cannot be killed.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
