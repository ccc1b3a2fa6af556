//! The elements of a tensor as a JSON list.

use std::convert::identity;
use std::iter;

use bytes::Bytes;
use half::{bf16, f16};

use super::super::tensor::{Place, strings};
use super::super::{Datatype, Error};
use super::{Side, json};

/// Reads a list of `count` elements, flat or nested in any way.
pub(super) fn read(
    text: &str,
    datatype: Datatype,
    count: usize,
    side: Side,
    place: Place,
) -> Result<Bytes, Error> {
    if !text.starts_with('[') {
        return Err(Error::invalid(format!(
            "Unable to parse 'data': attempt to access JSON non-array as array: {place} holds {text}"
        )));
    }
    // An element takes at least one character and a comma, which bounds the allocation.
    let room = count.min(text.len() / 2) * datatype.size().unwrap_or(4);
    let mut data = Vec::with_capacity(room);
    let mut found = 0;
    for token in tokens(text) {
        found += 1;
        if found <= count && push(&mut data, token, datatype, side).is_none() {
            return Err(Error::invalid(format!(
                "Unable to parse 'data': {place} holds {token}, expected {datatype}"
            )));
        }
    }
    if found != count {
        return Err(Error::invalid(format!(
            "Unable to parse 'data': Shape does not match true shape of 'data' field: {place} has shape of \
             {count} elements, got {found}"
        )));
    }
    Ok(data.into())
}

/// The elements of a list as text.
fn tokens(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    iter::from_fn(move || {
        rest = rest.trim_start_matches([',', '[', ']', ' ', '\n', '\t', '\r']);
        let length = match rest.as_bytes().first()? {
            b'"' => json::string_length(rest.as_bytes()),
            // An object is no element; the rest becomes one token, which is refused.
            b'{' => rest.len(),
            _ => rest.bytes().position(|byte| b",] \n\t\r".contains(&byte)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at_checked(length)?;
        rest = after;
        Some(token)
    })
}

/// Appends an element; none if it does not have this type.
fn push(data: &mut Vec<u8>, token: &str, datatype: Datatype, side: Side) -> Option<()> {
    macro_rules! integer {
        ($type:ty) => {
            data.extend_from_slice(&token.parse::<$type>().ok()?.to_le_bytes())
        };
    }
    macro_rules! float {
        ($type:ty, $to:expr) => {{
            let value = match token.parse::<$type>() {
                Ok(value) => Some($to(value)).filter(|value| value.is_finite())?,
                Err(_) => $to(non_finite(token, side)?.into()),
            };
            data.extend_from_slice(&value.to_le_bytes());
        }};
    }
    match datatype {
        Datatype::Bool => data.push(u8::from(token.parse::<bool>().ok()?)),
        Datatype::Int8 => integer!(i8),
        Datatype::Int16 => integer!(i16),
        Datatype::Int32 => integer!(i32),
        Datatype::Int64 => integer!(i64),
        Datatype::Uint8 => integer!(u8),
        Datatype::Uint16 => integer!(u16),
        Datatype::Uint32 => integer!(u32),
        Datatype::Uint64 => integer!(u64),
        Datatype::Fp16 => float!(f64, f16::from_f64),
        Datatype::Bf16 => float!(f64, bf16::from_f64),
        Datatype::Fp32 => float!(f32, identity::<f32>),
        Datatype::Fp64 => float!(f64, identity::<f64>),
        Datatype::Bytes => {
            let string: String = serde_json::from_str(token).ok()?;
            data.extend_from_slice(&u32::try_from(string.len()).ok()?.to_le_bytes());
            data.extend_from_slice(string.as_bytes());
        }
    }
    Some(())
}

/// A number that JSON cannot express.
fn non_finite(token: &str, side: Side) -> Option<f32> {
    match token {
        "\"NaN\"" => Some(f32::NAN),
        // Some servers write NaN as null.
        "null" if side == Side::Response => Some(f32::NAN),
        "\"Infinity\"" => Some(f32::INFINITY),
        "\"-Infinity\"" => Some(f32::NEG_INFINITY),
        _ => None,
    }
}

/// Appends elements as a flat list. The data consist of whole elements.
pub(super) fn write(text: &mut Vec<u8>, datatype: Datatype, data: &[u8], place: Place) -> Result<(), Error> {
    text.push(b'[');
    macro_rules! numbers {
        ($type:ty, $write:expr) => {
            data.as_chunks().0.iter().for_each(|bytes| {
                $write(text, <$type>::from_le_bytes(*bytes));
                text.push(b',');
            })
        };
    }
    match datatype {
        Datatype::Bool => numbers!(u8, |text: &mut _, value| json::write(text, &(value != 0))),
        Datatype::Int8 => numbers!(i8, integer),
        Datatype::Int16 => numbers!(i16, integer),
        Datatype::Int32 => numbers!(i32, integer),
        Datatype::Int64 => numbers!(i64, integer),
        Datatype::Uint8 => numbers!(u8, integer),
        Datatype::Uint16 => numbers!(u16, integer),
        Datatype::Uint32 => numbers!(u32, integer),
        Datatype::Uint64 => numbers!(u64, integer),
        Datatype::Fp16 => numbers!(f16, |text: &mut _, value: f16| float(text, value.to_f32())),
        Datatype::Bf16 => numbers!(bf16, |text: &mut _, value: bf16| float(text, value.to_f32())),
        Datatype::Fp32 => numbers!(f32, float),
        Datatype::Fp64 => numbers!(f64, float),
        Datatype::Bytes => {
            for string in strings(data, place) {
                let string = str::from_utf8(string?).map_err(|_| {
                    Error::invalid(format!(
                        "{place} holds bytes that are not UTF-8, which JSON cannot hold. Please use the binary \
                         data format for {} {}",
                        place.kind, place.name
                    ))
                })?;
                json::write(text, string);
                text.push(b',');
            }
        }
    }
    if text.ends_with(b",") {
        text.pop();
    }
    text.push(b']');
    Ok(())
}

fn integer(text: &mut Vec<u8>, value: impl serde::Serialize) {
    json::write(text, &value);
}

/// Appends a number, also one that JSON cannot express.
pub(super) fn float(text: &mut Vec<u8>, value: impl serde::Serialize + Copy + Into<f64>) {
    match value.into() {
        wide if wide.is_finite() => json::write(text, &value),
        wide if wide.is_nan() => text.extend_from_slice(b"NaN"),
        wide if wide > 0.0 => text.extend_from_slice(b"Infinity"),
        _ => text.extend_from_slice(b"-Infinity"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { kind: "input", name: "x", model: "m" };

    fn read_all(text: &str, datatype: Datatype, count: usize) -> Result<Bytes, String> {
        read(text, datatype, count, Side::Request, PLACE).map_err(|error| error.message)
    }

    fn written(datatype: Datatype, data: &[u8]) -> Result<String, String> {
        let mut text = Vec::new();
        write(&mut text, datatype, data, PLACE).map_err(|error| error.message)?;
        Ok(String::from_utf8(text).unwrap())
    }

    /// Lists with the extreme values of each type, which are written as they are read.
    #[test]
    fn each_type_accepts_its_range() {
        for (datatype, text) in [
            (Datatype::Bool, "[true,false]"),
            (Datatype::Int8, "[-128,127]"),
            (Datatype::Int16, "[-32768,32767]"),
            (Datatype::Int32, "[-2147483648,2147483647]"),
            (Datatype::Int64, "[-9223372036854775808,9223372036854775807]"),
            (Datatype::Uint8, "[0,255]"),
            (Datatype::Uint16, "[0,65535]"),
            (Datatype::Uint32, "[0,4294967295]"),
            (Datatype::Uint64, "[0,18446744073709551615]"),
            (Datatype::Fp16, "[-65504.0,0.5]"),
            (Datatype::Bf16, "[-1.5,3.3895314e+38]"),
            (Datatype::Fp32, "[0.1,-3.4028235e+38]"),
            (Datatype::Fp64, "[0.1,1.7976931348623157e+308]"),
            (Datatype::Bytes, r#"["é\n\"\\",""]"#),
        ] {
            let data = read_all(text, datatype, 2).unwrap();
            assert_eq!(written(datatype, &data).unwrap(), text, "{datatype}");
            assert_eq!(written(datatype, &[]).unwrap(), "[]");
        }
    }

    #[test]
    fn numbers_of_another_type_are_refused() {
        for (datatype, text) in [
            (Datatype::Bool, "1"),
            (Datatype::Int8, "128"),
            (Datatype::Int16, "1.0"),
            (Datatype::Int32, "1e3"),
            (Datatype::Int64, "9223372036854775808"),
            (Datatype::Uint8, "-1"),
            (Datatype::Uint16, "65536"),
            (Datatype::Uint32, "\"1\""),
            (Datatype::Uint64, "18446744073709551616"),
            (Datatype::Fp16, "65520"),
            (Datatype::Bf16, "3.4e38"),
            (Datatype::Fp32, "1e39"),
            (Datatype::Fp64, "1e309"),
            (Datatype::Fp64, "null"),
            (Datatype::Fp64, "true"),
            (Datatype::Fp32, "\"inf\""),
            (Datatype::Fp32, r#"{"a":[1,2]}"#),
            (Datatype::Bytes, "1"),
        ] {
            let error = read_all(&format!("[{text}]"), datatype, 1).unwrap_err();
            let expected =
                format!("Unable to parse 'data': input 'x' for model 'm' holds {text}, expected {datatype}");
            // The token of an object extends to the end.
            assert_eq!(error.replace("]}]", "]}"), expected);
        }
    }

    #[test]
    fn elements_are_counted_at_any_nesting() {
        for text in ["[1,2,3,4]", "[[1,2],[3,4]]", " [ [ 1,\n2 ] , [ [ 3 ], 4\t] ]", "[[],1,2,[],3,4]"] {
            assert_eq!(read_all(text.trim_start(), Datatype::Uint8, 4).unwrap(), &[1, 2, 3, 4][..], "{text}");
        }
        for (text, found) in [("[]", 0), ("[1,2,3]", 3), ("[1,2,3,4,\"a\"]", 5), ("[[[]]]", 0)] {
            let error = read_all(text, Datatype::Int8, 4).unwrap_err();
            assert!(error.contains("Shape does not match true shape of 'data' field"), "{error}");
            assert!(error.ends_with(&format!("has shape of 4 elements, got {found}")), "{error}");
        }
        for text in ["1", "\"[1]\"", "{}", "null"] {
            let error = read_all(text, Datatype::Int8, 1).unwrap_err();
            assert!(error.contains("attempt to access JSON non-array as array"), "{error}");
        }
    }

    #[test]
    fn numbers_that_json_cannot_express_are_floats() {
        let text = r#"["NaN","Infinity","-Infinity",null]"#;
        for datatype in [Datatype::Fp16, Datatype::Bf16, Datatype::Fp32, Datatype::Fp64] {
            let data = read(text, datatype, 4, Side::Response, PLACE).unwrap();
            assert_eq!(written(datatype, &data).unwrap(), "[NaN,Infinity,-Infinity,NaN]");
        }
        assert!(read(text, Datatype::Int32, 4, Side::Response, PLACE).is_err());
    }

    #[test]
    fn strings_in_json_are_complete_utf8() {
        let error = written(Datatype::Bytes, b"\x01\0\0\0\xff").unwrap_err();
        assert!(error.contains("input 'x' for model 'm' holds bytes that are not UTF-8"), "{error}");
        let error = written(Datatype::Bytes, b"\x02\0\0\0a").unwrap_err();
        assert!(error.contains("incomplete string data"), "{error}");
    }
}
