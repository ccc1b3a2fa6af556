//! `parm-train`: data to models and codes.

fn main() -> std::process::ExitCode {
    parm_cli::run(parm_train::run)
}
