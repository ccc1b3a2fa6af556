//! Tensors.

use std::fmt;

use bytes::{Bytes, BytesMut};

use super::{Datatype, Error, Parameters, Status};

/// A named tensor of a request or response.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub datatype: Datatype,
    /// Its shape; axis 0 counts rows.
    pub shape: Vec<u64>,
    /// Its parameters.
    pub parameters: Parameters,
    /// Its elements, little-endian and row-major.
    pub data: Chunks,
}

/// A tensor of a model, for messages.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// `input` or `output`.
    pub kind: &'static str,
    /// The tensor's name.
    pub name: &'a str,
    /// The model's name.
    pub model: &'a str,
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} '{}' for model '{}'", self.kind, self.name, self.model)
    }
}

/// The number of elements of a shape; an error if their size overflows.
pub(super) fn elements(shape: &[u64], datatype: Datatype, place: Place) -> Result<usize, Error> {
    // Shapes are signed in messages.
    let count = shape.iter().try_fold(1_i64, |count, &axis| count.checked_mul(i64::try_from(axis).ok()?));
    count
        .and_then(|count| usize::try_from(count).ok())
        .filter(|count| count.checked_mul(datatype.size().unwrap_or(4)).is_some())
        .ok_or_else(|| Error::invalid(format!("{place} has shape {shape:?}, which overflows")))
}

/// Checks the size of data against the shape and type.
///
/// # Errors
/// [`Status::InvalidArgument`](super::Status) with both sizes.
pub fn check(datatype: Datatype, shape: &[u64], data: &Chunks, place: Place) -> Result<(), Error> {
    let expected = elements(shape, datatype, place)?;
    let (kind, name) = (place.kind, place.name);
    if let Some(size) = datatype.size() {
        let (expected, found) = (expected * size, data.len());
        if found != expected {
            return Err(Error::invalid(format!(
                "{kind} byte size mismatch for {place}. Expected {expected}, got {found}"
            )));
        }
        return Ok(());
    }
    let data = data.contiguous();
    let found = strings(&data, place).try_fold(0, |count, string| string.map(|_| count + 1))?;
    if found != expected {
        return Err(Error::invalid(format!(
            "expected {expected} string elements for inference {kind} '{name}', got {found}"
        )));
    }
    Ok(())
}

/// Refuses a tensor in shared memory.
pub(super) fn refuse_shared_memory(parameters: &Parameters, kind: &str, name: &str) -> Result<(), Error> {
    if parameters.contains_key("shared_memory_region") {
        let message =
            format!("shared memory is not supported, found 'shared_memory_region' of {kind} '{name}'");
        return Err(Error::new(Status::Unimplemented, message));
    }
    Ok(())
}

/// The elements of data of type BYTES.
pub(super) fn strings<'a>(
    mut data: &'a [u8],
    place: Place<'a>,
) -> impl Iterator<Item = Result<&'a [u8], Error>> + 'a {
    let Place { kind, name, .. } = place;
    std::iter::from_fn(move || {
        if data.is_empty() {
            return None;
        }
        let Some((length, rest)) = data.split_first_chunk() else {
            let found = data.len();
            data = &[];
            return Some(Err(Error::invalid(format!(
                "incomplete string length indicator for inference {kind} '{name}', expecting 4 bytes but only \
                 {found} bytes available"
            ))));
        };
        let length = u32::from_le_bytes(*length);
        let Some((string, rest)) = rest.split_at_checked(length as usize) else {
            data = &[];
            return Some(Err(Error::invalid(format!(
                "incomplete string data for inference {kind} '{name}', expecting string of length {length} but \
                 only {} bytes available",
                rest.len()
            ))));
        };
        data = rest;
        Some(Ok(string))
    })
}

/// Bytes in several pieces, such as the rows of a batch without copying.
#[derive(Clone, Debug, Default)]
pub struct Chunks(Vec<Bytes>);

impl Chunks {
    /// All bytes.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(Bytes::len).sum()
    }

    /// True if there is no byte.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(Bytes::is_empty)
    }

    /// The pieces.
    pub fn iter(&self) -> std::slice::Iter<'_, Bytes> {
        self.0.iter()
    }

    /// All bytes as one piece, copied if there are several.
    #[must_use]
    pub fn contiguous(&self) -> Bytes {
        match &self.0[..] {
            [] => Bytes::new(),
            [one] => one.clone(),
            many => {
                let mut all = BytesMut::with_capacity(self.len());
                for chunk in many {
                    all.extend_from_slice(chunk);
                }
                all.freeze()
            }
        }
    }
}

impl<'a> IntoIterator for &'a Chunks {
    type Item = &'a Bytes;
    type IntoIter = std::slice::Iter<'a, Bytes>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl From<Bytes> for Chunks {
    fn from(bytes: Bytes) -> Self {
        Self(vec![bytes])
    }
}

impl FromIterator<Bytes> for Chunks {
    fn from_iter<I: IntoIterator<Item = Bytes>>(chunks: I) -> Self {
        Self(chunks.into_iter().collect())
    }
}

/// Equal if all bytes are equal, however they are split.
impl PartialEq for Chunks {
    fn eq(&self, other: &Self) -> bool {
        self.contiguous() == other.contiguous()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { kind: "input", name: "x", model: "m" };

    fn checked(datatype: Datatype, shape: &[u64], data: &'static [u8]) -> String {
        match check(datatype, shape, &Bytes::from_static(data).into(), PLACE) {
            Ok(()) => String::new(),
            Err(error) => error.message,
        }
    }

    #[test]
    fn sizes_are_checked_against_shape_and_type() {
        assert_eq!(checked(Datatype::Fp32, &[1, 2], &[0; 8]), "");
        assert_eq!(checked(Datatype::Fp32, &[], &[0; 4]), "");
        assert_eq!(checked(Datatype::Int64, &[3, 0], &[]), "");
        assert_eq!(
            checked(Datatype::Fp16, &[2, 3], &[0; 11]),
            "input byte size mismatch for input 'x' for model 'm'. Expected 12, got 11"
        );
        for shape in [&[u64::MAX, 2][..], &[u64::MAX], &[0, u64::MAX], &[1 << 63], &[1 << 32, 1 << 31]] {
            let error = checked(Datatype::Int16, shape, &[]);
            assert!(error.contains("overflows") && error.contains(&format!("{shape:?}")), "{error}");
        }
    }

    #[test]
    fn strings_are_counted_and_must_be_whole() {
        assert_eq!(checked(Datatype::Bytes, &[2], b"\x02\0\0\0hi\0\0\0\0"), "");
        assert_eq!(checked(Datatype::Bytes, &[0], b""), "");
        assert_eq!(
            checked(Datatype::Bytes, &[3], b"\0\0\0\0\0\0\0\0"),
            "expected 3 string elements for inference input 'x', got 2"
        );
        assert_eq!(
            checked(Datatype::Bytes, &[1], b"\x05\0\0"),
            "incomplete string length indicator for inference input 'x', expecting 4 bytes but only 3 bytes \
             available"
        );
        assert_eq!(
            checked(Datatype::Bytes, &[1], b"\x05\0\0\0hi"),
            "incomplete string data for inference input 'x', expecting string of length 5 but only 2 bytes \
             available"
        );
    }

    #[test]
    fn pieces_compare_and_concatenate_by_their_bytes() {
        let cut: Chunks = [Bytes::from_static(b"ab"), Bytes::from_static(b"c")].into_iter().collect();
        assert_eq!((cut.len(), cut.is_empty()), (3, false));
        assert_eq!(cut, Chunks::from(Bytes::from_static(b"abc")));
        assert_eq!(Chunks::default().contiguous(), Bytes::new());
    }
}
