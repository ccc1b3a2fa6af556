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

use clap::Command;

use crate::run::Tool as _;

/// The definitions of all tools, for man pages, completions and the test of their help.
#[must_use]
pub fn all() -> Vec<Command> {
    vec![
        encode::Encode::described(),
        infer::Infer::described(),
        decode::Decode::described(),
        train::Train::described(),
        serve::Serve::described(),
        load::Load::described(),
        sim::Sim::described(),
        score::Score::described(),
        data::Data::described(),
        compare::Compare::described(),
        plot::Plot::described(),
        report::Report::described(),
    ]
}

/// Implements [`crate::run::Tool`] for a parser with a field `common`. Names of pages of subcommands may follow that of
/// the tool.
macro_rules! tool {
    ($options:ty, $name:literal $(, $page:literal)*) => {
        impl $options {
            /// The name of the tool.
            pub const NAME: &'static str = $name;
        }

        impl $crate::run::Tool for $options {
            const NAME: &'static str = $name;
            const PAGES: &'static [&'static str] = &[
                include_str!(concat!("../../../../man/", $name, ".inc")),
                $(include_str!(concat!("../../../../man/", $page, ".inc")),)*
            ];

            fn common(&self) -> &$crate::options::Common {
                &self.common
            }
        }
    };
}
use tool;
