//! The program: see the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    parm_cli::run(parm_report::run)
}
