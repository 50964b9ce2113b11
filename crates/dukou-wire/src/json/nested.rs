//! Values whose shape is their nesting: a lone element, or lists in lists, of one length a level.

use bytes::Bytes;
use dukou_types::{Buffer, DType};
use half::{bf16, f16};
use smallvec::SmallVec;

use super::{
    fault::{Fault, Kind},
    number::{Element, Truth},
    scan::Scanner,
    text::Raw,
};

/// The extents of one value, the outermost first; empty for a lone element.
pub(crate) type Extents = SmallVec<[usize; 6]>;

/// No list of this level has ended yet.
const OPEN: usize = usize::MAX;

/// Elements of one dtype, of as many values as were appended.
#[derive(Debug)]
pub(crate) struct Column {
    dtype: DType,
    cells: Cells,
    count: usize,
}

#[derive(Debug)]
enum Cells {
    Numbers(Buffer),
    Strings(Vec<Bytes>),
}

impl Column {
    /// Nothing yet; numbers go into `buffer`, whatever it holds.
    pub(crate) fn new(dtype: DType, buffer: Buffer) -> Self {
        let cells =
            if dtype == DType::Bytes { Cells::Strings(Vec::new()) } else { Cells::Numbers(buffer) };
        Self { dtype, cells, count: 0 }
    }

    /// Reads one value behind those that are there, and says what shape it has. `body` is what the
    /// scanner reads: strings share its memory.
    pub(crate) fn append(
        &mut self,
        scanner: &mut Scanner<'_>,
        body: &Bytes,
    ) -> Result<Extents, Fault> {
        match self.dtype {
            DType::Bool => self.numbers::<Truth>(scanner, 5),
            DType::Uint8 => self.numbers::<u8>(scanner, 2),
            DType::Uint16 => self.numbers::<u16>(scanner, 2),
            DType::Uint32 => self.numbers::<u32>(scanner, 2),
            DType::Uint64 => self.numbers::<u64>(scanner, 2),
            DType::Int8 => self.numbers::<i8>(scanner, 2),
            DType::Int16 => self.numbers::<i16>(scanner, 2),
            DType::Int32 => self.numbers::<i32>(scanner, 2),
            DType::Int64 => self.numbers::<i64>(scanner, 2),
            DType::Fp16 => self.numbers::<f16>(scanner, 2),
            DType::Bf16 => self.numbers::<bf16>(scanner, 2),
            DType::Fp32 => self.numbers::<f32>(scanner, 2),
            DType::Fp64 => self.numbers::<f64>(scanner, 2),
            DType::Bytes => {
                let Cells::Strings(strings) = &mut self.cells else { return Ok(Extents::new()) };
                let extents = walk(scanner, |scanner| {
                    strings.push(read_string(scanner, body)?);
                    Ok(())
                })?;
                self.count = strings.len();
                Ok(extents)
            }
        }
    }

    /// `least_text`: the fewest bytes of text that one element takes, with its comma.
    fn numbers<T: Element>(
        &mut self,
        scanner: &mut Scanner<'_>,
        least_text: usize,
    ) -> Result<Extents, Fault> {
        let Cells::Numbers(buffer) = &mut self.cells else { return Ok(Extents::new()) };
        let count = &mut self.count;
        walk(scanner, |scanner| {
            if scanner.stands_at_null() {
                return Err(Fault::new(Kind::WrongType, scanner.at));
            }
            let value = T::read(scanner)?;
            if buffer.len() / size_of::<T>() <= *count {
                // Doubled, but never beyond what the rest of the body could still fill.
                let fill = scanner.remaining() / least_text + 1;
                let room = (*count * 2).max(16).min(*count + fill);
                buffer.resize(room * size_of::<T>());
            }
            if let Some(slot) = buffer.typed_mut::<T>().get_mut(*count) {
                *slot = value;
            }
            *count += 1;
            Ok(())
        })
    }

    /// The elements: numbers in a buffer of exactly their size, or strings.
    pub(crate) fn into_data(self) -> dukou_types::Data {
        match self.cells {
            Cells::Strings(strings) => dukou_types::Data::Strings(strings),
            Cells::Numbers(mut buffer) => {
                buffer.resize(self.count * self.dtype.size().unwrap_or(1));
                dukou_types::Data::Owned(buffer)
            }
        }
    }
}

/// Leads the scanner from element to element of one value; `element` reads each. All elements must
/// stand at one depth, and all lists of one depth must be as long.
fn walk<'a>(
    scanner: &mut Scanner<'a>,
    mut element: impl FnMut(&mut Scanner<'a>) -> Result<(), Fault>,
) -> Result<Extents, Fault> {
    let (mut extents, mut open) = (Extents::new(), Extents::new());
    if scanner.peek() != b'[' {
        element(scanner)?;
        return Ok(extents);
    }
    // The depth of elements, once one or an empty list was seen.
    let mut leaf = None;
    loop {
        let at = scanner.place();
        if scanner.peek() == b'[' {
            if leaf == Some(open.len()) {
                return Err(Fault::new(Kind::Ragged, at));
            }
            if let Some(parent) = open.last_mut() {
                *parent += 1;
            }
            scanner.enter()?;
            scanner.step();
            open.push(0);
            if extents.len() < open.len() {
                extents.push(OPEN);
            }
            if scanner.peek() != b']' {
                continue;
            }
            if *leaf.get_or_insert(open.len()) != open.len() {
                return Err(Fault::new(Kind::Ragged, at));
            }
        } else {
            let fits = extents.len() == open.len();
            if !fits || *leaf.get_or_insert(open.len()) != open.len() {
                return Err(Fault::new(Kind::Ragged, at));
            }
            element(scanner)?;
            let mut count = 1;
            // What nearly always stands between two numbers.
            while scanner.pass_comma_to_number() {
                element(scanner)?;
                count += 1;
            }
            if let Some(list) = open.last_mut() {
                *list += count;
            }
        }
        loop {
            match scanner.peek() {
                b',' => {
                    scanner.step();
                    break;
                }
                b']' => {
                    let at = scanner.at;
                    let length = open.pop().unwrap_or_default();
                    match extents.get_mut(open.len()) {
                        Some(extent) if *extent == OPEN => *extent = length,
                        Some(extent) if *extent == length => {}
                        _ => return Err(Fault::new(Kind::Ragged, at)),
                    }
                    scanner.step();
                    scanner.leave();
                    if open.is_empty() {
                        return Ok(extents);
                    }
                }
                _ => return Err(Fault::expected("`,` or `]`", scanner.at)),
            }
        }
    }
}

/// A string, or bytes as `{"b64": "…"}`.
pub(crate) fn read_string(scanner: &mut Scanner<'_>, body: &Bytes) -> Result<Bytes, Fault> {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    if scanner.peek() != b'{' {
        return Ok(match scanner.raw_text()? {
            Raw::Plain(range) => body.slice(range),
            Raw::Resolved(text) => Bytes::from(text),
        });
    }
    let start = scanner.at;
    let mut found = None;
    scanner.object(|scanner, key| {
        let at = scanner.place();
        if key != "b64" || found.is_some() {
            return Err(Fault::new(Kind::WrongType, start));
        }
        let text = scanner.text()?;
        let bytes =
            STANDARD.decode(text.as_bytes()).map_err(|_| Fault::new(Kind::NotBase64, at))?;
        found = Some(Bytes::from(bytes));
        Ok(())
    })?;
    found.ok_or_else(|| Fault::new(Kind::WrongType, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(dtype: DType, text: &str) -> Result<(Vec<usize>, Column), Kind> {
        let body = Bytes::copy_from_slice(text.as_bytes());
        let mut scanner = Scanner::new(&body, 16, true);
        let mut column = Column::new(dtype, Buffer::default());
        let extents = column.append(&mut scanner, &body).map_err(|fault| fault.kind)?;
        scanner.end().map_err(|fault| fault.kind)?;
        Ok((extents.to_vec(), column))
    }

    #[test]
    fn the_nesting_is_the_shape() {
        for (text, shape) in [
            ("1.5", &[][..]),
            ("[1, 2,3]", &[3]),
            ("[[1,2],[3,4],[5,6]]", &[3, 2]),
            ("[ [ [1] , [2] ] ]", &[1, 2, 1]),
            ("[]", &[0]),
            ("[[],[]]", &[2, 0]),
            ("[[[]]]", &[1, 1, 0]),
        ] {
            let (extents, column) = read(DType::Fp32, text).unwrap();
            assert_eq!(extents, shape, "{text}");
            assert_eq!(column.count, shape.iter().product::<usize>(), "{text}");
        }
    }

    #[test]
    fn what_is_uneven_is_refused() {
        for text in [
            "[[1,2],[3]]",
            "[1,[2]]",
            "[[1],2]",
            "[[[1]],[2]]",
            "[[],[1]]",
            "[[1],[]]",
            "[[],[[]]]",
            "[[1],[[2]]]",
        ] {
            assert_eq!(read(DType::Int64, text).map(|_| ()), Err(Kind::Ragged), "{text}");
        }
        for text in ["[1,]", "[1 2]", "[", "[[1]", "]", "", "[1]]"] {
            assert!(matches!(read(DType::Int64, text), Err(Kind::Expected(_))), "{text}");
        }
        assert_eq!(read(DType::Fp32, "[1,null]").map(|_| ()), Err(Kind::WrongType));
        assert!(matches!(read(DType::Fp32, &"[".repeat(40)), Err(Kind::TooDeep(16))));
    }

    #[test]
    fn bytes_come_as_text_or_as_base64() {
        let (shape, column) = read(DType::Bytes, r#"["a\n", {"b64": "AP8="}]"#).unwrap();
        assert_eq!(shape, [2]);
        let dukou_types::Data::Strings(strings) = column.into_data() else { panic!() };
        assert_eq!(strings, [&b"a\n"[..], b"\x00\xff"]);
        assert_eq!(read(DType::Bytes, r#"{"b64":"*"}"#).map(|_| ()), Err(Kind::NotBase64));
        assert_eq!(read(DType::Bytes, r#"{"b65":"AP8="}"#).map(|_| ()), Err(Kind::WrongType));
        assert_eq!(read(DType::Bytes, "{}").map(|_| ()), Err(Kind::WrongType));
    }

    #[test]
    fn values_stand_one_behind_the_other() {
        let body = Bytes::from_static(b"[1,2] [3,4]");
        let mut scanner = Scanner::new(&body, 16, false);
        let mut column = Column::new(DType::Int32, Buffer::default());
        for _ in 0..2 {
            assert_eq!(column.append(&mut scanner, &body).unwrap()[..], [2]);
        }
        let dukou_types::Data::Owned(buffer) = column.into_data() else { panic!() };
        assert_eq!(buffer.typed::<i32>(), [1, 2, 3, 4]);
    }
}
