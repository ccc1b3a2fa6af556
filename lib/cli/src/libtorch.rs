//! Hands a command over to `parm-libtorch`, the only program that is linked with libtorch.
//!
//! The other programs begin without libtorch, so that they print their help and refuse wrong options without it, and
//! then become `parm-libtorch` by `exec`, with the same command line. Before that they look for what it needs, so that
//! a missing libtorch is a message of theirs, not of the dynamic loader.

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, anyhow};

use crate::io;
use crate::run::Tool;

/// The program with libtorch.
const PROGRAM: &str = "parm-libtorch";

/// Where it is, from the folder of the other programs: beside them in the build tree, or installed.
const PLACES: [&str; 2] = ["", "../lib/parm"];

/// The releases of libtorch that it may be run with.
const RELEASE: &str = "2.11";

/// What the loader says of a library that it does not find.
const NOT_FOUND: &str = "=> not found";

/// Replaces this process by `parm-libtorch`, which does the work of the tool `T` with this process's arguments, and with
/// these variables in its environment, unless they are set already. Call it before anything is read from or written to
/// a standard stream.
///
/// Returns only if it cannot: the error says what is missing, and which command installs it.
#[must_use]
pub fn exec<T: Tool>(variables: &[(&str, &str)]) -> anyhow::Error {
    match command(T::NAME, variables) {
        Ok(mut command) => {
            // Rust's runtime has opened /dev/null in place of closed streams; the program must find them closed.
            io::close_again();
            anyhow!(command.exec()).context(format!("{PROGRAM} cannot be started"))
        }
        Err(error) => error,
    }
}

/// The call of `parm-libtorch` with this process's arguments and these variables, where they are not set.
fn command(tool: &str, variables: &[(&str, &str)]) -> Result<Command> {
    let found = find()?;
    let mut words = std::env::args_os();
    let called = words.next().filter(|called| Path::new(called).file_name().is_some_and(|name| name == tool));
    let mut command = Command::new(found.program);
    command.arg0(called.unwrap_or_else(|| OsString::from(tool))).args(words);
    command.envs(variables.iter().copied().filter(|(name, _)| std::env::var_os(name).is_none()));
    Ok(command)
}

/// A `parm-libtorch` that can be started, and its libtorch.
pub(crate) struct Found {
    program: PathBuf,
    /// The release; that of [`RELEASE`] for a libtorch that does not say more.
    pub(crate) release: String,
    /// The library that was found.
    pub(crate) library: PathBuf,
}

impl Found {
    /// The names of the GPUs that libtorch can use; none if there are none. Loads libtorch, in the other program.
    pub(crate) fn gpus(&self) -> Option<String> {
        let output = Command::new(&self.program).arg("--gpus").stdin(Stdio::null()).output().ok()?;
        let names = String::from_utf8_lossy(&output.stdout).lines().collect::<Vec<_>>().join(", ");
        (!names.is_empty()).then_some(names)
    }
}

/// Finds the program and its libraries.
///
/// # Errors
/// Either is missing, or libtorch has a release that does not fit; with the command that installs it.
pub(crate) fn find() -> Result<Found> {
    let own = std::env::current_exe().context("the path of this program is unknown")?;
    let folder = own.parent().unwrap_or(Path::new("/"));
    let program = PLACES.iter().map(|place| folder.join(place).join(PROGRAM)).find(|path| path.is_file());
    let program = program.with_context(|| {
        format!(
            "found no {PROGRAM} in {}, expected it there to run models; install parm as a whole",
            folder.join("../lib/parm").display()
        )
    })?;
    // With this variable the loader lists the libraries and does not run the program, as for ldd.
    let listed = Command::new(&program).env("LD_TRACE_LOADED_OBJECTS", "1").stdin(Stdio::null()).output();
    let listed = listed.with_context(|| format!("{}: cannot be started", program.display()))?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    let found = if let Some(library) = libtorch(&listed) {
        match (release(&library), missing(&listed)) {
            (Some(other), _) if !fits(&other) => {
                format!("PyTorch {other} in {}", package(&library).display())
            }
            (_, Some(missing)) => format!("no {missing}, which libtorch needs"),
            (release, None) => {
                return Ok(Found {
                    program,
                    release: release.unwrap_or_else(|| RELEASE.to_owned()),
                    library,
                });
            }
        }
    } else {
        format!("no {}, which runs models", missing(&listed).unwrap_or("libtorch_cpu.so"))
    };
    let python = Some(folder.join("python3")).filter(|python| python.exists());
    let python = python.unwrap_or_else(|| PathBuf::from("python3"));
    Err(anyhow!(
        "found {found}, expected the libtorch of PyTorch {RELEASE}: {} -m pip install 'torch=={RELEASE}.*'",
        python.display()
    ))
}

/// The first library that the loader did not find.
fn missing(listed: &str) -> Option<&str> {
    listed.lines().find_map(|line| Some(line.trim().strip_suffix(NOT_FOUND)?.trim_end()))
}

/// The file of libtorch that the loader found.
fn libtorch(listed: &str) -> Option<PathBuf> {
    let path = listed.lines().find_map(|line| line.trim().strip_prefix("libtorch_cpu.so => "))?;
    let path = path.rsplit_once(" (")?.0;
    // An installation may have links to it.
    fs::canonicalize(path).ok()
}

/// The folder of the Python package that a library of libtorch is in.
fn package(library: &Path) -> &Path {
    library.ancestors().nth(2).unwrap_or(library)
}

/// The release of that package; none for a libtorch that is not part of one.
fn release(library: &Path) -> Option<String> {
    let version = fs::read_to_string(package(library).join("version.py")).ok()?;
    let version = version.lines().find_map(|line| line.strip_prefix("__version__ = "))?;
    Some(version.trim_matches(['\'', '"']).to_owned())
}

fn fits(release: &str) -> bool {
    release.strip_prefix(RELEASE).is_some_and(|rest| rest.starts_with('.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_lists_is_read() {
        let listed =
            "\tlinux-vdso.so.1 (0x1)\n\tlibtorch_cpu.so => /proc/self/exe (0x7f)\n\tlibc10.so => not found\n";
        assert_eq!(missing(listed), Some("libc10.so"));
        assert_eq!(libtorch(listed), Some(std::env::current_exe().unwrap()));
        assert_eq!(libtorch("\tlibtorch_cpu.so => not found\n"), None);
    }

    #[test]
    fn only_patch_releases_fit() {
        let fitting: Vec<_> = ["2.11.0", "2.11.1+cpu", "2.1.0", "2.110.0", "2.12.0"]
            .into_iter()
            .filter(|release| fits(release))
            .collect();
        assert_eq!(fitting, ["2.11.0", "2.11.1+cpu"]);
    }
}
