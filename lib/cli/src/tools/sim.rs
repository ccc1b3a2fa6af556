//! `parm-sim`: coded serving under virtual time.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use super::load::ScheduleOptions;
use crate::input::Input;
use crate::options::{Common, SchemaOption};
use crate::output::Target;
use crate::value::{milliseconds, percentage};

/// Simulate coded serving: the latencies of a cluster of many instances
///
/// The cluster is a configuration of parm-serve whose instances are synthetic. The serving core is that of
/// parm-serve, under virtual time. Prints the median, the mean and the tail of latencies, and the share of
/// rebuilt answers, for each model or policy, at each rate, of several seeds with intervals.
///
/// The same seeds give the same output.
#[derive(Parser, Clone, Debug)]
#[command(
    name = Sim::NAME,
    version,
    max_term_width = 100,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
pub struct Sim {
    /// A subcommand instead of a simulation.
    #[command(subcommand)]
    pub command: Option<SimCommand>,

    /// The cluster, see parm-serve.json(5)
    // There is one, unless there is a command.
    #[arg(value_name = "CLUSTER.json", required = true)]
    pub cluster: Option<PathBuf>,

    /// The model to simulate; by default all models of the file, or the first one if policies are given
    #[arg(short, long, value_name = "NAME")]
    pub model: Option<String>,

    /// Simulate the model with these fields instead of its own; may be repeated
    ///
    /// A JSON object, with an optional name for the table: '{"name": "hedge", "redundancy": …}'. '{}'
    /// is the unchanged model.
    #[arg(long = "with", value_name = "JSON", help_heading = "Policies")]
    pub with: Vec<String>,

    /// Simulate the model with the fields of each object of a list instead of its own
    #[arg(long, value_name = "FILE.json", help_heading = "Policies")]
    pub policies: Option<PathBuf>,

    #[command(flatten)]
    pub load: SimulatedLoad,

    /// The number of parm-serve that share all instances; each query goes to one of them, by chance
    ///
    /// They do not know of each other's calls, which wait at an instance behind those of other servers.
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=1000),
        help_heading = "Load"
    )]
    pub servers: u32,

    /// Write a line of JSON for each query that counts, as parm-load does; only for one policy and one seed
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Results")]
    pub records: Option<Target>,

    /// Write the events and actions of the serving core, for parm-plot timeline; only for one policy, one rate
    /// and one seed
    #[arg(long, value_name = "FILE.jsonl", help_heading = "Results")]
    pub journal: Option<Target>,

    /// Write the calls of instances and the queries as trace events, which Perfetto and Chrome's trace viewer show;
    /// only for one policy, one rate and one seed
    #[arg(long, value_name = "FILE.json", help_heading = "Results")]
    pub trace_events: Option<Target>,

    /// Print JSON instead of a table
    #[arg(long, help_heading = "Results")]
    pub json: bool,

    #[command(flatten, next_help_heading = "Results")]
    pub schema: SchemaOption,

    #[command(flatten)]
    pub common: Common,
}

super::tool!(Sim, "parm-sim");

/// What `parm-sim` does beside simulating.
#[derive(Subcommand, Clone, Debug)]
pub enum SimCommand {
    /// Find the policy, code and k with the best overall accuracy within a tail latency
    ///
    /// Simulates what a budget of instances permits: no redundancy, hedging, replicas, and each code with
    /// parity models apart and pooled. Prints all of them with P99.9, the share of rebuilt answers and A_o, and
    /// the choice with its reason.
    Advise(Box<Advise>),
    /// Find the cluster of a recorded run
    ///
    /// Reads the journal of parm-serve (--journal), the records of parm-load (--records) with the number of instances, or
    /// both of one run. Writes a cluster without redundancy for parm-sim, and prints what was found.
    Fit(Fit),
    /// Simulate a recorded run, and say whether the cluster predicts it
    ///
    /// Sends the recorded arrivals to the cluster, with many seeds of its faults. Prints the latencies as measured and
    /// as predicted, with the interval over the seeds. Ends with 4 if the cluster does not predict the run.
    Check(Check),
}

/// `parm-sim fit`
#[derive(Args, Clone, Debug)]
pub struct Fit {
    /// The recorded run: a journal of parm-serve or parm-sim, records of requests, or both
    #[arg(value_name = "RECORDS.jsonl", required = true, num_args = 1..=2)]
    pub recordings: Vec<Input>,

    /// The number of instances, for records without a journal: each took one request at a time, in order
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub instances: Option<u32>,

    /// The file of the cluster
    #[arg(short, long, value_name = "CLUSTER.json")]
    pub output: Target,

    /// Print JSON instead of text
    #[arg(long, help_heading = "Results")]
    pub json: bool,
}

/// `parm-sim check`
#[derive(Args, Clone, Debug)]
pub struct Check {
    /// The recorded run: records of requests, or a journal
    #[arg(value_name = "RECORDS.jsonl")]
    pub recording: Input,

    /// The cluster, see parm-serve.json(5)
    #[arg(value_name = "CLUSTER.json")]
    pub cluster: PathBuf,

    /// The model; by default the first one of the file
    #[arg(short, long, value_name = "NAME")]
    pub model: Option<String>,

    /// Simulate the model with these fields instead of its own: those with which the run was recorded
    #[arg(long, value_name = "JSON")]
    pub with: Option<String>,

    /// The error of a latency that counts as none, in %
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = percentage)]
    pub tolerance: f64,

    /// The first seed of the faults; it is added to the seeds of the file
    #[arg(long, value_name = "N", default_value = "0")]
    pub seed: u64,

    /// The number of seeds
    #[arg(long, value_name = "N", default_value = "39", value_parser = clap::value_parser!(u32).range(39..=100_000))]
    pub seeds: u32,

    #[command(flatten)]
    pub computing: ThreadsOption,

    /// Print JSON instead of a table
    #[arg(long, help_heading = "Results")]
    pub json: bool,

    #[command(flatten, next_help_heading = "Results")]
    pub schema: SchemaOption,
}

/// What simulations may use.
#[derive(Args, Clone, Copy, Debug)]
pub struct ThreadsOption {
    /// Threads, each for one trial at a time [default: one per core]
    #[arg(
        long,
        value_name = "N",
        value_parser = clap::value_parser!(u32).range(1..=1024),
        help_heading = "Computing"
    )]
    pub threads: Option<u32>,
}

/// `parm-sim advise`
#[derive(Args, Clone, Debug)]
pub struct Advise {
    /// The cluster without redundancy, see parm-serve.json(5): instances of one kind
    #[arg(value_name = "CLUSTER.json")]
    pub cluster: PathBuf,

    /// The model; by default the first one of the file
    #[arg(short, long, value_name = "NAME")]
    pub model: Option<String>,

    /// The accuracy of a code: its directory, or the output of parm-score --json; may be repeated
    #[arg(long, value_name = "DIR|SCORES.json", required = true)]
    pub accuracy: Vec<PathBuf>,

    /// The most instances, as a multiple of those in the file
    #[arg(long, value_name = "TIMES", default_value = "1.33")]
    pub budget: f64,

    /// The required P99.9 of latencies, in ms; without it, the least P99.9 is chosen
    #[arg(long, value_name = "MS", value_parser = milliseconds)]
    pub target_p999: Option<f64>,

    /// Find the fewest instances, up to the budget, with which these conditions hold, as 'p99.9<40ms,failed<0.1%'
    ///
    /// The conditions are those of parm-load --expect. They must hold in most of the seeds.
    #[arg(long, value_name = "CONDITION,…", conflicts_with = "target_p999")]
    pub target: Option<String>,

    /// With --target: simulate all numbers of instances with all policies, and say how far the search is from the best
    #[arg(long, requires = "target")]
    pub exhaustive: bool,

    #[command(flatten)]
    pub load: SimulatedLoad,

    /// Print JSON instead of a table
    #[arg(long, help_heading = "Results")]
    pub json: bool,

    #[command(flatten, next_help_heading = "Results")]
    pub schema: SchemaOption,
}

/// What a simulated cluster is put under.
#[derive(Args, Clone, Debug)]
pub struct SimulatedLoad {
    #[command(flatten)]
    pub schedule: ScheduleOptions,

    /// The first seed, for arrivals; it is added to the seeds of the file
    #[arg(long, value_name = "N", default_value = "0", help_heading = "Load")]
    pub seed: u64,

    /// The number of seeds
    #[arg(
        long,
        value_name = "N",
        default_value = "1",
        value_parser = clap::value_parser!(u32).range(1..=100_000),
        help_heading = "Load"
    )]
    pub seeds: u32,

    #[command(flatten)]
    pub computing: ThreadsOption,
}
