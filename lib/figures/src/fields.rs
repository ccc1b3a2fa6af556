//! Reads fields of JSON objects, with error messages.

use anyhow::{Context, Result, bail};
use serde_json::{Map, Value};

/// Parses JSON; `line` is the number of its first line.
pub(crate) fn parse(text: &[u8], line: usize) -> Result<Value> {
    serde_json::from_slice(text).map_err(|error| malformed(&error, line))
}

/// The items of a list in a report, of format 1 or, of a comparison, 2.
pub(crate) fn items((input, text): &(String, Vec<u8>), list: &str) -> Result<Vec<Value>> {
    let mut report = parse(text, 1).with_context(|| input.clone())?;
    let format = Fields::new(input, &report)?.whole("format", 0)?;
    let newest = if list == "rows" { 2.0 } else { 1.0 };
    if !(1.0..=newest).contains(&format) {
        let expected = if newest > 1.0 { "1 or 2" } else { "1" };
        bail!("{input}: found format {format}, expected {expected}");
    }
    match report.get_mut(list).map(Value::take) {
        Some(Value::Array(items)) => Ok(items),
        _ => bail!("{input}: found no \"{list}\", expected a list of them"),
    }
}

/// The message of a parse error; `line` is the number of the first line.
pub(crate) fn malformed(error: &serde_json::Error, line: usize) -> anyhow::Error {
    let (line, column) = (line + error.line().saturating_sub(1), error.column());
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    let kind = if error.is_data() { "" } else { "malformed JSON: " };
    anyhow::anyhow!("line {line}, column {column}: {kind}{what}")
}

/// True if there is nothing on the line.
pub(crate) fn blank(line: &[u8]) -> bool {
    line.trim_ascii().is_empty()
}

/// An object with its place in the input.
pub(crate) struct Fields<'a> {
    pub(crate) place: &'a str,
    pub(crate) map: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn new(place: &'a str, value: &'a Value) -> Result<Self> {
        let Value::Object(map) = value else {
            bail!("{place}: found {}, expected an object", brief(value));
        };
        Ok(Self { place, map })
    }

    /// A number; none if it is missing or null.
    pub(crate) fn number(&self, field: &str) -> Result<Option<f64>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => bail!("{}: found {} as \"{field}\", expected a number", self.place, brief(value)),
            },
        }
    }

    /// A number from 0; none if it is missing or null.
    pub(crate) fn positive(&self, field: &str) -> Result<Option<f64>> {
        let number = self.number(field)?;
        match number {
            Some(value) if value < 0.0 => {
                bail!("{}: found {value} as \"{field}\", expected a number from 0", self.place)
            }
            _ => Ok(number),
        }
    }

    /// A string; none if it is missing or null.
    pub(crate) fn text(&self, field: &str) -> Result<Option<String>> {
        match self.map.get(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(value) => bail!("{}: found {} as \"{field}\", expected a text", self.place, brief(value)),
        }
    }

    /// A number from 0 to 1; none if it is missing or null.
    pub(crate) fn share(&self, field: &str) -> Result<Option<f64>> {
        let number = self.number(field)?;
        match number {
            Some(value) if !(0.0..=1.0).contains(&value) => {
                bail!("{}: found {value} as \"{field}\", expected a share from 0 to 1", self.place)
            }
            _ => Ok(number),
        }
    }

    /// A required integer from `least`.
    pub(crate) fn whole(&self, field: &str, least: u32) -> Result<f64> {
        match self.map.get(field) {
            None => bail!("{}: found no \"{field}\", expected a whole number", self.place),
            Some(value) => match value.as_u64() {
                Some(number) if (u64::from(least)..=u64::from(u32::MAX)).contains(&number) => {
                    Ok(number as f64)
                }
                _ => bail!(
                    "{}: found {} as \"{field}\", expected a whole number from {least}",
                    self.place,
                    brief(value)
                ),
            },
        }
    }
}

/// The beginning of a value, for messages.
pub(crate) fn brief(value: &Value) -> String {
    let text = value.to_string();
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}
