//! Figures: the data of images.

use anyhow::{Result, bail};
pub(crate) use parm_cli::tools::plot::Reference;
use parm_cli::tools::plot::ReferenceOption;

use crate::timeline::Timeline;

/// The content of an image.
#[derive(Clone, Debug)]
pub enum Drawing {
    /// Lines over axes.
    Chart(Figure),
    /// The history of a coding group.
    Timeline(Timeline),
}

/// Panels in a column with one horizontal axis.
#[derive(Clone, Debug)]
pub struct Figure {
    pub(crate) x_label: String,
    pub(crate) across: Scale,
    pub(crate) panels: Vec<Panel>,
}

/// The scale of an axis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Integers.
    Whole,
    /// Numbers: logarithmic if they are positive and span more than a factor of ten.
    Values,
    /// Shares, from 0 to 1.
    Shares,
    /// The shares above percentiles, logarithmic.
    Tail,
    /// Names, each at its index.
    Names(Vec<String>),
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
    /// A confidence interval, or the minimum and maximum.
    pub(crate) interval: Option<(f64, f64)>,
}

/// A short text beside a point.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Note {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) text: String,
}

/// The look of a series: the numbers of its color and marker, and of its dash pattern.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) marker: usize,
    pub(crate) dash: usize,
    pub(crate) form: Form,
}

/// Which parts of a series are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// A line, and markers.
    Both,
    /// A step line, and markers at equal distances.
    Steps,
    /// Only a step line.
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

    /// All values on the vertical axis.
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
    /// All values of x, sorted, without duplicates.
    pub(crate) fn xs(&self) -> Vec<f64> {
        let points = self.panels.iter().flat_map(|panel| &panel.series).flat_map(|series| &series.points);
        let mut xs: Vec<f64> = points.map(|point| point.x).collect();
        xs.sort_by(f64::total_cmp);
        xs.dedup();
        xs
    }

    /// The number of series.
    #[must_use]
    pub fn series(&self) -> usize {
        self.panels.iter().map(|panel| panel.series.len()).sum()
    }

    /// Adds a reference line to its first panel.
    ///
    /// # Errors
    /// A value that is not a share if the panel shows shares.
    pub fn with(mut self, option: &ReferenceOption) -> Result<Self> {
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
