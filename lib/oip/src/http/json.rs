//! The JSON of requests and responses.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize as Derived, Serialize};
use serde_json::value::RawValue;

use super::super::{Error, Parameter, Parameters};
use super::Body;

/// The body of `POST …/infer`.
#[derive(Derived)]
pub(super) struct RequestJson<'a> {
    pub(super) id: Option<String>,
    pub(super) parameters: Option<ParametersJson>,
    #[serde(borrow)]
    pub(super) inputs: Vec<TensorJson<'a>>,
    pub(super) outputs: Option<Vec<OutputJson>>,
}

/// Its response.
#[derive(Derived)]
pub(super) struct ResponseJson<'a> {
    pub(super) model_name: Option<String>,
    pub(super) model_version: Option<String>,
    pub(super) id: Option<String>,
    pub(super) parameters: Option<ParametersJson>,
    #[serde(borrow)]
    pub(super) outputs: Vec<TensorJson<'a>>,
}

/// An input or output with its data, or with their size.
#[derive(Derived)]
pub(super) struct TensorJson<'a> {
    pub(super) name: String,
    #[serde(borrow)]
    pub(super) datatype: Cow<'a, str>,
    pub(super) shape: Vec<u64>,
    pub(super) parameters: Option<ParametersJson>,
    /// Kept as text, since the datatype may follow it.
    #[serde(borrow)]
    pub(super) data: Option<&'a RawValue>,
}

/// A requested output.
#[derive(Derived)]
pub(super) struct OutputJson {
    pub(super) name: String,
    pub(super) parameters: Option<ParametersJson>,
}

/// The parameters with plain values, and the name of one that has another value.
#[derive(Default)]
pub(super) struct ParametersJson {
    pub(super) known: Parameters,
    pub(super) other: Option<String>,
}

impl<'de> Deserialize<'de> for ParametersJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ParametersVisitor)
    }
}

struct ParametersVisitor;

impl<'de> Visitor<'de> for ParametersVisitor {
    type Value = ParametersJson;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("parameters by their names")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ParametersJson, A::Error> {
        let mut parameters = ParametersJson::default();
        while let Some(name) = map.next_key::<String>()? {
            match map.next_value::<ParameterJson>()?.0 {
                Some(value) => drop(parameters.known.insert(name, value)),
                None => parameters.other = Some(name),
            }
        }
        Ok(parameters)
    }
}

/// A parameter, or none if it is null, a list or an object.
struct ParameterJson(Option<Parameter>);

impl<'de> Deserialize<'de> for ParameterJson {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ParameterVisitor)
    }
}

struct ParameterVisitor;

impl<'de> Visitor<'de> for ParameterVisitor {
    type Value = ParameterJson;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a parameter")
    }

    fn visit_bool<E>(self, value: bool) -> Result<ParameterJson, E> {
        Ok(ParameterJson(Some(Parameter::Bool(value))))
    }

    fn visit_i64<E>(self, value: i64) -> Result<ParameterJson, E> {
        Ok(ParameterJson(Some(Parameter::Int(value))))
    }

    fn visit_u64<E>(self, value: u64) -> Result<ParameterJson, E> {
        Ok(ParameterJson(Some(i64::try_from(value).map_or(Parameter::Uint(value), Parameter::Int))))
    }

    fn visit_f64<E>(self, value: f64) -> Result<ParameterJson, E> {
        Ok(ParameterJson(Some(Parameter::Double(value))))
    }

    fn visit_str<E>(self, value: &str) -> Result<ParameterJson, E> {
        Ok(ParameterJson(Some(Parameter::String(value.to_owned()))))
    }

    fn visit_unit<E>(self) -> Result<ParameterJson, E> {
        Ok(ParameterJson(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ParameterJson, A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(ParameterJson(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<ParameterJson, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(ParameterJson(None))
    }
}

/// Parses JSON that may hold `NaN`, `Infinity` and `-Infinity`, which become strings; `quoted` keeps
/// the text in that case.
pub(super) fn parse<'a, T: Deserialize<'a>>(
    json: &'a [u8],
    quoted: &'a mut Option<Vec<u8>>,
    what: &str,
) -> Result<T, Error> {
    serde_json::from_slice(json)
        .or_else(|error| match quote_non_finite(json) {
            Some(text) if error.is_syntax() => serde_json::from_slice(quoted.insert(text)),
            _ => Err(error),
        })
        .map_err(|error| Error::invalid(format!("failed to parse the {what} JSON buffer: {error}")))
}

/// The text with non-finite numbers as strings; none if it has none.
fn quote_non_finite(json: &[u8]) -> Option<Vec<u8>> {
    let mut text = Vec::new();
    let (mut at, mut copied) = (0, 0);
    while let Some(rest) = json.get(at..).filter(|rest| !rest.is_empty()) {
        at += if rest.starts_with(b"\"") {
            string_length(rest)
        } else if let Some(word) =
            [&b"NaN"[..], b"Infinity", b"-Infinity"].into_iter().find(|word| rest.starts_with(word))
        {
            text.extend_from_slice(json.get(copied..at)?);
            text.extend([b"\"", word, b"\""].concat());
            copied = at + word.len();
            word.len()
        } else {
            1
        };
    }
    (copied > 0).then(|| {
        text.extend_from_slice(json.get(copied..).unwrap_or_default());
        text
    })
}

/// The length in bytes of the string at the beginning of a text, with its quotes.
pub(super) fn string_length(text: &[u8]) -> usize {
    let mut escaped = true; // skips the opening quote
    let end = text.iter().position(|&byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    });
    end.map_or(text.len(), |end| end + 1)
}

/// Appends JSON of a value.
pub(super) fn write(text: &mut Vec<u8>, value: &(impl Serialize + ?Sized)) {
    // Writing to a vector cannot fail, and JSON can express all values here.
    let _ = serde_json::to_writer(text, value);
}

/// A body with a value as JSON.
pub(super) fn to_body(value: &impl Serialize) -> Body {
    let mut text = Vec::new();
    write(&mut text, value);
    text.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_numbers_that_json_cannot_express_are_quoted() {
        let quoted =
            |text: &str| quote_non_finite(text.as_bytes()).map(|text| String::from_utf8(text).unwrap());
        assert_eq!(quoted("[1,NaN,-Infinity,Infinity]").unwrap(), r#"[1,"NaN","-Infinity","Infinity"]"#);
        assert_eq!(quoted(r#"["NaN","a\"NaN",NaN]"#).unwrap(), r#"["NaN","a\"NaN","NaN"]"#);
        for text in [r#"["NaN"]"#, r#""NaN"#, r#"["\\","\"NaN"]"#, "", "[1]"] {
            assert_eq!(quoted(text), None, "{text}");
        }
    }

    #[test]
    fn strings_end_at_their_quote() {
        for (text, length) in
            [(r#""a" "#, 3), (r#""a\"b","#, 6), (r#""a\\"b"#, 5), (r#""open"#, 5), ("\"", 1)]
        {
            assert_eq!(string_length(text.as_bytes()), length, "{text}");
        }
    }

    #[test]
    fn parameters_that_are_not_plain_values_are_reported() {
        let text = r#"{"b":true,"i":-1,"u":18446744073709551615,"d":1.0,"s":"é\n","n":null,"m":{"a":[1]}}"#;
        let parameters: ParametersJson = serde_json::from_str(text).unwrap();
        let expected: Parameters = [
            ("b".into(), Parameter::Bool(true)),
            ("i".into(), Parameter::Int(-1)),
            ("u".into(), Parameter::Uint(u64::MAX)),
            ("d".into(), Parameter::Double(1.0)),
            ("s".into(), Parameter::String("é\n".into())),
        ]
        .into();
        assert_eq!((parameters.known, parameters.other.as_deref()), (expected, Some("m")));
    }
}
