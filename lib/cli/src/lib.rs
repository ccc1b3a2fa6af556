//! The command line of all tools.
//!
//! [`tools`] has the options of every tool, [`options`] those that tools share. [`run()`] parses the command
//! line, calls the tool and returns its exit code. [`Io`] has the standard streams as values, [`input`] and
//! [`output`] open streams by name, and [`progress`] has the progress bar. A tool is a function of its
//! options and an [`Io`], which tests and benches call in-process.

// The doc comments of options are their help, which has shapes in brackets.
#![allow(rustdoc::broken_intra_doc_links)]

pub mod exit;
pub mod input;
pub mod io;
pub mod options;
pub mod output;
pub mod progress;
pub mod run;
pub mod sibling;
pub mod signals;
pub mod tools;

pub use exit::{Exit, Usage};
pub use input::Input;
pub use io::Io;
pub use output::Output;
pub use progress::Progress;
pub use run::run;
