//! Sending open-loop load: [`Queries`] says what is sent, [`measure`] sends it at the times of a
//! [`Schedule`](parm_workload::Schedule) and gives a [`Record`](parm_workload::Record) of each request.

mod labels;
mod measure;
mod queries;

pub use labels::{Labels, LabelsError};
pub use measure::{Plan, measure};
pub use queries::{Queries, QueriesError, RowShape, Rows, Source};
