//! The elements of a tensor as lists in messages.

use bytes::Bytes;

use super::super::tensor::Place;
use super::super::{Datatype, Error};
use crate::proto::InferTensorContents;

/// Reads the list of a datatype; all other lists must be empty.
pub(super) fn read(contents: InferTensorContents, datatype: Datatype, place: Place) -> Result<Bytes, Error> {
    let lists = [
        ("BOOL", contents.bool_contents.is_empty()),
        ("INT32", contents.int_contents.is_empty()),
        ("INT64", contents.int64_contents.is_empty()),
        ("UINT32", contents.uint_contents.is_empty()),
        ("UINT64", contents.uint64_contents.is_empty()),
        ("FP32", contents.fp32_contents.is_empty()),
        ("FP64", contents.fp64_contents.is_empty()),
        ("BYTES", contents.bytes_contents.is_empty()),
    ];
    let own = match datatype {
        Datatype::Int8 | Datatype::Int16 => "INT32",
        Datatype::Uint8 | Datatype::Uint16 => "UINT32",
        _ => datatype.name(),
    };
    if let Some((found, _)) = lists.into_iter().find(|&(list, empty)| list != own && !empty) {
        return Err(Error::invalid(format!(
            "unexpected explicit tensor data for {} tensor '{}' for model '{}' of type '{found}', expected \
             datatype '{datatype}'",
            place.kind, place.name, place.model
        )));
    }
    let (signed, unsigned) = (contents.int_contents, contents.uint_contents);
    let data = match datatype {
        Datatype::Bool => contents.bool_contents.into_iter().map(u8::from).collect(),
        Datatype::Int8 => narrow(signed, i8::to_le_bytes, datatype, place)?,
        Datatype::Int16 => narrow(signed, i16::to_le_bytes, datatype, place)?,
        Datatype::Int32 => bytes(signed, i32::to_le_bytes),
        Datatype::Int64 => bytes(contents.int64_contents, i64::to_le_bytes),
        Datatype::Uint8 => narrow(unsigned, u8::to_le_bytes, datatype, place)?,
        Datatype::Uint16 => narrow(unsigned, u16::to_le_bytes, datatype, place)?,
        Datatype::Uint32 => bytes(unsigned, u32::to_le_bytes),
        Datatype::Uint64 => bytes(contents.uint64_contents, u64::to_le_bytes),
        Datatype::Fp32 => bytes(contents.fp32_contents, f32::to_le_bytes),
        Datatype::Fp64 => bytes(contents.fp64_contents, f64::to_le_bytes),
        Datatype::Bytes => strings(&contents.bytes_contents, place)?,
        // These types have no list.
        Datatype::Fp16 | Datatype::Bf16 => Vec::new(),
    };
    Ok(data.into())
}

fn bytes<T, const N: usize>(elements: Vec<T>, to_bytes: fn(T) -> [u8; N]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(elements.len() * N);
    for element in elements {
        bytes.extend_from_slice(&to_bytes(element));
    }
    bytes
}

/// Elements from a list of a wider type.
fn narrow<W: Copy + std::fmt::Display, T: TryFrom<W>, const N: usize>(
    elements: Vec<W>,
    to_bytes: fn(T) -> [u8; N],
    datatype: Datatype,
    place: Place,
) -> Result<Vec<u8>, Error> {
    let narrow = |element: W| {
        T::try_from(element)
            .map_err(|_| Error::invalid(format!("{place} holds {element}, expected {datatype}")))
    };
    Ok(bytes(elements.into_iter().map(narrow).collect::<Result<Vec<T>, _>>()?, to_bytes))
}

fn strings(elements: &[Bytes], place: Place) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::with_capacity(elements.iter().map(|element| 4 + element.len()).sum());
    for element in elements {
        let length = u32::try_from(element.len()).map_err(|_| {
            Error::invalid(format!("{place} holds {} bytes, expected at most {}", element.len(), u32::MAX))
        })?;
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(element);
    }
    Ok(bytes)
}
