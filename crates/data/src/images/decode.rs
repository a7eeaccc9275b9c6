//! One image file, as planes of bytes of the wanted size.

use std::io::Cursor;
use std::path::Path;

use image::imageops::{self, FilterType};
use image::metadata::Orientation;
use image::{DynamicImage, GrayImage, ImageFormat, ImageReader, RgbImage};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::{Channels, ImageForm, ImagesProblem};
use crate::error::DataError;

const JPEG_MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];
const PNG_MAGIC: [u8; 4] = *b"\x89PNG";

/// Whether a file begins as a JPEG or a PNG file does.
pub(crate) fn is_encoded(bytes: &[u8]) -> bool {
    bytes.starts_with(&JPEG_MAGIC) || bytes.starts_with(&PNG_MAGIC)
}

/// One image to predict from, brought to the square with `width` values, raw (0 to 255), flat. `path` is for messages.
///
/// # Errors
/// [`DataError::Images`] where it cannot be decoded, or where no square of one or three channels has `width` values.
pub(crate) fn read_image(path: &Path, bytes: &[u8], width: usize) -> Result<Vec<f32>, DataError> {
    let wrong = |problem| DataError::Images { path: path.to_path_buf(), problem };
    // At most one fits: the root of 3 is no fraction.
    let forms = [Channels::Grey, Channels::Rgb].map(|channels| {
        let size = (width / channels.count()).isqrt();
        ImageForm { size, channels }
    });
    let form = forms.into_iter().find(|form| form.shape().iter().product::<usize>() == width && width > 0);
    let form = form.ok_or_else(|| wrong(ImagesProblem::Width(width)))?;
    let planes = decode_bytes(bytes, form).map_err(|reason| {
        let failures = vec![(path.to_path_buf(), reason)];
        wrong(ImagesProblem::Corrupt { failures })
    })?;
    Ok(planes.into_iter().map(f32::from).collect())
}

/// The planes `[channels, size, size]`, or why there are none.
pub(super) fn decode(path: &Path, form: ImageForm) -> Result<Vec<u8>, String> {
    decode_bytes(&std::fs::read(path).map_err(|error| error.to_string())?, form)
}

/// The content decides on the format, not the name.
fn decode_bytes(bytes: &[u8], form: ImageForm) -> Result<Vec<u8>, String> {
    let image = if bytes.starts_with(&JPEG_MAGIC) {
        jpeg(bytes)?
    } else if bytes.starts_with(&PNG_MAGIC) {
        let reader = ImageReader::with_format(Cursor::new(bytes), ImageFormat::Png);
        reader.decode().map_err(|error| error.to_string())?
    } else {
        return Err("neither a JPEG nor a PNG file".to_owned());
    };
    Ok(match form.channels {
        Channels::Grey => {
            let image = square(&image.into_luma8(), form.size);
            image.into_raw()
        }
        Channels::Rgb => {
            let image: RgbImage = square(&image.into_rgb8(), form.size);
            let planes = (0..3).flat_map(|c| image.as_raw().iter().skip(c).step_by(3));
            planes.copied().collect()
        }
    })
}

/// Strict: otherwise a file that was cut short would be an image with a grey lower half.
fn jpeg(bytes: &[u8]) -> Result<DynamicImage, String> {
    let options = DecoderOptions::default().set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let text = |error: zune_jpeg::errors::DecodeErrors| error.to_string();
    decoder.decode_headers().map_err(text)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let color = if grey { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(color));
    let pixels = decoder.decode().map_err(text)?;
    let (width, height) = decoder.dimensions().ok_or("no dimensions")?;
    let (width, height) = (width as u32, height as u32);
    let image = if grey {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
    };
    let mut image = image.ok_or("fewer pixels than the header says")?;
    // Cameras write how they were held, and leave the turning to who shows the picture.
    if let Some(orientation) = decoder.exif().and_then(|exif| Orientation::from_exif_chunk(exif)) {
        image.apply_orientation(orientation);
    }
    Ok(image)
}

/// The largest square about the centre, at the size. The triangle filter widens with the step, so it averages.
fn square<P>(image: &image::ImageBuffer<P, Vec<u8>>, size: usize) -> image::ImageBuffer<P, Vec<u8>>
where
    P: image::Pixel<Subpixel = u8> + 'static,
{
    let (width, height) = image.dimensions();
    let side = width.min(height);
    let cut = imageops::crop_imm(image, (width - side) / 2, (height - side) / 2, side, side).to_image();
    let size = size as u32;
    if side == size { cut } else { imageops::resize(&cut, size, size, FilterType::Triangle) }
}
