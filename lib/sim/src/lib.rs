//! Coded serving under virtual time: the engine that `parm-serve` drives, with synthetic instances and
//! arrivals that come from seeds, and what each query meets.
//!
//! The cluster is a model of a server's configuration ([`parm_config::Model`]) whose instances
//! are synthetic, so that the same file runs for real. [`run`] is one trial: one seed at one rate. The
//! same seed gives the same records to the byte; seed S stands for the server whose seeds all have S
//! added, under the load of `parm-load --seed S`.
//!
//! What a server needs time for itself is taken from [`parm_config::Overhead`]: nothing, if the
//! file says nothing. It is not a load: a call's overhead keeps its instance busy, but nothing waits for
//! the server's own processors.

mod advice;
mod cluster;
mod report;
mod trial;
mod variants;

pub use advice::{AdviceError, Candidate, KnownCode, Verdict, candidates, choose};
pub use cluster::{Cluster, ClusterError};
pub use report::{Row, json, table};
pub use trial::{Journaled, Trial, TrialError, run};
pub use variants::{VariantError, variants};
