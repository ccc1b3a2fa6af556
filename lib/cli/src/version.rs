//! The version of the programs, the commit that they were built from, and what they run models on.

use std::ffi::OsString;
use std::fs;

use crate::libtorch;

/// The version.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where an installation has the commit, from the folder of a program: `bin` or `lib/parm`. Installing writes it, not the
/// compiler, which would otherwise link every program anew for each commit.
const PLACES: [&str; 2] = ["../share/parm/commit", "../../share/parm/commit"];

/// The commit that this program was built from; none in a build tree, and if it was not known.
pub(crate) fn commit() -> Option<String> {
    let own = std::env::current_exe().ok()?;
    let text = PLACES.iter().find_map(|place| fs::read_to_string(own.parent()?.join(place)).ok())?;
    Some(text.trim().to_owned()).filter(|commit| !commit.is_empty())
}

/// What `--version` prints of a tool. If `details` are asked for, also the libtorch and the GPU that it finds.
pub(crate) fn describe(tool: &str, details: bool) -> String {
    let commit = commit().map_or_else(String::new, |commit| format!(" (commit {commit})"));
    let version = format!("{tool} {VERSION}{commit}\n");
    if !details {
        return version;
    }
    let (libtorch, gpus) = match libtorch::find() {
        Ok(found) => (format!("libtorch {} ({})", found.release, found.library.display()), found.gpus()),
        Err(error) => (format!("libtorch: {error:#}"), None),
    };
    format!("{version}{libtorch}\nGPU: {}\n", gpus.as_deref().unwrap_or("none"))
}

/// Whether these arguments, which have `--version`, also ask for details. clap ends at `--version` before it has read
/// all options.
pub(crate) fn asks_for_details(mut arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.any(|argument| ["-v", "--verbose", "-vV", "-Vv"].iter().any(|&details| argument == details))
}
