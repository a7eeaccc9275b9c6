//! Shape and dtype rules that several families share.

use wgrad_graph::{DType, Rule, Shape, TensorType};

/// Checks that every input has this element type.
pub(crate) fn check_dtype(dtype: DType, ins: &[TensorType]) -> Result<(), Rule> {
    for input in ins {
        if input.dtype != dtype {
            let hint = match (input.dtype, dtype) {
                (DType::F16, DType::F32) => "; f16 is a storage type, cast it to f32 to compute",
                (DType::U32, DType::F32) => "; cast u32 to f32 to compute",
                _ => "",
            };
            return Err(Rule::new(format!("the elements must be {dtype}, not {}{hint}", input.dtype)));
        }
    }
    Ok(())
}

/// Returns the sizes `[n, channels, height, width]` of a tensor of images.
pub(crate) fn image_sizes(shape: &Shape) -> Result<[usize; 4], Rule> {
    <[usize; 4]>::try_from(&shape[..])
        .map_err(|_| Rule::new(format!("images have 4 dimensions; {shape} has {}", shape.len())))
}

/// Returns the rule for an axis that is out of range.
pub(crate) fn no_axis(axis: usize, shape: &Shape) -> Rule {
    Rule::new(format!("{shape} has no axis {axis}"))
}
