//! Element types of files, and the conversion of their little-endian bytes to f32 or i64.

use half::{bf16, f16};

/// A supported element type.
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

/// Values converted to f32 or i64.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Numbers {
    Floats(Vec<f32>),
    Integers(Vec<i64>),
}

impl Element {
    /// Returns the bytes per element.
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
    pub fn decode(self, bytes: &[u8]) -> Option<Numbers> {
        Some(match self {
            Self::F64 => floats(bytes, |word| f64::from_le_bytes(word) as f32),
            Self::F32 => floats(bytes, f32::from_le_bytes),
            Self::F16 => floats(bytes, |word| f16::from_le_bytes(word).to_f32()),
            Self::Bf16 => floats(bytes, |word| bf16::from_le_bytes(word).to_f32()),
            Self::I64 => integers(bytes, i64::from_le_bytes),
            Self::I32 => integers(bytes, |word| i32::from_le_bytes(word).into()),
            Self::I16 => integers(bytes, |word| i16::from_le_bytes(word).into()),
            Self::I8 => integers(bytes, |word| i8::from_le_bytes(word).into()),
            Self::U64 => {
                let words = bytes.as_chunks::<8>().0.iter();
                let values = words.map(|word| u64::from_le_bytes(*word).try_into().ok());
                Numbers::Integers(values.collect::<Option<_>>()?)
            }
            Self::U32 => integers(bytes, |word| u32::from_le_bytes(word).into()),
            Self::U16 => integers(bytes, |word| u16::from_le_bytes(word).into()),
            Self::U8 => integers(bytes, |word| u8::from_le_bytes(word).into()),
            Self::Bool => integers(bytes, |word: [u8; 1]| (word != [0]).into()),
        })
    }
}

fn floats<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> f32) -> Numbers {
    Numbers::Floats(bytes.as_chunks::<N>().0.iter().map(|word| number(*word)).collect())
}

fn integers<const N: usize>(bytes: &[u8], number: impl Fn([u8; N]) -> i64) -> Numbers {
    Numbers::Integers(bytes.as_chunks::<N>().0.iter().map(|word| number(*word)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_and_sign_is_read() {
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
            assert_eq!(element.decode(&bytes), Some(Numbers::Integers(values)), "{element:?}");
        }
        assert_eq!(Element::U64.decode(&bytes), None);
        assert_eq!(Element::U64.decode(&7u64.to_le_bytes()), Some(Numbers::Integers(vec![7])));
    }

    #[test]
    fn floats_become_f32() {
        let of = |element: Element, bytes: &[u8]| element.decode(bytes);
        assert_eq!(of(Element::F64, &1e300f64.to_le_bytes()), Some(Numbers::Floats(vec![f32::INFINITY])));
        assert_eq!(of(Element::F16, &[0x00, 0x3c]), Some(Numbers::Floats(vec![1.0])));
        assert_eq!(of(Element::Bf16, &[0x80, 0x3f]), Some(Numbers::Floats(vec![1.0])));
    }
}
