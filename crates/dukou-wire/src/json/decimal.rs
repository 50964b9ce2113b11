//! A decimal number as it stands in the text: sign, digits, power of ten.
//!
//! Eight digits are read at a time as one machine word (SWAR). However long the text, it is passed
//! once; digits beyond the eighteenth are counted, not kept.

use super::{
    fault::{Fault, Kind},
    scan::Scanner,
};

/// A number of the text: ± mantissa × 10^exponent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decimal {
    pub(super) negative: bool,
    /// The digits, or the first eighteen that count: what an `i64` holds too, whose conversion to
    /// floating point is one instruction.
    pub(super) mantissa: i64,
    pub(super) exponent: i64,
    /// Whether the mantissa holds every digit.
    pub(super) exact: bool,
}

/// 10^0 … 10^8.
const POWERS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The most decimal digits that an `i64` always holds.
const HELD: usize = 18;

/// The most decimal digits that a `u64` always holds.
const HELD_WHOLE: usize = 19;

/// Appends the digits from `at` on to `mantissa` (modulo 2^64), and says where they end.
#[inline(always)]
pub(super) fn digits(bytes: &[u8], mut at: usize, mut mantissa: u64) -> (u64, usize) {
    while let Some(Ok(eight)) = bytes.get(at..at + 8).map(<[u8; 8]>::try_from) {
        // Digits become 0 to 9; anything else keeps a high bit in its byte after the addition. A carry
        // may mark a later byte wrongly, never an earlier one, and the first mark is what counts.
        let word = u64::from_le_bytes(eight) ^ 0x3030_3030_3030_3030;
        let marks = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
        if marks == 0 {
            mantissa = mantissa.wrapping_mul(POWERS[8]).wrapping_add(value_of_eight(word));
            at += 8;
            continue;
        }
        let count = (marks.trailing_zeros() / 8) as usize;
        if count > 0 {
            // Moved to the top, with zeros for the digits that are not there before them.
            let word = word << (64 - 8 * count);
            mantissa = mantissa.wrapping_mul(POWERS[count]).wrapping_add(value_of_eight(word));
        }
        return (mantissa, at + count);
    }
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')) {
        if digit > 9 {
            break;
        }
        mantissa = mantissa.wrapping_mul(10).wrapping_add(u64::from(digit));
        at += 1;
    }
    (mantissa, at)
}

/// The number that eight digits make, the first in the lowest byte: pairs, then fours, then all.
#[inline(always)]
const fn value_of_eight(word: u64) -> u64 {
    let pairs = (word.wrapping_mul(10 * 256 + 1) >> 8) & 0x00FF_00FF_00FF_00FF;
    let fours = (pairs.wrapping_mul(100 * 65_536 + 1) >> 16) & 0x0000_FFFF_0000_FFFF;
    fours.wrapping_mul(10_000 * 4_294_967_296 + 1) >> 32
}

impl Decimal {
    /// Reads a JSON number at the scanner's place.
    #[inline(always)]
    pub(super) fn read(scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
        let bytes = scanner.bytes;
        let start = scanner.at;
        let negative = bytes.get(start) == Some(&b'-');
        let first = start + usize::from(negative);
        // One digit and a point is what most begin with.
        let (mut mantissa, mut at) = match bytes.get(first..first + 2) {
            Some(&[digit @ b'0'..=b'9', b'.']) => (u64::from(digit - b'0'), first + 1),
            _ => digits(bytes, first, 0),
        };
        let mut count = at - first;
        if count == 0 {
            return Err(Fault::expected("a number", start));
        }
        if count > 1 && bytes[first] == b'0' {
            return Err(Fault::expected("a number without leading zeros", start));
        }
        let mut exponent = 0_i64;
        if bytes.get(at) == Some(&b'.') {
            let begin = at + 1;
            (mantissa, at) = digits(bytes, begin, mantissa);
            if at == begin {
                return Err(Fault::expected("a digit behind the point", at));
            }
            count += at - begin;
            exponent = -((at - begin) as i64);
        }
        let end_of_digits = at;
        if matches!(bytes.get(at), Some(b'e' | b'E')) {
            let shift;
            (shift, at) = power(bytes, at + 1)?;
            exponent = exponent.saturating_add(shift);
        }
        scanner.at = at;
        if count <= HELD {
            return Ok(Self { negative, mantissa: mantissa as i64, exponent, exact: true });
        }
        let (mantissa, left_out, exact) = leading(&bytes[first..end_of_digits]);
        Ok(Self { negative, mantissa, exponent: exponent.saturating_add(left_out), exact })
    }

    /// Reads a JSON number that must be whole: its sign and magnitude.
    #[inline(always)]
    pub(super) fn read_whole(scanner: &mut Scanner<'_>) -> Result<(bool, u64), Fault> {
        let bytes = scanner.bytes;
        let start = scanner.at;
        let negative = bytes.get(start) == Some(&b'-');
        let first = start + usize::from(negative);
        let (mantissa, at) = digits(bytes, first, 0);
        let count = at - first;
        if count == 0 {
            return Err(scanner.other_kind());
        }
        if matches!(bytes.get(at), Some(b'.' | b'e' | b'E')) {
            // Broken numbers are said to be broken before they are said to be fractions.
            Self::read(scanner)?;
            return Err(Fault::new(Kind::NotWhole, start));
        }
        if count > 1 && bytes[first] == b'0' {
            return Err(Fault::expected("a number without leading zeros", start));
        }
        scanner.at = at;
        if count <= HELD_WHOLE {
            return Ok((negative, mantissa));
        }
        let text =
            std::str::from_utf8(&bytes[first..at]).ok().filter(|text| text.len() <= HELD_WHOLE + 1);
        match text.and_then(|text| text.parse().ok()) {
            Some(magnitude) => Ok((negative, magnitude)),
            None => Err(Fault::new(Kind::OutOfRange, start)),
        }
    }
}

/// The power behind an `e`: sign and digits.
fn power(bytes: &[u8], mut at: usize) -> Result<(i64, usize), Fault> {
    let negative = bytes.get(at) == Some(&b'-');
    if matches!(bytes.get(at), Some(b'-' | b'+')) {
        at += 1;
    }
    let begin = at;
    let mut power = 0_i64;
    while let Some(digit) = bytes.get(at).map(|byte| byte.wrapping_sub(b'0')) {
        if digit > 9 {
            break;
        }
        power = power.saturating_mul(10).saturating_add(i64::from(digit));
        at += 1;
    }
    if at == begin {
        return Err(Fault::expected("a digit in the exponent", at));
    }
    Ok((if negative { -power } else { power }, at))
}

/// The first eighteen digits that count of a longer run (which may hold one point), how many were left
/// out, and whether those were all zeros.
#[cold]
fn leading(run: &[u8]) -> (i64, i64, bool) {
    let mut digits = run
        .iter()
        .filter(|&&byte| byte != b'.')
        .map(|byte| i64::from(byte - b'0'))
        .skip_while(|&digit| digit == 0);
    let mut mantissa = 0;
    for digit in digits.by_ref().take(HELD) {
        mantissa = mantissa * 10 + digit;
    }
    let (left_out, exact) =
        digits.fold((0, true), |(count, zeros), digit| (count + 1, zeros && digit == 0));
    (mantissa, left_out, exact)
}
