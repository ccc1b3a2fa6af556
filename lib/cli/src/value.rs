//! Values of options that need a check of their own.

use std::borrow::Cow;
use std::ops::RangeInclusive;

/// A value that is refused: the end of clap's message, which names the option and the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ValueError {
    /// The value as a whole.
    #[error("expected {0}")]
    Expected(Cow<'static, str>),
    /// A part of it.
    #[error("found {found}, expected {expected}")]
    Part {
        /// The part.
        found: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A bound of a range of rows.
    #[error("'{0}' is no row number")]
    Row(String),
}

/// The error of a value that is refused as a whole.
pub(crate) fn expected(what: impl Into<Cow<'static, str>>) -> ValueError {
    ValueError::Expected(what.into())
}

fn number(text: &str) -> Result<f64, ValueError> {
    text.parse().map_err(|_| expected("a number"))
}

fn finite(text: &str) -> Result<f64, ValueError> {
    number(text).ok().filter(|value| value.is_finite()).ok_or_else(|| expected("a number"))
}

pub(crate) fn between(text: &str, range: RangeInclusive<f64>) -> Result<f64, ValueError> {
    let value = number(text)?;
    let (least, most) = (range.start(), range.end());
    range.contains(&value).then_some(value).ok_or_else(|| expected(format!("{least} to {most}")))
}

pub(crate) fn positive(text: &str) -> Result<f64, ValueError> {
    let value = finite(text)?;
    (value > 0.0).then_some(value).ok_or_else(|| expected("a number above 0"))
}

pub(crate) fn not_negative(text: &str) -> Result<f64, ValueError> {
    let value = finite(text)?;
    (value >= 0.0).then_some(value).ok_or_else(|| expected("0 or more"))
}

/// A probability, or a share of something.
pub(crate) fn fraction(text: &str) -> Result<f64, ValueError> {
    let value = text.parse().ok().filter(|value| (0.0..=1.0).contains(value));
    value.ok_or_else(|| expected("a number from 0 to 1"))
}

pub(crate) fn percentage(text: &str) -> Result<f64, ValueError> {
    between(text, 0.0..=100.0)
}

pub(crate) fn rate(text: &str) -> Result<f64, ValueError> {
    between(text, 0.001..=1_000_000.0)
}

pub(crate) fn seconds(text: &str) -> Result<f64, ValueError> {
    between(text, 0.0..=10_000_000.0)
}

pub(crate) fn milliseconds(text: &str) -> Result<f64, ValueError> {
    between(text, 1.0..=1_000_000_000.0)
}

/// A time above 0 with its unit, in seconds.
pub(crate) fn duration(text: &str) -> Result<f64, ValueError> {
    let units = [("us", 1e-6), ("ms", 1e-3), ("s", 1.0)];
    let seconds = units.iter().find_map(|(unit, scale)| {
        let seconds = text.strip_suffix(unit)?.trim_end().parse::<f64>().ok()? * scale;
        (seconds > 0.0 && seconds <= 10_000_000.0).then_some(seconds)
    });
    seconds.ok_or_else(|| expected("a time as 500us, 40ms or 10s"))
}

/// The name of a header, in lower case, and its value.
pub(crate) fn header(text: &str) -> Result<(String, String), ValueError> {
    let (name, value) = text.split_once(':').ok_or_else(|| expected("NAME: VALUE"))?;
    Ok((name.trim().to_lowercase(), value.trim().to_owned()))
}
