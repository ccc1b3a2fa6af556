//! What is drawn, before it is drawn.

use anyhow::{Result, bail};
pub(crate) use parm_cli::tools::plot::Reference;
use parm_cli::tools::plot::ReferenceOption;

use crate::timeline::Timeline;

/// What an image shows.
#[derive(Clone, Debug)]
pub(crate) enum Drawing {
    /// Lines over axes.
    Chart(Figure),
    /// What became of a coding group.
    Timeline(Timeline),
}

/// Panels one below the other, over one horizontal axis.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) x_label: String,
    pub(crate) across: Scale,
    pub(crate) panels: Vec<Panel>,
}

/// What an axis is numbered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Whole numbers.
    Whole,
    /// Any numbers: logarithmic if they allow it and span more than a factor of ten.
    Values,
    /// Shares, from 0 to 1.
    Shares,
    /// The shares above percentiles, logarithmic.
    Tail,
}

/// Series that share a vertical axis.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) y_label: String,
    pub(crate) up: Scale,
    pub(crate) series: Vec<Series>,
    pub(crate) notes: Vec<Note>,
    pub(crate) reference: Option<Reference>,
}

/// A line through points.
#[derive(Clone, Debug)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) look: Look,
    /// In the order of x.
    pub(crate) points: Vec<Point>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Point {
    pub(crate) x: f64,
    pub(crate) y: f64,
    /// A confidence interval, or the least and the most.
    pub(crate) interval: Option<(f64, f64)>,
}

/// A short text beside a place.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) text: String,
}

/// How a series looks: numbers of a color with its marker, and of a pattern of dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) marker: usize,
    pub(crate) dash: usize,
    pub(crate) form: Form,
}

/// What of a series is drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A line, and markers.
    Both,
    /// A line of level and upright pieces, and markers at equal distances.
    Steps,
    /// Only the line, of such pieces.
    Line,
    /// Only the markers.
    Markers,
}

impl Look {
    /// The look of series number i among many.
    pub(crate) fn of(i: usize) -> Self {
        Self { marker: i, dash: i, form: Form::Both }
    }
}

impl Panel {
    /// A panel of lines.
    pub(crate) fn new(y_label: String, up: Scale, series: Vec<Series>) -> Self {
        Self { y_label, up, series, notes: Vec::new(), reference: None }
    }

    /// All that the vertical axis must hold.
    pub(crate) fn ys(&self) -> Vec<f64> {
        let points = self.series.iter().flat_map(|series| &series.points);
        let values = points.flat_map(|point| {
            let (low, high) = point.interval.unwrap_or((point.y, point.y));
            [point.y, low, high]
        });
        values.chain(self.reference.iter().map(|reference| reference.at)).collect()
    }
}

impl Figure {
    /// All x, in order and each once.
    pub(crate) fn xs(&self) -> Vec<f64> {
        let points = self.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points);
        let mut xs: Vec<f64> = points.map(|point| point.x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        xs
    }

    /// How many series there are.
    pub(crate) fn series(&self) -> usize {
        self.panels.iter().map(|panel| panel.series.len()).sum()
    }

    /// With a line to compare with in its only panel.
    ///
    /// # Errors
    /// One that is no share where shares are drawn.
    pub(crate) fn with(mut self, option: &ReferenceOption) -> Result<Self> {
        for (panel, reference) in self.panels.iter_mut().zip(&option.reference) {
            let at = reference.at;
            if panel.up != Scale::Values && !(0.0..=1.0).contains(&at) {
                bail!("--reference: found {at}, expected a share from 0 to 1");
            }
            if panel.up == Scale::Tail && at < 1e-9 {
                bail!("--reference: found {at}, expected a share from 1e-9 to 1");
            }
            panel.reference = Some(reference.clone());
        }
        Ok(self)
    }
}
