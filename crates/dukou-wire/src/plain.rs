//! JSON of plain values, as who asks has it: inputs in rows or in columns, and answers held to the outputs
//! that were declared. Where dtypes and shapes are nobody's word, the signature is.

use bytes::Bytes;
use dukou_types::{Buffer, ErrorCode, Failure, Signature, Tensor, TensorSpec};
use smallvec::SmallVec;

use crate::{
    DecodeLimits,
    json::{Column, Extents, Scanner, Stop},
    peer::{Question, Written},
    rope,
    sentence::{self, quoted},
    tensorflow::{blame_as, object_stands, rows_of},
    v2::Answer,
};

/// How many rows all inputs have, where the model takes rows at all.
pub(crate) fn rows(question: &Question<'_>) -> Option<usize> {
    if !question.signature.has_free_rows() {
        return None;
    }
    rows_of(question.inputs).ok().filter(|&rows| rows > 0)
}

/// A body of JSON.
pub(crate) fn json(body: Vec<u8>) -> Written {
    Written { body: body.into(), content_type: "application/json", header_length: None }
}

/// Where an answer's values may stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stands {
    /// In `predictions` or `outputs`.
    Inside,
    /// There, or as all of the body: rows, one row, or outputs by name.
    Bare,
}

/// Reads an answer's body. What stands beside the outputs is passed over.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn read_answer(
    rope: &[Bytes],
    signature: &Signature,
    limits: &DecodeLimits,
    stands: Stands,
) -> Result<Answer, Failure> {
    let total = rope::admitted(rope, limits)?;
    let body = rope::gather(rope, 0..total);
    let mut scanner = Scanner::new(&body, limits.json_depth, true);
    let mut outputs = Outputs::new(&signature.outputs, &body);
    let found = match stands {
        Stands::Inside => outputs.read_inside(&mut scanner),
        Stands::Bare => outputs.read_bare(&mut scanner),
    };
    if !found.map_err(|stop| stop.in_body(&body))? {
        let message = "the answer has neither `predictions` nor `outputs`";
        return Err(Failure::new(ErrorCode::WireMissingField, message));
    }
    Ok(Answer { outputs: outputs.finish(stands)?, ..Answer::default() })
}

/// The outputs of one answer, as far as they were read.
struct Outputs<'a> {
    specs: &'a [TensorSpec],
    body: &'a Bytes,
    read: SmallVec<[Option<Read>; 2]>,
}

/// What came for one output.
struct Read {
    column: Column,
    /// Of one value.
    extents: Extents,
    values: usize,
}

impl<'a> Outputs<'a> {
    fn new(specs: &'a [TensorSpec], body: &'a Bytes) -> Self {
        Self { specs, body, read: specs.iter().map(|_| None).collect() }
    }

    /// Reads an object with `predictions` or `outputs`; says whether it has one.
    fn read_inside(&mut self, scanner: &mut Scanner<'_>) -> Result<bool, Stop> {
        let mut found = false;
        scanner.object(|scanner, key| match &*key {
            "predictions" | "outputs" if !found => {
                found = true;
                self.read(scanner)
            }
            _ => scanner.skip().map_err(Stop::from),
        })?;
        scanner.end()?;
        Ok(found)
    }

    /// Reads that, or all of the body; says whether there was anything.
    fn read_bare(&mut self, scanner: &mut Scanner<'_>) -> Result<bool, Stop> {
        let place = scanner.place();
        if object_stands(scanner) {
            let mut look = scanner.at_place(place);
            let (mut inside, mut named) = (false, 0);
            look.object(|scanner, key| {
                named += usize::from(self.specs.iter().any(|spec| *spec.name == *key));
                inside |= matches!(&*key, "predictions" | "outputs");
                scanner.skip().map_err(Stop::from)
            })?;
            // Outputs by name may themselves be called so.
            if named < self.specs.len() || (inside && named == 1) {
                return self.read_inside(&mut scanner.at_place(place));
            }
        }
        self.read(scanner)?;
        scanner.end()?;
        Ok(true)
    }

    /// Reads whatever stands here: outputs by name, rows of them, or the value of the only one.
    fn read(&mut self, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        if object_stands(scanner) {
            return scanner.object(|scanner, key| self.member(scanner, &key));
        }
        if !first_is_named(scanner) {
            let [_] = self.specs else {
                let message = format!(
                    "the answer is one value, and the model gives {} outputs: {}",
                    self.specs.len(),
                    sentence::specs(self.specs)
                );
                return Err(Stop::new(ErrorCode::WireMissingField, message));
            };
            return self.append(0, scanner);
        }
        let mut row = 0;
        scanner.list(|scanner| {
            scanner.object(|scanner, key| self.member(scanner, &key))?;
            row += 1;
            let uneven = self.read.iter().flatten().any(|read| read.values != row);
            if uneven {
                let message =
                    format!("row {} of the answer has other outputs than those before", row - 1);
                return Err(Stop::new(ErrorCode::WireMissingField, message));
            }
            Ok(())
        })?;
        for read in self.read.iter_mut().flatten() {
            read.extents.insert(0, row);
        }
        Ok(())
    }

    fn member(&mut self, scanner: &mut Scanner<'_>, key: &str) -> Result<(), Stop> {
        match self.specs.iter().position(|spec| *spec.name == *key) {
            Some(position) => self.append(position, scanner),
            None => scanner.skip().map_err(Stop::from),
        }
    }

    fn append(&mut self, position: usize, scanner: &mut Scanner<'_>) -> Result<(), Stop> {
        let spec = &self.specs[position];
        let read = self.read[position].get_or_insert_with(|| Read {
            column: Column::new(spec.dtype, Buffer::default()),
            extents: Extents::new(),
            values: 0,
        });
        let extents = read
            .column
            .append(scanner, self.body)
            .map_err(|fault| blame_as("output", fault, spec, scanner.body()))?;
        if read.values > 0 && extents != read.extents {
            let message = format!(
                "output {}: the rows before have shape {}, and {} came",
                quoted(&spec.name),
                sentence::shape(&read.extents),
                sentence::shape(&extents)
            );
            return Err(Stop::new(ErrorCode::RequestWrongShape, message));
        }
        read.extents = extents;
        read.values += 1;
        Ok(())
    }

    /// One tensor for each output that came, of a shape that was declared.
    fn finish(self, stands: Stands) -> Result<Vec<Tensor>, Failure> {
        let specs = self.specs;
        let mut tensors = Vec::with_capacity(specs.len());
        for (read, spec) in self.read.into_iter().zip(specs) {
            let Some(read) = read else { continue };
            let mut shape = read.extents.to_vec();
            if stands == Stands::Bare && shape.len() + 1 == spec.shape.len() {
                shape.insert(0, 1); // the only row
            }
            let data = read.column.into_data();
            tensors.push(Tensor { name: spec.name.clone(), dtype: spec.dtype, shape, data });
        }
        if tensors.is_empty() {
            let message = format!("the answer has none of the outputs {}", sentence::specs(specs));
            return Err(Failure::new(ErrorCode::WireMissingField, message));
        }
        check_outputs(&tensors, specs)?;
        Ok(tensors)
    }
}

/// Whether a list stands here whose first element is an object with names.
fn first_is_named(scanner: &mut Scanner<'_>) -> bool {
    let place = scanner.place();
    let (mut look, mut named) = (scanner.at_place(place), false);
    // One element is enough.
    let _looked = look.list(|scanner| {
        named = object_stands(scanner);
        Err(Stop::from(scanner.other_kind()))
    });
    named
}

/// Demands that outputs are those that were declared, of their dtypes and shapes.
///
/// # Errors
/// `request.unknown-output`, `request.wrong-dtype`, `request.wrong-shape`.
pub(crate) fn check_outputs(tensors: &[Tensor], specs: &[TensorSpec]) -> Result<(), Failure> {
    for tensor in tensors {
        let name = quoted(&tensor.name);
        let Some(spec) = specs.iter().find(|spec| spec.name == tensor.name) else {
            let message = format!("output {name} came; the model gives {}", sentence::specs(specs));
            return Err(Failure::new(ErrorCode::RequestUnknownOutput, message));
        };
        if tensor.dtype != spec.dtype {
            let message = format!("output {name} is {}, {} came", spec.dtype, tensor.dtype);
            return Err(Failure::new(ErrorCode::RequestWrongDtype, message));
        }
        if !spec.admits(&tensor.shape) {
            let message = format!(
                "output {name} has shape {}, {} came",
                sentence::declared(&spec.shape),
                sentence::shape(&tensor.shape)
            );
            return Err(Failure::new(ErrorCode::RequestWrongShape, message));
        }
    }
    Ok(())
}
