//! Element types of tensor streams, and their conversion to the floats that codes compute with.

use std::fmt;

use half::f16;

/// The element type of an `.npy` item: the ones that hold queries, predictions, labels or masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)] // the names are the types
pub enum Dtype {
    Bool,
    I8,
    I16,
    I32,
    I64,
    U8,
    U16,
    U32,
    U64,
    F16,
    F32,
    F64,
}

/// The order of the bytes of one element in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    const NATIVE: Self = if cfg!(target_endian = "little") { Self::Little } else { Self::Big };
}

impl Dtype {
    /// All element types, for tables and tests.
    pub const ALL: [Self; 12] = [
        Self::Bool,
        Self::I8,
        Self::I16,
        Self::I32,
        Self::I64,
        Self::U8,
        Self::U16,
        Self::U32,
        Self::U64,
        Self::F16,
        Self::F32,
        Self::F64,
    ];

    /// Bytes of one element.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::Bool | Self::I8 | Self::U8 => 1,
            Self::I16 | Self::U16 | Self::F16 => 2,
            Self::I32 | Self::U32 | Self::F32 => 4,
            Self::I64 | Self::U64 | Self::F64 => 8,
        }
    }

    /// The short name that `NumPy` and this project's messages use: `f4`, `u1`, `b1`, …
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Bool => "b1",
            Self::I8 => "i1",
            Self::I16 => "i2",
            Self::I32 => "i4",
            Self::I64 => "i8",
            Self::U8 => "u1",
            Self::U16 => "u2",
            Self::U32 => "u4",
            Self::U64 => "u8",
            Self::F16 => "f2",
            Self::F32 => "f4",
            Self::F64 => "f8",
        }
    }

    /// True for `f2`, `f4` and `f8`.
    #[must_use]
    pub fn is_float(self) -> bool {
        matches!(self, Self::F16 | Self::F32 | Self::F64)
    }

    /// Little-endian elements of an integer type or of `b1`, exactly; none of a float type.
    #[must_use]
    pub fn integers(self, bytes: &[u8]) -> Option<impl Iterator<Item = i128>> {
        if self.is_float() {
            return None;
        }
        let signed = matches!(self, Self::I8 | Self::I16 | Self::I32 | Self::I64);
        let integer = move |bytes: &[u8]| {
            let negative = signed && bytes.last().is_some_and(|&byte| byte >= 0x80);
            let mut wide = [if negative { 0xff } else { 0 }; 16];
            wide[..bytes.len()].copy_from_slice(bytes);
            i128::from_le_bytes(wide)
        };
        Some(bytes.chunks_exact(self.size()).map(integer))
    }

    /// The float type that a code computes and writes for queries of this type: `f8` for `f8`,
    /// `f4` for all else.
    #[must_use]
    pub fn encoded(self) -> Self {
        if self == Self::F64 { Self::F64 } else { Self::F32 }
    }

    /// The little-endian type descriptor that is written to a header, as `<f4`.
    #[must_use]
    pub fn descr(self) -> String {
        let order = if self.size() == 1 { '|' } else { '<' };
        format!("{order}{}", self.name())
    }

    /// Reads a type descriptor as `NumPy` does on 64-bit Unix: a name as `float32`; or an optional byte
    /// order (`<`, `>`, `=`, `|`) and a short name, as `f4`, or a letter, as `f`.
    ///
    /// # Errors
    /// What the descriptor stands for, when it is not an element type of a tensor stream.
    pub fn parse(descr: &str) -> Result<(Self, ByteOrder), &'static str> {
        if let Some(dtype) = Self::long_name(descr) {
            return Ok((dtype, ByteOrder::NATIVE));
        }
        let (order, name) = match descr.split_at_checked(1) {
            Some((order @ ("<" | ">" | "=" | "|"), name)) => (order, name),
            _ => ("=", descr),
        };
        let known = Self::letter(name).or_else(|| Self::ALL.into_iter().find(|dtype| dtype.name() == name));
        let dtype = known.ok_or_else(|| match name.chars().next() {
            Some('O') => "Python objects",
            Some('c') => "complex numbers",
            Some('S' | 'U' | 'a') => "strings",
            Some('V') => "raw or structured records",
            Some('M' | 'm') => "dates or times",
            Some('f') => "a float of unusual width",
            _ => "an unknown type",
        })?;
        match order {
            ">" => Ok((dtype, ByteOrder::Big)),
            "<" => Ok((dtype, ByteOrder::Little)),
            _ => Ok((dtype, ByteOrder::NATIVE)),
        }
    }

    /// The type that `NumPy` knows by this letter.
    fn letter(letter: &str) -> Option<Self> {
        Some(match letter {
            "?" => Self::Bool,
            "b" => Self::I8,
            "B" => Self::U8,
            "h" => Self::I16,
            "H" => Self::U16,
            "i" => Self::I32,
            "I" => Self::U32,
            "l" | "q" | "p" | "n" => Self::I64,
            "L" | "Q" | "P" | "N" => Self::U64,
            "e" => Self::F16,
            "f" => Self::F32,
            "d" => Self::F64,
            _ => return None,
        })
    }

    /// The type that `NumPy` knows by this name, which no byte order stands before.
    fn long_name(name: &str) -> Option<Self> {
        Some(match name {
            "bool" | "bool_" => Self::Bool,
            "int8" | "byte" => Self::I8,
            "int16" | "short" => Self::I16,
            "int32" | "intc" => Self::I32,
            "int64" | "int" | "int_" | "intp" | "long" | "longlong" => Self::I64,
            "uint8" | "ubyte" => Self::U8,
            "uint16" | "ushort" => Self::U16,
            "uint32" | "uintc" => Self::U32,
            "uint64" | "uint" | "uintp" | "ulong" | "ulonglong" => Self::U64,
            "float16" | "half" => Self::F16,
            "float32" | "single" => Self::F32,
            "float64" | "double" | "float" => Self::F64,
            _ => return None,
        })
    }
}

impl fmt::Display for Dtype {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

mod private {
    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f64 {}
}

/// A float that rows are computed in: `f32`, or `f64` for `f8` streams.
pub trait Float:
    bytemuck::Pod
    + private::Sealed
    + PartialOrd
    + fmt::Debug
    + Send
    + Sync
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::AddAssign
{
    /// The element type that holds this float.
    const DTYPE: Dtype;

    /// The nearest value of this type.
    fn from_f64(value: f64) -> Self;

    /// This value, exactly.
    fn to_f64(self) -> f64;

    /// The values of this type, of the same values in both.
    fn pick<'a>(single: &'a [f32], double: &'a [f64]) -> &'a [Self];

    /// Converts little-endian elements of `dtype` to floats; as many as `out` has room for.
    fn decode(dtype: Dtype, bytes: &[u8], out: &mut [Self]);

    /// Converts floats to little-endian elements of `dtype`, appended to `out`. Only float types
    /// are ever written from floats; any other is a bug of the caller.
    fn encode(values: &[Self], dtype: Dtype, out: &mut Vec<u8>);

    /// The matrix product: `left` is `[rows, columns]`, `right` `[columns, width]`, `out`
    /// `[rows, width]`, all of them in row order.
    ///
    /// # Panics
    /// If the sizes do not fit each other.
    fn multiply(left: &[Self], right: &[Self], width: usize, out: &mut [Self]);
}

macro_rules! float {
    ($float:ty, $dtype:expr, $from_f16:path, $gemm:path, |$single:ident, $double:ident| $picked:ident) => {
        impl Float for $float {
            const DTYPE: Dtype = $dtype;

            fn from_f64(value: f64) -> Self {
                value as Self
            }

            fn to_f64(self) -> f64 {
                f64::from(self)
            }

            fn pick<'a>($single: &'a [f32], $double: &'a [f64]) -> &'a [Self] {
                $picked
            }

            #[allow(clippy::cast_lossless)] // one cast for twelve types
            fn decode(dtype: Dtype, bytes: &[u8], out: &mut [Self]) {
                macro_rules! cast {
                    ($element:ty) => {
                        for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                            *out = <$element>::from_le_bytes(*bytes) as Self;
                        }
                    };
                }
                match dtype {
                    Dtype::Bool => {
                        for (out, byte) in out.iter_mut().zip(bytes) {
                            *out = Self::from(u8::from(*byte != 0));
                        }
                    }
                    Dtype::I8 => cast!(i8),
                    Dtype::I16 => cast!(i16),
                    Dtype::I32 => cast!(i32),
                    Dtype::I64 => cast!(i64),
                    Dtype::U8 => cast!(u8),
                    Dtype::U16 => cast!(u16),
                    Dtype::U32 => cast!(u32),
                    Dtype::U64 => cast!(u64),
                    Dtype::F16 => {
                        for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                            *out = $from_f16(f16::from_le_bytes(*bytes));
                        }
                    }
                    Dtype::F32 => cast!(f32),
                    Dtype::F64 => cast!(f64),
                }
            }

            #[allow(clippy::cast_lossless)]
            fn encode(values: &[Self], dtype: Dtype, out: &mut Vec<u8>) {
                match dtype {
                    Dtype::F16 => out
                        .extend(values.iter().flat_map(|value| f16::from_f64(value.to_f64()).to_le_bytes())),
                    Dtype::F32 => {
                        out.extend(values.iter().flat_map(|value| (*value as f32).to_le_bytes()));
                    }
                    Dtype::F64 => {
                        out.extend(values.iter().flat_map(|value| (*value as f64).to_le_bytes()));
                    }
                    other => unreachable!("floats are written as floats, not as {other}"),
                }
            }

            fn multiply(left: &[Self], right: &[Self], width: usize, out: &mut [Self]) {
                let (columns, rows) = (right.len() / width.max(1), out.len() / width.max(1));
                assert_eq!(left.len(), rows * columns);
                assert_eq!((right.len(), out.len()), (columns * width, rows * width));
                let (step, wide) = (columns as isize, width as isize);
                // SAFETY: the lengths of all three were checked, and `out` overlaps neither, being
                // borrowed alone. Ours would be half as fast (`cargo bench --bench codes`).
                unsafe {
                    $gemm(
                        rows,
                        columns,
                        width,
                        1.0,
                        left.as_ptr(),
                        step,
                        1,
                        right.as_ptr(),
                        wide,
                        1,
                        0.0,
                        out.as_mut_ptr(),
                        wide,
                        1,
                    );
                }
            }
        }
    };
}

float!(f32, Dtype::F32, f16::to_f32, matrixmultiply::sgemm, |single, _double| single);
float!(f64, Dtype::F64, f16::to_f64, matrixmultiply::dgemm, |_single, double| double);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_round_trip() {
        for dtype in Dtype::ALL {
            assert_eq!(Dtype::parse(&dtype.descr()), Ok((dtype, ByteOrder::Little)));
            let big = format!(">{}", dtype.name());
            assert_eq!(Dtype::parse(&big), Ok((dtype, ByteOrder::Big)));
        }
        assert_eq!(Dtype::parse("?"), Ok((Dtype::Bool, ByteOrder::NATIVE)));
        assert_eq!(Dtype::parse("=f4"), Ok((Dtype::F32, ByteOrder::NATIVE)));
        assert_eq!(Dtype::parse("|f4"), Ok((Dtype::F32, ByteOrder::NATIVE)));
        assert_eq!(Dtype::parse(">l"), Ok((Dtype::I64, ByteOrder::Big)));
    }

    #[test]
    fn names_are_read_as_numpy_reads_them() {
        // What numpy.dtype(NAME).str says, without the byte order.
        for (names, expected) in [
            ("? bool bool_", "b1"),
            ("b i1 int8 byte", "i1"),
            ("B u1 uint8 ubyte", "u1"),
            ("h int16 short", "i2"),
            ("H uint16 ushort", "u2"),
            ("i int32 intc", "i4"),
            ("I uint32 uintc", "u4"),
            ("l q p n int64 int int_ intp long longlong", "i8"),
            ("L Q P N uint64 uint uintp ulong ulonglong", "u8"),
            ("e float16 half", "f2"),
            ("f float32 single", "f4"),
            ("d float64 double float", "f8"),
        ] {
            for name in names.split(' ') {
                assert_eq!(Dtype::parse(name).map(|(dtype, _)| dtype.name()), Ok(expected), "{name}");
            }
        }
    }

    #[test]
    fn refused_descriptors_say_what_they_are() {
        for (descr, what) in [
            ("|O", "Python objects"),
            ("<c8", "complex numbers"),
            ("<U4", "strings"),
            ("|S4", "strings"),
            ("|V8", "raw or structured records"),
            ("<M8[ns]", "dates or times"),
            ("<f16", "a float of unusual width"),
            (">float32", "a float of unusual width"),
            ("Float32", "an unknown type"),
            ("", "an unknown type"),
            ("é", "an unknown type"),
        ] {
            assert_eq!(Dtype::parse(descr), Err(what), "{descr}");
        }
    }

    #[test]
    fn every_type_converts_to_floats() {
        let cases: [(Dtype, &[u8], f64); 12] = [
            (Dtype::Bool, &[7], 1.0),
            (Dtype::I8, &[0xff], -1.0),
            (Dtype::I16, &[0xfe, 0xff], -2.0),
            (Dtype::I32, &[0xfd, 0xff, 0xff, 0xff], -3.0),
            (Dtype::I64, &[0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], -4.0),
            (Dtype::U8, &[200], 200.0),
            (Dtype::U16, &[0, 1], 256.0),
            (Dtype::U32, &[0, 0, 1, 0], 65536.0),
            (Dtype::U64, &[0, 0, 0, 0, 1, 0, 0, 0], 4_294_967_296.0),
            (Dtype::F16, &[0x00, 0x3e], 1.5),
            (Dtype::F32, &[0, 0, 0x20, 0x40], 2.5),
            (Dtype::F64, &[0, 0, 0, 0, 0, 0, 0x0c, 0x40], 3.5),
        ];
        for (dtype, bytes, expected) in cases {
            let (mut single, mut double) = ([0.0_f32], [0.0_f64]);
            f32::decode(dtype, bytes, &mut single);
            f64::decode(dtype, bytes, &mut double);
            assert_eq!((f64::from(single[0]), double[0]), (expected, expected), "{dtype}");
            let integers = dtype.integers(bytes).map(Iterator::collect::<Vec<_>>);
            let whole = if dtype == Dtype::Bool { 7 } else { expected as i128 };
            assert_eq!(integers, (!dtype.is_float()).then(|| vec![whole]), "{dtype}");
        }
    }

    #[test]
    fn every_half_survives_a_trip_through_single() {
        for bits in 0..=u16::MAX {
            let half = f16::from_bits(bits);
            let mut single = [0.0_f32];
            f32::decode(Dtype::F16, &bits.to_le_bytes(), &mut single);
            let mut back = Vec::new();
            f32::encode(&single, Dtype::F16, &mut back);
            let back = f16::from_le_bytes([back[0], back[1]]);
            assert!(back == half || (back.is_nan() && half.is_nan()), "{bits:#06x}");
        }
    }
}
