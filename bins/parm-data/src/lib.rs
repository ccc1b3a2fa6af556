//! Streams and data sets: `info`, `cat`, `slice`, `shuffle` on streams; `idx` reads images.

mod idx;
mod streams;

use anyhow::Result;
use parm_cli::tools::data::{Action, Data};
use parm_cli::{Exit, Io};

/// Does what the subcommand says.
///
/// # Errors
/// Streams or files that are refused, outputs that cannot be written.
pub fn run(options: &Data, io: &mut Io) -> Result<Exit> {
    let done = match &options.action {
        Action::Info(action) => streams::info(action, io),
        Action::Cat(action) => streams::cat(action, io),
        Action::Slice(action) => streams::slice(action, io),
        Action::Shuffle(action) => streams::shuffle(action, io),
        Action::Idx(action) => idx::idx(action, io),
    }?;
    options.common.count(io, "parm-data", &done);
    Ok(Exit::Done)
}
