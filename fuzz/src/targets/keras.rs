//! A Keras server's bodies.

use dukou_wire::Dialect;
use http::HeaderMap;

use crate::{
    answers::{PICTURES, infer, infer_of},
    pieces::{first_line, header},
};

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

/// A line with the content type, and a body: a picture, or a form of them.
pub fn form(input: &[u8]) {
    let (kind, body) = first_line(input);
    infer(Dialect::Keras, "/m/predict", &header("content-type", kind), body);
    infer_of(&*PICTURES, Dialect::Keras, ("/predict", &header("content-type", kind)), body);
}
