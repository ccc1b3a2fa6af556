//! `parm-sim`: coded serving under virtual time.

use std::path::PathBuf;

use clap::Parser;

use super::load::{ArrivalsOption, rate, seconds};
use crate::input::Input;
use crate::options::Common;
use crate::output::Target;

/// Simulate coded serving: what latencies a cluster of many instances would give
///
/// The cluster is a configuration of parm-serve whose instances are synthetic; the serving core is
/// parm-serve's own, under virtual time. Prints the median, the mean and the tail of latencies, and how
/// many answers were rebuilt, for each model or policy, at each rate, as medians over seeds.
///
/// The same seeds give the same output.
#[derive(Parser, Clone, Debug)]
#[command(name = "parm-sim", version, max_term_width = 100)]
pub struct Sim {
    /// The cluster, see parm-serve.json(5)
    #[arg(value_name = "CLUSTER.json")]
    pub cluster: PathBuf,

    /// The model to simulate; by default all of the file, or, where policies are given, the first
    #[arg(short, long, value_name = "NAME")]
    pub model: Option<String>,

    /// Simulate the model with these fields in place of its own; may be given several times
    ///
    /// A JSON object, with a name for the table if it has one: '{"name": "hedge", "redundancy": …}'. '{}'
    /// is the model as it is.
    #[arg(long = "with", value_name = "JSON", help_heading = "Policies")]
    pub with: Vec<String>,

    /// Simulate the model with the fields of each object of a list in place of its own
    #[arg(long, value_name = "FILE.json", help_heading = "Policies")]
    pub policies: Option<PathBuf>,

    /// Queries a second, on average; several, one after the other
    #[arg(
        long,
        visible_alias = "rates",
        value_name = "RATE,…",
        value_delimiter = ',',
        required_unless_present = "trace",
        value_parser = rate,
        help_heading = "Load"
    )]
    pub rate: Vec<f64>,

    /// So many queries at each rate, for each seed [default: 100000, or all of the trace]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000_000),
        help_heading = "Load"
    )]
    pub queries: Option<u64>,

    /// How queries follow each other
    #[arg(long, value_name = "HOW", default_value = "poisson", help_heading = "Load")]
    pub arrivals: ArrivalsOption,

    /// Replay the arrivals of a trace, stretched to the rates if there are any
    ///
    /// Either an npy file of times in seconds, or the records of parm-load.
    #[arg(long, value_name = "TIMES.npy|RECORDS.jsonl", conflicts_with = "arrivals", help_heading = "Load")]
    pub trace: Option<Input>,

    /// Queries for so long before those that count, at each rate
    #[arg(long, value_name = "SECONDS", default_value = "1", value_parser = seconds, help_heading = "Load")]
    pub warm_up: f64,

    /// The first seed: of arrivals, and added to the seeds of the file
    #[arg(long, value_name = "N", default_value = "0", help_heading = "Load")]
    pub seed: u64,

    /// How many seeds, one after the other
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        help_heading = "Load"
    )]
    pub seeds: u32,

    /// Threads, each with a trial of its own [default: one per core]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1024),
        help_heading = "Computing"
    )]
    pub threads: Option<u32>,

    /// Write a line of JSON for each query that counts, as parm-load does; of one policy and one seed
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Results")]
    pub records: Option<Target>,

    /// Print JSON in place of a table
    #[arg(long, help_heading = "Results")]
    pub json: bool,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

super::tool!(Sim, "parm-sim");
