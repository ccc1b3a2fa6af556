//! Runs a tool from its command line to its exit code.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ArgMatches, Command, Parser};
use schemars::JsonSchema;
use schemars::generate::SchemaSettings;

use crate::examples;
use crate::exit::{Exit, Usage};
use crate::io::{Io, was_closed};
use crate::options::Common;
use crate::provenance::Invocation;
use crate::{signals, version};

/// The options of a tool, for [`run`].
pub trait Tool: Parser {
    /// The tool's name: the prefix of its messages.
    const NAME: &'static str;

    /// The hand-written parts of its man pages.
    const PAGES: &'static [&'static str];

    /// Its definition, whose help ends with examples.
    #[must_use]
    fn described() -> Command {
        examples::shown(Self::command(), Self::PAGES)
    }

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

/// As [`run`], of a tool whose reports are of the type `R`: `--schema` prints their JSON Schema.
pub fn run_with_schema<T: Tool, R: JsonSchema>(
    tool: impl FnOnce(&T, &mut Io) -> anyhow::Result<Exit>,
) -> ExitCode {
    run_with_schemas(&[(None, schema::<R>)], tool)
}

/// As [`run_with_schema`], of a tool whose subcommands have reports of their own: each [`schema`] has the name of its
/// subcommand, or none if it is that of the tool.
pub fn run_with_schemas<T: Tool>(
    schemas: Schemas,
    tool: impl FnOnce(&T, &mut Io) -> anyhow::Result<Exit>,
) -> ExitCode {
    start(schemas, |_| Ok(()), |options, (), io| tool(options, io))
}

/// Schemas of the reports of a tool and of its subcommands.
type Schemas<'a> = &'a [(Option<&'a str>, fn() -> String)];

/// The JSON Schema of a type as it is written.
#[must_use]
pub fn schema<R: JsonSchema>() -> String {
    let generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    format!("{:#}\n", generator.into_root_schema_for::<R>().to_value())
}

/// As [`run`], of a tool that may become another program: `prepare` is called while signals and standard streams are
/// still as the process got them, so that it may [`exec`](crate::libtorch::exec); the tool gets what it returns.
pub fn run_prepared<T: Tool, P>(
    prepare: impl FnOnce(&T) -> anyhow::Result<P>,
    tool: impl FnOnce(&T, P, &mut Io) -> anyhow::Result<Exit>,
) -> ExitCode {
    start(&[], prepare, tool)
}

fn start<T: Tool, P>(
    schemas: Schemas,
    prepare: impl FnOnce(&T) -> anyhow::Result<P>,
    tool: impl FnOnce(&T, P, &mut Io) -> anyhow::Result<Exit>,
) -> ExitCode {
    let mut command = T::described();
    let matches = match command.try_get_matches_from_mut(std::env::args_os()) {
        Ok(matches) => matches,
        Err(error) => return explain(T::NAME, &error),
    };
    // Before the options are taken, since those that are required may be missing.
    if let Some((_, schema)) = schemas.iter().find(|(command, _)| asks_for_schema(&matches, *command)) {
        return finish(T::NAME, print(&schema()), ExitCode::SUCCESS);
    }
    let options = match T::from_arg_matches(&matches) {
        Ok(options) => options,
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

fn asks_for_schema(matches: &ArgMatches, command: Option<&str>) -> bool {
    let of = command.map_or(Some(matches), |command| matches.subcommand_matches(command));
    of.is_some_and(|of| matches!(of.try_get_one::<bool>("schema"), Ok(Some(true))))
}

/// Writes clap's message: help and the version to standard output, usage errors to standard error.
fn explain(name: &str, error: &clap::Error) -> ExitCode {
    let written = if error.kind() == ErrorKind::DisplayVersion {
        print(&version::describe(name, version::asks_for_details(std::env::args_os())))
    } else if !error.use_stderr() && was_closed(1) {
        Err(closed())
    } else {
        error.print()
    };
    finish(name, written, u8::try_from(error.exit_code()).map_or(ExitCode::FAILURE, ExitCode::from))
}

/// Writes to standard output.
fn print(text: &str) -> io::Result<()> {
    if was_closed(1) {
        return Err(closed());
    }
    io::stdout().write_all(text.as_bytes()).and_then(|()| io::stdout().flush())
}

fn closed() -> io::Error {
    io::Error::from_raw_os_error(libc::EBADF)
}

/// The exit code of a process that only wrote something.
fn finish(name: &str, written: io::Result<()>, exit: ExitCode) -> ExitCode {
    match written {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            eprintln!("{name}: standard output: cannot write: {error}");
            Exit::Failed.into()
        }
        _ => exit,
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
