//! Element types of weights files, and the conversion of their little-endian bytes to f32 or i64.

use half::{bf16, f16};

/// Element type of a tensor in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Element {
    F64,
    F32,
    F16,
    Bf16,
    I64,
    I32,
    I16,
    I8,
    U64,
    U32,
    U16,
    U8,
    Bool,
}

/// Elements of a tensor, converted to f32 or i64.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    F32(Vec<f32>),
    I64(Vec<i64>),
}

impl Element {
    /// Returns the number of bytes per element.
    pub fn size(self) -> usize {
        match self {
            Self::F64 | Self::I64 | Self::U64 => 8,
            Self::F32 | Self::I32 | Self::U32 => 4,
            Self::F16 | Self::Bf16 | Self::I16 | Self::U16 => 2,
            Self::I8 | Self::U8 | Self::Bool => 1,
        }
    }

    /// Converts bytes to values. Trailing bytes that do not fill an element are ignored.
    ///
    /// Returns `None` if an unsigned integer does not fit in an i64.
    pub fn decode(self, bytes: &[u8]) -> Option<Values> {
        Some(match self {
            Self::F64 => floats(bytes, |bytes| f64::from_le_bytes(bytes) as f32),
            Self::F32 => floats(bytes, f32::from_le_bytes),
            Self::F16 => floats(bytes, |bytes| f16::from_le_bytes(bytes).to_f32()),
            Self::Bf16 => floats(bytes, |bytes| bf16::from_le_bytes(bytes).to_f32()),
            Self::I64 => integers(bytes, i64::from_le_bytes),
            Self::I32 => integers(bytes, |bytes| i32::from_le_bytes(bytes).into()),
            Self::I16 => integers(bytes, |bytes| i16::from_le_bytes(bytes).into()),
            Self::I8 => integers(bytes, |bytes| i8::from_le_bytes(bytes).into()),
            Self::U64 => {
                let chunks = bytes.as_chunks::<8>().0.iter();
                let values = chunks.map(|chunk| u64::from_le_bytes(*chunk).try_into().ok());
                Values::I64(values.collect::<Option<_>>()?)
            }
            Self::U32 => integers(bytes, |bytes| u32::from_le_bytes(bytes).into()),
            Self::U16 => integers(bytes, |bytes| u16::from_le_bytes(bytes).into()),
            Self::U8 => integers(bytes, |bytes| u8::from_le_bytes(bytes).into()),
            Self::Bool => integers(bytes, |bytes: [u8; 1]| (bytes != [0]).into()),
        })
    }
}

fn floats<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> f32) -> Values {
    Values::F32(bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect())
}

fn integers<const N: usize>(bytes: &[u8], convert: impl Fn([u8; N]) -> i64) -> Values {
    Values::I64(bytes.as_chunks::<N>().0.iter().map(|chunk| convert(*chunk)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_every_width_become_i64() {
        let bytes = (-2i64).to_le_bytes();
        let cases = [
            (Element::I64, vec![-2]),
            (Element::I32, vec![-2, -1]),
            (Element::I16, vec![-2, -1, -1, -1]),
            (Element::I8, vec![-2, -1, -1, -1, -1, -1, -1, -1]),
            (Element::U32, vec![0xffff_fffe, 0xffff_ffff]),
            (Element::U16, vec![0xfffe, 0xffff, 0xffff, 0xffff]),
            (Element::U8, vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]),
            (Element::Bool, vec![1; 8]),
        ];
        for (element, values) in cases {
            assert_eq!(element.size() * values.len(), 8, "{element:?}");
            assert_eq!(element.decode(&bytes), Some(Values::I64(values)), "{element:?}");
        }
        assert_eq!(Element::U64.decode(&bytes), None);
        assert_eq!(Element::U64.decode(&7u64.to_le_bytes()), Some(Values::I64(vec![7])));
    }

    #[test]
    fn floats_become_f32() {
        let decode = |element: Element, bytes: &[u8]| element.decode(bytes);
        assert_eq!(decode(Element::F64, &1e300f64.to_le_bytes()), Some(Values::F32(vec![f32::INFINITY])));
        assert_eq!(decode(Element::F16, &[0x00, 0x3c]), Some(Values::F32(vec![1.0])));
        assert_eq!(decode(Element::Bf16, &[0x80, 0x3f]), Some(Values::F32(vec![1.0])));
    }
}
