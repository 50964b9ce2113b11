//! Inputs made of others by chance, the same for the same seed: bits turned, pieces cut out, doubled and put
//! elsewhere, lengths and numbers changed to what is at an edge, words put in.

/// What an input is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// JSON, perhaps with bytes behind it.
    Json,
    /// A message of protobuf.
    Protobuf,
    /// Lines, forms, and what has a form of its own.
    Text,
}

/// Bytes of an input: small faults are found in small inputs, and many of them run in a second.
const MOST: usize = 8 << 10;

/// Numbers at which things go wrong.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    7,
    0x7f,
    0x80,
    0xff,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    0x1000_0000_0000,
    0x7fff_ffff_ffff_ffff,
    u64::MAX,
];

/// Words of JSON bodies.
const JSON: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "\\u0000",
    "\\ud83d",
    "\\ude00",
    "null",
    "true",
    "false",
    "NaN",
    "-Infinity",
    "Infinity",
    "-0",
    "1e400",
    "1e-400",
    "0.1e+5",
    "-1",
    "18446744073709551616",
    "9223372036854775808",
    "\"inputs\":",
    "\"instances\":",
    "\"outputs\":",
    "\"name\":",
    "\"x\"",
    "\"z\"",
    "\"y\"",
    "\"datatype\":",
    "\"FP32\"",
    "\"BYTES\"",
    "\"BOOL\"",
    "\"INT64\"",
    "\"shape\":",
    "\"data\":",
    "\"parameters\":",
    "\"binary_data_size\":",
    "\"binary_data\":",
    "\"classification\":",
    "\"id\":",
    "\"b64\":",
    "\"AA==\"",
    "\"labels\":",
    "\"examples\":",
    "\"context\":",
    "\"signature_name\":",
    "\"timeout\":",
    "\"priority\":",
    "\"error\":",
    "\"model_name\":",
    "[[[[[[[[",
    "]]]]]]]]",
    "{\"a\":{\"a\":{\"a\":",
    " ",
    "\n",
    "渡",
];

/// Words of protobuf messages: keys of fields, and what stands in them.
const PROTOBUF: &[&str] = &[
    "\x08",
    "\x0a",
    "\x0d",
    "\x10",
    "\x12",
    "\x18",
    "\x1a",
    "\x20",
    "\x22",
    "\x28",
    "\x2a",
    "\x32",
    "\x3a",
    "\x42",
    "\x4a",
    "\x50",
    "\x0a\0",
    "\x12\0",
    "\x1a\0",
    "\x2a\0",
    "\x32\0",
    "\x3a\0",
    "\x0a\x01x",
    "\x0a\x01z",
    "\x0a\x01m",
    "\x12\x04FP32",
    "\x12\x05BYTES",
    "serving_default",
    "tensorflow/serving/classify",
    "tensorflow/serving/regress",
    "signature_def",
    "binary_data_size",
    "classification",
    "timeout",
    "all",
    "data",
    "\u{7f}",
];

/// Words of heads and forms.
const TEXT: &[&str] = &[
    "GET ",
    "POST ",
    "PUT ",
    "DELETE ",
    "OPTIONS ",
    "/v1/models/",
    "/v2/models/",
    "/versions/",
    "/labels/",
    "/infer",
    ":predict",
    ":classify",
    "/metadata",
    "/predictions/",
    "/models/",
    "/set-default",
    "/all",
    "/predict",
    "/evaluate",
    "/inference.GRPCInferenceService/",
    "%2F",
    "%",
    "%00",
    "..",
    "//",
    "?",
    "&",
    "=",
    "+",
    "url=",
    "model_name=",
    "min_worker=",
    "max_worker=",
    "synchronous=true",
    "\r\n",
    "\n",
    "--XX",
    "--XX--\r\n",
    "boundary=XX",
    "content-disposition: form-data; name=\"x\"",
    "application/json",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
    "application/octet-stream",
    "text/plain",
    "application/grpc",
    "gzip",
    "deflate",
    "identity",
    "\u{93}NUMPY",
    "'descr':",
    "'<f4'",
    "'|b1'",
    "'fortran_order':",
    "False",
    "True",
    "'shape':",
    "(",
    ")",
    ",",
    "{",
    "}",
    "[",
    "]",
    ";q=0.5",
    "99999999",
    "S",
    "m",
    "\0",
    "\u{7f}",
];

/// Chance, of a seed.
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Of this seed.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number (splitmix64).
    pub const fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`; 0 where that is 0.
    pub const fn below(&mut self, end: usize) -> usize {
        match end {
            0 => 0,
            end => (self.number() % end as u64) as usize,
        }
    }

    /// One of these.
    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len())]
    }
}

/// Another input, made of one of these.
pub fn mutated(corpus: &[Vec<u8>], shape: Shape, chance: &mut Chance) -> Vec<u8> {
    let mut input = chance.one(corpus).clone();
    for _ in 0..=chance.below(4) {
        // Most changes break the lengths that a message's fields say: some keep them.
        if shape == Shape::Protobuf && chance.below(3) > 0 {
            input = within(&input, corpus, chance, 4);
        } else {
            change(&mut input, corpus, shape, chance);
        }
        input.truncate(MOST);
    }
    input
}

/// Bytes of an input: where they begin, and how many.
fn piece(input: &[u8], chance: &mut Chance) -> (usize, usize) {
    let start = chance.below(input.len() + 1);
    let rest = input.len() - start;
    let most = if chance.below(4) == 0 { rest } else { rest.min(16) };
    (start, chance.below(most + 1))
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], shape: Shape, chance: &mut Chance) {
    let (start, length) = piece(input, chance);
    match chance.below(11) {
        0 => {
            if let Some(byte) = input.get_mut(start) {
                *byte ^= 1 << chance.below(8);
            }
        }
        1 => {
            if let Some(byte) = input.get_mut(start) {
                *byte = chance.number() as u8;
            }
        }
        2 => drop(input.drain(start..start + length)),
        3 => {
            let times = 1 + chance.below(if length < 64 { 64 } else { 4 });
            put(input, start, &input[start..start + length].repeat(times));
        }
        4 => input.truncate(start),
        5 => {
            let other = chance.one(corpus);
            let (from, count) = piece(other, chance);
            put(input, start, &other[from..from + count]);
        }
        // Of one the front, of another the end.
        6 => {
            let other = chance.one(corpus);
            input.truncate(start);
            input.extend_from_slice(&other[chance.below(other.len() + 1)..]);
        }
        7 => put(input, start, word(shape, chance).as_bytes()),
        8 => {
            let word = word(shape, chance).as_bytes();
            let end = (start + word.len()).min(input.len());
            input.splice(start..end, word.iter().copied());
        }
        9 => number_in_bytes(input, start, chance),
        _ => number_in_digits(input, start, chance),
    }
}

fn put(input: &mut Vec<u8>, place: usize, bytes: &[u8]) {
    input.splice(place..place, bytes.iter().copied().take(MOST));
}

fn word(shape: Shape, chance: &mut Chance) -> &'static str {
    let words = match shape {
        Shape::Json => JSON,
        Shape::Protobuf => PROTOBUF,
        Shape::Text => TEXT,
    };
    words[chance.below(words.len())]
}

/// Writes a number of an edge over whatever stands there, in one of the ways in which numbers are written.
fn number_in_bytes(input: &mut [u8], start: usize, chance: &mut Chance) {
    let number = *chance.one(&EDGES);
    let mut written = match chance.below(4) {
        0 => number.to_le_bytes().to_vec(),
        1 => number.to_be_bytes().to_vec(),
        2 => (number as u32).to_be_bytes().to_vec(),
        _ => {
            let mut varint = Vec::new();
            push_varint(&mut varint, number);
            varint
        }
    };
    written.truncate(1 << chance.below(4));
    for (place, byte) in input.iter_mut().skip(start).zip(written) {
        *place = byte;
    }
}

/// The first run of digits behind `start` becomes another one.
fn number_in_digits(input: &mut Vec<u8>, start: usize, chance: &mut Chance) {
    let Some(begin) = input.iter().skip(start).position(u8::is_ascii_digit) else { return };
    let begin = begin + start;
    let length = input[begin..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let number = match chance.below(3) {
        0 => chance.below(300) as u64,
        _ => *chance.one(&EDGES),
    };
    input.splice(begin..begin + length, number.to_string().into_bytes());
}

fn push_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn varint(input: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for place in 0..10 {
        let (&byte, rest) = input.split_first()?;
        *input = rest;
        number |= u64::from(byte & 0x7f) << (7 * place);
        if byte < 0x80 {
            return Some(number);
        }
    }
    None
}

/// A field of a message: its key, its bytes as they stand behind it, and whether these have a length.
#[derive(Clone)]
struct Field {
    key: u64,
    value: Vec<u8>,
}

/// The fields of a message, where it is one.
fn fields(mut message: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let length = match key & 7 {
            0 => {
                let mut rest = message;
                varint(&mut rest)?;
                message.len() - rest.len()
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let value = message.get(..length)?.to_vec();
        message = &message[length..];
        fields.push(Field { key, value });
    }
    Some(fields)
}

/// A change inside a message that keeps the lengths around it right; inside it again, so deep.
fn within(message: &[u8], corpus: &[Vec<u8>], chance: &mut Chance, depth: usize) -> Vec<u8> {
    let whole = |chance: &mut Chance| {
        let mut changed = message.to_vec();
        change(&mut changed, corpus, Shape::Protobuf, chance);
        changed
    };
    let Some(mut found) = fields(message).filter(|found| !found.is_empty()) else {
        return whole(chance);
    };
    let place = chance.below(found.len());
    let other = chance.below(found.len());
    let nested = found[place].key & 7 == 2;
    match chance.below(8) {
        0 => drop(found.remove(place)),
        1 => {
            let (twice, times) = (found[place].clone(), 1 + chance.below(40));
            found.splice(place..place, std::iter::repeat_n(twice, times));
        }
        2 => found.swap(place, other),
        3 => found[place].key = found[place].key & 7 | (1 + chance.below(18) as u64) << 3,
        4 => {
            let donor = chance.one(corpus);
            if let Some(donated) = fields(donor).filter(|donated| !donated.is_empty()) {
                found.insert(place, chance.one(&donated).clone());
            }
        }
        _ if nested && depth > 0 => {
            let inner = &found[place].value;
            found[place].value = within(inner, corpus, chance, depth - 1);
        }
        _ if nested => change(&mut found[place].value, corpus, Shape::Protobuf, chance),
        _ => {
            // A number, or bytes of a fixed width.
            if found[place].key & 7 == 0 {
                found[place].value.clear();
                push_varint(&mut found[place].value, *chance.one(&EDGES));
            } else {
                let value = &mut found[place].value;
                let byte = chance.below(value.len());
                value[byte] ^= 1 << chance.below(8);
            }
        }
    }
    let mut out = Vec::with_capacity(message.len() + 16);
    for Field { key, value } in found {
        push_varint(&mut out, key);
        if key & 7 == 2 {
            push_varint(&mut out, value.len() as u64);
        }
        out.extend_from_slice(&value);
        if out.len() > MOST {
            break;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_inputs() {
        let corpus = [b"{\"inputs\":[]}".to_vec(), b"\x0a\x01m\x12\x00".to_vec(), Vec::new()];
        for shape in [Shape::Json, Shape::Protobuf, Shape::Text] {
            let (mut one, mut other) = (Chance::new(7), Chance::new(7));
            let inputs: Vec<_> = (0..200).map(|_| mutated(&corpus, shape, &mut one)).collect();
            assert!(inputs.iter().all(|input| *input == mutated(&corpus, shape, &mut other)));
            assert!(inputs.iter().all(|input| input.len() <= MOST));
            let changed = inputs.iter().filter(|input| !corpus.contains(input)).count();
            assert!(changed > 100, "{changed} of 200 are others");
        }
    }

    #[test]
    fn a_message_changed_within_is_a_message_most_times() {
        let message = b"\x0a\x01m\x2a\x0c\x0a\x01x\x12\x04FP32\x1a\x01\x02\x3a\x02ab".to_vec();
        let corpus = [message.clone()];
        let mut chance = Chance::new(1);
        let still =
            (0..300).filter(|_| fields(&within(&message, &corpus, &mut chance, 4)).is_some());
        assert!(still.count() > 200);
    }
}
