//! Elements of every dtype, from text.
//!
//! A floating number is right to the last bit. The quick ways below cover what clients send; what
//! they cannot decide goes to the standard library's parser, which is exact and linear in the text.

use half::{bf16, f16};

use super::{
    decimal::Decimal,
    fault::{Fault, Kind},
    scan::Scanner,
};

/// A type that tensor data can be read into.
pub(crate) trait Element: bytemuck::Pod {
    /// Reads one, the scanner standing right before it.
    fn read(scanner: &mut Scanner<'_>) -> Result<Self, Fault>;
}

/// 10^0 … 10^64, each the `f64` nearest to it; exact up to 10^22.
const TENS: [f64; 65] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22, 1e23, 1e24, 1e25, 1e26, 1e27, 1e28, 1e29, 1e30, 1e31, 1e32,
    1e33, 1e34, 1e35, 1e36, 1e37, 1e38, 1e39, 1e40, 1e41, 1e42, 1e43, 1e44, 1e45, 1e46, 1e47, 1e48,
    1e49, 1e50, 1e51, 1e52, 1e53, 1e54, 1e55, 1e56, 1e57, 1e58, 1e59, 1e60, 1e61, 1e62, 1e63, 1e64,
];

/// 10^-0 … 10^-64, each the `f64` nearest to it.
const TENTHS: [f64; 65] = [
    1e-0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10, 1e-11, 1e-12, 1e-13, 1e-14,
    1e-15, 1e-16, 1e-17, 1e-18, 1e-19, 1e-20, 1e-21, 1e-22, 1e-23, 1e-24, 1e-25, 1e-26, 1e-27,
    1e-28, 1e-29, 1e-30, 1e-31, 1e-32, 1e-33, 1e-34, 1e-35, 1e-36, 1e-37, 1e-38, 1e-39, 1e-40,
    1e-41, 1e-42, 1e-43, 1e-44, 1e-45, 1e-46, 1e-47, 1e-48, 1e-49, 1e-50, 1e-51, 1e-52, 1e-53,
    1e-54, 1e-55, 1e-56, 1e-57, 1e-58, 1e-59, 1e-60, 1e-61, 1e-62, 1e-63, 1e-64,
];

/// Powers of ten up to here are exact in an `f64`.
const EXACT_TENS: u64 = 22;

impl Decimal {
    /// The value within a few units in an `f64`'s last place; `None` beyond the tables.
    #[inline(always)]
    fn approximately(&self) -> Option<f64> {
        let powers = if self.exponent < 0 { &TENTHS } else { &TENS };
        let power = powers.get(usize::try_from(self.exponent.unsigned_abs()).ok()?)?;
        Some(self.mantissa as f64 * power)
    }

    const fn signed(&self, magnitude: f64) -> f64 {
        if self.negative { -magnitude } else { magnitude }
    }

    /// The nearest `f32`, where it can be told quickly.
    ///
    /// The approximation errs by the roundings of the mantissa, of the power and of one operation,
    /// and by what truncation left out: under 4 units in the last place of an `f64`. Rounding it to
    /// `f32` is right unless the middle between two `f32`s lies as near as that; in the bits below an
    /// `f32`'s last, the middle is a one and zeros.
    #[inline(always)]
    fn nearest_f32(&self) -> Option<f32> {
        const BELOW: u64 = (1 << 29) - 1;
        const MIDDLE: u64 = 1 << 28;
        if self.mantissa == 0 {
            return Some(self.signed(0.0) as f32);
        }
        let magnitude = self.approximately()?;
        let normal = (f64::from(f32::MIN_POSITIVE)..3.4e38).contains(&magnitude);
        let clear = (magnitude.to_bits() & BELOW).abs_diff(MIDDLE) > 8;
        (normal && clear).then(|| self.signed(magnitude) as f32)
    }

    /// The nearest `f64`, where one exact operation gives it (Clinger's fast path: mantissa and power
    /// are both exact, so the operation's single rounding is the right one).
    #[inline(always)]
    fn nearest_f64(&self) -> Option<f64> {
        if self.mantissa == 0 {
            return Some(self.signed(0.0));
        }
        let exact =
            self.exact && self.mantissa < 1 << 53 && self.exponent.unsigned_abs() <= EXACT_TENS;
        if !exact {
            return None;
        }
        let power = TENS.get(usize::try_from(self.exponent.unsigned_abs()).ok()?)?;
        let mantissa = self.mantissa as f64;
        Some(self.signed(if self.exponent < 0 { mantissa / power } else { mantissa * power }))
    }
}

/// The exact value of the number from `start` to the scanner's place.
#[cold]
fn exactly<T: std::str::FromStr>(scanner: &Scanner<'_>, start: usize) -> Option<T> {
    std::str::from_utf8(scanner.bytes.get(start..scanner.at)?).ok()?.parse().ok()
}

/// What stands where no number could be read: a word for NaN or an infinity, or a fault.
#[cold]
fn not_decimal(scanner: &mut Scanner<'_>, start: usize, fault: Fault) -> Result<f64, Fault> {
    if fault.at != start {
        return Err(fault);
    }
    match scanner.bytes.get(start) {
        Some(b'"' | b't' | b'f' | b'{' | b'[') => Err(scanner.other_kind()),
        _ => match scanner.non_finite_word(start) {
            Err(other) if other.kind == Kind::NotFinite => Err(other),
            Err(_) => Err(fault),
            Ok(value) => Ok(value),
        },
    }
}

impl Element for f32 {
    #[inline(always)]
    fn read(scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
        let start = scanner.at;
        let decimal = match Decimal::read(scanner) {
            Ok(decimal) => decimal,
            Err(fault) => return not_decimal(scanner, start, fault).map(|value| value as Self),
        };
        if let Some(value) = decimal.nearest_f32() {
            return Ok(value);
        }
        exactly::<Self>(scanner, start)
            .filter(|value| value.is_finite())
            .ok_or_else(|| Fault::new(Kind::OutOfRange, start))
    }
}

impl Element for f64 {
    #[inline(always)]
    fn read(scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
        let start = scanner.at;
        let decimal = match Decimal::read(scanner) {
            Ok(decimal) => decimal,
            Err(fault) => return not_decimal(scanner, start, fault),
        };
        if let Some(value) = decimal.nearest_f64() {
            return Ok(value);
        }
        exactly::<Self>(scanner, start)
            .filter(|value| value.is_finite())
            .ok_or_else(|| Fault::new(Kind::OutOfRange, start))
    }
}

macro_rules! half_width {
    ($($half:ty),*) => {$(
        impl Element for $half {
            /// By way of an `f64`. A half-width number that was written out in full is read back to the
            /// bit; an arbitrary decimal may, in the rarest of cases, round to the second nearest.
            fn read(scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
                let start = scanner.at;
                let wide = f64::read(scanner)?;
                let narrow = <$half>::from_f64(wide);
                if narrow.is_infinite() && wide.is_finite() {
                    return Err(Fault::new(Kind::OutOfRange, start));
                }
                Ok(narrow)
            }
        }
    )*};
}
half_width!(f16, bf16);

macro_rules! whole {
    ($($signed:ty, $unsigned:ty);*) => {$(
        impl Element for $signed {
            #[inline(always)]
            fn read(scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
                let start = scanner.at;
                let (negative, magnitude) = Decimal::read_whole(scanner)?;
                let wide = if negative { 0_i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() };
                wide.and_then(|wide| Self::try_from(wide).ok()).ok_or_else(|| Fault::new(Kind::OutOfRange, start))
            }
        }
        impl Element for $unsigned {
            #[inline(always)]
            fn read(scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
                let start = scanner.at;
                let (negative, magnitude) = Decimal::read_whole(scanner)?;
                if negative && magnitude != 0 {
                    return Err(Fault::new(Kind::OutOfRange, start));
                }
                Self::try_from(magnitude).map_err(|_| Fault::new(Kind::OutOfRange, start))
            }
        }
    )*};
}
whole!(i8, u8; i16, u16; i32, u32; i64, u64);

/// A truth value as a tensor holds it: one byte, 0 or 1.
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
#[repr(transparent)]
pub(crate) struct Truth(u8);

impl Element for Truth {
    #[inline(always)]
    fn read(scanner: &mut Scanner<'_>) -> Result<Self, Fault> {
        scanner.boolean().map(|truth| Self(u8::from(truth)))
    }
}
