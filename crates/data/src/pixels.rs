//! Images as bytes: a quarter of the memory of `f32`, normalised when an example is read.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Images `u8` `[n, channels, height, width]` and how a byte becomes a feature:
/// `(byte / largest − mean[channel]) / std[channel]`.
///
/// The bytes are shared, so a clone costs nothing.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    bytes: Arc<[u8]>,
    shape: [usize; 3],
    largest: u8,
    channels: ChannelStats,
}

/// Mean and standard deviation of each channel, of values in 0..1, `[channels]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelStats {
    /// What is subtracted.
    pub mean: Vec<f32>,
    /// What is divided by after that; never 0.
    pub std: Vec<f32>,
}

impl ChannelStats {
    /// Mean 0 and deviation 1, which leave values as they are.
    pub fn identity(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// Those of ImageNet's training set, three channels in the order red, green, blue.
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// `(x − mean) / std` for each value of whole images `[n, channels, area]`.
    pub fn apply(&self, images: &mut [f32], area: usize) {
        for (i, plane) in images.chunks_exact_mut(area.max(1)).enumerate() {
            let channel = i % self.mean.len().max(1);
            let (mean, std) = (self.mean[channel], self.std[channel]);
            plane.iter_mut().for_each(|x| *x = (*x - mean) / std);
        }
    }
}

impl Pixels {
    /// `shape` is `[channels, height, width]`; `largest` is the byte that becomes 1. A length that is no multiple of
    /// the shape is found by [`Dataset::from_pixels`](crate::Dataset::from_pixels).
    pub(crate) fn new(bytes: Vec<u8>, shape: [usize; 3], largest: u8) -> Self {
        Self { bytes: bytes.into(), shape, largest, channels: ChannelStats::identity(shape[0]) }
    }

    /// All bytes, `[n, channels, height, width]`.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Shape of one image, `[channels, height, width]`.
    pub fn shape(&self) -> [usize; 3] {
        self.shape
    }

    /// The statistics that features are normalised with.
    pub fn channels(&self) -> &ChannelStats {
        &self.channels
    }

    pub(crate) fn set_channels(&mut self, channels: ChannelStats) {
        self.channels = channels;
    }

    /// Bytes of one image.
    pub(crate) fn image_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// One image in 0..1, before normalisation.
    ///
    /// # Panics
    /// Where there is no such image or `out` has another length, as indexing does.
    pub(crate) fn fill_raw(&self, index: usize, out: &mut [f32]) {
        let (len, largest) = (self.image_len(), f32::from(self.largest));
        let image = &self.bytes[index * len..(index + 1) * len];
        assert_eq!(image.len(), out.len(), "the length of an image");
        out.iter_mut().zip(image).for_each(|(out, &byte)| *out = f32::from(byte) / largest);
    }

    /// Brings an image in 0..1 to the form that features have.
    pub(crate) fn normalize(&self, image: &mut [f32]) {
        // The same bits as without this branch, in less time.
        if self.channels != ChannelStats::identity(self.shape[0]) {
            self.channels.apply(image, self.shape[1] * self.shape[2]);
        }
    }

    pub(crate) fn subset(&self, indices: &[u32]) -> Self {
        let len = self.image_len();
        let mut bytes = Vec::with_capacity(indices.len() * len);
        for &index in indices {
            bytes.extend_from_slice(&self.bytes[index as usize * len..(index as usize + 1) * len]);
        }
        Self { bytes: bytes.into(), channels: self.channels.clone(), ..*self }
    }

    /// Mean and deviation of each channel over all images, in 0..1, exact up to the last rounding: from a histogram.
    ///
    /// A channel that is the same everywhere gets the deviation 1: it has no spread to divide by.
    pub fn measure(&self) -> ChannelStats {
        let area = (self.shape[1] * self.shape[2]).max(1);
        let mut histograms = vec![[0_u64; 256]; self.shape[0]];
        for (i, plane) in self.bytes.chunks_exact(area).enumerate() {
            let histogram = &mut histograms[i % self.shape[0]];
            plane.iter().for_each(|&byte| histogram[usize::from(byte)] += 1);
        }
        let (mut mean, mut std) = (Vec::new(), Vec::new());
        for histogram in histograms {
            let n = histogram.iter().sum::<u64>().max(1) as f64;
            let moment = |f: &dyn Fn(f64) -> f64| {
                let values = histogram.iter().enumerate();
                values
                    .map(|(byte, &count)| f(byte as f64 / f64::from(self.largest)) * count as f64)
                    .sum::<f64>()
                    / n
            };
            let center = moment(&|x| x);
            let spread = moment(&|x| (x - center).powi(2)).sqrt();
            mean.push(center as f32);
            std.push(if spread < 1e-9 { 1.0 } else { spread as f32 });
        }
        ChannelStats { mean, std }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_a_share_of_the_largest_and_then_normalised_by_its_channel() {
        let mut pixels = Pixels::new(vec![0, 255, 51, 102, 255, 0, 0, 204], [2, 1, 2], 255);
        let mut image = [0.0; 4];
        pixels.fill_raw(1, &mut image);
        assert_eq!(image, [1.0, 0.0, 0.0, 0.8]);
        let before = image;
        pixels.normalize(&mut image);
        assert_eq!(image, before);
        pixels.set_channels(ChannelStats { mean: vec![0.5, 0.25], std: vec![0.5, 0.25] });
        pixels.normalize(&mut image);
        assert_eq!(image, [1.0, -1.0, -1.0, (0.8 - 0.25) / 0.25]);
        assert_eq!(pixels.subset(&[1, 0]).bytes(), [255, 0, 0, 204, 0, 255, 51, 102]);
    }

    #[test]
    fn the_statistics_are_of_each_channel_and_a_constant_one_is_only_centred() {
        let pixels = Pixels::new(vec![0, 255, 51, 51, 255, 0, 51, 51], [2, 1, 2], 255);
        let stats = pixels.measure();
        assert_eq!(stats, ChannelStats { mean: vec![0.5, 0.2], std: vec![0.5, 1.0] });
    }
}
