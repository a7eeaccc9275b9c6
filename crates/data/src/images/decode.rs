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

/// The pixels of one image to predict from, raw (0 to 255), flat, `[channels, size, size]`.
///
/// # Errors
/// [`DataError::Images`] where the file cannot be read or decoded.
pub fn read_image(path: &Path, form: ImageForm) -> Result<Vec<f32>, DataError> {
    match decode(path, form) {
        Ok(bytes) => Ok(bytes.into_iter().map(f32::from).collect()),
        Err(reason) => {
            let path = path.to_path_buf();
            let failures = vec![(path.clone(), reason)];
            Err(DataError::Images { path, problem: ImagesProblem::Corrupt { failures } })
        }
    }
}

/// The planes `[channels, size, size]`, or why there are none. The content decides on the format, not the name.
pub(super) fn decode(path: &Path, form: ImageForm) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let image = if bytes.starts_with(&JPEG_MAGIC) {
        jpeg(&bytes)?
    } else if bytes.starts_with(&PNG_MAGIC) {
        let reader = ImageReader::with_format(Cursor::new(&bytes), ImageFormat::Png);
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
