//! Draws scores, each beside its name.

use anyhow::{Result, bail};
use serde_json::Value;

use crate::Input;
use crate::fields::{Fields, malformed};
use crate::figure::{Figure, Form, Look, Panel, Point, Scale, Series};

/// The scores of the runs of `parm-train sweep`.
const SWEPT: [&str; 6] = ["A_a", "A_d", "agreement", "R2", "cosine", "recall@10"];

/// A score: its name, its value, and its interval.
type Score = (String, f64, Option<(f64, f64)>);

/// The scores of an input, a report of parm-score or runs of a sweep, by name.
///
/// # Errors
/// An input that is neither; no scores of the chosen top n.
pub fn scores(input: &Input, top: u32) -> Result<Figure> {
    let (name, text) = input;
    let mut names: Vec<String> = Vec::new();
    let mut series: Vec<Series> = Vec::new();
    for (at, object) in serde_json::Deserializer::from_slice(text).into_iter::<Value>().enumerate() {
        let object = object.map_err(|error| malformed(&error, 1).context(name.clone()))?;
        let place = if at == 0 { name.clone() } else { format!("{name}: object {at}") };
        let fields = Fields::new(&place, &object)?;
        let found = if let Some(run) = fields.text("run")? {
            vec![(run, swept(&fields)?)]
        } else if fields.map.contains_key("aggregates") {
            aggregates(&fields)?
        } else {
            vec![(String::new(), report(&fields, top)?)]
        };
        for (name, scores) in found {
            let points = scores.into_iter().map(|(score, y, interval)| {
                let at = names.iter().position(|name| *name == score).unwrap_or_else(|| {
                    names.push(score);
                    names.len() - 1
                });
                Point { x: at as f64, y, interval }
            });
            let look = Look { form: Form::Markers, ..Look::of(series.len()) };
            series.push(Series { name, look, points: points.collect() });
        }
    }
    if series.iter().all(|series| series.points.is_empty()) {
        bail!("{name}: found no scores, expected the JSON of parm-score, or runs of parm-train sweep");
    }
    let panel = Panel::new("score".to_owned(), Scale::Shares, series);
    Ok(Figure { x_label: String::new(), across: Scale::Names(names), panels: vec![panel] })
}

/// The scores of a run of a sweep.
fn swept(fields: &Fields) -> Result<Vec<Score>> {
    let all = SWEPT.iter().map(|&name| Ok(fields.share(name)?.map(|value| (name.to_owned(), value, None))));
    Ok(all.collect::<Result<Vec<_>>>()?.into_iter().flatten().collect())
}

/// The means over the reports of `parm-score --aggregate`, and over those that they are compared with.
fn aggregates(fields: &Fields) -> Result<Vec<(String, Vec<Score>)>> {
    let Some(Value::Array(list)) = fields.map.get("aggregates") else {
        bail!("{}: found no list of aggregates, expected one", fields.place);
    };
    let mut of =
        vec![("mean".to_owned(), Vec::new()), ("mean of those compared with".to_owned(), Vec::new())];
    for (at, aggregate) in list.iter().enumerate() {
        let place = format!("{}: aggregates[{at}]", fields.place);
        let Some(name) = aggregate["score"].as_str() else {
            bail!("{place}: found no \"score\", expected its name");
        };
        let versus = Some(&aggregate["versus"]).filter(|versus| versus.is_object());
        for ((_, scores), value) in of.iter_mut().zip([Some(aggregate), versus]) {
            let Some(value) = value else { continue };
            let fields = Fields::new(&place, value)?;
            let interval = fields.number("low")?.zip(fields.number("high")?);
            scores.extend(fields.number("mean")?.map(|mean| (name.to_owned(), mean, interval)));
        }
    }
    of.retain(|(_, scores)| !scores.is_empty());
    Ok(of)
}

/// The name of a score of a report: what parm-score calls it in its table.
#[must_use]
pub fn score_name(score: &Value) -> Option<String> {
    let name = score["score"].as_str()?;
    // In format 1 the name has all of it.
    Some(match (score["lost"].as_u64(), score["baseline"].as_str()) {
        (Some(lost), _) => format!("{name}:{lost}-lost"),
        (_, Some(baseline)) => format!("{name}:{baseline}"),
        _ => name.to_owned(),
    })
}

/// The scores of a report of the chosen top n, and those without one.
fn report(fields: &Fields, top: u32) -> Result<Vec<Score>> {
    let place = fields.place;
    let format = fields.whole("format", 0)?;
    if !(1.0..=2.0).contains(&format) {
        bail!("{place}: found format {format}, expected 1 or 2");
    }
    let Some(Value::Array(list)) = fields.map.get("scores") else {
        bail!("{place}: found no \"scores\", expected a list of them");
    };
    let mut tops = Vec::new();
    let mut scores = Vec::new();
    for (at, score) in list.iter().enumerate() {
        let place = format!("{place}: scores[{at}]");
        let fields = Fields::new(&place, score)?;
        let Some(name) = score_name(score) else { bail!("{place}: found no \"score\", expected its name") };
        let its = fields.number("top")?;
        tops.extend(its.map(|top| top.to_string()));
        let interval = fields.share("low")?.zip(fields.share("high")?);
        let value = fields.share("value")?.filter(|_| its.is_none_or(|its| its == f64::from(top)));
        scores.extend(value.map(|value| (name, value, interval)));
    }
    tops.dedup();
    if !tops.is_empty() && !tops.contains(&top.to_string()) {
        bail!("{place}: found no scores of top {}, expected a top n of {}", top, tops.join(", "));
    }
    Ok(scores)
}
