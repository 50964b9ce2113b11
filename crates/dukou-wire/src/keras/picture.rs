//! Pictures as a model's only input: PNG and JPEG, a row each.
//!
//! Values are what Keras' `img_to_array` gives, 0 to 255, times a wanted factor; colour becomes grey by the
//! weights of ITU-R BT.601, and an alpha channel is left out. Where the model's size is another than the
//! picture's, it is resized only on demand: whoever trained the model knows whether that may be.

use std::io::Cursor;

use bytes::Bytes;
use dukou_types::{Buffer, DType, Data, Dim, ErrorCode, Failure, Signature, Tensor, TensorSpec};
use half::f16;
use image::{DynamicImage, ImageReader, Limits, imageops::FilterType};

use crate::{
    DecodeLimits,
    sentence::{self, quoted},
    tensorflow::{Lease, check_shapes},
};

/// How a PNG file and a JPEG file begin.
const BEGINNINGS: [&[u8]; 2] = [b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"];
/// The largest width and height.
const LARGEST: u32 = 16_384;

/// Whether bytes begin as a picture does.
pub(super) fn is_one(bytes: &[u8]) -> bool {
    BEGINNINGS.iter().any(|beginning| bytes.starts_with(beginning))
}

/// How pictures are wanted, besides what the model's input says.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wanted {
    /// Whether they are brought to the model's size.
    resize: bool,
    /// What every value is multiplied with.
    scale: f64,
}

impl Default for Wanted {
    fn default() -> Self {
        Self { resize: false, scale: 1.0 }
    }
}

impl Wanted {
    /// Reads one field of a form.
    ///
    /// # Errors
    /// `wire.invalid-field`.
    pub(super) fn read(&mut self, name: &str, value: &[u8]) -> Result<(), Failure> {
        let text = std::str::from_utf8(value).unwrap_or_default().trim();
        let wrong = |rule: &str| {
            let message = format!("`{name}` must be {rule}; {} came", quoted(text));
            Failure::new(ErrorCode::WireInvalidField, message)
        };
        if name == "resize" {
            self.resize = match text {
                "true" | "1" => true,
                "false" | "0" => false,
                _ => return Err(wrong("`true` or `false`")),
            };
            return Ok(());
        }
        let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
        self.scale = number.ok_or_else(|| wrong("a number, as 0.00392156862745098 for 1/255"))?;
        Ok(())
    }
}

/// Where a picture's values stand in its row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    /// Height, width, channel.
    ChannelsLast,
    /// Channel, height, width.
    ChannelsFirst,
    /// Height, width, of grey values.
    Grey,
    /// One run of values, grey or channels last.
    Flat,
}

/// What an input takes of a picture.
struct Layout {
    order: Order,
    /// 1 or 3; `None` where the number of values decides.
    channels: Option<usize>,
    /// Where they are fixed.
    height: Option<usize>,
    width: Option<usize>,
    /// How many values, where it is a run of so many.
    run: Option<usize>,
}

impl Layout {
    /// By the declared shape behind the rows.
    fn of(spec: &TensorSpec) -> Option<Self> {
        let fixed = |dim: &Dim| match dim {
            Dim::Fixed(extent) => Some(*extent),
            Dim::Symbol(_) | Dim::Any(()) => None,
        };
        let channels = |dim: &Dim| fixed(dim).filter(|count| matches!(count, 1 | 3));
        let (_, row) = spec.shape.split_first()?;
        let layout = |order, channels, height: Option<&Dim>, width: Option<&Dim>, run| Self {
            order,
            channels,
            height: height.and_then(fixed),
            width: width.and_then(fixed),
            run,
        };
        match row {
            [height, width, last] if channels(last).is_some() => {
                Some(layout(Order::ChannelsLast, channels(last), Some(height), Some(width), None))
            }
            [first, height, width] if channels(first).is_some() => {
                Some(layout(Order::ChannelsFirst, channels(first), Some(height), Some(width), None))
            }
            [height, width] => Some(layout(Order::Grey, Some(1), Some(height), Some(width), None)),
            [run] => Some(layout(Order::Flat, None, None, None, fixed(run))),
            _ => None,
        }
    }
}

/// Reads pictures, a row each, for a model of one input.
///
/// # Errors
/// `wire.missing-field` without a picture; `wire.invalid-field` for what is none; `request.missing-input`,
/// `request.wrong-dtype` and `request.wrong-shape` where the model takes something else;
/// `request.body-too-large` where pictures unpack to more, as the model's elements, than a body may have.
pub(super) fn read(
    pictures: &[Bytes],
    wanted: Wanted,
    signature: &Signature,
    limits: &DecodeLimits,
    lease: &mut Lease<'_>,
) -> Result<Tensor, Failure> {
    let [spec] = &*signature.inputs else {
        let message = format!(
            "a picture is one input, and the model takes {}",
            sentence::specs(&signature.inputs)
        );
        return Err(Failure::new(ErrorCode::RequestMissingInput, message));
    };
    if pictures.is_empty() {
        let message = "the form holds no picture (PNG or JPEG) and no NPY array";
        return Err(Failure::new(ErrorCode::WireMissingField, message));
    }
    let layout = Layout::of(spec).ok_or_else(|| no_picture_s(spec))?;
    let floating = matches!(spec.dtype, DType::Fp16 | DType::Fp32 | DType::Fp64);
    if !floating && (spec.dtype != DType::Uint8 || wanted.scale != 1.0) {
        let message = format!(
            "a picture is UINT8, or floating with a `scale`, and input {} is {}",
            quoted(&spec.name),
            spec.dtype
        );
        return Err(Failure::new(ErrorCode::RequestWrongDtype, message));
    }
    let (mut values, mut shape) = (Vec::new(), Vec::new());
    for (row, picture) in pictures.iter().enumerate() {
        let whole = open(picture, limits)?;
        let extents = push_row(&mut values, whole, spec, &layout, wanted)?;
        if row > 0 && extents != shape {
            let message = format!(
                "picture {row} is {}, and the first {}; one request's have one size",
                sentence::shape(&extents),
                sentence::shape(&shape)
            );
            return Err(Failure::new(ErrorCode::RequestWrongShape, message));
        }
        let bytes = values.len().saturating_mul(spec.dtype.size().unwrap_or(1));
        if bytes > limits.body_bytes {
            return Err(too_large(limits));
        }
        shape = extents;
    }
    shape.insert(0, pictures.len());
    let data = Data::Owned(element_buffer(&values, spec.dtype, wanted.scale, lease));
    let tensor = Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data };
    check_shapes(&signature.inputs, std::slice::from_ref(&tensor))?;
    Ok(tensor)
}

/// Unpacks a picture within the limits.
fn open(picture: &Bytes, limits: &DecodeLimits) -> Result<DynamicImage, Failure> {
    let broken = |why: image::ImageError| match why {
        image::ImageError::Limits(_) => too_large(limits),
        why => {
            let message = format!("the picture cannot be read: {why}");
            Failure::new(ErrorCode::WireInvalidField, message)
        }
    };
    let mut bounds = Limits::default();
    bounds.max_image_width = Some(LARGEST);
    bounds.max_image_height = Some(LARGEST);
    bounds.max_alloc = Some(limits.body_bytes as u64);
    let mut reader =
        ImageReader::new(Cursor::new(picture)).with_guessed_format().map_err(|_| {
            Failure::new(ErrorCode::WireInvalidField, "the picture cannot be read: it is cut off")
        })?;
    reader.limits(bounds);
    reader.decode().map_err(broken)
}

/// Appends a picture's values in the model's order; gives the extents of the row.
fn push_row(
    values: &mut Vec<u8>,
    picture: DynamicImage,
    spec: &TensorSpec,
    layout: &Layout,
    wanted: Wanted,
) -> Result<Vec<usize>, Failure> {
    let (came_width, came_height) = (picture.width(), picture.height());
    let extent = |fixed: Option<usize>, came: u32| {
        fixed.map_or(Some(came), |fixed| u32::try_from(fixed).ok())
    };
    let size = extent(layout.width, came_width).zip(extent(layout.height, came_height));
    let picture = match size {
        Some(size) if size == (came_width, came_height) => picture,
        Some((width, height)) if wanted.resize && width <= LARGEST && height <= LARGEST => {
            picture.resize_exact(width, height, FilterType::Triangle)
        }
        _ => return Err(other_size(spec, (came_width, came_height))),
    };
    let (width, height) = (picture.width() as usize, picture.height() as usize);
    let pixels = width * height;
    let channels = match (layout.channels, layout.run) {
        (Some(channels), _) => channels,
        (None, Some(run)) if run == pixels => 1,
        (None, Some(run)) if run == 3 * pixels => 3,
        _ => return Err(other_size(spec, (came_width, came_height))),
    };
    if channels == 1 {
        push_grey(values, &picture);
    } else {
        let colours = picture.into_rgb8();
        if layout.order == Order::ChannelsFirst {
            for channel in 0..3 {
                values.extend(colours.pixels().map(|pixel| pixel.0[channel]));
            }
        } else {
            values.extend_from_slice(&colours);
        }
    }
    Ok(match layout.order {
        Order::ChannelsLast => vec![height, width, channels],
        Order::ChannelsFirst => vec![channels, height, width],
        Order::Grey => vec![height, width],
        Order::Flat => vec![pixels * channels],
    })
}

/// Appends how bright each pixel is.
fn push_grey(values: &mut Vec<u8>, picture: &DynamicImage) {
    if !picture.color().has_color() {
        values.extend_from_slice(&picture.to_luma8());
        return;
    }
    let brightness = |pixel: &image::Rgb<u8>| {
        let [red, green, blue] = pixel.0.map(u32::from);
        // Parts of 65,536: 0.299, 0.587, 0.114; they add up to one, so that it fits.
        ((red * 19_595 + green * 38_470 + blue * 7_471 + 0x8000) >> 16) as u8
    };
    values.extend(picture.to_rgb8().pixels().map(brightness));
}

/// The values as the model's elements.
fn element_buffer(values: &[u8], dtype: DType, scale: f64, lease: &mut Lease<'_>) -> Buffer {
    let size = values.len() * dtype.size().unwrap_or(1);
    let mut buffer = lease(0, size);
    buffer.resize(size);
    match dtype {
        DType::Fp64 => fill(buffer.typed_mut(), values, |value| value * scale),
        DType::Fp32 => fill(buffer.typed_mut(), values, |value| (value * scale) as f32),
        DType::Fp16 => fill(buffer.typed_mut(), values, |value| f16::from_f64(value * scale)),
        _ => buffer.bytes_mut().copy_from_slice(values),
    }
    buffer
}

fn fill<T>(slots: &mut [T], values: &[u8], of: impl Fn(f64) -> T) {
    for (slot, value) in slots.iter_mut().zip(values) {
        *slot = of(f64::from(*value));
    }
}

#[cold]
fn no_picture_s(spec: &TensorSpec) -> Failure {
    let message = format!(
        "input {} takes {}, which is no picture's shape: rows of height × width × channels, of channels × height × width (1 or 3 channels), of height × width, or of one run of values",
        quoted(&spec.name),
        sentence::declared(&spec.shape)
    );
    Failure::new(ErrorCode::RequestWrongShape, message)
}

#[cold]
fn other_size(spec: &TensorSpec, (width, height): (u32, u32)) -> Failure {
    let message = format!(
        "the picture is {height} high and {width} wide, and input {} takes {}; a form's field `resize=true` has it resized where height and width are known",
        quoted(&spec.name),
        sentence::declared(&spec.shape)
    );
    Failure::new(ErrorCode::RequestWrongShape, message)
}

#[cold]
fn too_large(limits: &DecodeLimits) -> Failure {
    let message = format!(
        "the pictures unpack to more than the {} bytes that `limits.body_bytes` allows, or are wider or higher than {LARGEST}",
        limits.body_bytes
    );
    Failure::new(ErrorCode::RequestBodyTooLarge, message)
}

#[cfg(test)]
#[path = "picture_test.rs"]
mod tests;
