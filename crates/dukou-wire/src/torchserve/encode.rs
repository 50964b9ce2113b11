//! An answer's body: what a handler without postprocessing gives.

use dukou_types::{Failure, InferResponse};

use crate::{
    Carriage, EncodeContext, Encoded,
    tensorflow::{self, push_named, push_row, push_rows, push_tensor, rows_of},
};

/// Appends an answer's body to `out`: `{"predictions": rows}` for `instances`, otherwise the bare rows or
/// the bare row, several outputs by name. Outputs that have no common rows go whole, by name.
///
/// # Errors
/// `request.wrong-shape` where `instances` were sent and an output has no rows.
pub fn encode(
    response: &InferResponse,
    context: &EncodeContext<'_>,
    out: &mut Vec<u8>,
) -> Result<Encoded, Failure> {
    let outputs = &response.outputs;
    match (context.carriage, rows_of(outputs)) {
        (Carriage::BareRow, Ok(1)) => match &**outputs {
            [only] => push_row(out, only, 0),
            several => push_named(out, several, |out, tensor| push_row(out, tensor, 0)),
        },
        (Carriage::BareRow | Carriage::BareRows, Ok(rows)) => push_rows(out, outputs, rows),
        (Carriage::BareRow | Carriage::BareRows, Err(_)) => match &**outputs {
            [only] => push_tensor(out, only),
            several => push_named(out, several, push_tensor),
        },
        _ => return tensorflow::encode(response, context, out),
    }
    Ok(Encoded::default())
}
