//! `parm-serve`: the prediction server.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::options::Common;
use crate::output::Target;

/// Serve models with coded resilience
///
/// Stands between clients and model servers and speaks the Open Inference Protocol (KServe v2) to both,
/// over HTTP and gRPC. Queries are collected into batches and coding groups; when an answer is late or
/// lost, the prediction is rebuilt from the other answers of its group.
///
/// SIGHUP reads the configuration again, without losing a query. SIGTERM and SIGINT answer the open requests
/// and stop; a second signal stops at once.
#[derive(Parser, Clone, Debug)]
#[command(name = Serve::NAME, version, max_term_width = 100)]
pub struct Serve {
    /// The configuration, see parm-serve.json(5)
    #[arg(value_name = "CONFIG.json", required_unless_present = "schema")]
    pub config: Option<PathBuf>,

    /// Check the configuration, print the first error, and stop
    ///
    /// Also prints what needs no key. Files of keys and certificates are read. Embedded models are loaded on the
    /// CPU; so are learned encoders and decoders, if the configuration has the inputs and outputs of the model. No
    /// server is contacted.
    #[arg(long)]
    pub check_config: bool,

    /// Print the JSON schema of configurations, and stop
    #[arg(long, conflicts_with_all = ["config", "check_config"])]
    pub schema: bool,

    /// The address for HTTP, instead of that of the configuration
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<SocketAddr>,

    /// The address for gRPC, instead of that of the configuration
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub grpc: Option<SocketAddr>,

    /// The address for metrics, the status page and the repository, instead of that of the configuration
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin: Option<SocketAddr>,

    /// Threads of the server; by default one for each core
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: Option<u32>,

    /// Threads for the operations of each embedded model
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,

    /// Write the events and actions of the serving core, for parm-sim fit and parm-plot timeline; only for one model
    ///
    /// The file gets its name when the server stops. A reload that changes the model, and unloading it, end the journal.
    #[arg(long, value_name = "FILE.jsonl")]
    pub journal: Option<Target>,

    /// The format of the log on standard error
    ///
    /// With --quiet it has errors only, with --verbose each call that fails.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    #[command(flatten)]
    pub common: Common,
}

super::tool!(Serve, "parm-serve");

/// The form of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines of text.
    #[default]
    Text,
    /// A JSON object on each line.
    Json,
}
