//! `parm-sim fit`: the cluster of a recorded run.

use std::io::{BufReader, Write};

use anyhow::{Context, Result};
use parm::counted;
use parm::npy::Window;
use parm_cli::input::Input;
use parm_cli::options::Common;
use parm_cli::output::{Compression, Target};
use parm_cli::tools::sim::Fit;
use parm_cli::{Exit, Io, Usage};
use parm_simulation::{ArrivalLaw, Recording, fit};
use serde_json::json;

/// Fits a cluster, writes it, and reports what was found.
///
/// # Errors
/// Files that are no recorded run or cannot tell what a cluster needs, or a cluster that cannot be written.
pub(crate) fn run(options: &Fit, common: &Common, io: &mut Io) -> Result<Exit> {
    if options.output == Target::Stdout {
        return Err(Usage::error("--output -: standard output is for what was found, expected a file"));
    }
    if options.json {
        io.record_inputs();
    }
    let recordings =
        options.recordings.iter().map(|input| recording(input, io)).collect::<Result<Vec<_>>>()?;
    let names: Vec<String> = options.recordings.iter().map(ToString::to_string).collect();
    let found = fit(&recordings, options.instances.map(|count| count as usize))
        .with_context(|| names.join(" and "))?;
    let mut file = options.output.create(io, Compression::ByName(3))?;
    writeln!(file, "{}", found.cluster())?;
    file.commit()?;
    let arrivals = match found.arrivals.law {
        ArrivalLaw::Trace => format!("--trace {} --warm-up 0", names[0]),
        law => format!("--rate {:.3} --arrivals {law}", found.arrivals.rate),
    };
    let text = if options.json {
        let mut report = found.json();
        report["cluster"] = options.output.to_string().into();
        report["options"] = arrivals.into();
        report["made_by"] = json!(io.made_by());
        format!("{report}\n")
    } else {
        format!("{}simulate   parm-sim {} {arrivals}\n", found.table(), options.output)
    };
    io.print(&text)?;
    let requests: usize = recordings.iter().map(|recording| recording.records.len()).sum();
    common.count(io, &counted(requests, "request"));
    Ok(Exit::Done)
}

/// Reads a recorded run.
///
/// # Errors
/// A file that is none.
pub(crate) fn recording(input: &Input, io: &mut Io) -> Result<Recording> {
    Recording::read(BufReader::new(input.bytes(io, Window::Normal)?)).with_context(|| input.to_string())
}
