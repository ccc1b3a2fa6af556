//! `parm-infer`: tensors to a model's outputs.

fn main() -> std::process::ExitCode {
    parm_cli::run(parm_infer::run)
}
