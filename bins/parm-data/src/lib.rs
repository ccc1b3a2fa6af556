//! Streams and data sets: `info`, `diff`, `cat`, `slice`, `shuffle`, `split`, `cast`, `convert` and `group` on streams; `idx`, `cifar`, `images`,
//! `speech` and `boxes` read data sets, and `fetch` downloads them.

mod cast;
mod cifar;
mod convert;
mod diff;
mod examples;
mod fetch;
mod group;
mod idx;
mod info;
mod pair;
mod pictures;
mod pixels;
mod speech;
mod split;
mod streams;

use anyhow::Result;
use parm_cli::tools::data::{Action, Data};
use parm_cli::{Exit, Io};

/// Runs the subcommand.
///
/// # Errors
/// Streams or files that are refused, outputs that cannot be written.
pub fn run(options: &Data, io: &mut Io) -> Result<Exit> {
    let common = &options.common;
    let done = match &options.action {
        Action::Info(action) => info::info(action, io),
        Action::Diff(action) => return diff::diff(action, common, io),
        Action::Cat(action) => streams::cat(action, io),
        Action::Slice(action) => streams::slice(action, io),
        Action::Shuffle(action) => streams::shuffle(action, io),
        Action::Divide(action) => split::split(action, io),
        Action::Cast(action) => cast::cast(action, io),
        Action::Convert(action) => convert::convert(action, io),
        Action::Group(action) => group::group(action, io),
        Action::Idx(action) => idx::idx(action, common, io),
        Action::Cifar(action) => cifar::cifar(action, common, io),
        Action::Images(action) => pictures::images(action, common, io),
        Action::Boxes(action) => pictures::boxes(action, common, io),
        Action::Speech(action) => speech::speech(action, common, io),
        Action::Fetch(action) => fetch::fetch(action, common, io),
    }?;
    common.count(io, &done);
    Ok(Exit::Done)
}
