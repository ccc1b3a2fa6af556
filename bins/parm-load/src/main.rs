//! The program: see the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    parm_cli::run_with_schema::<_, parm_load::Report>(parm_load::run)
}
