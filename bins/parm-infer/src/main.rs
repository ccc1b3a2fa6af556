//! `parm-infer`: tensors to a model's outputs.

fn main() -> std::process::ExitCode {
    parm_cli::run_prepared(parm_infer::prepare, |options, (), io| parm_infer::run(options, io))
}
