//! What is drawn, before it is drawn.

/// Panels one below the other, over one horizontal axis.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub(crate) x_label: String,
    pub(crate) panels: Vec<Panel>,
}

/// Series that share a vertical axis.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) y_label: String,
    /// The numbers are shares, from 0 to 1.
    pub(crate) shares: bool,
    pub(crate) series: Vec<Series>,
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
    /// A confidence interval.
    pub(crate) interval: Option<(f64, f64)>,
}

/// How a series looks: numbers of a color with its marker, and of a pattern of dashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    pub(crate) marker: usize,
    pub(crate) dash: usize,
}

impl Look {
    /// The look of series number i among many.
    pub(crate) fn of(i: usize) -> Self {
        Self { marker: i, dash: i }
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
}
