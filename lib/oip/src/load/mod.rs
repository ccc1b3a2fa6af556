//! Open-loop load: [`Queries`] makes the requests, [`measure`] sends them at the times of a
//! [`Schedule`](parm_workload::Schedule) and makes a [`Record`](parm_workload::Record) of each.

mod labels;
mod measure;
mod queries;

pub use labels::{Labels, LabelsError};
pub use measure::{Plan, measure};
pub use queries::{Queries, QueriesError, RowShape, Rows, Source};
