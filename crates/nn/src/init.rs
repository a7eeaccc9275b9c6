//! Initialization of parameters.

use wgrad_graph::philox::Stream;
use wgrad_graph::{Shape, fnv1a};

/// Initialization of a parameter. For a weight `[out, in, …]`, fan-in is the product of all sizes except the first, and
/// fan-out is the product of all sizes except the second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All elements have this value.
    Constant(f32),
    /// Normal with standard deviation √(2 / fan-in), for layers before a ReLU (He et al. 2015).
    KaimingNormal,
    /// Uniform in ±√(gain² · 3 / fan-in). PyTorch's default for linear layers has gain² = 1/3, i.e. the bound is
    /// 1/√fan-in.
    KaimingUniform {
        /// Square of the gain.
        gain2: f32,
    },
    /// Uniform in ±√(6 / (fan-in + fan-out)) (Glorot and Bengio 2010).
    XavierUniform,
    /// Uniform between −bound and bound. Contains the bound.
    Uniform(f32),
    /// Normal with mean 0 and this standard deviation.
    Normal(f32),
    /// Normal with mean 0 and this standard deviation. Values beyond two standard deviations are drawn again.
    TruncatedNormal(f32),
}

impl Init {
    /// Fills `values` with the initial values of a parameter of shape `shape`. `name` determines the random stream.
    pub fn fill(self, values: &mut [f32], shape: &Shape, seed: u64, name: &str) {
        let mut stream = Stream::new(seed, fnv1a(name.as_bytes()));
        let out = shape.first().copied().unwrap_or(1) as f32;
        let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f32;
        let kernel = shape.iter().skip(2).product::<usize>().max(1) as f32;
        let uniform = |stream: &mut Stream, bound: f32| bound * (2.0 * stream.uniform() - 1.0);
        for value in values {
            *value = match self {
                Init::Constant(x) => x,
                Init::KaimingNormal => (2.0 / fan_in).sqrt() * stream.normal(),
                Init::KaimingUniform { gain2 } => uniform(&mut stream, (gain2 * 3.0 / fan_in).sqrt()),
                Init::XavierUniform => uniform(&mut stream, (6.0 / (fan_in + out * kernel)).sqrt()),
                Init::Uniform(bound) => uniform(&mut stream, bound),
                Init::Normal(std) => std * stream.normal(),
                Init::TruncatedNormal(std) => loop {
                    let x = stream.normal();
                    if x.abs() <= 2.0 {
                        break std * x;
                    }
                },
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(init: Init, shape: [usize; 2], name: &str) -> Vec<f32> {
        let mut values = vec![0.0; shape[0] * shape[1]];
        init.fill(&mut values, &shape.into(), 1, name);
        values
    }

    fn standard_deviation(values: &[f32]) -> f32 {
        (values.iter().map(|x| x * x).sum::<f32>() / values.len() as f32).sqrt()
    }

    #[test]
    fn standard_deviations_match_the_formulas() {
        let shape = [200, 50];
        for (init, expected) in [
            (Init::KaimingNormal, (2.0f32 / 50.0).sqrt()),
            (Init::KaimingUniform { gain2: 1.0 / 3.0 }, (1.0f32 / 50.0 / 3.0).sqrt()),
            (Init::XavierUniform, (2.0f32 / 250.0).sqrt()),
            (Init::Normal(0.3), 0.3),
            (Init::TruncatedNormal(1.0), 0.8796),
        ] {
            let found = standard_deviation(&filled(init, shape, "weight"));
            assert!((found / expected - 1.0).abs() < 0.03, "{init:?}: {found} instead of {expected}");
        }
        assert!(filled(Init::TruncatedNormal(0.5), shape, "w").iter().all(|x| x.abs() <= 1.0));
    }

    #[test]
    fn parameters_of_different_names_use_different_streams() {
        assert_eq!(filled(Init::Normal(1.0), [3, 3], "a"), filled(Init::Normal(1.0), [3, 3], "a"));
        assert_ne!(filled(Init::Normal(1.0), [3, 3], "a"), filled(Init::Normal(1.0), [3, 3], "b"));
    }
}
