//! The WGSL of wgrad, one folder a family
