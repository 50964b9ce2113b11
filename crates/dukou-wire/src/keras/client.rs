//! The other side: where a small Keras server is asked. What it is asked, and what it answers, is
//! TensorFlow Serving's in rows.

use crate::peer::Named;

/// Where an inference is asked.
pub(crate) fn infer_path(named: Named<'_>) -> String {
    format!("/{}/predict", named.model)
}
