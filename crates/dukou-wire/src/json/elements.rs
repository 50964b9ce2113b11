//! Tensor data: lists in lists, flattened into a buffer while they are read.

use bytes::Bytes;
use dukou_types::{Buffer, DType};
use half::{bf16, f16};

use super::{
    fault::{Fault, Kind},
    number::{Element, Truth},
    scan::Scanner,
    text::Raw,
};

/// A walk through a list of lists of any depth, from element to element.
#[derive(Default)]
struct Walk {
    depth: usize,
    /// Whether a value was just passed, so that a comma or an end must follow.
    after: bool,
    /// Whether a list was just opened, so that it may end at once.
    fresh: bool,
}

impl Walk {
    /// Begins at a list.
    fn begin(scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
        if scanner.peek() == b'[' { Ok(Self::default()) } else { Err(scanner.other_kind()) }
    }

    /// Leads the scanner right before the next value that is not a list, which the caller then reads;
    /// `false` where the outermost list has ended.
    #[inline(always)]
    fn next(&mut self, scanner: &mut Scanner<'_>) -> Result<bool, Fault> {
        // What nearly always stands between two numbers.
        if self.after && scanner.pass_comma_to_number() {
            return Ok(true);
        }
        loop {
            let byte = scanner.peek();
            match byte {
                b',' if self.after => {
                    scanner.step();
                    self.after = false;
                    self.fresh = false;
                }
                b']' if self.after || self.fresh => {
                    scanner.step();
                    scanner.leave();
                    self.after = true;
                    self.depth -= 1;
                    if self.depth == 0 {
                        return Ok(false);
                    }
                }
                _ if self.after => return Err(Fault::expected("`,` or `]`", scanner.at)),
                b'[' => {
                    scanner.enter()?;
                    scanner.step();
                    self.depth += 1;
                    self.fresh = true;
                }
                _ => {
                    self.after = true;
                    return Ok(true);
                }
            }
        }
    }
}

/// How a buffer may grow.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReadElements {
    /// The elements that there must be, where that is known.
    pub(crate) expected: Option<usize>,
    /// The fewest bytes of text that one element takes, with its comma.
    pub(crate) least_text: usize,
}

/// Reads numbers or truth values of `dtype` (not `BYTES`) into `buffer`, and says how many came. The
/// buffer may hold more room than that afterwards.
pub(crate) fn read_elements(
    scanner: &mut Scanner<'_>,
    dtype: DType,
    buffer: &mut Buffer,
    how: ReadElements,
) -> Result<usize, Fault> {
    match dtype {
        DType::Bool => read_typed::<Truth>(scanner, buffer, how),
        DType::Uint8 => read_typed::<u8>(scanner, buffer, how),
        DType::Uint16 => read_typed::<u16>(scanner, buffer, how),
        DType::Uint32 => read_typed::<u32>(scanner, buffer, how),
        DType::Uint64 => read_typed::<u64>(scanner, buffer, how),
        DType::Int8 => read_typed::<i8>(scanner, buffer, how),
        DType::Int16 => read_typed::<i16>(scanner, buffer, how),
        DType::Int32 => read_typed::<i32>(scanner, buffer, how),
        DType::Int64 => read_typed::<i64>(scanner, buffer, how),
        DType::Fp16 => read_typed::<f16>(scanner, buffer, how),
        DType::Bf16 => read_typed::<bf16>(scanner, buffer, how),
        DType::Fp32 => read_typed::<f32>(scanner, buffer, how),
        DType::Fp64 => read_typed::<f64>(scanner, buffer, how),
        DType::Bytes => Err(Fault::new(Kind::WrongType, scanner.place())),
    }
}

fn read_typed<T: Element>(
    scanner: &mut Scanner<'_>,
    buffer: &mut Buffer,
    how: ReadElements,
) -> Result<usize, Fault> {
    let most = how.expected.unwrap_or(usize::MAX);
    let mut count = 0;
    let mut slots = buffer.typed_mut::<T>();
    let mut walk = Walk::begin(scanner)?;
    while walk.next(scanner)? {
        let value = T::read(scanner)?;
        if count >= most {
            return Err(Fault::new(Kind::TooMany, scanner.at));
        }
        if count >= slots.len() {
            // Doubled, but never beyond what the rest of the body could still fill.
            let fill = scanner.remaining() / how.least_text + 1;
            let room = (count * 2).max(16).min(count + fill).min(most);
            buffer.resize(room * size_of::<T>());
            slots = buffer.typed_mut::<T>();
        }
        if let Some(slot) = slots.get_mut(count) {
            *slot = value;
        }
        count += 1;
    }
    Ok(count)
}

/// Reads strings. One without escapes shares the memory of `body`, which is what the scanner reads.
pub(crate) fn read_strings(
    scanner: &mut Scanner<'_>,
    body: &Bytes,
    how: ReadElements,
) -> Result<Vec<Bytes>, Fault> {
    let most = how.expected.unwrap_or(usize::MAX);
    let likely = how.expected.unwrap_or(0).min(scanner.remaining() / how.least_text + 1);
    let mut strings = Vec::with_capacity(likely);
    let mut walk = Walk::begin(scanner)?;
    while walk.next(scanner)? {
        let string = match scanner.raw_text()? {
            Raw::Plain(range) => body.slice(range),
            Raw::Resolved(text) => Bytes::from(text),
        };
        if strings.len() >= most {
            return Err(Fault::new(Kind::TooMany, scanner.at));
        }
        strings.push(string);
    }
    Ok(strings)
}
