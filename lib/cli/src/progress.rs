//! Progress bars: on standard error, only at a terminal, only from the last stage of a pipe.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::io::Io;
use crate::options::{Common, When};

/// A progress bar, or nothing where nobody would see it.
#[derive(Clone, Debug)]
pub struct Progress(ProgressBar);

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
            return Self(ProgressBar::hidden());
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(10));
        let template = match total {
            Some(_) => "{bar:30} {human_pos}/{human_len} {unit}, {per_sec}, {eta} left {msg}",
            None => "{spinner} {human_pos} {unit}, {per_sec} {msg}",
        };
        let style = ProgressStyle::with_template(&template.replace("{unit}", unit));
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if total.is_none() {
            bar.enable_steady_tick(Duration::from_millis(200));
        }
        Self(bar)
    }

    /// Adds to the total, when more is known to come.
    pub fn expect(&self, more: u64) {
        self.0.inc_length(more);
    }

    /// Counts on.
    pub fn advance(&self, by: u64) {
        self.0.inc(by);
    }

    /// Shows a short text beside the bar.
    pub fn note(&self, text: impl Into<String>) {
        self.0.set_message(text.into());
    }

    /// Runs something that writes to standard error with the bar out of the way.
    pub fn suspend<T>(&self, work: impl FnOnce() -> T) -> T {
        self.0.suspend(work)
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
