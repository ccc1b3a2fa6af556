//! The files of a set: reports those that are left out, and shuffles the others.

use anyhow::{Result, bail};
use parm::counted;
use parm_cli::Io;
use parm_cli::options::Common;
use parm_cli::tools::data::Listing;
use parm_data_sets::folder::Folder;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Warns of files that are left out of a folder, or refuses them with --strict; `what` names the examples.
pub(crate) fn check_left_out(
    folder: &Folder,
    strict: bool,
    what: &str,
    common: &Common,
    io: &mut Io,
) -> Result<()> {
    let Some(first) = folder.left_out.first() else { return Ok(()) };
    let files = counted(folder.left_out.len(), "file");
    let message = format!("left out {files} that are no {what}, first {}", first.display());
    if strict {
        bail!("{message} (--strict)");
    }
    common.warn(io, &message);
    Ok(())
}

/// The hidden files of a folder, for the line that --verbose prints.
pub(crate) fn beside(folder: &Folder) -> String {
    match folder.hidden {
        0 => String::new(),
        hidden => format!("; left out {} (.*)", counted(hidden, "hidden name")),
    }
}

/// Shuffles the examples if there is a seed.
pub(crate) fn shuffle<T: Clone>(items: &mut Vec<T>, listing: Listing) {
    if let Some(seed) = listing.shuffle {
        *items = order(items.len(), seed).into_iter().map(|index| items[index].clone()).collect();
    }
}

/// A random order of a number of rows, which depends only on the seed.
pub(crate) fn order(rows: usize, seed: u64) -> Vec<usize> {
    let mut order: Vec<usize> = (0..rows).collect();
    order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    order
}
