//! `parm-serve`: the prediction server.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::options::Common;

/// Serve models with coded resilience
///
/// Stands between clients and model servers and speaks the Open Inference Protocol (KServe v2) to both,
/// over HTTP and gRPC. Queries are put together in batches and coding groups; when an answer is late or
/// lost, the prediction is rebuilt from the answers of its group.
///
/// SIGHUP reads the configuration again, without losing a query; SIGTERM and SIGINT answer what was asked
/// and stop, a second one stops at once.
#[derive(Parser, Clone, Debug)]
#[command(name = "parm-serve", version, max_term_width = 100)]
pub struct Serve {
    /// The configuration, see parm-serve.json(5)
    #[arg(value_name = "CONFIG.json", required_unless_present = "schema")]
    pub config: Option<PathBuf>,

    /// Read the configuration, say what is wrong with it, and stop
    ///
    /// Says what needs no key, too. Files of keys and certificates are read. The files of embedded models must
    /// be there, but are not loaded.
    #[arg(long)]
    pub check_config: bool,

    /// Print the JSON schema of configurations, and stop
    #[arg(long, conflicts_with_all = ["config", "check_config"])]
    pub schema: bool,

    /// The address for HTTP, in place of the configuration's
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub http: Option<SocketAddr>,

    /// The address for gRPC, in place of the configuration's
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub grpc: Option<SocketAddr>,

    /// The address for metrics, the status page and the repository, in place of the configuration's
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub admin: Option<SocketAddr>,

    /// Threads that serve; by default as many as there are cores
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub workers: Option<u32>,

    /// Threads for the operations of each embedded model
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: Option<u32>,

    /// The form of the log on standard error
    ///
    /// With --quiet it has errors alone, with --verbose each call that fails.
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub log_format: LogFormat,

    #[command(flatten)]
    #[allow(missing_docs)]
    pub common: Common,
}

super::tool!(Serve, "parm-serve");

/// The form of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// An object on each line.
    Json,
}
