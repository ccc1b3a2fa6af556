//! Several figures as one: beside each other, or as the means of repetitions.

use anyhow::{Result, bail};
use parm::statistics::Estimate;
use parm_cli::tools::plot::{Average, Rename};

use crate::figure::{Figure, Look, Panel, Point, Scale, Series};
use crate::names;

/// One figure of the figures of several inputs: as the means of repetitions if that is asked for; otherwise, if there
/// are several, the names of series begin with that of their input.
///
/// # Errors
/// There are no inputs.
pub fn combine(inputs: Vec<(String, Figure)>, average: Option<Average>) -> Result<Figure> {
    let named = match average {
        None => {
            let (paths, figures): (Vec<String>, Vec<Figure>) = inputs.into_iter().unzip();
            names::short(&paths).into_iter().zip(figures).collect()
        }
        Some(Average::All) => {
            let figures = inputs.into_iter().map(|(_, figure)| figure).collect();
            vec![("mean".to_owned(), mean(figures))]
        }
        Some(Average::Folder) => {
            let mut folders: Vec<(String, Vec<Figure>)> = Vec::new();
            for (path, figure) in inputs {
                let folder = path.rsplit_once('/').map_or(".", |(folder, _)| folder);
                match folders.iter_mut().find(|(known, _)| known == folder) {
                    Some((_, figures)) => figures.push(figure),
                    None => folders.push((folder.to_owned(), vec![figure])),
                }
            }
            let (paths, figures): (Vec<String>, Vec<Vec<Figure>>) = folders.into_iter().unzip();
            names::short(&paths).into_iter().zip(figures.into_iter().map(mean)).collect()
        }
    };
    together(named)
}

/// Gathers the panels of figures that have the same vertical axis.
fn together(mut named: Vec<(String, Figure)>) -> Result<Figure> {
    if named.len() <= 1 {
        let Some((name, mut figure)) = named.pop() else { bail!("found no inputs, expected at least one") };
        let nameless = figure.panels.iter_mut().flat_map(|panel| &mut panel.series);
        nameless.filter(|series| series.name.is_empty()).for_each(|series| series.name.clone_from(&name));
        return Ok(figure);
    }
    let figures: Vec<&Figure> = named.iter().map(|(_, figure)| figure).collect();
    let across = common(&figures);
    let mut panels: Vec<Panel> = Vec::new();
    let x_label = figures[0].x_label.clone();
    for (name, figure) in named {
        for mut panel in figure.panels {
            for series in &mut panel.series {
                let own = Some(series.name.clone()).filter(|name| !name.is_empty());
                series.name = names::joined([Some(name.clone()), own]);
                series.points = moved(&series.points, &figure.across, &across);
            }
            match panels.iter_mut().find(|known| known.y_label == panel.y_label && known.up == panel.up) {
                Some(known) => known.series.append(&mut panel.series),
                None => panels.push(panel),
            }
        }
    }
    for panel in &mut panels {
        for (i, series) in panel.series.iter_mut().enumerate() {
            series.look = Look { form: series.look.form, ..Look::of(i) };
        }
    }
    Ok(Figure { x_label, across, panels })
}

/// The horizontal axis of several figures: all names, if it has names.
fn common(figures: &[&Figure]) -> Scale {
    let mut all: Vec<String> = Vec::new();
    for figure in figures {
        let Scale::Names(names) = &figure.across else { return figure.across.clone() };
        for name in names {
            if !all.contains(name) {
                all.push(name.clone());
            }
        }
    }
    Scale::Names(all)
}

/// Points at the places that their names have on another axis.
fn moved(points: &[Point], from: &Scale, to: &Scale) -> Vec<Point> {
    let (Scale::Names(from), Scale::Names(to)) = (from, to) else { return points.to_vec() };
    let place = |x: f64| {
        let name = from.get(x as usize)?;
        to.iter().position(|known| known == name)
    };
    points.iter().filter_map(|point| Some(Point { x: place(point.x)? as f64, ..*point })).collect()
}

/// The means of figures, by panel, series and x, with 95 % intervals where there are at least two values.
fn mean(figures: Vec<Figure>) -> Figure {
    let all: Vec<&Figure> = figures.iter().collect();
    let across = common(&all);
    let mut panels: Vec<(Panel, Vec<Vec<Place>>)> = Vec::new();
    let x_label = figures.first().map(|figure| figure.x_label.clone()).unwrap_or_default();
    for figure in figures {
        for panel in figure.panels {
            let same = |(known, _): &(Panel, _)| known.y_label == panel.y_label && known.up == panel.up;
            let at = panels.iter().position(same).unwrap_or_else(|| {
                panels.push((Panel { series: Vec::new(), ..panel.clone() }, Vec::new()));
                panels.len() - 1
            });
            let (gathered, values) = &mut panels[at];
            for series in panel.series {
                let points = moved(&series.points, &figure.across, &across);
                let at = gathered.series.iter().position(|known| known.name == series.name);
                let at = at.unwrap_or_else(|| {
                    gathered.series.push(Series { points: Vec::new(), ..series });
                    values.push(Vec::new());
                    values.len() - 1
                });
                for Point { x, y, .. } in points {
                    match values[at].iter_mut().find(|place| place.x == x) {
                        Some(place) => place.ys.push(y),
                        None => values[at].push(Place { x, ys: vec![y] }),
                    }
                }
            }
        }
    }
    let panels = panels.into_iter().map(|(mut panel, values)| {
        for (series, places) in panel.series.iter_mut().zip(values) {
            series.points = places.iter().filter_map(Place::mean).collect();
            series.points.sort_by(|a, b| a.x.total_cmp(&b.x));
        }
        panel
    });
    Figure { x_label, across, panels: panels.collect() }
}

/// The values of several inputs at one x.
struct Place {
    x: f64,
    ys: Vec<f64>,
}

impl Place {
    fn mean(&self) -> Option<Point> {
        let of = Estimate::of(&self.ys)?;
        let interval = of.interval().map(|interval| (interval.low, interval.high));
        Some(Point { x: self.x, y: of.mean, interval })
    }
}

/// Replaces texts in the names of series, one after the other.
///
/// # Errors
/// A text that occurs in no name.
pub fn rename(figure: &mut Figure, renames: &[Rename]) -> Result<()> {
    for Rename { old, new } in renames {
        let mut found = false;
        let all = figure.panels.iter_mut().flat_map(|panel| &mut panel.series);
        for series in all.filter(|series| series.name.contains(old.as_str())) {
            series.name = series.name.replace(old.as_str(), new);
            found = true;
        }
        if !found {
            let names = figure.panels.iter().flat_map(|panel| &panel.series);
            let names: Vec<&str> = names.map(|series| series.name.as_str()).collect();
            bail!("--rename: found no {old:?} in the names of series, which are: {}", names.join("; "));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::Form;

    fn figure(name: &str, ys: &[(f64, f64)]) -> Figure {
        let points = ys.iter().map(|&(x, y)| Point { x, y, interval: Some((0.0, 9.0)) }).collect();
        let series = vec![Series { name: name.to_owned(), look: Look::of(0), points }];
        let panels = vec![Panel::new("y".to_owned(), Scale::Values, series)];
        Figure { x_label: "x".to_owned(), across: Scale::Whole, panels }
    }

    fn named(name: &str, across: &[&str], ys: &[f64]) -> Figure {
        let ys: Vec<(f64, f64)> = (0..).map(f64::from).zip(ys.iter().copied()).collect();
        let names = across.iter().map(|&name| name.to_owned()).collect();
        Figure { across: Scale::Names(names), ..figure(name, &ys) }
    }

    #[test]
    fn repetitions_become_their_mean_with_an_interval() {
        let seeds = [[1.0, 4.0], [2.0, 5.0], [3.0, 9.0]];
        let inputs = seeds.iter().map(|ys| ("s.json".to_owned(), figure("a", &[(1.0, ys[0]), (2.0, ys[1])])));
        let mut inputs: Vec<_> = inputs.collect();
        inputs.push(("t.json".to_owned(), figure("a", &[(3.0, 7.0)])));
        let series = combine(inputs, Some(Average::All)).unwrap().panels.remove(0).series.remove(0);
        assert_eq!(series.points.iter().map(|point| point.y).collect::<Vec<_>>(), [2.0, 6.0, 7.0]);
        let (low, high) = series.points[0].interval.unwrap();
        assert!((low + high - 4.0).abs() < 1e-9 && (high - low - 2.0 * 2.4843).abs() < 1e-3, "{low} {high}");
        assert_eq!((series.points[2].interval, series.name.as_str()), (None, "a"));
    }

    #[test]
    fn folders_are_told_apart() {
        let inputs =
            ["a/1.json", "a/2.json", "b/1.json"].map(|path| (path.to_owned(), figure("s", &[(0.0, 1.0)])));
        let all = combine(inputs.to_vec(), Some(Average::Folder)).unwrap().panels.remove(0).series;
        let names: Vec<&str> = all.iter().map(|series| series.name.as_str()).collect();
        assert_eq!(names, ["a, s", "b, s"]);
        assert!(all[0].points[0].interval.is_some() && all[1].points[0].interval.is_none());
        assert!(all[0].look != all[1].look && all[0].look.form == Form::Both);
        let apart = combine(inputs.to_vec(), None).unwrap().panels.remove(0).series;
        assert_eq!((apart.len(), apart[0].name.as_str()), (3, "a/1.json, s"));
    }

    #[test]
    fn names_on_the_axis_meet() {
        let (one, other) = (named("s", &["p", "q"], &[1.0, 2.0]), named("s", &["q", "r"], &[4.0, 8.0]));
        let inputs = vec![("1".to_owned(), one), ("2".to_owned(), other)];
        let all = combine(inputs.clone(), None).unwrap();
        assert_eq!(all.across, Scale::Names(["p", "q", "r"].map(str::to_owned).to_vec()));
        let xs = |at: usize| all.panels[0].series[at].points.iter().map(|point| point.x).collect::<Vec<_>>();
        assert_eq!((xs(0), xs(1)), (vec![0.0, 1.0], vec![1.0, 2.0]));
        let mean = combine(inputs, Some(Average::All)).unwrap();
        let ys: Vec<f64> = mean.panels[0].series[0].points.iter().map(|point| point.y).collect();
        assert_eq!(ys, [1.0, 3.0, 8.0]);
    }

    #[test]
    fn names_are_replaced_or_the_text_is_reported() {
        let mut drawn = figure("sum (joint)", &[(0.0, 1.0)]);
        let to = |old: &str, new: &str| Rename { old: old.to_owned(), new: new.to_owned() };
        rename(&mut drawn, &[to(" (joint)", ""), to("sum", "ours")]).unwrap();
        assert_eq!(drawn.panels[0].series[0].name, "ours");
        let error = rename(&mut drawn, &[to("sum", "x")]).unwrap_err().to_string();
        assert!(error.contains("found no \"sum\"") && error.contains("ours"), "{error}");
    }
}
