//! Repeated numbers and texts of a message, as a tensor's elements.

use bytemuck::Pod;
use bytes::Bytes;
use dukou_types::{Buffer, DType, ErrorCode, Failure};
use smallvec::SmallVec;

use super::{Field, Value, varint};
use crate::sentence::quoted;

/// What a repeated field held, in its order: packed or one by one.
#[derive(Clone, Debug, Default)]
pub(crate) struct Repeated<'a> {
    name: &'static str,
    values: SmallVec<[Value<'a>; 1]>,
}

impl<'a> Repeated<'a> {
    /// Adds what stands in a field of this name.
    pub(crate) fn push(&mut self, name: &'static str, field: &Field<'a>) {
        self.name = name;
        self.values.push(field.value);
    }

    /// The field's name; empty where nothing came.
    pub(crate) const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether nothing came.
    pub(crate) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// How many elements of this dtype there can be at most, so that no claim of a shape leases more than
    /// came.
    pub(crate) fn most(&self, dtype: DType) -> usize {
        let packed = match dtype {
            DType::Fp32 => 4,
            DType::Fp64 => 8,
            _ => 1,
        };
        let most = |value: &Value<'_>| match value {
            Value::Bytes(part) if dtype != DType::Bytes => part.len() / packed,
            _ => 1,
        };
        self.values.iter().map(most).sum()
    }

    /// Writes numbers into `out` from its beginning; gives how many there were, which may be more than
    /// there is room for.
    ///
    /// # Errors
    /// `wire.invalid-message` where these are no numbers of the dtype's kind; `wire.not-a-number` where the
    /// dtype does not hold one.
    pub(crate) fn fill(
        &self,
        dtype: DType,
        out: &mut Buffer,
        owner: &dyn Fn() -> String,
    ) -> Result<usize, Failure> {
        let too_large = |number: u64| too_large(number, dtype, self.name, owner);
        match dtype {
            DType::Fp32 => self.fixed::<4>(out),
            DType::Fp64 => self.fixed::<8>(out),
            DType::Bool => self.varints(out.typed_mut::<u8>(), |n| Ok(u8::from(n != 0))),
            DType::Uint8 => {
                self.varints(out.typed_mut(), |n| u8::try_from(n as u32).map_err(|_| too_large(n)))
            }
            DType::Uint16 | DType::Fp16 | DType::Bf16 => {
                self.varints(out.typed_mut(), |n| u16::try_from(n as u32).map_err(|_| too_large(n)))
            }
            DType::Uint32 => self.varints(out.typed_mut(), |n| Ok(n as u32)),
            DType::Uint64 => self.varints(out.typed_mut(), Ok),
            DType::Int8 => {
                self.varints(out.typed_mut(), |n| i8::try_from(n as i32).map_err(|_| too_large(n)))
            }
            DType::Int16 => {
                self.varints(out.typed_mut(), |n| i16::try_from(n as i32).map_err(|_| too_large(n)))
            }
            DType::Int32 => self.varints(out.typed_mut(), |n| Ok(n as i32)),
            DType::Int64 => self.varints(out.typed_mut(), |n| Ok(n as i64)),
            DType::Bytes => Ok(0),
        }
    }

    /// The texts.
    ///
    /// # Errors
    /// `wire.invalid-message`.
    pub(crate) fn strings(&self) -> Result<Vec<Bytes>, Failure> {
        let kept = |value: &Value<'_>| match value {
            Value::Bytes(part) => Ok(part.kept()),
            _ => Err(self.other_kind()),
        };
        self.values.iter().map(kept).collect()
    }

    fn varints<T: Pod>(
        &self,
        out: &mut [T],
        convert: impl Fn(u64) -> Result<T, Failure>,
    ) -> Result<usize, Failure> {
        let mut count = 0;
        let mut put = |number| {
            let element = convert(number)?;
            if let Some(place) = out.get_mut(count) {
                *place = element;
            }
            count += 1;
            Ok::<_, Failure>(())
        };
        for value in &self.values {
            match *value {
                Value::Varint(number) => put(number)?,
                Value::Bytes(mut packed) => {
                    while !packed.is_empty() {
                        put(varint(&mut packed)?)?;
                    }
                }
                _ => return Err(self.other_kind()),
            }
        }
        Ok(count)
    }

    fn fixed<const N: usize>(&self, out: &mut Buffer) -> Result<usize, Failure> {
        let out = out.bytes_mut();
        let mut written = 0;
        for value in &self.values {
            let room = out.get_mut(written..).unwrap_or_default();
            let length = match *value {
                Value::Bytes(mut packed) if packed.len().is_multiple_of(N) => {
                    let length = packed.len();
                    let fits = packed.take(length.min(room.len())).unwrap_or(packed);
                    fits.copy_to(&mut room[..fits.len()]);
                    length
                }
                Value::Fixed32(bytes) if N == 4 => put_array(room, bytes),
                Value::Fixed64(bytes) if N == 8 => put_array(room, bytes),
                _ => return Err(self.other_kind()),
            };
            written += length;
        }
        Ok(written / N)
    }

    #[cold]
    fn other_kind(&self) -> Failure {
        super::broken(format!("`{}` has another wire type than the method takes", self.name))
    }
}

fn put_array<const N: usize>(room: &mut [u8], bytes: [u8; N]) -> usize {
    if let Some(place) = room.get_mut(..N) {
        place.copy_from_slice(&bytes);
    }
    N
}

#[cold]
fn too_large(number: u64, dtype: DType, name: &str, owner: &dyn Fn() -> String) -> Failure {
    let said = match dtype {
        DType::Int8 | DType::Int16 => i64::from(number as i32).to_string(),
        _ => number.to_string(),
    };
    Failure::new(
        ErrorCode::WireNotANumber,
        format!("{}: {} holds {said}, and {dtype} does not", owner(), quoted(name)),
    )
}
