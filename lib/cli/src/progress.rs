//! Progress bars on standard error, if it is a terminal and the tool is the last of a pipe. If they are
//! forced without a terminal, as in a log, each state is a line: one a second and one at the end.

use std::io::{self, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle, TermLike};

use crate::io::Io;
use crate::options::{Common, When};

/// The time between two lines in a log.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// The time between two states of a bar.
const BAR_INTERVAL: Duration = Duration::from_millis(100);

/// A progress bar, or nothing if it is not shown.
#[derive(Clone, Debug)]
pub struct Progress {
    bar: ProgressBar,
    /// True if it is written as lines.
    lines: bool,
}

fn is_shown(common: &Common, io: &Io) -> bool {
    match common.progress {
        When::Always => true,
        When::Never => false,
        When::Auto => !common.quiet && io.terminals.stderr && !io.stdout_pipe,
    }
}

impl Progress {
    /// A bar that counts `unit`s, up to `total` if that is known.
    #[must_use]
    pub fn new(common: &Common, io: &Io, unit: &str, total: Option<u64>) -> Self {
        if !is_shown(common, io) {
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

    /// A bar without words of its own: see [`show`](Self::show).
    #[must_use]
    pub fn described(common: &Common, io: &Io, total: u64) -> Self {
        let shown = is_shown(common, io);
        let lines = shown && !io::stderr().is_terminal();
        if !shown || lines {
            return Self { bar: ProgressBar::hidden(), lines };
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(10));
        let style = ProgressStyle::with_template("{bar:30} {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, lines }
    }

    /// The time between two states that are worth showing; none if nothing is shown.
    #[must_use]
    pub fn interval(&self) -> Option<Duration> {
        if self.lines { Some(LINE_INTERVAL) } else { (!self.bar.is_hidden()).then_some(BAR_INTERVAL) }
    }

    /// Moves the bar, and shows a text beside it; without a terminal the text is a line.
    pub fn show(&self, position: u64, text: &str) {
        if self.lines {
            // Nothing is left to do when standard error is closed.
            let _ = writeln!(io::stderr(), "{text}");
        } else {
            self.bar.set_position(position);
            self.bar.set_message(text.to_owned());
        }
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
    fn a_text_that_is_shown_moves_the_bar() {
        let common = Common { progress: When::Always, ..Common::default() };
        let io = Io::new("parm-test", io::empty(), io::sink(), io::sink());
        let hidden = Progress::described(&Common::default(), &io, 10);
        assert_eq!(hidden.interval(), None);
        let lines = Progress::described(&common, &io, 10);
        if lines.lines {
            assert_eq!(lines.interval(), Some(LINE_INTERVAL));
        }
        let bar = Progress { bar: ProgressBar::hidden(), lines: false };
        bar.show(7, "seven");
        assert_eq!((bar.bar.position(), bar.bar.message().as_str()), (7, "seven"));
    }
}
