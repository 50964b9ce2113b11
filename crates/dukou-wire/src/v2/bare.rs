//! A body that is one bare tensor: `Inference-Header-Content-Length: 0`, as a file is sent without any JSON.
//!
//! What the JSON would say is deduced: the input is the model's only one, its shape the model's, with the one
//! extent that is free as large as the body makes it. All outputs go back as raw bytes.

use bytes::Bytes;
use dukou_types::{Data, Dim, ErrorCode, Failure, Requested, Signature, Tensor, TensorSpec};

use super::{
    binary::RawData,
    decode::check_symbols,
    tensor::{Lease, ReadTensor},
};
use crate::{
    Carriage, Decoded, rope,
    sentence::{self, counted, quoted},
};

/// Decodes such a body.
///
/// # Errors
/// `wire.invalid-field` for a model of another number of inputs, or of an input with several free extents;
/// `wire.element-count` for a body that is not as long as its elements would be.
pub(super) fn decode(
    rope: &[Bytes],
    signature: &Signature,
    lease: &mut Lease<'_>,
) -> Result<Decoded, Failure> {
    let [spec] = &*signature.inputs else {
        let takes = sentence::specs(&signature.inputs);
        return Err(refused(format!("a model of one input; this one takes {takes}")));
    };
    let bytes = rope::length(rope);
    let mut tensor = Tensor {
        name: spec.name.clone(),
        dtype: spec.dtype,
        shape: shape(spec, bytes)?,
        data: Data::Strings(Vec::new()),
    };
    if spec.dtype.size().is_none() {
        tensor.data = Data::Strings(vec![rope::gather(rope, 0..bytes)]);
    } else {
        let read = ReadTensor { tensor, position: 0, raw_bytes: Some(bytes) };
        tensor = RawData::new(rope, Some(0)).fill(read, "input", lease)?;
    }
    let inputs = smallvec::smallvec![tensor];
    check_symbols(signature, &inputs)?;
    let (outputs, carriage) = (Requested::All, Carriage::Binary);
    Ok(Decoded { inputs, outputs, carriage, ..Decoded::default() })
}

/// The shape that so many bytes have. Where rows are free and another extent too, it is one row.
fn shape(spec: &TensorSpec, bytes: usize) -> Result<Vec<usize>, Failure> {
    let is_free = |dim: &Dim| !matches!(dim, Dim::Fixed(_));
    let mut shape: Vec<usize> = spec
        .shape
        .iter()
        .map(|dim| if let Dim::Fixed(extent) = dim { *extent } else { 1 })
        .collect();
    let (declared, name) = (sentence::declared(&spec.shape), quoted(&spec.name));
    let fixed = Tensor::elements(&shape).unwrap_or(usize::MAX);
    let Some(size) = spec.dtype.size() else {
        // One text: what stands behind what could not be told.
        return if fixed == 1 {
            Ok(shape)
        } else {
            Err(refused(format!("one text, and input {name} has shape {declared}")))
        };
    };
    let free: Vec<usize> =
        spec.shape.iter().enumerate().filter(|(_, dim)| is_free(dim)).map(|(at, _)| at).collect();
    let deduced = match &*free {
        [] => None,
        [only] => Some(*only),
        [0, other] => Some(*other),
        _ => {
            let message =
                format!("an input with one free extent, and input {name} has shape {declared}");
            return Err(refused(message));
        }
    };
    let unit = fixed.saturating_mul(size);
    if let Some(at) = deduced.filter(|_| unit > 0) {
        shape[at] = bytes / unit;
    }
    if Tensor::elements(&shape).and_then(|elements| elements.checked_mul(size)) == Some(bytes) {
        return Ok(shape);
    }
    let message = format!(
        "input {name}: the body is {} and no JSON; elements of {} {declared} come in {}",
        counted(bytes, "byte"),
        spec.dtype,
        counted(unit, "byte"),
    );
    Err(Failure::new(ErrorCode::WireElementCount, message))
}

#[cold]
fn refused(rest: String) -> Failure {
    let message = format!("a body without JSON (`Inference-Header-Content-Length: 0`) is {rest}");
    Failure::new(ErrorCode::WireInvalidField, message)
}

#[cfg(test)]
mod tests {
    use dukou_types::{Buffer, DType};

    use super::*;

    fn of(dtype: DType, shape: Vec<Dim>, body: &'static [u8]) -> Result<Tensor, Failure> {
        let input = TensorSpec { name: "x".into(), dtype, shape };
        let signature = Signature { inputs: vec![input], ..Signature::default() };
        let rope = [Bytes::from_static(body)];
        decode(&rope, &signature, &mut |_, bytes| Buffer::zeroed(bytes)).map(|mut decoded| {
            assert_eq!((decoded.carriage, decoded.outputs), (Carriage::Binary, Requested::All));
            decoded.inputs.remove(0)
        })
    }

    #[test]
    fn a_shape_is_deduced_from_the_length() {
        let rows = || Dim::Symbol("n".into());
        for (shape, body, expected) in [
            (vec![rows(), Dim::Fixed(2)], &[1, 0, 2, 0, 3, 0, 4, 0][..], vec![2, 2]),
            (vec![Dim::Fixed(2)], &[1, 0, 2, 0], vec![2]),
            (vec![rows(), Dim::Any(())], &[1, 0, 2, 0, 3, 0], vec![1, 3]),
            (vec![rows(), Dim::Fixed(2)], &[], vec![0, 2]),
        ] {
            let tensor = of(DType::Int16, shape, body).unwrap();
            assert_eq!((&tensor.shape, tensor.bytes().unwrap()), (&expected, body));
        }
        let text = of(DType::Bytes, vec![rows(), Dim::Fixed(1)], b"one text").unwrap();
        assert_eq!(
            (&*text.shape, text.strings().unwrap()),
            (&[1, 1][..], &["one text".into()][..])
        );
    }

    #[test]
    fn what_cannot_be_deduced_is_refused() {
        let any = || Dim::Any(());
        for (dtype, shape, body, words) in [
            (DType::Int16, vec![any(), Dim::Fixed(2)], &[0; 6][..], "come in 4 bytes"),
            (DType::Int16, vec![Dim::Fixed(2)], &[0; 8], "the body is 8 bytes"),
            (DType::Int16, vec![any(), Dim::Fixed(0)], &[0; 2], "come in 0 bytes"),
            (DType::Int16, vec![Dim::Fixed(1), any(), any()], &[0; 2], "one free extent"),
            (DType::Bool, vec![any()], &[2], "0 and 1"),
            (DType::Bytes, vec![Dim::Fixed(2)], b"a", "one text"),
        ] {
            let failure = of(dtype, shape, body).unwrap_err();
            assert!(failure.message.contains(words), "{failure}");
        }
        let none = decode(&[], &Signature::default(), &mut |_, n| Buffer::zeroed(n)).unwrap_err();
        assert_eq!(none.code, ErrorCode::WireInvalidField);
    }
}
