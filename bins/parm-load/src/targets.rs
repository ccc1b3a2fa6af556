//! The targets of a measurement, and their requests.

use std::sync::Arc;

use anyhow::{Context, Result};
use parm_cli::input::check_stdin;
use parm_cli::tools::load::{Load, ShapeOption, TargetOption};
use parm_cli::{Io, Usage};
use parm_config::Encoding;
use parm_oip::client::{self, BODY};
use parm_oip::instance::Instance;
use parm_oip::load::{Labels, Queries, RowShape, Rows, Source};
use tokio::runtime::Runtime;

/// One server.
pub(crate) struct Target {
    /// Its name, if it has one or there are several targets.
    pub(crate) name: Option<String>,
    pub(crate) url: String,
    pub(crate) instance: Arc<dyn Instance>,
    pub(crate) queries: Arc<Queries>,
}

/// Connects to all servers.
///
/// # Errors
/// A server that cannot be reached, an unknown model or one that differs from the first server's, and queries
/// or labels that do not fit it.
pub(crate) fn reach(options: &Load, runtime: &Runtime, io: &mut Io) -> Result<Vec<Target>> {
    let names = names(&options.targets)?;
    check_stdin(options.data.iter().chain(&options.labels).chain(&options.schedule.trace))?;
    let (source, rows) = source(options, io)?;
    let labels = match &options.labels {
        Some(input) => Some((input, input.labels(io, options.read.reading())?)),
        None => None,
    };
    let shape = |shape: &ShapeOption| RowShape { input: shape.input.clone(), shape: shape.shape.clone() };
    let shapes: Vec<RowShape> = options.shape.iter().map(shape).collect();
    let encoding = options.encoding.among(Encoding::ALL);
    let mut targets: Vec<Target> = Vec::with_capacity(names.len());
    for (name, TargetOption { url, .. }) in names.into_iter().zip(&options.targets) {
        let remote = client::remote(url, encoding, &options.header, options.ca.as_deref());
        let reached = client::reach(&remote, &options.model, &options.model_version, BODY);
        let (instance, metadata) = runtime.block_on(reached)?;
        let place = || format!("{url}: model {}", options.model);
        let of_request = options.rows as usize;
        let mut queries =
            Queries::new(&options.model_version, &metadata, of_request, &shapes, source.clone())
                .with_context(place)?;
        if let Some(first) = targets.first() {
            queries.check_same(&first.queries).with_context(place)?;
        }
        if let Some((input, labels)) = &labels {
            let labels = labels.iter().map(|&label| label as usize).collect();
            let labels = Labels::new(labels, options.label_output.as_deref(), &metadata, rows);
            queries = queries.with_labels(labels.with_context(place).with_context(|| input.to_string())?);
        }
        targets.push(Target { name, url: url.clone(), instance, queries: Arc::new(queries) });
    }
    Ok(targets)
}

/// Names several targets; those without a name get their URL.
fn names(targets: &[TargetOption]) -> Result<Vec<Option<String>>> {
    let several = targets.len() > 1;
    let name = |target: &TargetOption| target.name.clone().or_else(|| several.then(|| target.url.clone()));
    let names: Vec<Option<String>> = targets.iter().map(name).collect();
    for (place, name) in names.iter().enumerate() {
        if let (Some(name), true) = (name, names[..place].contains(name)) {
            return Err(Usage::error(format!(
                "found two targets with the name '{name}', expected names that differ: NAME=URL"
            )));
        }
    }
    Ok(names)
}

/// The source of rows, and the number of given rows.
fn source(options: &Load, io: &mut Io) -> Result<(Source, usize)> {
    let Some(input) = &options.data else { return Ok((Source::Random(options.seed), 0)) };
    let mut rows = input.rows(io, options.read.reading())?;
    let layout = rows.layout().clone();
    let mut data = Vec::new();
    let count = rows.read_raw(usize::MAX, &mut data)?;
    Ok((Source::Given(Rows { layout, data: data.into() }), count))
}
