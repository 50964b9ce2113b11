//! The bytes of BOOL, wherever they stand as they lie in memory.

use dukou_types::{DType, ErrorCode, Failure};

/// Demands of elements that came as they lie in memory that, where they are truth values, each is 0 or 1: a
/// byte that is neither is undefined behaviour to what runs the model, and to whoever reads it as one.
///
/// # Errors
/// `wire.invalid-field`.
pub(crate) fn check_truths(
    dtype: DType,
    bytes: &[u8],
    owner: &dyn Fn() -> String,
) -> Result<(), Failure> {
    if dtype != DType::Bool || bytes.iter().all(|&byte| byte <= 1) {
        return Ok(());
    }
    let message = format!("{} is BOOL, whose bytes are 0 and 1; others came", owner());
    Err(Failure::new(ErrorCode::WireInvalidField, message))
}
