//! Decoded image, with rotation, cropping to a square, conversion to grey or colour, and scaling.
//!
//! The `image` crate does the same, but needs four more packages for colour management. The number of packages that
//! this project depends on is limited.

use super::{Channels, ImageForm};

/// Image of `u8` pixels `[height, width, channels]`, with one or three channels.
pub(super) struct Raster {
    width: usize,
    height: usize,
    channels: usize,
    pixels: Vec<u8>,
}

impl Raster {
    /// Creates an image; `None` if the number of pixels does not match the dimensions or is 0.
    pub fn new(width: usize, height: usize, channels: usize, pixels: Vec<u8>) -> Option<Self> {
        let len = width.checked_mul(height)?.checked_mul(channels)?;
        (len == pixels.len() && len > 0).then_some(Self { width, height, channels, pixels })
    }

    /// Rotates and mirrors the image according to its EXIF orientation (1 to 8).
    pub fn oriented(self, orientation: u16) -> Self {
        let (height, width, channels) = (self.height, self.width, self.channels);
        // Source position of the pixel at (y, x) of the result.
        let source = |y: usize, x: usize| match orientation {
            2 => (y, width - 1 - x),
            3 => (height - 1 - y, width - 1 - x),
            4 => (height - 1 - y, x),
            5 => (x, y),
            6 => (height - 1 - x, y),
            7 => (height - 1 - x, width - 1 - y),
            8 => (x, width - 1 - y),
            _ => (y, x),
        };
        let (new_height, new_width) = match orientation {
            2..=4 => (height, width),
            5..=8 => (width, height),
            _ => return self,
        };
        let mut pixels = Vec::with_capacity(self.pixels.len());
        for y in 0..new_height {
            for x in 0..new_width {
                let (y, x) = source(y, x);
                pixels.extend_from_slice(&self.pixels[(y * width + x) * channels..][..channels]);
            }
        }
        Self { width: new_width, height: new_height, channels, pixels }
    }

    /// Returns the largest centred square, scaled to `form.size`, as planes `[channels, size, size]`.
    pub fn square(&self, form: ImageForm) -> Vec<u8> {
        let side = self.width.min(self.height);
        let (left, top) = ((self.width - side) / 2, (self.height - side) / 2);
        let weights = (side != form.size).then(|| Weights::new(side, form.size));
        let mut planes = Vec::with_capacity(form.channels.count() * form.size * form.size);
        for channel in 0..form.channels.count() {
            let mut plane = Vec::with_capacity(side * side);
            for y in top..top + side {
                let row = &self.pixels[(y * self.width + left) * self.channels..][..side * self.channels];
                let pixels = row.chunks_exact(self.channels);
                plane.extend(pixels.map(|pixel| value(pixel, form.channels, channel)));
            }
            match &weights {
                Some(weights) => planes.extend(weights.scale(&plane)),
                None => planes.append(&mut plane),
            }
        }
        planes
    }
}

/// Returns one channel of a pixel. Grey is the luminance of ITU-R BT.709.
fn value(pixel: &[u8], channels: Channels, channel: usize) -> u8 {
    match (pixel, channels) {
        (&[red, green, blue], Channels::Grey) => {
            let luminance = 2126 * u32::from(red) + 7152 * u32::from(green) + 722 * u32::from(blue);
            ((luminance + 5000) / 10_000) as u8
        }
        (&[grey], _) => grey,
        _ => pixel[channel],
    }
}

/// Filter weights to resize along one axis.
///
/// The filter is a triangle, as in bilinear interpolation. When an image is scaled down, the triangle is wider, so
/// that source pixels are averaged.
struct Weights {
    from: usize,
    /// For each new pixel, the index of the first source pixel, and the weights of the source pixels from that index
    /// on. The weights of a new pixel sum to 1.
    lines: Vec<(usize, Vec<f32>)>,
}

impl Weights {
    fn new(from: usize, to: usize) -> Self {
        let step = from as f64 / to as f64;
        let reach = step.max(1.0);
        let line = |i| {
            let center = (i as f64 + 0.5) * step;
            let first = (center - reach).floor().max(0.0) as usize;
            let last = ((center + reach).ceil() as usize).min(from);
            let weight = |j: usize| (1.0 - (j as f64 + 0.5 - center).abs() / reach).max(0.0);
            let sum: f64 = (first..last).map(weight).sum();
            (first, (first..last).map(|j| (weight(j) / sum) as f32).collect())
        };
        Self { from, lines: (0..to).map(line).collect() }
    }

    /// Scales a square plane to the new size.
    fn scale(&self, plane: &[u8]) -> Vec<u8> {
        let (from, to) = (self.from, self.lines.len());
        let mut wide = vec![0.0_f32; from * to];
        for (row, out) in plane.chunks_exact(from).zip(wide.chunks_exact_mut(to)) {
            for (out, (first, weights)) in out.iter_mut().zip(&self.lines) {
                *out = weights.iter().zip(&row[*first..]).map(|(weight, &x)| weight * f32::from(x)).sum();
            }
        }
        let mut scaled = Vec::with_capacity(to * to);
        let mut sums = vec![0.0_f32; to];
        for (first, weights) in &self.lines {
            sums.fill(0.0);
            for (weight, row) in weights.iter().zip(wide[first * to..].chunks_exact(to)) {
                sums.iter_mut().zip(row).for_each(|(sum, x)| *sum += weight * x);
            }
            scaled.extend(sums.iter().map(|sum| sum.round() as u8));
        }
        scaled
    }
}

/// Returns the value of the tag `Orientation` in EXIF data, or 1 (upright) if the tag is absent or invalid. EXIF data
/// is a TIFF file.
pub(super) fn orientation(exif: &[u8]) -> u16 {
    const ORIENTATION: u16 = 0x0112;
    let little = exif.starts_with(b"II");
    let short = |at: usize| {
        let bytes = *exif.get(at..)?.first_chunk::<2>()?;
        Some(if little { u16::from_le_bytes(bytes) } else { u16::from_be_bytes(bytes) })
    };
    let long = |at: usize| {
        let bytes = *exif.get(at..)?.first_chunk::<4>()?;
        Some(if little { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) } as usize)
    };
    let find = || {
        let directory = long(4)?;
        let entries = (0..usize::from(short(directory)?)).map(|i| directory + 2 + 12 * i);
        let at = entries.into_iter().find(|&at| short(at) == Some(ORIENTATION))?;
        short(at + 8)
    };
    find().filter(|orientation| (1..=8).contains(orientation)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns a grey image with the rows 1 2 3 and 4 5 6.
    fn raster() -> Raster {
        Raster::new(3, 2, 1, vec![1, 2, 3, 4, 5, 6]).unwrap()
    }

    #[test]
    fn every_orientation_is_applied() {
        let turned = |orientation| {
            let raster = raster().oriented(orientation);
            (raster.width, raster.pixels)
        };
        assert_eq!(turned(1), (3, vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(turned(2), (3, vec![3, 2, 1, 6, 5, 4]));
        assert_eq!(turned(3), (3, vec![6, 5, 4, 3, 2, 1]));
        assert_eq!(turned(4), (3, vec![4, 5, 6, 1, 2, 3]));
        assert_eq!(turned(5), (2, vec![1, 4, 2, 5, 3, 6]));
        // The camera was rotated counterclockwise, so the image is rotated clockwise.
        assert_eq!(turned(6), (2, vec![4, 1, 5, 2, 6, 3]));
        assert_eq!(turned(7), (2, vec![6, 3, 5, 2, 4, 1]));
        assert_eq!(turned(8), (2, vec![3, 6, 2, 5, 1, 4]));
        assert_eq!(turned(9), turned(1));
    }

    #[test]
    fn orientation_tag_is_read_in_both_byte_orders() {
        let little =
            b"II*\0\x08\0\0\0\x02\0\x0f\x01\x02\0\x01\0\0\0\0\0\0\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0";
        assert_eq!(orientation(little), 6);
        let big = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x08\0\0";
        assert_eq!(orientation(big), 8);
        (0..little.len()).for_each(|len| assert!(len > 30 || orientation(&little[..len]) == 1, "{len}"));
        assert_eq!(orientation(b"MM\0*\xff\xff\xff\xff"), 1);
        assert_eq!(orientation(b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x09\0\0"), 1);
    }

    #[test]
    fn scaling_uses_the_triangle_filter() {
        let grey = |size| ImageForm { size, channels: Channels::Grey };
        let line = |pixels: &[u8], size| {
            let side = pixels.len();
            let raster = Raster::new(side, side, 1, pixels.repeat(side)).unwrap();
            let scaled = raster.square(grey(size));
            assert!(scaled.chunks(size).all(|row| row == &scaled[..size]));
            scaled[..size].to_vec()
        };
        // Twice the size: weights of 1/4 and 3/4 between neighbours, with repeated edges.
        assert_eq!(line(&[0, 100], 4), [0, 25, 75, 100]);
        // Half the size: the pixels at 0.5 and 1.5 have three times the weight of the pixel at 2.5, so the result is
        // (3·0 + 3·80 + 160) / 7.
        assert_eq!(line(&[0, 80, 160, 240], 2), [57, 183]);
        assert_eq!(line(&[7, 7, 7, 7, 7], 3), [7, 7, 7]);
    }

    #[test]
    fn grey_is_the_luminance() {
        let raster = Raster::new(1, 1, 3, vec![255, 0, 0]).unwrap();
        assert_eq!(raster.square(ImageForm { size: 1, channels: Channels::Grey }), [54]);
        assert_eq!(raster.square(ImageForm { size: 1, channels: Channels::Rgb }), [255, 0, 0]);
        assert!(Raster::new(2, 1, 3, vec![0; 5]).is_none() && Raster::new(0, 1, 3, vec![]).is_none());
    }
}
