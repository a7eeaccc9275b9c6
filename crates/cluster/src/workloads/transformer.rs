//! Transformer with 1.3 billion parameters.

use super::{ParameterBytes, Workload, backward_layers};
use serde::{Deserialize, Serialize};

/// Shape of a decoder-only transformer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transformer {
    /// Number of transformer blocks, each with attention and an MLP.
    pub layers: u64,
    /// Number of elements in the activation vector of a token.
    pub hidden: u64,
    /// Number of attention heads.
    pub heads: u64,
    /// Number of tokens per sample.
    pub tokens: u64,
    /// Number of tokens in the vocabulary.
    pub vocabulary: u64,
}

/// Bytes per parameter for Adam in mixed precision.
///
/// Weights and gradients are f16; Adam stores a copy of the weights and two moments in f32 (Micikevicius et al.
/// 2018). The sum of 16 bytes agrees with Rajbhandari et al. 2020.
const BYTES: ParameterBytes = ParameterBytes { weight: 2.0, gradient: 2.0, state: 12.0 };

/// GPT-3 XL (Brown et al. 2020, table 2.1): 24 blocks of width 2048, 2048 tokens, a batch of 1 million tokens.
///
/// The paper states 24 heads of width 128, which is inconsistent with the model width of 2048. 16 heads are used
/// instead.
///
/// Computed by hand for width h = 2048, s = 2048 tokens, L = 24 blocks and a vocabulary of V = 50257 tokens:
/// - parameters L·(12h² + 13h) + 2h + V·h + s·h = 24 · 50.358 M + 102.926 M + 4.194 M = 1.3157 billion;
/// - FLOPs per sample, forward and backward, 72·s·L·h²·(1 + s/6h + V/12hL) (Narayanan et al. 2021, without
///   recomputation) = 1.4843e13 · (1 + 0.16667 + 0.08521) = 1.8582e13;
/// - activations s·h·L·(34 + 5·heads·s/h) bytes (Korthikanti et al. 2022) minus the recomputed part of the attention:
///   s·h·L·34 = 3.42 GB.
pub(super) fn gpt3_xl() -> Workload {
    let shape = Transformer { layers: 24, hidden: 2048, heads: 16, tokens: 2048, vocabulary: 50257 };
    let Transformer { layers, hidden: h, tokens: s, vocabulary: v, .. } = shape;
    // The gradient of the embedding is finished last, because the logits use the same matrix.
    let mut forward = vec![("embedding".to_owned(), 0.0, v * h + s * h)];
    let square = (s * h * h) as f64;
    for block in 0..layers {
        let name = |part: &str| format!("block{block}.{part}");
        // Queries, keys and values. The attention scores and the weighted sums of values have no parameters; their
        // multiply-adds are included in the output projection.
        forward.push((name("qkv"), 3.0 * square, 3 * h * h + 5 * h));
        forward.push((name("out"), square + 2.0 * (s * s * h) as f64, h * h + h));
        forward.push((name("up"), 4.0 * square, 4 * h * h + 6 * h));
        forward.push((name("down"), 4.0 * square, 4 * h * h + h));
    }
    forward.push(("logits".to_owned(), (s * v * h) as f64, 2 * h));
    let macs: f64 = forward.iter().map(|(_, macs, _)| macs).sum();
    Workload {
        name: "transformer-1.3b".into(),
        description: "transformer with the shape of GPT-3 XL on 2048 tokens in f16, Adam in f32".into(),
        flops: 6.0 * macs,
        parameters: forward.iter().map(|(.., parameters)| parameters).sum(),
        bytes: BYTES,
        activation_bytes: 34.0 * (s * h * layers) as f64,
        batch: 8,
        global_batch: 512,
        layers: backward_layers(&forward, BYTES.gradient),
        transformer: Some(shape),
        measured: None,
    }
}
