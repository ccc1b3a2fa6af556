//! `parm-train`: data to models and codes. All of its work needs libtorch, so that it becomes `parm-libtorch`.

use std::convert::Infallible;
use std::process::ExitCode;

use parm_cli::libtorch;
use parm_cli::tools::train::Train;

fn main() -> ExitCode {
    parm_cli::run_prepared(
        |_: &Train| Err(libtorch::exec::<Train>()),
        |_, never: Infallible, _| match never {},
    )
}
