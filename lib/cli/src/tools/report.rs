//! `parm-report`: the results of an experiment, to a page.

use std::path::PathBuf;

use clap::Parser;

use crate::options::Common;
use crate::output::Target;

/// Make a page of an experiment's folder: plots, tables, configuration, and what made each file
///
/// Looks through the folder for what the other tools write: reports of parm-score, parm-compare, parm-load, parm-sim
/// and parm-sim advise, the metrics of trainings, the runs of sweeps, records of requests, journals, and code
/// directories. The page is one HTML file, which needs no network.
#[derive(Parser, Clone, Debug)]
#[command(name = Report::NAME, version, max_term_width = 100)]
pub struct Report {
    /// The folder of the experiment
    #[arg(value_name = "DIR", help_heading = "Streams")]
    pub folder: PathBuf,

    /// Compare with the files of the same names in another folder
    ///
    /// The page then begins with the differences, their intervals, and a verdict; see COMPARISONS.
    #[arg(long, value_name = "DIR", help_heading = "Streams")]
    pub against: Option<PathBuf>,

    /// Where to write the page
    #[arg(short, long, value_name = "REPORT.html", default_value = "-", help_heading = "Streams")]
    pub output: Target,

    /// The title of the page [default: the name of the folder]
    #[arg(long, value_name = "TEXT", help_heading = "Page")]
    pub title: Option<String>,

    #[command(flatten)]
    pub common: Common,
}

super::tool!(Report, "parm-report");
