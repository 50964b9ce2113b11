//! JSON read once, straight into what is wanted: no tree, no tape.
//!
//! [`Scanner`] walks a body; a dialect pulls keys and values out of it in the order in which they
//! stand. Numbers of a tensor go through [`Element`] into a buffer of the tensor's dtype
//! ([`read_elements`]). Errors are small [`Fault`]s, a kind and a place; the dialect, who knows which
//! tensor is being read, makes the sentence.

mod decimal;
mod elements;
mod fault;
mod nested;
mod number;
mod scan;
mod text;
mod write;

pub(crate) use elements::{ReadElements, read_elements, read_strings};
pub(crate) use fault::{Fault, Kind, Stop, token};
pub(crate) use nested::{Column, Extents, read_string};
pub(crate) use number::Element;
pub(crate) use scan::Scanner;
pub(crate) use write::{push_float, push_integer, push_text};
