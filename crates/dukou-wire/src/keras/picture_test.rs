use std::sync::Arc;

use image::{GrayImage, ImageFormat, Luma, Rgb, RgbImage, Rgba, RgbaImage};
use proptest::prelude::*;

use super::*;

const LIMITS: DecodeLimits = DecodeLimits { json_depth: 16, body_bytes: 1 << 20 };

/// One input of rows; 0 is an extent that is not fixed.
fn model(dtype: DType, row: &[usize]) -> Signature {
    let extent = |&extent: &usize| if extent == 0 { Dim::Any(()) } else { Dim::Fixed(extent) };
    let shape = [Dim::Symbol(Arc::from("n"))].into_iter().chain(row.iter().map(extent)).collect();
    Signature {
        inputs: vec![TensorSpec { name: "x".into(), dtype, shape }],
        outputs: vec![],
        batchable: true,
    }
}

/// Two pixels wide, one high: red, and a bluish one.
fn colours() -> Bytes {
    let pixels = [Rgb([255, 0, 0]), Rgb([10, 20, 200])];
    written(RgbImage::from_fn(2, 1, |x, _| pixels[x as usize]).into(), ImageFormat::Png)
}

fn written(picture: DynamicImage, format: ImageFormat) -> Bytes {
    let mut file = Cursor::new(Vec::new());
    picture.write_to(&mut file, format).unwrap();
    file.into_inner().into()
}

fn ask(
    pictures: &[Bytes],
    wanted: Wanted,
    model: &Signature,
) -> Result<(Vec<usize>, Vec<f64>), (ErrorCode, String)> {
    let read = read(pictures, wanted, model, &LIMITS, &mut |_, bytes| Buffer::zeroed(bytes));
    let tensor = read.map_err(|failure| (failure.code, failure.message.into_owned()))?;
    let size = tensor.dtype.size().unwrap();
    let elements = tensor.bytes().unwrap().chunks_exact(size);
    Ok((tensor.shape.clone(), elements.map(|bytes| tensor.dtype.number(bytes).unwrap()).collect()))
}

fn plain(pictures: &[Bytes], model: &Signature) -> Result<(Vec<usize>, Vec<f64>), ErrorCode> {
    ask(pictures, Wanted::default(), model).map_err(|(code, _)| code)
}

#[test]
fn values_stand_where_the_model_has_them() {
    let picture = [colours()];
    let rgb = vec![255.0, 0.0, 0.0, 10.0, 20.0, 200.0];
    let planes = vec![255.0, 10.0, 0.0, 20.0, 0.0, 200.0];
    // 0.299 × 255 and 2.99 + 11.74 + 22.8.
    let grey = vec![76.0, 38.0];
    for (row, shape, values) in [
        (&[1, 2, 3][..], vec![1, 1, 2, 3], &rgb),
        (&[0, 0, 3], vec![1, 1, 2, 3], &rgb),
        (&[3, 1, 2], vec![1, 3, 1, 2], &planes),
        (&[3, 0, 0], vec![1, 3, 1, 2], &planes),
        (&[1, 2, 1], vec![1, 1, 2, 1], &grey),
        (&[1, 2], vec![1, 1, 2], &grey),
        (&[2], vec![1, 2], &grey),
        (&[6], vec![1, 6], &rgb),
    ] {
        for dtype in [DType::Uint8, DType::Fp16, DType::Fp32, DType::Fp64] {
            let read = plain(&picture, &model(dtype, row));
            assert_eq!(read, Ok((shape.clone(), values.clone())), "{row:?} {dtype}");
        }
    }
}

#[test]
fn every_kind_of_file_is_read() {
    let grey = GrayImage::from_fn(2, 1, |x, _| Luma([(7 + x) as u8]));
    let clear = RgbaImage::from_fn(2, 1, |x, _| Rgba([7 + x as u8, 0, 0, 9]));
    let model = model(DType::Uint8, &[1, 2, 3]);
    let read = plain(&[written(grey.clone().into(), ImageFormat::Png)], &model);
    assert_eq!(read, Ok((vec![1, 1, 2, 3], vec![7.0, 7.0, 7.0, 8.0, 8.0, 8.0])));
    let read = plain(&[written(clear.into(), ImageFormat::Png)], &model);
    assert_eq!(read, Ok((vec![1, 1, 2, 3], vec![7.0, 0.0, 0.0, 8.0, 0.0, 0.0])));
    // What was compressed with loss comes near.
    let (shape, values) = plain(&[written(grey.into(), ImageFormat::Jpeg)], &model).unwrap();
    assert_eq!(shape, [1, 1, 2, 3]);
    assert!(values.iter().all(|value| (value - 7.5).abs() < 4.0), "{values:?}");
}

#[test]
fn several_are_rows_and_have_one_size() {
    let both = [colours(), colours()];
    let (shape, values) = plain(&both, &model(DType::Fp32, &[0, 0, 3])).unwrap();
    assert_eq!((shape, values.len()), (vec![2, 1, 2, 3], 12));
    let other = written(RgbImage::new(3, 1).into(), ImageFormat::Png);
    let failure = ask(&[colours(), other], Wanted::default(), &model(DType::Fp32, &[0, 0, 3]));
    let (code, message) = failure.unwrap_err();
    assert_eq!(code, ErrorCode::RequestWrongShape);
    assert_eq!(
        message,
        "picture 1 is [1, 3, 3], and the first [1, 2, 3]; one request's have one size"
    );
}

#[test]
fn fields_say_how_pictures_are_wanted() {
    let mut wanted = Wanted::default();
    wanted.read("resize", b"true").unwrap();
    wanted.read("scale", b" 0.5 ").unwrap();
    let flat = written(RgbImage::from_pixel(8, 6, Rgb([10, 20, 30])).into(), ImageFormat::Png);
    let read = ask(std::slice::from_ref(&flat), wanted, &model(DType::Fp32, &[1, 2, 3]));
    assert_eq!(read, Ok((vec![1, 1, 2, 3], vec![5.0, 10.0, 15.0, 5.0, 10.0, 15.0])));
    for (name, value) in
        [("resize", &b"yes"[..]), ("scale", b"big"), ("scale", b"nan"), ("scale", b"\xff")]
    {
        let failure = wanted.read(name, value).unwrap_err();
        assert_eq!(failure.code, ErrorCode::WireInvalidField);
        assert!(failure.message.contains(name), "{failure}");
    }
    // What was trained on other numbers is not fed with these.
    let (code, _) = ask(&[flat], wanted, &model(DType::Uint8, &[6, 8, 3])).unwrap_err();
    assert_eq!(code, ErrorCode::RequestWrongDtype);
}

#[test]
fn what_does_not_fit_says_both_sides() {
    let picture = [colours()];
    for (model, code, words) in [
        (model(DType::Fp32, &[4, 4, 3]), ErrorCode::RequestWrongShape, "1 high and 2 wide"),
        (model(DType::Fp32, &[7]), ErrorCode::RequestWrongShape, "`resize=true`"),
        (model(DType::Fp32, &[0]), ErrorCode::RequestWrongShape, "1 high and 2 wide"),
        (model(DType::Fp32, &[2, 2, 2, 2]), ErrorCode::RequestWrongShape, "no picture's shape"),
        (model(DType::Fp32, &[4, 2, 4]), ErrorCode::RequestWrongShape, "no picture's shape"),
        (model(DType::Int64, &[1, 2, 3]), ErrorCode::RequestWrongDtype, "is INT64"),
        (model(DType::Bytes, &[1, 2, 3]), ErrorCode::RequestWrongDtype, "is BYTES"),
    ] {
        let (came, message) = ask(&picture, Wanted::default(), &model).unwrap_err();
        assert_eq!(came, code, "{message}");
        assert!(message.contains(words), "{message}");
    }
    let mut two = model(DType::Fp32, &[1, 2, 3]);
    two.inputs.push(two.inputs[0].clone());
    assert_eq!(plain(&picture, &two), Err(ErrorCode::RequestMissingInput));
    let one = model(DType::Fp32, &[1, 2, 3]);
    assert_eq!(plain(&[], &one), Err(ErrorCode::WireMissingField));
    let cut = colours().slice(..30);
    assert_eq!(plain(&[cut], &one), Err(ErrorCode::WireInvalidField));
}

#[test]
fn a_small_file_does_not_become_a_large_picture() {
    let large = written(GrayImage::new(2000, 2000).into(), ImageFormat::Png);
    assert!(large.len() < 100_000, "{}", large.len());
    let model = model(DType::Fp32, &[0, 0, 1]);
    assert_eq!(plain(&[large], &model), Err(ErrorCode::RequestBodyTooLarge));
    // Each fits, all together do not.
    let half = written(GrayImage::new(400, 400).into(), ImageFormat::Png);
    assert!(plain(std::slice::from_ref(&half), &model).is_ok());
    assert_eq!(plain(&[half.clone(), half], &model), Err(ErrorCode::RequestBodyTooLarge));
}

proptest! {
    #[test]
    fn broken_files_do_no_harm(
        at in 0_usize..200, byte in any::<u8>(), cut in 0_usize..200, jpeg in any::<bool>(),
    ) {
        let picture = RgbImage::from_fn(9, 7, |x, y| Rgb([x as u8 * 20, y as u8 * 30, 77]));
        let format = if jpeg { ImageFormat::Jpeg } else { ImageFormat::Png };
        let mut file = written(picture.into(), format).to_vec();
        let (at, keep) = (at % file.len(), file.len() - cut % file.len());
        file[at] = byte;
        file.truncate(keep);
        if let Ok((shape, values)) = plain(&[file.into()], &model(DType::Fp32, &[0, 0, 3])) {
            prop_assert_eq!(shape.iter().product::<usize>(), values.len());
        }
    }
}
