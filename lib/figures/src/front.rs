//! Draws advice on policies as accuracy over latency and cost.

use anyhow::{Result, bail};
use parm_cli::tools::plot::Measure;

use crate::fields::Fields;
use crate::figure::{Figure, Form, Look, Note, Panel, Point, Scale, Series};
use crate::load::{each, label};

/// The accuracy, latency and cost of a policy.
#[derive(Clone, Copy)]
struct Offer {
    latency: f64,
    accuracy: f64,
    instances: f64,
}

/// The latency of a candidate, in ms; none without answers.
fn latency(fields: &Fields, measure: Measure) -> Result<Option<f64>> {
    let of = |measure: Measure| fields.positive(&format!("{}_ms", measure.field()));
    match measure {
        Measure::Gap => Ok(of(Measure::P999)?.zip(of(Measure::Median)?).map(|(high, median)| high - median)),
        measure => of(measure),
    }
}

/// Advice, for one number of instances or several, as accuracy against latency.
pub fn front(reports: &[(String, Vec<u8>)], measure: Measure) -> Result<Figure> {
    let mut found: Vec<(String, Offer)> = Vec::new();
    for report in reports {
        let candidates = each(report, "candidates", |fields| {
            let place = fields.place;
            let Some(name) = fields.text("name")? else { bail!("{place}: found no \"name\", expected one") };
            let instances = fields.whole("instances", 1)?;
            let offer = fields.share("A_o")?.zip(latency(&fields, measure)?);
            Ok(offer.map(|(accuracy, latency)| (name, Offer { latency, accuracy, instances })))
        })?;
        found.extend(candidates.into_iter().flatten());
    }
    let Some((_, Offer { instances, .. })) = found.first().cloned() else {
        let inputs: Vec<&str> = reports.iter().map(|(input, _)| input.as_str()).collect();
        let field = measure.field();
        bail!("{}: found {field} and A_o in none of the candidates", inputs.join(", "));
    };
    let several = found.iter().any(|(_, offer)| offer.instances != instances);
    let mut series: Vec<Series> = Vec::new();
    let mut notes = Vec::new();
    for (name, offer) in &found {
        let point = Point { x: offer.latency, y: offer.accuracy, interval: None };
        if several {
            notes.push(Note { x: point.x, y: point.y, text: offer.instances.to_string() });
        }
        if let Some(series) = series.iter_mut().find(|series| series.name == *name) {
            series.points.push(point);
        } else {
            let look = Look { form: Form::Markers, ..Look::of(series.len()) };
            series.push(Series { name: name.clone(), look, points: vec![point] });
        }
    }
    let offers: Vec<Offer> = found.iter().map(|(_, offer)| *offer).collect();
    let fronts = fronts(&offers);
    // If there is no room for all notes, those on the fronts come first.
    let is_beaten = |note: &Note| {
        !fronts.iter().flat_map(|front| &front.points).any(|point| (point.x, point.y) == (note.x, note.y))
    };
    notes.sort_by_key(is_beaten);
    series.extend(fronts);
    let mut panel = Panel::new("A_o".to_owned(), Scale::Shares, series);
    panel.notes = notes;
    let cost = if several { "numbers are instances".to_owned() } else { format!("{instances} instances") };
    let x_label = format!("{} of latencies (ms); {cost}", label(measure));
    Ok(Figure { x_label, across: Scale::Values, panels: vec![panel] })
}

/// For each cost the steps through the candidates on the Pareto front of up to that cost. A front that equals
/// that of a lower cost is left out.
fn fronts(offers: &[Offer]) -> Vec<Series> {
    let mut costs: Vec<f64> = offers.iter().map(|offer| offer.instances).collect();
    costs.sort_by(f64::total_cmp);
    costs.dedup();
    let mut fronts: Vec<Series> = Vec::new();
    for &cost in &costs {
        let mut within: Vec<Offer> = offers.iter().filter(|offer| offer.instances <= cost).copied().collect();
        within.sort_by(|a, b| a.latency.total_cmp(&b.latency).then(b.accuracy.total_cmp(&a.accuracy)));
        let mut points: Vec<Point> = Vec::new();
        for offer in within {
            let corner = |y: f64| Point { x: offer.latency, y, interval: None };
            match points.last() {
                Some(best) if best.y >= offer.accuracy => continue,
                Some(&Point { y, .. }) => points.push(corner(y)),
                None => {}
            }
            points.push(corner(offer.accuracy));
        }
        let name = if costs.len() > 1 { format!("best up to {cost} instances") } else { "best".to_owned() };
        // Fronts are black.
        let look = Look { marker: 3, dash: fronts.len(), form: Form::Line };
        if points.len() > 1 && fronts.last().is_none_or(|last| last.points != points) {
            fronts.push(Series { name, look, points });
        }
    }
    fronts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fronts_pass_over_what_is_beaten_and_costs_that_buy_nothing() {
        let offer = |latency, accuracy, instances| Offer { latency, accuracy, instances };
        let offers = [
            offer(9.0, 0.9, 1.0),
            offer(5.0, 0.8, 1.0),
            offer(7.0, 0.7, 1.0),
            offer(5.0, 0.7, 1.0),
            offer(3.0, 0.8, 2.0),
            offer(3.5, 0.1, 3.0),
        ];
        let fronts: Vec<(String, Vec<(f64, f64)>)> = fronts(&offers)
            .into_iter()
            .map(|front| (front.name, front.points.iter().map(|point| (point.x, point.y)).collect()))
            .collect();
        let steps = |least| vec![(least, 0.8), (9.0, 0.8), (9.0, 0.9)];
        assert_eq!(
            fronts,
            [
                ("best up to 1 instances".to_owned(), steps(5.0)),
                ("best up to 2 instances".to_owned(), steps(3.0))
            ]
        );
    }
}
