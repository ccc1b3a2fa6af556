//! Progress bars on standard error, if it is a terminal and the tool is the last of a pipe. If they are
//! forced without a terminal, as in a log, each state is a line: one a second and one at the end.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::io::Io;
use crate::options::{Common, When};

/// A progress bar, or nothing if it is not shown.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// True if it is written as lines.
    lines: bool,
}

impl Progress {
    /// A bar that counts `unit`s, up to `total` if that is known.
    #[must_use]
    pub fn new(common: &Common, io: &Io, unit: &str, total: Option<u64>) -> Self {
        let shown = match common.progress {
            When::Always => true,
            When::Never => false,
            When::Auto => !common.quiet && io.terminals.stderr && !io.stdout_pipe,
        };
        if !shown {
            return Self { bar: ProgressBar::hidden(), lines: false };
        }
        let lines = !io::stderr().is_terminal();
        let target = if lines {
            ProgressDrawTarget::term_like_with_hz(Box::new(Lines), 1)
        } else {
            ProgressDrawTarget::stderr_with_hz(10)
        };
        let bar = ProgressBar::with_draw_target(total, target);
        let template = match (total, lines) {
            (Some(_), false) => "{bar:30} {human_pos}/{human_len} {unit}, {per_sec}, {eta} left {msg}",
            (Some(_), true) => "{human_pos}/{human_len} {unit}, {per_sec}, {eta} left {msg}",
            (None, false) => "{spinner} {human_pos} {unit}, {per_sec} {msg}",
            (None, true) => "{human_pos} {unit}, {per_sec} {msg}",
        };
        let style = ProgressStyle::with_template(&template.replace("{unit}", unit));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if total.is_none() && !lines {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self { bar, lines }
    }

    /// Counts earlier work, as of a training that is resumed; the rate does not include it.
    pub fn skip(&self, done: u64) {
        self.bar.inc(done);
        self.bar.reset_eta();
    }

    /// Adds to the total.
    pub fn expect(&self, more: u64) {
        self.bar.inc_length(more);
    }

    /// Advances the count.
    pub fn advance(&self, by: u64) {
        self.bar.inc(by);
    }

    /// Shows a short text beside the bar.
    pub fn note(&self, text: impl Into<String>) {
        self.bar.set_message(text.into());
    }

    /// Hides the bar while a function writes to standard error.
    pub fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        self.bar.suspend(work)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.bar.is_finished() {
        } else if self.lines {
            self.bar.abandon();
        } else {
            self.bar.finish_and_clear();
        }
    }
}

/// Standard error without a terminal: updates of the bar become further lines.
#[derive(Debug)]
struct Lines;

impl TermLike for Lines {
    fn width(&self) -> u16 {
        100
    }

    fn move_cursor_up(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_down(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_right(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn move_cursor_left(&self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn write_line(&self, text: &str) -> io::Result<()> {
        self.write_str(text)
    }

    fn write_str(&self, text: &str) -> io::Result<()> {
        match text.trim() {
            // Padding at the end of the line.
            "" => Ok(()),
            text => writeln!(io::stderr(), "{text}"),
        }
    }

    fn clear_line(&self) -> io::Result<()> {
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_before_counts_in_the_bar() {
        let common = Common { progress: When::Always, ..Common::default() };
        let io = Io::new("parm-test", io::empty(), io::sink(), io::sink());
        let progress = Progress::new(&common, &io, "epochs", Some(10));
        progress.skip(6);
        progress.advance(1);
        assert_eq!((progress.bar.position(), progress.bar.length()), (7, Some(10)));
    }
}
