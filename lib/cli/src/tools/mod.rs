//! The options of every tool. Man pages and completions are made from these definitions.

// The documentation of an option is its help, which tests/help.rs checks; blocks of options are documented
// where they are defined.
#![allow(missing_docs)]

pub mod compare;
pub mod data;
pub mod decode;
pub mod encode;
pub mod infer;
pub mod load;
pub mod plot;
pub mod report;
pub mod score;
pub mod serve;
pub mod sim;
pub mod train;

use clap::{Command, CommandFactory};

/// The definitions of all tools, for man pages, completions and the test of their help.
#[must_use]
pub fn all() -> Vec<Command> {
    vec![
        encode::Encode::command(),
        infer::Infer::command(),
        decode::Decode::command(),
        train::Train::command(),
        serve::Serve::command(),
        load::Load::command(),
        sim::Sim::command(),
        score::Score::command(),
        data::Data::command(),
        compare::Compare::command(),
        plot::Plot::command(),
        report::Report::command(),
    ]
}

/// Implements [`crate::run::Tool`] for a parser with a field `common`.
macro_rules! tool {
    ($options:ty, $name:literal) => {
        impl $options {
            /// The name of the tool.
            pub const NAME: &'static str = $name;
        }

        impl $crate::run::Tool for $options {
            const NAME: &'static str = $name;

            fn common(&self) -> &$crate::options::Common {
                &self.common
            }
        }
    };
}
use tool;
