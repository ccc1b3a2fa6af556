//! What streams are.

use std::fmt::Write as _;
use std::sync::mpsc;

use anyhow::Result;
use parm::counted;
use parm::dtype::ByteOrder;
use parm::hash::Hashing;
use parm::npy::{ItemHeader, Order, RowLayout, RowReader};
use parm::summary::Summary;
use parm_cli::input::{Source, check_stdin};
use parm_cli::tools::data::Info;
use parm_cli::{Input, Io};
use serde_json::{Map, Value, json};

/// What a stream is.
struct Description {
    layout: RowLayout,
    items: Vec<ItemHeader>,
    /// What its elements are, and its SHA-256.
    stats: Option<(Summary, String)>,
}

/// Describes the items of streams; returns the line that --verbose prints.
pub(crate) fn info(options: &Info, io: &mut Io) -> Result<String> {
    check_stdin(&options.inputs)?;
    let mut text = String::new();
    for input in &options.inputs {
        let description = Description::read(input, options, io)?;
        if options.json {
            writeln!(text, "{}", description.json(input))?;
        } else {
            description.print(input, &mut text)?;
        }
    }
    io.print(&text)?;
    Ok(format!("described {}", counted(options.inputs.len(), "stream")))
}

impl Description {
    fn read(input: &Input, options: &Info, io: &mut Io) -> Result<Self> {
        let source = input.bytes(io, options.read.reading())?;
        if !options.stats {
            let rows = RowReader::new(source, input.to_string())?;
            let layout = rows.layout().clone();
            let items = items(rows, |rows| {
                rows.skip_item()?;
                Ok(())
            })?;
            return Ok(Self { layout, items, stats: None });
        }
        let (at_end, hash) = mpsc::channel();
        let source: Source = Box::new(Hashing::new(source, move |hash| drop(at_end.send(hash))));
        let rows = RowReader::new(source, input.to_string())?;
        let layout = rows.layout().clone();
        let mut summary = Summary::new(layout.dtype, layout.shape.is_empty());
        let mut block = Vec::new();
        let items = items(rows, |rows| {
            let mut left = rows.header().rows;
            while left > 0 {
                let read = rows.read_raw(layout.rows_per_block().min(left as usize), &mut block)?;
                summary.add(&block[..read * layout.bytes()]);
                left -= read as u64;
            }
            Ok(())
        })?;
        let stats = Some((summary, hash.recv()?));
        Ok(Self { layout, items, stats })
    }

    fn rows(&self) -> u64 {
        self.items.iter().map(|item| item.rows).sum()
    }

    fn json(&self, input: &Input) -> Value {
        let item = |item: &ItemHeader| {
            let (order, byte_order) = orders(item);
            json!({"rows": item.rows, "order": order, "byte_order": byte_order})
        };
        let mut description = json!({
            "stream": input.to_string(),
            "rows": self.rows(),
            "dtype": self.layout.dtype.name(),
            "shape": self.layout.shape,
            "items": self.items.iter().map(item).collect::<Vec<_>>(),
        });
        if let Some((summary, hash)) = &self.stats {
            description["stats"] = json!({
                "min": summary.least(),
                "max": summary.most(),
                "mean": summary.mean(),
                "deviation": summary.deviation(),
                "nan": summary.nan(),
                "infinite": summary.infinite(),
                "classes": summary.labels().map(|labels| {
                    labels.iter().map(|(label, count)| (label.to_string(), json!(count))).collect::<Map<_, _>>()
                }),
            });
            description["sha256"] = json!(hash);
        }
        description
    }

    fn print(&self, input: &Input, text: &mut String) -> Result<()> {
        let (rows, items) = (counted(self.rows(), "row"), counted(self.items.len(), "item"));
        writeln!(text, "{input}: {rows} of {}, {items}", self.layout)?;
        for (index, item) in self.items.iter().enumerate() {
            let (order, byte_order) = orders(item);
            let rows = counted(item.rows, "row");
            writeln!(text, "  item {}: {rows}, {order} order, {byte_order}-endian", index + 1)?;
        }
        let Some((summary, hash)) = &self.stats else { return Ok(()) };
        if let (Some(least), Some(most), Some(mean), Some(deviation)) =
            (summary.least(), summary.most(), summary.mean(), summary.deviation())
        {
            writeln!(text, "  min {least}, max {most}, mean {mean:.6}, deviation {deviation:.6}")?;
        }
        if self.layout.dtype.is_float() {
            writeln!(text, "  {} NaN, {} infinite", summary.nan(), summary.infinite())?;
        }
        if let Some(labels) = summary.labels().filter(|labels| !labels.is_empty()) {
            let counts: Vec<_> = labels.iter().map(|(label, count)| format!("{label}: {count}")).collect();
            writeln!(text, "  {}: {}", counted(labels.len(), "class"), counts.join(", "))?;
        }
        writeln!(text, "  SHA-256 {hash}")?;
        Ok(())
    }
}

/// The headers of all items, whose rows `read` reads or skips.
fn items(
    mut rows: RowReader<Source>,
    mut read: impl FnMut(&mut RowReader<Source>) -> Result<()>,
) -> Result<Vec<ItemHeader>> {
    let mut items = Vec::new();
    loop {
        items.push(rows.header().clone());
        read(&mut rows)?;
        if !rows.next_item()? {
            return Ok(items);
        }
    }
}

/// The names of an item's order and byte order.
fn orders(item: &ItemHeader) -> (&'static str, &'static str) {
    let order = if item.order == Order::C { "C" } else { "Fortran" };
    (order, if item.byte_order == ByteOrder::Little { "little" } else { "big" })
}
