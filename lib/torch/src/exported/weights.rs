//! The tensors of an exported program: raw little-endian files, and a list of their types and shapes.

use std::collections::BTreeMap;

use tch::{Kind, Tensor};

use super::ProgramError;
use super::archive::Archive;
use super::schema::{Meta, Payload, Payloads, Size};

/// Reads the tensors of a list, by name; their files are in its folder. Names of one file share its memory.
///
/// # Errors
/// [`ProgramError`], by kind; a list that is missing is empty.
pub(super) fn read(archive: &mut Archive, list: &str) -> Result<BTreeMap<String, Tensor>, ProgramError> {
    if !archive.names().any(|name| name == list) {
        return Ok(BTreeMap::new());
    }
    let folder = list.rfind('/').map_or("", |end| &list[..=end]);
    let bytes = archive.read(list)?;
    let Payloads { config } =
        serde_json::from_slice(&bytes).map_err(|error| ProgramError::Json { member: list.into(), error })?;
    let mut files: BTreeMap<String, (Kind, Tensor)> = BTreeMap::new();
    let mut tensors = BTreeMap::new();
    for (name, Payload { path_name, use_pickle, tensor_meta }) in config {
        let Some(meta) = tensor_meta.filter(|_| !use_pickle) else {
            return Err(ProgramError::Pickled { name });
        };
        let kind = kind(meta.dtype).ok_or_else(|| ProgramError::TensorType { name: name.clone() })?;
        let flat = match files.get(&path_name) {
            Some((found, flat)) if *found == kind => flat.shallow_clone(),
            _ => {
                let bytes = archive.read(&format!("{folder}{path_name}"))?;
                let elements = bytes.len() / kind.elt_size_in_bytes();
                let flat = Tensor::f_from_data_size(
                    &bytes[..elements * kind.elt_size_in_bytes()],
                    &[elements as i64],
                    kind,
                )?;
                files.insert(path_name, (kind, flat.shallow_clone()));
                flat
            }
        };
        let tensor = view(&flat, &meta)
            .ok_or_else(|| ProgramError::Bounds { name: name.clone(), elements: flat.numel() })??;
        tensors.insert(name, tensor);
    }
    Ok(tensors)
}

/// The part of a flat tensor that these sizes, strides and offset tell; none if it is not within.
fn view(flat: &Tensor, meta: &Meta) -> Option<Result<Tensor, tch::TchError>> {
    let numbers = |sizes: &[Size]| sizes.iter().map(number).collect::<Option<Vec<i64>>>();
    let (sizes, strides) = (numbers(&meta.sizes)?, numbers(&meta.strides)?);
    let offset = meta.storage_offset.as_ref().map_or(Some(0), number)?;
    if sizes.len() != strides.len() {
        return None;
    }
    let empty = sizes.contains(&0);
    let mut last = offset;
    let mut count = 1_i64;
    for (&size, &stride) in sizes.iter().zip(&strides) {
        count = count.checked_mul(size)?;
        last = last.checked_add((size - 1).max(0).checked_mul(stride)?)?;
    }
    (empty || last < flat.numel() as i64).then(|| flat.f_as_strided(&sizes, &strides, offset))
}

/// A size that is known and not negative.
fn number(size: &Size) -> Option<i64> {
    match size {
        Size::AsInt(number) if *number >= 0 => Some(*number),
        _ => None,
    }
}

/// The type of this code of the schema.
pub(super) fn kind(code: i64) -> Option<Kind> {
    Some(match code {
        1 => Kind::Uint8,
        2 => Kind::Int8,
        3 => Kind::Int16,
        4 => Kind::Int,
        5 => Kind::Int64,
        6 => Kind::Half,
        7 => Kind::Float,
        8 => Kind::Double,
        9 => Kind::ComplexHalf,
        10 => Kind::ComplexFloat,
        11 => Kind::ComplexDouble,
        12 => Kind::Bool,
        13 => Kind::BFloat16,
        _ => return None,
    })
}
