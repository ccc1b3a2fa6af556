//! The results of an experiment to one HTML file.
//!
//! `folder` finds the results below a folder, and says what each is; `result` takes figures and quantities from them;
//! `comparison` compares the quantities of two folders; `page` writes the HTML.

mod comparison;
mod folder;
mod page;
mod result;

use std::io::Write;

use anyhow::{Context, Result, bail};
use parm::counted;
use parm_cli::output::Compression;
use parm_cli::tools::report::Report;
use parm_cli::{Exit, Io};

use crate::comparison::Comparison;
use crate::folder::Folder;

/// Runs the tool.
///
/// # Errors
/// A folder that cannot be read, or has no results; an output that cannot be written.
pub fn run(options: &Report, io: &mut Io) -> Result<Exit> {
    let folder = results(&options.folder)?;
    let comparison = match &options.against {
        Some(path) => {
            let other = results(path)?;
            let comparison = Comparison::new(&folder, &other);
            if comparison.differences.is_empty() {
                bail!(
                    "{} and {}: found no results of the same file names in both",
                    options.folder.display(),
                    path.display()
                );
            }
            Some(comparison)
        }
        None => None,
    };
    let name = options
        .folder
        .canonicalize()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()));
    let title = options.title.clone().or(name).unwrap_or_else(|| options.folder.display().to_string());
    let page = page::page(&title, &folder, comparison.as_ref());
    let mut output = options.output.create(io, Compression::ByName(3))?;
    output.write_all(page.as_bytes()).with_context(|| format!("{}: cannot write", options.output))?;
    output.commit()?;
    options.common.count(io, &format!("reported {}", counted(folder.files.len() as u64, "file")));
    Ok(Exit::Done)
}

/// The results below a folder, of which there is at least one.
fn results(path: &std::path::Path) -> Result<Folder> {
    let folder = Folder::read(path)?;
    if folder.results().next().is_none() {
        bail!("{}: found no results, expected JSON of parm's tools", path.display());
    }
    Ok(folder)
}
