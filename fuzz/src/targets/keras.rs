//! A Keras server's bodies.

use dukou_wire::Dialect;
use http::HeaderMap;

use crate::answers::infer;

/// JSON in any of its forms, to be answered and to be scored.
pub fn json(input: &[u8]) {
    for path in ["/m/predict", "/m/evaluate"] {
        infer(Dialect::Keras, path, &HeaderMap::new(), input);
    }
}

/// An array in NumPy's form.
pub fn npy(input: &[u8]) {
    infer(Dialect::Keras, "/predict", &HeaderMap::new(), input);
}
