//! The program: see the library beside it.

use std::process::ExitCode;

use parm_cli::run::schema;
use parm_sim::{Advice, Prediction, Simulation};

fn main() -> ExitCode {
    let schemas: [(_, fn() -> String); 3] = [
        (None, schema::<Simulation>),
        (Some("advise"), schema::<Advice>),
        (Some("check"), schema::<Prediction>),
    ];
    parm_cli::run_with_schemas(&schemas, parm_sim::run)
}
