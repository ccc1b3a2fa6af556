//! The numbers of an image, as a table and as CSV.

use anyhow::Result;

use crate::figure::{Drawing, Figure, Scale};
use crate::timeline::Timeline;

/// The numbers of an image.
#[derive(Debug)]
pub struct Numbers {
    /// The names of the columns.
    pub columns: Vec<String>,
    /// A line for each point of a chart, or for each query and call of a timeline; as many cells as columns.
    pub lines: Vec<Vec<String>>,
}

/// The numbers that are drawn.
#[must_use]
pub fn numbers(drawing: &Drawing) -> Numbers {
    match drawing {
        Drawing::Chart(figure) => chart(figure),
        Drawing::Timeline(timeline) => history(timeline),
    }
}

/// The numbers that are drawn, as CSV.
///
/// # Errors
/// None that input can cause.
pub fn csv(drawing: &Drawing) -> Result<Vec<u8>> {
    let Numbers { columns, lines } = numbers(drawing);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&columns)?;
    for line in &lines {
        writer.write_record(line)?;
    }
    Ok(writer.into_inner()?)
}

fn chart(figure: &Figure) -> Numbers {
    let x_label = if figure.x_label.is_empty() { "name" } else { &figure.x_label };
    let columns = ["panel", "series", x_label, "value", "low", "high"].map(str::to_owned).to_vec();
    let mut lines = Vec::new();
    for panel in &figure.panels {
        for series in &panel.series {
            for point in &series.points {
                let x = match &figure.across {
                    Scale::Names(names) => names.get(point.x as usize).cloned().unwrap_or_default(),
                    _ => point.x.to_string(),
                };
                let [low, high] = point.interval.map_or([String::new(), String::new()], |(low, high)| {
                    [low.to_string(), high.to_string()]
                });
                let (panel, series) = (panel.y_label.clone(), series.name.clone());
                lines.push(vec![panel, series, x, point.y.to_string(), low, high]);
            }
        }
    }
    Numbers { columns, lines }
}

fn history(timeline: &Timeline) -> Numbers {
    let columns = ["lane", "what", "from_ms", "to_ms"].map(str::to_owned).to_vec();
    let queries = timeline.queries.iter().map(|query| {
        let answer = query.answer.map(|(ms, answer)| (ms.to_string(), answer.name().to_owned()));
        let (to, what) = answer.unwrap_or_default();
        vec![format!("query {}", query.number), what, query.arrived.to_string(), to]
    });
    let calls = timeline.instances.iter().flat_map(|instance| {
        let lane = format!("instance {}", instance.number);
        instance.calls.iter().map(move |call| {
            let what = [call.kind.name(), call.end.name()].join(" ").trim_end().to_owned();
            vec![lane.clone(), what, call.from.to_string(), call.to.to_string()]
        })
    });
    Numbers { columns, lines: queries.chain(calls).collect() }
}
