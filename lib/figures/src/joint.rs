//! Draws the accuracy of reconstructions against that of the deployed model.

use anyhow::{Result, bail};

use crate::fields::{Fields, items};
use crate::figure::{Figure, Look, Panel, Point, Scale, Series};

/// Reports of comparisons, as A_d against the accuracy of the deployed model: a line for each code and k.
pub fn joint(reports: &[(String, Vec<u8>)], wanted: &[u32]) -> Result<Figure> {
    let mut series: Vec<Series> = Vec::new();
    for report in reports {
        for (at, row) in items(report, "rows")?.iter().enumerate() {
            let place = format!("{}: row {at}", report.0);
            let fields = Fields::new(&place, row)?;
            let Some(code) = fields.text("code")? else {
                bail!("{place}: found no \"code\", expected the name of a code");
            };
            let k = fields.whole("k", 1)?;
            let asked = wanted.is_empty() || wanted.iter().any(|&wanted| f64::from(wanted) == k);
            // Format 1 called it accuracy.
            let own = fields.share("accuracy")?.or(fields.share("deployed")?);
            let point = own.zip(fields.share("A_d")?);
            let (Some((x, y)), true, false) = (point, asked, is_baseline(&code)) else { continue };
            let kind = match (fields.text("name")?, fields.text("training")?) {
                (Some(name), Some(training)) => format!("{name}:{training}"),
                _ => kind(&code),
            };
            let (name, point) = (format!("{kind}, k = {k}"), Point { x, y, interval: None });
            match series.iter_mut().find(|series| series.name == name) {
                Some(series) if series.points.contains(&point) => {}
                Some(series) => series.points.push(point),
                None => series.push(Series { name, look: Look::of(series.len()), points: vec![point] }),
            }
        }
    }
    if series.is_empty() {
        let inputs: Vec<&str> = reports.iter().map(|(input, _)| input.as_str()).collect();
        bail!("{}: found accuracy and A_d of no code that is selected", inputs.join(", "));
    }
    for series in &mut series {
        series.points.sort_by(|a, b| a.x.total_cmp(&b.x));
    }
    let panel = Panel::new("accuracy A_d of reconstructions".to_owned(), Scale::Shares, series);
    let x_label = "accuracy of the deployed model".to_owned();
    Ok(Figure { x_label, across: Scale::Shares, panels: vec![panel] })
}

fn is_baseline(code: &str) -> bool {
    ["none", "replicate"].contains(&code)
}

/// The name of a code without the directory that tells it from others of its kind, in format 1.
fn kind(code: &str) -> String {
    match code.split_once("(joint, ").or(code.split_once("(trained, ")) {
        Some((_, _)) => format!("{})", code.split(", ").next().unwrap_or(code)),
        None => code.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_one_kind_are_one_line_whatever_their_directories() {
        assert_eq!(kind("sum (joint, out/sum-4-0.3)"), "sum (joint)");
        assert_eq!(kind("sum (joint)"), "sum (joint)");
        assert_eq!(kind("berrut"), "berrut");
        assert_eq!(kind("learned (joint, learned decoder)"), "learned (joint)");
    }
}
