//! Coded serving under virtual time: the engine of `parm-serve` with synthetic instances and seeded arrivals.
//!
//! A cluster is a model of a server's configuration ([`parm_config::Model`]) with synthetic instances, so
//! that `parm-serve` can serve the same file. [`run`] simulates one trial: one seed at one rate. The same
//! seed gives the same records to the byte. Seed S stands for the server with S added to all of its seeds,
//! under the load of `parm-load --seed S`.
//!
//! [`fit`](fn@fit) finds the cluster of a recorded run, and [`check`](fn@check) says whether simulations of a cluster
//! predict one.
//!
//! The times of the server itself come from [`parm_config::Overhead`], 0 by default. A call's overhead keeps
//! its instance busy; the processors of the server are not simulated.

mod advice;
mod check;
mod cluster;
mod fit;
mod recording;
mod report;
mod trial;
mod variants;

pub use advice::{AdviceError, Candidate, KnownCode, Verdict, candidates, choose, fleet, most, smallest};
pub use check::{Check, Compared, FEWEST, check};
pub use cluster::{Cluster, ClusterError};
pub use fit::{Alike, ArrivalFit, ArrivalLaw, Fit, FitError, FittedFaults, fit};
pub use recording::{Call, CallEnd, Recording, RecordingError};
pub use report::{ModelRun, Row, runs};
pub use trial::{Journaled, Size, Trial, TrialError, run};
pub use variants::{VariantError, variants};
