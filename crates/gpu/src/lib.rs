//! Runs programs on any GPU through wgpu
