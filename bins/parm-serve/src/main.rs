//! The program: see the library beside it.

use std::process::ExitCode;

fn main() -> ExitCode {
    parm_cli::run_prepared(parm_serve::prepare, |options, config, io| {
        parm_serve::run(options, config, None, io)
    })
}
