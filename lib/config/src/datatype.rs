//! Element types.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use parm::Dtype;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The element type of a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the types
pub enum Datatype {
    Bool,
    Int8,
    Int16,
    Int32,
    Int64,
    Uint8,
    Uint16,
    Uint32,
    Uint64,
    Fp16,
    Bf16,
    Fp32,
    Fp64,
    /// Strings of bytes; in data each one is its length as a little-endian u32, then itself.
    Bytes,
}

impl Datatype {
    /// All element types, for tables and tests.
    pub const ALL: [Self; 14] = [
        Self::Bool,
        Self::Int8,
        Self::Int16,
        Self::Int32,
        Self::Int64,
        Self::Uint8,
        Self::Uint16,
        Self::Uint32,
        Self::Uint64,
        Self::Fp16,
        Self::Bf16,
        Self::Fp32,
        Self::Fp64,
        Self::Bytes,
    ];

    /// Its name in the protocol, as `FP32`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "BOOL",
            Self::Int8 => "INT8",
            Self::Int16 => "INT16",
            Self::Int32 => "INT32",
            Self::Int64 => "INT64",
            Self::Uint8 => "UINT8",
            Self::Uint16 => "UINT16",
            Self::Uint32 => "UINT32",
            Self::Uint64 => "UINT64",
            Self::Fp16 => "FP16",
            Self::Bf16 => "BF16",
            Self::Fp32 => "FP32",
            Self::Fp64 => "FP64",
            Self::Bytes => "BYTES",
        }
    }

    /// Bytes of one element; none for [`Datatype::Bytes`], whose elements vary in size.
    #[must_use]
    pub fn size(self) -> Option<usize> {
        match self {
            Self::Bf16 => Some(2),
            Self::Bytes => None,
            _ => self.dtype().map(Dtype::size),
        }
    }

    /// The same element type of npy streams; none for BF16 and BYTES.
    #[must_use]
    pub fn dtype(self) -> Option<Dtype> {
        Some(match self {
            Self::Bool => Dtype::Bool,
            Self::Int8 => Dtype::I8,
            Self::Int16 => Dtype::I16,
            Self::Int32 => Dtype::I32,
            Self::Int64 => Dtype::I64,
            Self::Uint8 => Dtype::U8,
            Self::Uint16 => Dtype::U16,
            Self::Uint32 => Dtype::U32,
            Self::Uint64 => Dtype::U64,
            Self::Fp16 => Dtype::F16,
            Self::Fp32 => Dtype::F32,
            Self::Fp64 => Dtype::F64,
            Self::Bf16 | Self::Bytes => return None,
        })
    }
}

impl From<Dtype> for Datatype {
    fn from(dtype: Dtype) -> Self {
        match dtype {
            Dtype::Bool => Self::Bool,
            Dtype::I8 => Self::Int8,
            Dtype::I16 => Self::Int16,
            Dtype::I32 => Self::Int32,
            Dtype::I64 => Self::Int64,
            Dtype::U8 => Self::Uint8,
            Dtype::U16 => Self::Uint16,
            Dtype::U32 => Self::Uint32,
            Dtype::U64 => Self::Uint64,
            Dtype::F16 => Self::Fp16,
            Dtype::F32 => Self::Fp32,
            Dtype::F64 => Self::Fp64,
        }
    }
}

impl fmt::Display for Datatype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Datatype {
    type Err = UnknownDatatype;

    fn from_str(name: &str) -> Result<Self, UnknownDatatype> {
        let named = Self::ALL.into_iter().find(|datatype| datatype.name() == name);
        named.ok_or_else(|| UnknownDatatype(name.to_owned()))
    }
}

/// An unknown name of an element type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "found datatype '{0}', expected BOOL, INT8 to INT64, UINT8 to UINT64, FP16, BF16, FP32, FP64 or BYTES"
)]
pub struct UnknownDatatype(pub String);

/// As its name.
impl Serialize for Datatype {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

/// As its name.
impl<'de> Deserialize<'de> for Datatype {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_dtypes_convert_both_ways() {
        for datatype in Datatype::ALL {
            assert_eq!(datatype.name().parse::<Datatype>().unwrap(), datatype);
            if let Some(dtype) = datatype.dtype() {
                assert_eq!((Datatype::from(dtype), datatype.size()), (datatype, Some(dtype.size())));
            }
        }
        let error = "FP8".parse::<Datatype>().unwrap_err();
        assert!(error.to_string().contains("found datatype 'FP8'"), "{error}");
    }
}
