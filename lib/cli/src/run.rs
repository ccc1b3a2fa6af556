//! Runs a tool from its command line to its exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::exit::{Exit, Usage};
use crate::io::{Io, was_closed};
use crate::options::Common;
use crate::provenance::Invocation;
use crate::{signals, version};

/// The options of a tool, for [`run`].
pub trait Tool: Parser {
    /// The tool's name: the prefix of its messages.
    const NAME: &'static str;

    /// The options that all tools have.
    fn common(&self) -> &Common;
}

/// Parses the command line, calls the tool and turns its result into an exit code.
///
/// Messages go to standard error, on one line with the chain of causes, after the tool's name. A
/// closed standard output ends the tool silently with 0.
pub fn run<T: Tool>(tool: impl FnOnce(&T, &mut Io) -> anyhow::Result<Exit>) -> ExitCode {
    run_prepared(|_| Ok(()), |options, (), io| tool(options, io))
}

/// As [`run`], of a tool that may become another program: `prepare` is called while signals and standard streams are
/// still as the process got them, so that it may [`exec`](crate::libtorch::exec); the tool gets what it returns.
pub fn run_prepared<T: Tool, P>(
    prepare: impl FnOnce(&T) -> anyhow::Result<P>,
    tool: impl FnOnce(&T, P, &mut Io) -> anyhow::Result<Exit>,
) -> ExitCode {
    let mut command = T::command();
    let matches = command.try_get_matches_from_mut(std::env::args_os());
    let parsed = matches.and_then(|matches| Ok((T::from_arg_matches(&matches)?, matches)));
    let (options, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(error) => return explain(T::NAME, &error.format(&mut command)),
    };
    let prepared = prepare(&options);
    // Without the handler a signal still ends the process, but temporary files stay.
    let _ = signals::handle();
    let mut io = match Io::process(T::NAME, Invocation::new(std::env::args_os(), &command, &matches)) {
        Ok(io) => io,
        Err(error) => {
            eprintln!("{}: a standard stream is closed: {error}", T::NAME);
            return Exit::Failed.into();
        }
    };
    match prepared.and_then(|prepared| tool(&options, prepared, &mut io)) {
        Ok(exit) => exit.into(),
        Err(error) => report(&error, options.common(), &mut io).into(),
    }
}

/// Writes clap's message: help and the version to standard output, usage errors to standard error.
fn explain(name: &str, error: &clap::Error) -> ExitCode {
    let written = if !error.use_stderr() && was_closed(1) {
        Err(io::Error::from_raw_os_error(libc::EBADF))
    } else if error.kind() == ErrorKind::DisplayVersion {
        let text = version::describe(name, version::asks_for_details(std::env::args_os()));
        io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush())
    } else {
        error.print()
    };
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("{name}: standard output: cannot write: {error}");
            Exit::Failed.into()
        }
        _ => u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from),
    }
}

/// Writes the message of an error, and returns the exit code.
fn report(error: &anyhow::Error, common: &Common, io: &mut Io) -> Exit {
    if is_closed_pipe(error) {
        return Exit::Done;
    }
    let message = format!("{error:#}").replace('\n', " ");
    let (on, off) =
        if common.color.colors(io.terminals.stderr) { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    // If standard error is closed, the message is lost.
    let _ = writeln!(io.stderr, "{on}{}:{off} {message}", io.tool);
    if error.chain().any(<dyn std::error::Error>::is::<Usage>) { Exit::Usage } else { Exit::Failed }
}

/// True if the cause is a pipe without a reader.
pub(crate) fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io_errors = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    io_errors.into_iter().any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
