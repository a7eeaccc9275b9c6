//! Size and channels to which image files are converted.

/// Extensions of image files, in lower case. File names may also use upper case.
pub const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Size and channels to which every image is converted: the largest centred square, scaled to `size` × `size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageForm {
    /// Side length in pixels; at least 1.
    pub size: usize,
    /// Channels of each pixel.
    pub channels: Channels,
}

impl ImageForm {
    /// Returns the shape of a converted image, `[channels, size, size]`.
    pub fn shape(self) -> [usize; 3] {
        [self.channels.count(), self.size, self.size]
    }
}

/// Channels of each pixel. Images with other channels are converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// One channel: the luminance.
    Grey,
    /// Three channels: red, green and blue.
    Rgb,
}

impl Channels {
    /// Number of channels: 1 or 3.
    pub fn count(self) -> usize {
        match self {
            Self::Grey => 1,
            Self::Rgb => 3,
        }
    }

    /// Returns the variant with `count` channels, or `None` if `count` is neither 1 nor 3.
    pub fn of(count: usize) -> Option<Self> {
        [Self::Grey, Self::Rgb].into_iter().find(|channels| channels.count() == count)
    }
}
