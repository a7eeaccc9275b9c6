//! Python names that a pickle of tensors needs. All other names are rejected, because a pickle that may call any
//! function can run arbitrary code.

use crate::element::Element;

/// A supported Python name. No Python code runs; the interpreter implements the effect of each name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`, the type of a state dict.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`: a tensor over a storage.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`: a tensor that is a parameter.
    RebuildParameter,
    /// `torch.FloatStorage` and similar: the type of a storage.
    Storage(Element),
    /// `torch.Size`, a tuple of integers whose value is ignored.
    Size,
    /// `torch.device`, a value that is ignored.
    Device,
    /// `torch.float32` and similar dtypes, values that are ignored.
    DType,
}

/// Returns the supported name, or `None` if the name is not supported.
pub(super) fn find(module: &str, name: &str) -> Option<Global> {
    Some(match (module, name) {
        ("collections", "OrderedDict") => Global::OrderedDict,
        ("torch._utils", "_rebuild_tensor_v2") => Global::RebuildTensor,
        ("torch._utils", "_rebuild_parameter") => Global::RebuildParameter,
        ("torch", "DoubleStorage") => Global::Storage(Element::F64),
        ("torch", "FloatStorage") => Global::Storage(Element::F32),
        ("torch", "HalfStorage") => Global::Storage(Element::F16),
        ("torch", "BFloat16Storage") => Global::Storage(Element::Bf16),
        ("torch", "LongStorage") => Global::Storage(Element::I64),
        ("torch", "IntStorage") => Global::Storage(Element::I32),
        ("torch", "ShortStorage") => Global::Storage(Element::I16),
        ("torch", "CharStorage") => Global::Storage(Element::I8),
        ("torch", "ByteStorage") => Global::Storage(Element::U8),
        ("torch", "BoolStorage") => Global::Storage(Element::Bool),
        ("torch", "Size") => Global::Size,
        ("torch", "device") => Global::Device,
        (
            "torch",
            "float64" | "float32" | "float16" | "bfloat16" | "int64" | "int32" | "int16" | "int8" | "uint8"
            | "bool",
        ) => Global::DType,
        _ => return None,
    })
}

/// Returns why a name is rejected and how to fix the file.
pub(super) fn rejection_reason(module: &str, name: &str) -> &'static str {
    let root = module.split('.').next().unwrap_or_default();
    match (root, name) {
        ("__torch__", _) => {
            "the file is a TorchScript archive; load it with `torch.jit.load` and save its `state_dict()`"
        }
        ("torch", name) if name.ends_with("Storage") || name.starts_with("_rebuild") => {
            "tensors of this type or layout are not supported; convert them to dense f32, f16 or bf16 tensors"
        }
        ("torch" | "torchvision", _) => {
            "the file holds Python objects such as a whole model; save `model.state_dict()` instead of the model"
        }
        (
            "os" | "posix" | "nt" | "subprocess" | "sys" | "builtins" | "__builtin__" | "runpy" | "socket",
            _,
        ) => {
            "no tensor needs it, and unpickling it in Python may run a program; do not open this file with pickle"
        }
        _ => "only names that tensors need are supported, and no code is run; save the state dict alone",
    }
}
