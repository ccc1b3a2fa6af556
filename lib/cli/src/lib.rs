//! The command line of all tools.
//!
//! [`tools`] holds the options of every tool, [`options`] the blocks that they have in common,
//! [`run()`] the way from `main` to an exit code, [`Io`] the standard streams as values, [`input`] and
//! [`output`] the opening of streams by name, [`Progress`] the bar. A tool is `parse, call, exit`:
//! its work is a function of its options and an [`Io`] that tests and benches call in-process.

// The doc comments of options are their help, which has shapes in brackets.
#![allow(rustdoc::broken_intra_doc_links)]

pub mod examples;
mod exit;
pub mod input;
mod io;
pub mod libtorch;
pub mod options;
pub mod output;
mod progress;
mod provenance;
pub mod run;
pub mod sibling;
pub mod signals;
pub mod tools;
mod value;
mod version;

pub use exit::{Exit, Usage};
pub use input::Input;
pub use io::Io;
pub use output::Output;
pub use progress::Progress;
pub use provenance::Invocation;
pub use run::{run, run_prepared, run_with_schema, run_with_schemas};
