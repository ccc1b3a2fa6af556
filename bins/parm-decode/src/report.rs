//! What is told of a run, on standard error and by the exit code.

use parm::codes::ILL_CONDITIONED;
use parm_cli::tools::decode::Decode;
use parm_cli::{Exit, Io};

/// What was done.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) rows: u64,
    pub(crate) rebuilt: u64,
    pub(crate) unsolved: u64,
    /// Answers that count as missing because they are not finite.
    pub(crate) non_finite: u64,
    pub(crate) worst_condition: f64,
}

pub(crate) fn warn_non_finite(options: &Decode, io: &mut Io, report: &Report) {
    let (found, verb) = match report.non_finite {
        0 => return,
        1 => ("1 answer", "counts"),
        count => (&*format!("{count} answers"), "count"),
    };
    let message = format!("{found} with NaN or infinity {verb} as missing");
    options.common.warn(io, &message);
}

pub(crate) fn warn_condition(options: &Decode, io: &mut Io, report: &Report, help: &str) {
    if report.worst_condition > ILL_CONDITIONED {
        let message = format!(
            "a system with condition number {:.1e} was solved: its reconstructions amplify errors; {help} \
             would help",
            report.worst_condition
        );
        options.common.warn(io, &message);
    }
}

/// Warns of predictions that could not be rebuilt, unless they are allowed.
pub(crate) fn report_unsolved(options: &Decode, io: &mut Io, report: &Report, missing: &str) -> Exit {
    let Report { rebuilt, unsolved, .. } = report;
    if *unsolved == 0 || options.allow_unsolved {
        return Exit::Done;
    }
    let message = format!("{unsolved} of {} {missing}predictions could not be rebuilt", rebuilt + unsolved);
    options.common.warn(io, &message);
    Exit::Unsolved
}
