//! An answer of a Keras server: predictions by row, with the names of classes where they have any, or
//! the scores of an evaluation.

use dukou_types::{Failure, InferResponse};

use super::score::{classes, score};
use crate::{
    Carriage, EncodeContext, Encoded,
    json::{push_float, push_integer, push_text},
    tensorflow::{push_rows, rows_of},
};

/// Appends an answer's body to `out`.
///
/// # Errors
/// `request.wrong-shape` where the outputs do not have the same rows, or not as many as there are labels.
pub fn encode(
    response: &InferResponse,
    context: &EncodeContext<'_>,
    out: &mut Vec<u8>,
) -> Result<Encoded, Failure> {
    let rows = rows_of(&response.outputs)?;
    out.extend_from_slice(b"{\"model\":");
    let begin = out.len() - b"{\"model\":".len();
    push_text(out, context.model);
    out.extend_from_slice(b",\"version\":");
    push_text(out, context.version);
    if let Carriage::Scores(truth) = context.carriage {
        let scores = score(&response.outputs, context.labels, truth, rows).inspect_err(|_| {
            out.truncate(begin);
        })?;
        out.extend_from_slice(b",\"rows\":");
        push_integer(out, rows);
        out.extend_from_slice(b",\"metrics\":{");
        for (position, (name, value)) in scores.into_iter().enumerate() {
            if position > 0 {
                out.push(b',');
            }
            push_text(out, name);
            out.push(b':');
            push_float(out, value);
        }
        out.extend_from_slice(b"}}");
        return Ok(Encoded::default());
    }
    out.extend_from_slice(b",\"predictions\":");
    push_rows(out, &response.outputs, rows);
    if let Some(classes) = classes(&response.outputs, context.labels, rows) {
        out.extend_from_slice(b",\"classes\":[");
        for (row, class) in classes.into_iter().enumerate() {
            if row > 0 {
                out.push(b',');
            }
            push_text(out, class);
        }
        out.push(b']');
    }
    out.push(b'}');
    Ok(Encoded::default())
}
