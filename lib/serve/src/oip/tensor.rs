//! Tensors.

use bytes::{Bytes, BytesMut};

use super::{Datatype, Parameters};

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

/// Bytes in pieces, in order: the rows of a batch, each where it came from.
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

    /// One piece, copied together if there are several.
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

/// Equal if the bytes are, however they are cut.
impl PartialEq for Chunks {
    fn eq(&self, other: &Self) -> bool {
        self.contiguous() == other.contiguous()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_what_they_hold() {
        let cut: Chunks = [Bytes::from_static(b"ab"), Bytes::from_static(b"c")].into_iter().collect();
        assert_eq!((cut.len(), cut.is_empty()), (3, false));
        assert_eq!(cut, Chunks::from(Bytes::from_static(b"abc")));
        assert_eq!(Chunks::default().contiguous(), Bytes::new());
    }
}
