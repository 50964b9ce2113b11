//! What was wrong with one element of a tensor: the sentence, with the dtype and what came.

use dukou_types::{DType, ErrorCode};

use crate::json::{Fault, Kind, Stop, token};

/// What is wrong with an element of `owner`, whose dtype is this.
#[cold]
pub(super) fn blame(fault: Fault, owner: &str, dtype: DType, body: &[u8]) -> Stop {
    let at = fault.at;
    let came = token(body, at);
    let (code, message) = match fault.kind {
        Kind::WrongType => {
            let elements = match dtype {
                DType::Bool => "`true` and `false`",
                DType::Bytes => "strings",
                _ => "numbers",
            };
            (
                ErrorCode::WireInvalidField,
                format!(
                    "{owner} is {dtype}, whose elements are {elements}; {came} came at byte {at}"
                ),
            )
        }
        Kind::NotWhole => (
            ErrorCode::WireNotANumber,
            format!(
                "{owner} is {dtype}, whose elements are written without fraction or exponent; {came} came at byte {at}"
            ),
        ),
        Kind::OutOfRange => (
            ErrorCode::WireNotANumber,
            format!("{owner} is {dtype}, {}; {came} came at byte {at}", range(dtype)),
        ),
        Kind::NotFinite => (
            ErrorCode::WireNotANumber,
            format!(
                "{owner} is {dtype} and JSON has only finite numbers; {came} came at byte {at}"
            ),
        ),
        _ => return fault.into(),
    };
    Stop::new(code, message)
}

/// What a dtype holds, for a sentence.
fn range(dtype: DType) -> String {
    let whole = |bits: u32, signed: bool| {
        let (low, high) = if signed {
            (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
        } else {
            (0, (1_i128 << bits) - 1)
        };
        format!("which holds {low} to {high}")
    };
    match dtype {
        DType::Uint8 => whole(8, false),
        DType::Uint16 => whole(16, false),
        DType::Uint32 => whole(32, false),
        DType::Uint64 => whole(64, false),
        DType::Int8 => whole(8, true),
        DType::Int16 => whole(16, true),
        DType::Int32 => whole(32, true),
        DType::Int64 => whole(64, true),
        DType::Fp16 => "which holds magnitudes up to 65504".to_owned(),
        DType::Bf16 | DType::Fp32 => "which holds magnitudes up to 3.4e38".to_owned(),
        _ => "which holds magnitudes up to 1.8e308".to_owned(),
    }
}
