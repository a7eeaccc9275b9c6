//! Form to which image files are converted.

/// Extensions of image files, in lower or upper case.
pub const EXTENSIONS: [&str; 3] = ["jpg", "jpeg", "png"];

/// Size and channels to which every image is converted: the largest centred square, scaled to `size` × `size`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageForm {
    /// Side length in pixels; at least 1.
    pub size: usize,
    /// Channels of a pixel.
    pub channels: Channels,
}

impl ImageForm {
    /// Shape `[channels, size, size]`.
    pub fn shape(self) -> [usize; 3] {
        [self.channels.count(), self.size, self.size]
    }
}

/// Channels of a pixel. Other images are converted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channels {
    /// One value, the luminance.
    Grey,
    /// Red, green and blue.
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

    /// Returns the variant with this number of channels, if there is one.
    pub fn of(count: usize) -> Option<Self> {
        [Self::Grey, Self::Rgb].into_iter().find(|channels| channels.count() == count)
    }
}
