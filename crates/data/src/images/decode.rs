//! Decodes one image file to planes of bytes of the requested size.

use std::io::Cursor;
use std::path::Path;

use png::{ColorType, Transformations};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::bytestream::ZCursor;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

use super::raster::{Raster, orientation};
use super::{Channels, ImageForm, ImagesProblem};
use crate::error::DataError;

const JPEG_MAGIC: [u8; 3] = [0xff, 0xd8, 0xff];
/// Marker before coded pixels. In coded pixels every 0xff is followed by 0, so neither `START_OF_SCAN` nor
/// `END_OF_IMAGE` occurs in them.
const START_OF_SCAN: [u8; 2] = [0xff, 0xda];
const END_OF_IMAGE: [u8; 2] = [0xff, 0xd9];
const PNG_MAGIC: [u8; 4] = *b"\x89PNG";

/// Whether `bytes` begin with the magic number of a JPEG or PNG file.
pub(crate) fn is_encoded(bytes: &[u8]) -> bool {
    bytes.starts_with(&JPEG_MAGIC) || bytes.starts_with(&PNG_MAGIC)
}

/// Decodes one image for prediction. Scales it to the square of one or three channels that has `width` values in
/// total.
///
/// Returns raw values (0 to 255) in one flat list. `path` is used in messages.
///
/// # Errors
/// Returns [`DataError::Images`] if the image cannot be decoded, or if no square of one or three channels has `width`
/// values.
pub(crate) fn read_image(path: &Path, bytes: &[u8], width: usize) -> Result<Vec<f32>, DataError> {
    let wrong = |problem| DataError::Images { path: path.to_path_buf(), problem };
    // At most one form fits, since √3 is irrational.
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

/// Decodes a file to planes `[channels, size, size]`. The error is the reason for the failure.
pub(super) fn decode(path: &Path, form: ImageForm) -> Result<Vec<u8>, String> {
    decode_bytes(&std::fs::read(path).map_err(|error| error.to_string())?, form)
}

/// Decodes an image. The format is detected from the content, not from the file name.
fn decode_bytes(bytes: &[u8], form: ImageForm) -> Result<Vec<u8>, String> {
    let raster = if bytes.starts_with(&JPEG_MAGIC) {
        jpeg(bytes)?
    } else if bytes.starts_with(&PNG_MAGIC) {
        png(bytes).map_err(|error| error.to_string())?
    } else {
        return Err("neither a JPEG nor a PNG file".to_owned());
    };
    Ok(raster.square(form))
}

/// Decodes a JPEG file. JPEG has no checksum, so the decoder runs in strict mode to detect damage. The decoder does
/// not require the end marker. This function requires it, to detect a file that was truncated in its last rows.
fn jpeg(bytes: &[u8]) -> Result<Raster, String> {
    let last = |marker: [u8; 2]| bytes.windows(2).rposition(|pair| pair == marker);
    if last(END_OF_IMAGE) < last(START_OF_SCAN) {
        return Err("the JPEG file is truncated".to_owned());
    }
    let options = DecoderOptions::default().set_strict_mode(true);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    let text = |error: zune_jpeg::errors::DecodeErrors| error.to_string();
    decoder.decode_headers().map_err(text)?;
    let (color, channels) = match decoder.input_colorspace() {
        Some(ColorSpace::Luma) => (ColorSpace::Luma, 1),
        _ => (ColorSpace::RGB, 3),
    };
    decoder.set_options(options.jpeg_set_out_colorspace(color));
    let pixels = decoder.decode().map_err(text)?;
    let (width, height) = decoder.dimensions().ok_or("the JPEG header has no dimensions")?;
    let raster = Raster::new(width, height, channels, pixels)
        .ok_or("the JPEG file has fewer pixels than its header states")?;
    // Cameras store their orientation and leave the rotation to the viewer.
    Ok(raster.oriented(decoder.exif().map_or(1, |exif| orientation(exif))))
}

/// Decodes a PNG file of any depth or palette to 8 bits per channel. Transparent pixels keep their colour.
fn png(bytes: &[u8]) -> Result<Raster, png::DecodingError> {
    let mut decoder = png::Decoder::new(Cursor::new(bytes));
    decoder.set_transformations(Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let mut pixels = vec![0; reader.output_buffer_size().ok_or(png::DecodingError::LimitsExceeded)?];
    let info = reader.next_frame(&mut pixels)?;
    let (stored, channels) = match info.color_type {
        ColorType::Grayscale => (1, 1),
        ColorType::GrayscaleAlpha => (2, 1),
        ColorType::Rgba => (4, 3),
        ColorType::Rgb | ColorType::Indexed => (3, 3),
    };
    if stored != channels {
        let colors = pixels.chunks_exact(stored).flat_map(|pixel| &pixel[..channels]);
        pixels = colors.copied().collect();
    }
    Raster::new(info.width as usize, info.height as usize, channels, pixels)
        .ok_or(png::DecodingError::LimitsExceeded)
}
