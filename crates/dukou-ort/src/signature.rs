//! What a session takes and gives, in dukou's words.

use std::{
    ffi::{CStr, c_char},
    ptr,
    sync::Arc,
};

use dukou_types::{DType, Dim, ErrorCode, Failure, Signature, TensorSpec};
use ort::sys;

use crate::api::{Api, Session, Status, TypeInfo, check, element_of, extents_of};

/// The dtype of an element type of the runtime; `None` for those that no protocol of ours carries.
pub(crate) const fn dtype_of(element: i32) -> Option<DType> {
    Some(match element {
        1 => DType::Fp32,
        2 => DType::Uint8,
        3 => DType::Int8,
        4 => DType::Uint16,
        5 => DType::Int16,
        6 => DType::Int32,
        7 => DType::Int64,
        8 => DType::Bytes,
        9 => DType::Bool,
        10 => DType::Fp16,
        11 => DType::Fp64,
        12 => DType::Uint32,
        13 => DType::Uint64,
        16 => DType::Bf16,
        _ => return None,
    })
}

/// The element type of the runtime for a dtype.
pub(crate) const fn element_type(dtype: DType) -> sys::ONNXTensorElementDataType {
    use sys::ONNXTensorElementDataType as Element;
    match dtype {
        DType::Fp32 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
        DType::Uint8 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8,
        DType::Int8 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT8,
        DType::Uint16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT16,
        DType::Int16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT16,
        DType::Int32 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32,
        DType::Int64 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_INT64,
        DType::Bytes => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_STRING,
        DType::Bool => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL,
        DType::Fp16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT16,
        DType::Fp64 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_DOUBLE,
        DType::Uint32 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT32,
        DType::Uint64 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT64,
        DType::Bf16 => Element::ONNX_TENSOR_ELEMENT_DATA_TYPE_BFLOAT16,
    }
}

#[derive(Clone, Copy)]
enum Side {
    Input,
    Output,
}

impl Side {
    const fn word(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
        }
    }
}

/// Reads the signature. `what` names the model in sentences.
pub(crate) fn read(api: Api, session: &Session, what: &str) -> Result<Signature, Failure> {
    Ok(Signature {
        inputs: side(api, session, Side::Input, what)?,
        outputs: side(api, session, Side::Output, what)?,
        batchable: false,
    })
}

fn internal(status: Status) -> Failure {
    Failure::new(ErrorCode::EngineInternal, "the model's signature cannot be read")
        .with_detail(status.message)
}

fn side(api: Api, session: &Session, side: Side, what: &str) -> Result<Vec<TensorSpec>, Failure> {
    let mut count = 0;
    let count_of = match side {
        Side::Input => api.SessionGetInputCount,
        Side::Output => api.SessionGetOutputCount,
    };
    // SAFETY: the session is alive; `count` is written.
    check(api, unsafe { count_of(session.as_ptr(), &raw mut count) }).map_err(internal)?;
    (0..count).map(|index| spec(api, session, side, index, what)).collect()
}

fn spec(
    api: Api,
    session: &Session,
    side: Side,
    index: usize,
    what: &str,
) -> Result<TensorSpec, Failure> {
    let name = name(api, session, side, index).map_err(internal)?;
    let unsupported = |is: &str| {
        Failure::new(
            ErrorCode::FormatsUnsupportedOperator,
            format!(
                "{what}: {} `{name}` is {is}, and only tensors can be served; export the model so that it \
                 takes and gives plain tensors (for scikit-learn: without ZipMap)",
                side.word()
            ),
        )
    };
    let type_of = match side {
        Side::Input => api.SessionGetInputTypeInfo,
        Side::Output => api.SessionGetOutputTypeInfo,
    };
    let mut raw = ptr::null_mut();
    // SAFETY: the session is alive and the index below the count; `raw` is written with a new object.
    check(api, unsafe { type_of(session.as_ptr(), index, &raw mut raw) }).map_err(internal)?;
    let info = TypeInfo::take(api, raw).ok_or_else(|| unsupported("of no known type"))?;
    let mut kind = 0_i32;
    let mut tensor = ptr::null();
    // SAFETY: the enum is an int in C and read as one; `tensor` stays owned by `info`.
    unsafe {
        check(api, (api.GetOnnxTypeFromTypeInfo)(info.as_ptr(), (&raw mut kind).cast()))
            .map_err(internal)?;
        match kind {
            1 => {}
            2 => return Err(unsupported("a sequence")),
            3 => return Err(unsupported("a map")),
            5 => return Err(unsupported("a sparse tensor")),
            6 => return Err(unsupported("an optional")),
            _ => return Err(unsupported("of no known type")),
        }
        check(api, (api.CastTypeInfoToTensorInfo)(info.as_ptr(), &raw mut tensor))
            .map_err(internal)?;
    }
    if tensor.is_null() {
        return Err(unsupported("of no known type"));
    }
    let element = element_of(api, tensor).map_err(internal)?;
    let dtype = dtype_of(element).ok_or_else(|| {
        unsupported(
            "of an element type that the protocols do not carry (complex, 8-bit float or 4-bit)",
        )
    })?;
    let shape = shape(api, tensor).map_err(internal)?;
    Ok(TensorSpec { name: name.as_str().into(), dtype, shape })
}

fn name(api: Api, session: &Session, side: Side, index: usize) -> Result<String, Status> {
    let name_of = match side {
        Side::Input => api.SessionGetInputName,
        Side::Output => api.SessionGetOutputName,
    };
    let (mut allocator, mut text) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: the default allocator is a singleton; the text is ours until it is freed with it.
    unsafe {
        check(api, (api.GetAllocatorWithDefaultOptions)(&raw mut allocator))?;
        check(api, name_of(session.as_ptr(), index, allocator, &raw mut text))?;
        let name = CStr::from_ptr(text).to_string_lossy().into_owned();
        check(api, (api.AllocatorFree)(allocator, text.cast()))?;
        Ok(name)
    }
}

fn shape(api: Api, info: *const sys::OrtTensorTypeAndShapeInfo) -> Result<Vec<Dim>, Status> {
    let extents = extents_of(api, info)?;
    let mut symbols: Vec<*const c_char> = vec![ptr::null(); extents.len()];
    // SAFETY: the array is as long as said; the texts stay owned by `info`.
    check(api, unsafe { (api.GetSymbolicDimensions)(info, symbols.as_mut_ptr(), symbols.len()) })?;
    Ok(extents
        .iter()
        .zip(symbols)
        .map(|(&extent, symbol)| {
            if let Ok(fixed) = usize::try_from(extent) {
                return Dim::Fixed(fixed);
            }
            if symbol.is_null() {
                return Dim::Any(());
            }
            // SAFETY: a text of the runtime's, alive as long as `info`.
            let symbol = unsafe { CStr::from_ptr(symbol) }.to_string_lossy();
            if symbol.is_empty() { Dim::Any(()) } else { Dim::Symbol(Arc::from(&*symbol)) }
        })
        .collect())
}
