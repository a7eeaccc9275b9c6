//! A tensor of a pickle: a strided view of a storage. All fields come from the file and are checked here.

use crate::element::Element;
use crate::tensor::element_count;
use std::borrow::Cow;

/// An archive entry that holds the elements of one or more tensors.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    pub element: Element,
    /// Last part of the name of the archive entry, `data/KEY`.
    pub key: &'a str,
    /// Number of elements.
    pub len: usize,
}

/// A strided view: element `[i, j, …]` is element `offset + i * strides[0] + j * strides[1] + …` of the storage.
#[derive(Debug, Clone)]
pub(super) struct View<'a> {
    pub storage: Storage<'a>,
    pub offset: usize,
    pub shape: Vec<usize>,
    pub strides: Vec<usize>,
}

impl View<'_> {
    /// Returns the bytes of the tensor in row-major order, given the bytes of its storage.
    ///
    /// Subtracts the number of elements from `budget`, the number of elements that may still be read.
    ///
    /// # Errors
    /// Returns an error if the storage has the wrong size, if shape, strides or bounds are invalid, or if the tensor
    /// has more elements than `budget`. The text of the error continues a message that starts with the name of the
    /// tensor.
    pub fn bytes<'b>(&self, storage: &'b [u8], budget: &mut usize) -> Result<Cow<'b, [u8]>, String> {
        let size = self.storage.element.size();
        if self.storage.len.checked_mul(size) != Some(storage.len()) {
            return Err(format!(
                "has a storage of {} elements of {size} bytes, but the entry `data/{}` has {} bytes",
                self.storage.len,
                self.storage.key,
                storage.len()
            ));
        }
        let (shape, strides) = (&self.shape, &self.strides);
        if shape.len() != strides.len() {
            return Err(format!("has {} sizes and {} strides", shape.len(), strides.len()));
        }
        let len =
            element_count(shape).ok_or_else(|| format!("has the shape {shape:?}, which is too large"))?;
        if len == 0 {
            return Ok(Cow::Borrowed(&[]));
        }
        *budget = budget.checked_sub(len).ok_or_else(|| {
            format!(
                "has {len} elements; together with the previous tensors, this is more than the file can hold"
            )
        })?;
        let last = shape
            .iter()
            .zip(strides)
            .try_fold(self.offset, |last, (size, stride)| last.checked_add((size - 1).checked_mul(*stride)?));
        if last.is_none_or(|last| last >= self.storage.len) {
            return Err(format!(
                "reaches beyond its storage of {} elements: offset {}, shape {shape:?}, strides {strides:?}",
                self.storage.len, self.offset
            ));
        }
        if self.is_contiguous() {
            return Ok(Cow::Borrowed(&storage[self.offset * size..][..len * size]));
        }
        let mut bytes = Vec::with_capacity(len * size);
        self.gather(storage, &mut bytes);
        Ok(Cow::Owned(bytes))
    }

    /// Whether the elements are contiguous. The stride of a dimension of size 1 does not matter.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(size, stride)| {
            let fits = *size == 1 || *stride == expected;
            expected *= size;
            fits
        })
    }

    /// Appends the elements in row-major order. Sizes must not be 0, and all indices must be in bounds.
    fn gather(&self, storage: &[u8], bytes: &mut Vec<u8>) {
        let size = self.storage.element.size();
        let mut indices = vec![0; self.shape.len()];
        let mut at = self.offset;
        loop {
            bytes.extend_from_slice(&storage[at * size..][..size]);
            let mut dimension = self.shape.len();
            loop {
                if dimension == 0 {
                    return;
                }
                dimension -= 1;
                indices[dimension] += 1;
                if indices[dimension] < self.shape[dimension] {
                    at += self.strides[dimension];
                    break;
                }
                at -= (self.shape[dimension] - 1) * self.strides[dimension];
                indices[dimension] = 0;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORAGE: [u8; 12] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11];

    fn bytes(offset: usize, shape: &[usize], strides: &[usize]) -> Result<Vec<u8>, String> {
        let storage = Storage { element: Element::U8, key: "0", len: STORAGE.len() };
        let view = View { storage, offset, shape: shape.to_vec(), strides: strides.to_vec() };
        view.bytes(&STORAGE, &mut 1000).map(Cow::into_owned)
    }

    #[test]
    fn strides_are_followed() {
        assert_eq!(bytes(2, &[2, 3], &[3, 1]).unwrap(), [2, 3, 4, 5, 6, 7]);
        assert_eq!(bytes(0, &[3, 2], &[1, 3]).unwrap(), [0, 3, 1, 4, 2, 5]);
        assert_eq!(bytes(1, &[2, 1, 2], &[5, 99, 3]).unwrap(), [1, 4, 6, 9]);
        assert_eq!(bytes(11, &[], &[]).unwrap(), [11]);
        assert_eq!(bytes(7, &[3], &[0]).unwrap(), [7, 7, 7]);
        assert_eq!(bytes(99, &[0, 4], &[4, 1]).unwrap(), [0u8; 0]);
    }

    #[test]
    fn views_outside_their_storage_are_rejected() {
        let faults: [(usize, &[usize], &[usize], &str); 8] = [
            (12, &[], &[], "beyond its storage of 12"),
            (11, &[2], &[1], "beyond"),
            (0, &[3, 5], &[4, 1], "beyond"),
            (0, &[2], &[usize::MAX], "beyond"),
            (usize::MAX, &[2], &[1], "beyond"),
            (0, &[usize::MAX, 3], &[0, 0], "too large"),
            (0, &[1 << 40], &[0], "more than the file can hold"),
            (0, &[2, 2], &[1], "2 sizes and 1 strides"),
        ];
        for (offset, shape, strides, message) in faults {
            let error = bytes(offset, shape, strides).unwrap_err();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn the_size_of_a_storage_must_match_its_entry() {
        for len in [11, 13, usize::MAX] {
            let storage = Storage { element: Element::F32, key: "7", len };
            let view = View { storage, offset: 0, shape: vec![1], strides: vec![1] };
            let error = view.bytes(&STORAGE, &mut 1000).unwrap_err();
            assert!(error.contains("`data/7` has 12 bytes"), "{error}");
        }
    }
}
