//! A place in a body, and the steps that lead on from it.

use std::borrow::Cow;

use super::{
    decimal::Decimal,
    fault::{Fault, Kind},
    number::Element as _,
};

/// The deepest nesting that any limit allows: skipping a value is recursive.
const DEEPEST: usize = 512;

/// Reads a body from front to back. Cloning it remembers a place.
#[derive(Clone)]
pub(crate) struct Scanner<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) at: usize,
    depth: usize,
    max_depth: usize,
    /// Whether words may stand for NaN and the infinities, and `null` for NaN.
    words: bool,
    null: bool,
}

impl<'a> Scanner<'a> {
    /// At the front of `bytes`. `non_finite` allows `NaN`, `Infinity`, `-Infinity` and `null` where a
    /// floating number stands.
    pub(crate) fn new(bytes: &'a [u8], max_depth: usize, non_finite: bool) -> Self {
        let max_depth = max_depth.min(DEEPEST);
        Self { bytes, at: 0, depth: 0, max_depth, words: non_finite, null: non_finite }
    }

    /// Allows `NaN` and the infinities by their words, and `null` not: what is missing is told.
    pub(crate) const fn with_words(mut self) -> Self {
        self.words = true;
        self
    }

    /// All of the body.
    pub(crate) const fn body(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes from here to the end.
    pub(crate) const fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The next byte that is not white space, without passing it; 0 at the end of the body, which no
    /// grammar wants.
    #[inline(always)]
    pub(crate) fn peek(&mut self) -> u8 {
        loop {
            match self.bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(&byte) => return byte,
                None => return 0,
            }
        }
    }

    /// Passes `wanted`, or says `what` was expected.
    #[inline]
    pub(crate) fn pass(&mut self, wanted: u8, what: &'static str) -> Result<(), Fault> {
        if self.peek() != wanted {
            return Err(Fault::expected(what, self.at));
        }
        self.at += 1;
        Ok(())
    }

    /// Passes the byte that was peeked at.
    #[inline(always)]
    pub(super) fn step(&mut self) {
        self.at += 1;
    }

    /// Passes a comma, and one space, that stand right here with a number right behind.
    #[inline(always)]
    pub(super) fn pass_comma_to_number(&mut self) -> bool {
        let after = match self.bytes.get(self.at..self.at + 3) {
            Some(&[b',', b'-' | b'0'..=b'9', _]) => self.at + 1,
            Some(&[b',', b' ', b'-' | b'0'..=b'9']) => self.at + 2,
            _ => return false,
        };
        self.at = after;
        true
    }

    /// The place of the next byte that is not white space.
    pub(crate) fn place(&mut self) -> usize {
        self.peek();
        self.at
    }

    /// One level in.
    #[inline]
    pub(super) fn enter(&mut self) -> Result<(), Fault> {
        if self.depth >= self.max_depth {
            return Err(Fault::new(Kind::TooDeep(self.max_depth), self.at));
        }
        self.depth += 1;
        Ok(())
    }

    /// One level out.
    #[inline]
    pub(super) fn leave(&mut self) {
        self.depth = self.depth.saturating_sub(1);
    }

    /// Reads an object: `member` is given each key with the scanner standing before its value, and
    /// reads that value.
    pub(crate) fn object<E: From<Fault>>(
        &mut self,
        mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() != b'{' {
            return Err(Fault::expected("`{`", self.at).into());
        }
        self.enter()?;
        self.step();
        if self.peek() == b'}' {
            self.step();
            self.leave();
            return Ok(());
        }
        loop {
            if self.peek() != b'"' {
                return Err(Fault::expected("a key in quotes", self.at).into());
            }
            let key = self.text()?;
            self.pass(b':', "`:`")?;
            member(self, key)?;
            match self.peek() {
                b',' => self.step(),
                b'}' => break,
                _ => return Err(Fault::expected("`,` or `}`", self.at).into()),
            }
        }
        self.step();
        self.leave();
        Ok(())
    }

    /// Reads a list: `item` is called with the scanner before each element, and reads it.
    pub(crate) fn list<E: From<Fault>>(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.peek() != b'[' {
            return Err(Fault::expected("`[`", self.at).into());
        }
        self.enter()?;
        self.step();
        if self.peek() == b']' {
            self.step();
            self.leave();
            return Ok(());
        }
        loop {
            item(self)?;
            match self.peek() {
                b',' => self.step(),
                b']' => break,
                _ => return Err(Fault::expected("`,` or `]`", self.at).into()),
            }
        }
        self.step();
        self.leave();
        Ok(())
    }

    /// Passes one value of any kind, checking that it is JSON.
    pub(crate) fn skip(&mut self) -> Result<(), Fault> {
        match self.peek() {
            b'{' => self.object(|scanner, _| scanner.skip()),
            b'[' => self.list(Self::skip),
            b'"' => self.text().map(drop),
            b't' => self.word("true"),
            b'f' => self.word("false"),
            b'n' => self.word("null"),
            _ => self.skip_number(),
        }
    }

    fn skip_number(&mut self) -> Result<(), Fault> {
        let start = self.at;
        match Decimal::read(self) {
            Ok(_) => Ok(()),
            Err(fault) => self
                .non_finite_word(start)
                .map(drop)
                .map_err(|other| if other.kind == Kind::NotFinite { other } else { fault }),
        }
    }

    /// Passes this literal word.
    pub(super) fn word(&mut self, word: &'static str) -> Result<(), Fault> {
        if !self.bytes[self.at.min(self.bytes.len())..].starts_with(word.as_bytes()) {
            return Err(Fault::expected("a value", self.at));
        }
        self.at += word.len();
        Ok(())
    }

    /// `true` or `false`.
    #[inline]
    pub(crate) fn boolean(&mut self) -> Result<bool, Fault> {
        match self.peek() {
            b't' => self.word("true").map(|()| true),
            b'f' => self.word("false").map(|()| false),
            _ => Err(self.other_kind()),
        }
    }

    /// A number.
    pub(crate) fn number(&mut self) -> Result<f64, Fault> {
        self.peek();
        f64::read(self)
    }

    /// Passes `null` if it stands here.
    pub(crate) fn null(&mut self) -> Result<bool, Fault> {
        if self.peek() != b'n' {
            return Ok(false);
        }
        self.word("null").map(|()| true)
    }

    /// Whether `null` stands here.
    pub(super) fn stands_at_null(&mut self) -> bool {
        self.peek() == b'n' && self.bytes[self.at..].starts_with(b"null")
    }

    /// One of the words that stand for no finite number, where the scanner allows them.
    #[cold]
    pub(super) fn non_finite_word(&mut self, start: usize) -> Result<f64, Fault> {
        const WORDS: [(&str, f64); 9] = [
            ("NaN", f64::NAN),
            ("nan", f64::NAN),
            ("null", f64::NAN),
            ("Infinity", f64::INFINITY),
            ("-Infinity", f64::NEG_INFINITY),
            ("Inf", f64::INFINITY),
            ("-Inf", f64::NEG_INFINITY),
            ("inf", f64::INFINITY),
            ("-inf", f64::NEG_INFINITY),
        ];
        let rest = &self.bytes[start.min(self.bytes.len())..];
        for (word, value) in WORDS {
            if rest.starts_with(word.as_bytes()) {
                if !(if word == "null" { self.null } else { self.words }) {
                    return Err(Fault::new(Kind::NotFinite, start));
                }
                self.at = start + word.len();
                return Ok(value);
            }
        }
        Err(Fault::expected("a number", start))
    }

    /// The fault of a value of another kind than the one wanted; one of the grammar where no value
    /// stands here at all.
    #[cold]
    pub(crate) fn other_kind(&mut self) -> Fault {
        let start = self.place();
        match self.peek() {
            b'"' | b'[' | b'{' | b't' | b'f' | b'n' | b'-' | b'0'..=b'9' => {
                // A word that is no word is a matter of grammar.
                match self.clone().skip() {
                    Err(fault) if matches!(fault.kind, Kind::Expected(_)) && fault.at == start => {
                        fault
                    }
                    _ => Fault::new(Kind::WrongType, start),
                }
            }
            _ => match self.non_finite_word(start) {
                Err(fault) if fault.kind == Kind::NotFinite => fault,
                Ok(_) => Fault::new(Kind::NotFinite, start),
                Err(_) => Fault::expected("a value", start),
            },
        }
    }

    /// Demands that nothing but white space follows.
    pub(crate) fn end(&mut self) -> Result<(), Fault> {
        self.peek();
        if self.at < self.bytes.len() {
            return Err(Fault::expected("the end of the body", self.at));
        }
        Ok(())
    }

    /// The same body from another place on, at the depth of here.
    pub(crate) fn at_place(&self, place: usize) -> Self {
        Self { at: place, ..self.clone() }
    }
}
