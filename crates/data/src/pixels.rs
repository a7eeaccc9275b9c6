//! Images stored as bytes, in a quarter of the memory of `f32`. Values are normalised when an example is read.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Images `u8` `[n, channels, height, width]` with their normalisation.
///
/// A byte becomes the feature `(byte / largest − mean[channel]) / std[channel]`, where `largest` is the largest
/// possible byte, such as 255. Clones share the bytes.
#[derive(Debug, Clone, PartialEq)]
pub struct Pixels {
    bytes: Arc<[u8]>,
    shape: [usize; 3],
    largest: u8,
    channels: ChannelStats,
}

/// Mean and standard deviation of each channel of images with values in 0..1.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChannelStats {
    /// Mean of each channel, `[channels]`.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel, `[channels]`; never 0.
    pub std: Vec<f32>,
}

impl ChannelStats {
    /// Returns mean 0 and standard deviation 1, with which normalisation does not change values.
    pub fn identity(channels: usize) -> Self {
        Self { mean: vec![0.0; channels], std: vec![1.0; channels] }
    }

    /// Returns the statistics of the training set of ImageNet, in the order red, green, blue.
    pub fn imagenet() -> Self {
        Self { mean: vec![0.485, 0.456, 0.406], std: vec![0.229, 0.224, 0.225] }
    }

    /// Replaces each value x of images `[n, channels, area]` with `(x − mean) / std`.
    pub fn apply(&self, images: &mut [f32], area: usize) {
        for (i, plane) in images.chunks_exact_mut(area.max(1)).enumerate() {
            let channel = i % self.mean.len().max(1);
            let (mean, std) = (self.mean[channel], self.std[channel]);
            plane.iter_mut().for_each(|x| *x = (*x - mean) / std);
        }
    }
}

impl Pixels {
    /// Creates images of `shape` `[channels, height, width]`; the byte `largest` becomes 1.
    ///
    /// Does not check the length of `bytes`; [`Dataset::from_pixels`](crate::Dataset::from_pixels) does.
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

    /// Statistics used to normalise the features.
    pub fn channels(&self) -> &ChannelStats {
        &self.channels
    }

    pub(crate) fn set_channels(&mut self, channels: ChannelStats) {
        self.channels = channels;
    }

    /// Number of bytes in one image.
    pub(crate) fn image_len(&self) -> usize {
        self.shape.iter().product()
    }

    /// Writes one image to `out`, scaled to 0..1 but not normalised.
    ///
    /// # Panics
    /// Panics if the index is past the end or the length of `out` is not that of an image.
    pub(crate) fn fill_raw(&self, index: usize, out: &mut [f32]) {
        let (len, largest) = (self.image_len(), f32::from(self.largest));
        let image = &self.bytes[index * len..(index + 1) * len];
        assert_eq!(image.len(), out.len(), "`out` must have the length of one image");
        out.iter_mut().zip(image).for_each(|(out, &byte)| *out = f32::from(byte) / largest);
    }

    /// Normalises an image with values in 0..1, in place.
    pub(crate) fn normalize(&self, image: &mut [f32]) {
        // The identity would not change any bit; it is skipped to save time.
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

    /// Computes mean and standard deviation of each channel over all images, with values in 0..1. Both are computed
    /// from a histogram of the bytes.
    ///
    /// A constant channel gets standard deviation 1, to avoid a division by 0.
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
    fn bytes_are_scaled_and_normalised_by_channel() {
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
    fn statistics_are_per_channel_and_a_constant_channel_is_centred() {
        let pixels = Pixels::new(vec![0, 255, 51, 51, 255, 0, 51, 51], [2, 1, 2], 255);
        let stats = pixels.measure();
        assert_eq!(stats, ChannelStats { mean: vec![0.5, 0.2], std: vec![0.5, 1.0] });
    }
}
