//! Random augmentation of training images. An augmented image keeps its class.
//!
//! The random draws depend only on the seed, the epoch and the index of the example. They do not depend on threads or
//! on earlier draws, so a resumed run gets bit-identical images.

use serde::{Deserialize, Serialize};
use wgrad_graph::philox::Stream;

use crate::error::DataError;

/// Value that is XORed with the seed, so that these draws differ from the draws of shuffles and initial values. The
/// bytes are `augment` in ASCII.
const AUGMENT: u64 = 0x0061_7567_6d65_6e74;

/// Random changes of an image, applied in the order of the fields. The default changes nothing.
///
/// An image is `f32` `[channels, height, width]` in 0..1, before normalisation, and keeps its shape.
///
/// ```
/// use wgrad_data::augment::{Augment, Draw};
///
/// let augment = Augment { flip: true, crop: 1, ..Augment::default() };
/// let draw = Draw { seed: 0, epoch: 3, example: 7 };
/// let image: Vec<f32> = (0..16).map(|i| i as f32 / 16.0).collect();
/// let (mut first, mut again) = (image.clone(), image);
/// augment.apply(&mut first, [1, 4, 4], draw);
/// augment.apply(&mut again, [1, 4, 4], draw);
/// assert_eq!(first, again);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Augment {
    /// Range of the fraction of the image area that a random crop keeps. The crop is scaled to the full image size
    /// with bilinear interpolation. Absent: no crop.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schemars(extend("items" = {"type": "number", "exclusiveMinimum": 0, "maximum": 1}))
    )]
    pub scale: Option<[f64; 2]>,
    /// Number of zero pixels added on each side of the image. The padded image is then randomly cropped to the
    /// original size. At most the side length of the image.
    pub crop: usize,
    /// Whether to swap left and right with probability 1/2.
    pub flip: bool,
    /// Whether to swap top and bottom with probability 1/2.
    pub vertical_flip: bool,
    /// Whether to rotate by a random multiple of 90 degrees. Requires square images.
    pub rotate90: bool,
    /// Maximum absolute value of a random number that is added to all pixels. The result is clamped to 0..1.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1)))]
    pub brightness: f64,
    /// Maximum distance from 1 of a random factor that scales the contrast about the mean of the image. The result is
    /// clamped to 0..1.
    #[cfg_attr(feature = "schema", schemars(range(min = 0, max = 1)))]
    pub contrast: f64,
    /// Side length in pixels of a square that is set to 0 (DeVries and Taylor, 2017). The centre of the square is a
    /// random pixel. At most the side length of the image.
    pub cutout: usize,
}

/// Key of the random stream of one image in one epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Seed of the training run.
    pub seed: u64,
    /// Number of the epoch, starting at 0.
    pub epoch: u32,
    /// Index of the example in the training set.
    pub example: u32,
}

impl Draw {
    fn stream(self) -> Stream {
        Stream::new(self.seed ^ AUGMENT, (u64::from(self.epoch) << 32) | u64::from(self.example))
    }
}

impl Augment {
    /// Whether augmentation is disabled, i.e. the settings change no image.
    pub fn is_off(&self) -> bool {
        *self == Self::default()
    }

    /// Checks the range of every field for images of `shape`, which is `[channels, height, width]`.
    ///
    /// # Errors
    /// Returns [`DataError::Spec`] with the first invalid field, its valid range and its value.
    pub fn check(&self, shape: [usize; 3]) -> Result<(), DataError> {
        let [_, height, width] = shape;
        let least = height.min(width);
        let refuse = |field, problem| Err(DataError::Spec { field, problem });
        if let Some([low, high]) = self.scale
            && !(low > 0.0 && low <= high && high <= 1.0)
        {
            let rule = "must be two fractions of the area in ascending order, more than 0 and at most 1";
            return refuse("augment.scale", format!("{rule}, found [{low}, {high}]"));
        }
        if self.crop > least {
            let found = self.crop;
            return refuse(
                "augment.crop",
                format!("must be 0 to {least}, the side length of the images, found {found}"),
            );
        }
        if self.rotate90 && height != width {
            return refuse("augment.rotate90", format!("requires square images, found {height}×{width}"));
        }
        for (field, value) in [("augment.brightness", self.brightness), ("augment.contrast", self.contrast)] {
            if !(0.0..=1.0).contains(&value) {
                return refuse(field, format!("must be 0 to 1, found {value}"));
            }
        }
        if self.cutout > least {
            let found = self.cutout;
            return refuse(
                "augment.cutout",
                format!("must be 0 to {least}, the side length of the images, found {found}"),
            );
        }
        Ok(())
    }

    /// Augments one image in place. `shape` is `[channels, height, width]`. The fields must pass [`Augment::check`].
    ///
    /// # Panics
    /// Panics if the length of the image is not the product of the shape.
    pub fn apply(&self, image: &mut [f32], shape: [usize; 3], draw: Draw) {
        if self.is_off() {
            return;
        }
        let mut random = draw.stream();
        let mut canvas = Canvas { image, height: shape[1], width: shape[2] };
        if let Some(range) = self.scale {
            canvas.zoom(range.map(|fraction| fraction as f32), &mut random);
        }
        if self.crop > 0 {
            let mut shift = || random.below(2 * self.crop as u32 + 1) as isize - self.crop as isize;
            let (down, right) = (shift(), shift());
            canvas.shift(down, right);
        }
        if self.flip && coin(&mut random) {
            canvas.flip();
        }
        if self.vertical_flip && coin(&mut random) {
            canvas.vertical_flip();
        }
        if self.rotate90 {
            for _ in 0..random.below(4) {
                canvas.rotate();
            }
        }
        // The settings are rounded to f32 before they are compared with 0. A value that rounds to 0 draws no random
        // number.
        let (brightness, contrast) = (self.brightness as f32, self.contrast as f32);
        if brightness > 0.0 {
            let added = symmetric(&mut random, brightness);
            canvas.image.iter_mut().for_each(|x| *x = (*x + added).clamp(0.0, 1.0));
        }
        if contrast > 0.0 {
            canvas.contrast(1.0 + symmetric(&mut random, contrast));
        }
        if self.cutout > 0 {
            let (y, x) = (random.below(shape[1] as u32) as usize, random.below(shape[2] as u32) as usize);
            canvas.cut_out(y, x, self.cutout);
        }
    }
}

fn coin(random: &mut Stream) -> bool {
    random.next_u32() >> 31 == 1
}

fn symmetric(random: &mut Stream, most: f32) -> f32 {
    (2.0 * random.uniform() - 1.0) * most
}

/// An image of shape `[channels, height, width]` that is augmented in place.
struct Canvas<'a> {
    image: &'a mut [f32],
    height: usize,
    width: usize,
}

impl Canvas<'_> {
    /// Replaces each pixel (y, x) with `source(plane, y, x)`. `plane` contains the original pixels of the same
    /// channel.
    fn redraw(&mut self, source: impl Fn(&[f32], usize, usize) -> f32) {
        let (area, width) = (self.height * self.width, self.width);
        let mut before = vec![0.0; area];
        for plane in self.image.chunks_exact_mut(area) {
            before.copy_from_slice(plane);
            for (y, row) in plane.chunks_exact_mut(width).enumerate() {
                for (x, out) in row.iter_mut().enumerate() {
                    *out = source(&before, y, x);
                }
            }
        }
    }

    fn zoom(&mut self, [low, high]: [f32; 2], random: &mut Stream) {
        let step = (low + (high - low) * random.uniform()).sqrt();
        let (height, width) = (self.height as f32 * step, self.width as f32 * step);
        let top = (self.height as f32 - height) * random.uniform();
        let left = (self.width as f32 - width) * random.uniform();
        let (rows, columns) = (self.height, self.width);
        // Pixel centres have half-integer coordinates. Positions outside of the image are clamped to the edge.
        let place = |start: f32, i: usize, count: usize| {
            let at = (start + (i as f32 + 0.5) * step - 0.5).clamp(0.0, (count - 1) as f32);
            let low = at as usize;
            (low, (low + 1).min(count - 1), at - low as f32)
        };
        self.redraw(|plane, y, x| {
            let (y0, y1, down) = place(top, y, rows);
            let (x0, x1, right) = place(left, x, columns);
            let row = |y: usize| {
                let (a, b) = (plane[y * columns + x0], plane[y * columns + x1]);
                a + (b - a) * right
            };
            row(y0) + (row(y1) - row(y0)) * down
        });
    }

    /// Shifts the image: the pixel at (y + down, x + right) moves to (y, x). Pixels that come from outside of the
    /// image are zero.
    fn shift(&mut self, down: isize, right: isize) {
        let (height, width) = (self.height, self.width);
        self.redraw(|plane, y, x| {
            let inside = |i: usize, by: isize, count| i.checked_add_signed(by).filter(|&i| i < count);
            match (inside(y, down, height), inside(x, right, width)) {
                (Some(y), Some(x)) => plane[y * width + x],
                _ => 0.0,
            }
        });
    }

    fn flip(&mut self) {
        self.image.chunks_exact_mut(self.width).for_each(<[f32]>::reverse);
    }

    fn vertical_flip(&mut self) {
        let (height, width) = (self.height, self.width);
        self.redraw(|plane, y, x| plane[(height - 1 - y) * width + x]);
    }

    /// Rotates the image by 90 degrees counterclockwise.
    fn rotate(&mut self) {
        let width = self.width;
        self.redraw(|plane, y, x| plane[x * width + width - 1 - y]);
    }

    fn contrast(&mut self, factor: f32) {
        let mean = self.image.iter().map(|&x| f64::from(x)).sum::<f64>() / self.image.len() as f64;
        let mean = mean as f32;
        self.image.iter_mut().for_each(|x| *x = (mean + (*x - mean) * factor).clamp(0.0, 1.0));
    }

    fn cut_out(&mut self, y: usize, x: usize, side: usize) {
        let range = |center: usize, count: usize| {
            let start = center as isize - (side / 2) as isize;
            start.max(0) as usize..((start + side as isize).max(0) as usize).min(count)
        };
        let (rows, columns) = (range(y, self.height), range(x, self.width));
        for plane in self.image.chunks_exact_mut(self.height * self.width) {
            for y in rows.clone() {
                plane[y * self.width..][columns.clone()].fill(0.0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    /// Image of two 2×2 planes. The rows of the first plane are 0.1 0.2 and 0.3 0.4, those of the second are 0.5 0.6
    /// and 0.7 0.8.
    const IMAGE: [f32; 8] = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8];

    fn canvas(image: &mut [f32], height: usize, f: impl Fn(&mut Canvas<'_>)) -> Vec<f32> {
        let width = if image.len() == 8 { 2 } else { image.len() / height };
        f(&mut Canvas { image, height, width });
        image.to_vec()
    }

    #[test]
    fn geometric_changes_match_their_names() {
        let moved = |f: fn(&mut Canvas<'_>)| canvas(&mut IMAGE.clone(), 2, f);
        assert_eq!(moved(|c| c.flip()), [0.2, 0.1, 0.4, 0.3, 0.6, 0.5, 0.8, 0.7]);
        assert_eq!(moved(|c| c.vertical_flip()), [0.3, 0.4, 0.1, 0.2, 0.7, 0.8, 0.5, 0.6]);
        assert_eq!(moved(|c| c.rotate()), [0.2, 0.4, 0.1, 0.3, 0.6, 0.8, 0.5, 0.7]);
        assert_eq!(moved(|c| c.shift(1, 0)), [0.3, 0.4, 0.0, 0.0, 0.7, 0.8, 0.0, 0.0]);
        assert_eq!(moved(|c| c.shift(0, -1)), [0.0, 0.1, 0.0, 0.3, 0.0, 0.5, 0.0, 0.7]);
        assert_eq!(moved(|c| c.shift(-2, 0)), [0.0; 8]);
        assert_eq!(moved(|c| c.cut_out(0, 1, 1)), [0.1, 0.0, 0.3, 0.4, 0.5, 0.0, 0.7, 0.8]);
        // A square of side 2 starts one pixel before its centre and is clipped at the edge.
        assert_eq!(moved(|c| c.cut_out(0, 1, 2)), [0.0, 0.0, 0.3, 0.4, 0.0, 0.0, 0.7, 0.8]);
        assert_eq!(moved(|c| c.cut_out(1, 1, 2)), [0.0; 8]);
    }

    #[test]
    fn contrast_scales_about_the_mean_and_is_clamped() {
        let stretched = |factor: f32| canvas(&mut [0.25, 0.5, 0.75, 0.5], 2, |c| c.contrast(factor));
        assert_eq!(stretched(2.0), [0.0, 0.5, 1.0, 0.5]);
        assert_eq!(stretched(0.5), [0.375, 0.5, 0.625, 0.5]);
        assert_eq!(stretched(4.0), [0.0, 0.5, 1.0, 0.5]);
    }

    #[test]
    fn zoom_is_bilinear() {
        // A crop of the whole area does not change any bit of the image.
        let ramp = [0.0, 0.25, 0.5, 0.75];
        assert_eq!(canvas(&mut ramp.clone(), 1, |c| c.zoom([1.0; 2], &mut Stream::new(0, 0))), ramp);
        // A crop of a quarter of the area has half the side length. Samples are therefore half a pixel apart, starting
        // at the random position of the crop.
        let mut random = Stream::new(5, 0);
        random.uniform();
        random.uniform();
        let left = 2.0 * random.uniform();
        let expected: Vec<f32> =
            (0..4).map(|i| (left + (i as f32 + 0.5) * 0.5 - 0.5_f32).clamp(0.0, 3.0) * 0.25).collect();
        let zoomed = canvas(&mut ramp.clone(), 1, |c| c.zoom([0.25; 2], &mut Stream::new(5, 0)));
        assert!(zoomed.iter().zip(&expected).all(|(a, b)| (a - b).abs() < 1e-6), "{zoomed:?} {expected:?}");
    }

    /// Applies `augment` to [`IMAGE`] with 200 different draws. Returns the distinct results, as the bits of their
    /// pixels.
    fn outcomes(augment: Augment) -> BTreeSet<Vec<u32>> {
        let outcome = |example| {
            let mut image = IMAGE;
            augment.apply(&mut image, [2, 2, 2], Draw { seed: 3, epoch: 0, example });
            image.map(f32::to_bits).to_vec()
        };
        (0..200).map(outcome).collect()
    }

    #[test]
    fn every_setting_draws_all_of_its_outcomes() {
        let none = Augment::default();
        assert_eq!(outcomes(none).len(), 1);
        assert_eq!(outcomes(Augment { flip: true, ..none }).len(), 2);
        assert_eq!(outcomes(Augment { vertical_flip: true, ..none }).len(), 2);
        assert_eq!(outcomes(Augment { rotate90: true, ..none }).len(), 4);
        assert_eq!(outcomes(Augment { crop: 1, ..none }).len(), 9);
        assert_eq!(outcomes(Augment { cutout: 1, ..none }).len(), 4);
        // Flips in both directions and rotations by 90 degrees generate the eight symmetries of a square.
        let square = Augment { flip: true, vertical_flip: true, rotate90: true, ..none };
        assert_eq!(outcomes(square).len(), 8);
        for augment in [
            Augment { brightness: 0.5, ..none },
            Augment { contrast: 0.5, ..none },
            Augment { scale: Some([0.3, 1.0]), ..none },
        ] {
            let outcomes = outcomes(augment);
            assert!(outcomes.len() > 150, "{augment:?}");
            let mut values = outcomes.iter().flatten().map(|&bits| f32::from_bits(bits));
            assert!(values.all(|x| (0.0..=1.0).contains(&x)), "{augment:?}");
        }
    }

    #[test]
    fn brightness_shifts_all_values_by_the_same_amount() {
        let mut image = [0.5; 4];
        let augment = Augment { brightness: 0.25, ..Augment::default() };
        augment.apply(&mut image, [1, 2, 2], Draw { seed: 1, epoch: 2, example: 3 });
        assert!(image[0] != 0.5 && (image[0] - 0.5).abs() <= 0.25 && image == [image[0]; 4], "{image:?}");
    }

    #[test]
    fn draws_depend_on_seed_epoch_and_example() {
        let augment = Augment { brightness: 0.5, ..Augment::default() };
        let apply = |seed, epoch, example| {
            let mut image = [0.5];
            augment.apply(&mut image, [1, 1, 1], Draw { seed, epoch, example });
            image[0]
        };
        let base = apply(1, 2, 3);
        assert_eq!(base, apply(1, 2, 3));
        assert!([apply(2, 2, 3), apply(1, 3, 3), apply(1, 2, 4)].iter().all(|&other| other != base));
    }

    #[test]
    fn values_out_of_range_are_refused_by_field() {
        let field = |augment: Augment, shape| match augment.check(shape) {
            Err(DataError::Spec { field, .. }) => field,
            other => panic!("{augment:?}: {other:?}"),
        };
        let (none, shape) = (Augment::default(), [3, 4, 6]);
        for scale in [[0.0, 1.0], [0.5, 0.4], [0.5, 1.1], [f64::NAN, 1.0]] {
            assert_eq!(field(Augment { scale: Some(scale), ..none }, shape), "augment.scale");
        }
        assert_eq!(field(Augment { crop: 5, ..none }, shape), "augment.crop");
        assert_eq!(field(Augment { cutout: 5, ..none }, shape), "augment.cutout");
        assert_eq!(field(Augment { rotate90: true, ..none }, shape), "augment.rotate90");
        assert_eq!(field(Augment { brightness: 1.5, ..none }, shape), "augment.brightness");
        assert_eq!(field(Augment { contrast: -0.1, ..none }, shape), "augment.contrast");
        let most = Augment { scale: Some([0.1, 1.0]), crop: 4, cutout: 4, brightness: 1.0, ..none };
        most.check(shape).unwrap();
    }
}
