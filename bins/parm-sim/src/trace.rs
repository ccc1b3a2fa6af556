//! Reading traces of arrivals.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Result, bail};
use parm::dtype::Float;
use parm::npy::{RowReader, Window};
use parm_cli::{Input, Io};
use parm_simulation::Trace;

/// A trace: times in seconds as npy, or records as lines of JSON.
///
/// # Errors
/// A stream that cannot be read, or that is no trace.
pub(crate) fn read(input: &Input, io: &mut Io) -> Result<Trace> {
    let mut bytes = BufReader::new(input.bytes(io, Window::Normal)?);
    let is_json = bytes.fill_buf().with_context(|| format!("{input}: cannot read"))?.first() == Some(&b'{');
    let trace = if is_json {
        let mut text = String::new();
        bytes.read_to_string(&mut text).with_context(|| format!("{input}: cannot read"))?;
        Trace::of_records(&text)
    } else {
        let mut rows = RowReader::new(bytes, input.to_string())?;
        let layout = rows.layout().clone();
        if !layout.shape.is_empty() {
            bail!("{input}: found rows of {layout}, expected times: one number a row");
        }
        let mut data = Vec::new();
        let count = rows.read_raw(usize::MAX, &mut data)?;
        let mut times = vec![0.0_f64; count];
        f64::decode(layout.dtype, &data, &mut times);
        Trace::of_seconds(&times)
    };
    trace.with_context(|| input.to_string())
}
