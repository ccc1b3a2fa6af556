//! `parm-infer`: a stream of queries to a stream of a model's outputs. Models of servers are called from here, those
//! in files run in `parm-libtorch`.

mod remote;

use anyhow::Result;
use parm_cli::tools::infer::Infer;
use parm_cli::{Exit, Io, Usage, libtorch};

/// Becomes `parm-libtorch` if the model is a file.
///
/// # Errors
/// No model, or no libtorch.
pub fn prepare(options: &Infer) -> Result<()> {
    if options.model.is_some() { Err(libtorch::exec::<Infer>(&[])) } else { Ok(()) }
}

/// Runs the tool on the model of a server.
///
/// # Errors
/// Anything that keeps it from writing one output for each query; see the messages.
pub fn run(options: &Infer, io: &mut Io) -> Result<Exit> {
    match (&options.url, &options.model_name) {
        (Some(url), Some(name)) => remote::run(options, url, name, io),
        _ => Err(Usage::error("found no model, expected --model, or --url and --model-name")),
    }
}
