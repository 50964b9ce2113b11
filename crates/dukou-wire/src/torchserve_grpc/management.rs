//! The messages of management: which model and version, and how many of what.

use std::borrow::Cow;

use bytes::Bytes;
use dukou_types::{ErrorCode, Failure, ModelName, Version};

use super::address::{labelled, named};
use crate::{
    Change, Operation, Outcome, Registration, Target,
    grpc::{Fields, PREFIX, Part, Value, push_bytes},
    torchserve,
};

/// What a message says of its model: the numbers of its fields differ from method to method.
pub(super) struct Asked<'a> {
    name: Cow<'a, str>,
    version: Cow<'a, str>,
    numbers: [Option<i64>; 2],
}

/// The numbers of a message's fields: the name, the version, and two numbers; 0 for what it does not have.
pub(super) type Places = [u32; 4];

impl<'a> Asked<'a> {
    /// A `PredictionsRequest`.
    pub(super) const PREDICTION: Places = [1, 2, 0, 0];
    /// A message that begins with the model and its version; then what `ScaleWorkerRequest` has.
    pub(super) const NAMED: Places = [1, 2, 4, 6];
    /// A `ListModelsRequest`.
    pub(super) const LIST: Places = [0, 0, 1, 2];

    /// Reads a message.
    pub(super) fn read(message: &'a [Bytes], places: Places) -> Result<Self, Failure> {
        let mut asked = Self { name: "".into(), version: "".into(), numbers: [None; 2] };
        let mut fields = Fields::of(Part::whole(message));
        while let Some(field) = fields.next()? {
            match places.iter().position(|&place| place == field.number) {
                Some(0) => asked.name = field.text("model_name")?,
                Some(1) => asked.version = field.text("model_version")?,
                Some(at @ (2 | 3)) => {
                    // A truth value of one method is a text of another: what is no number is none.
                    if let Value::Varint(number) = field.value {
                        asked.numbers[at - 2] = Some(number as i64);
                    }
                }
                _ => {}
            }
        }
        Ok(asked)
    }

    pub(super) fn model(&self) -> Result<ModelName, Failure> {
        named(&self.name)
    }

    pub(super) fn version(&self) -> Result<Option<Version>, Failure> {
        labelled(&self.version)
    }

    /// The first number.
    pub(super) fn count(&self) -> Option<usize> {
        self.numbers[0].and_then(|number| usize::try_from(number).ok())
    }

    /// The second.
    pub(super) fn second(&self) -> Option<usize> {
        self.numbers[1].and_then(|number| usize::try_from(number).ok())
    }
}

/// A `RegisterModelRequest`. Zero means that it was not said.
#[derive(Default)]
struct Register<'a> {
    url: Cow<'a, str>,
    name: Cow<'a, str>,
    workers: u64,
    batch_size: u64,
    batch_delay: u64,
    wait: bool,
}

impl<'a> Register<'a> {
    fn read(message: &'a [Bytes]) -> Result<Self, Failure> {
        let mut said = Self::default();
        let mut fields = Fields::of(Part::whole(message));
        while let Some(field) = fields.next()? {
            match field.number {
                1 => said.batch_size = field.number("batch_size")?,
                3 => said.workers = field.number("initial_workers")?,
                4 => said.batch_delay = field.number("max_batch_delay")?,
                5 => said.name = field.text("model_name")?,
                8 => said.wait = field.number("synchronous")? != 0,
                9 => said.url = field.text("url")?,
                _ => {}
            }
        }
        if said.url.is_empty() {
            return Err(Failure::new(ErrorCode::WireMissingField, "Parameter url is required."));
        }
        Ok(said)
    }

    fn model(&self) -> Result<ModelName, Failure> {
        if self.name.is_empty() {
            return named(&torchserve::name_of(&self.url));
        }
        named(&self.name)
    }
}

/// What a model that is registered by this message would be called.
pub(super) fn registered_name(message: &[Bytes]) -> Result<ModelName, Failure> {
    Register::read(message)?.model()
}

/// What a client asks for.
///
/// # Errors
/// `wire.invalid-message`, `wire.missing-field`, `wire.invalid-field`.
pub fn decode_change(target: &Target, message: &[Bytes]) -> Result<Change, Failure> {
    let Target::Change { operation, model: Some(model), version } = target.clone() else {
        return Err(Failure::new(ErrorCode::WireUnsupported, "this protocol has no such change"));
    };
    match (operation, version) {
        (Operation::Register, _) => {
            let said = Register::read(message)?;
            // A negative number fills all 64 bits, and is as good as none.
            let said_of = |number: u64| Some(number).filter(|&number| number as i64 > 0);
            Ok(Change::Register(Registration {
                model: Some(said.model()?),
                location: said.url.into_owned(),
                workers: said_of(said.workers),
                batch_rows: said_of(said.batch_size),
                batch_delay_ms: said_of(said.batch_delay),
                wait: said.wait,
            }))
        }
        (Operation::Scale, version) => {
            let asked = Asked::read(message, Asked::NAMED)?;
            let workers = asked.count().map_or(1, |count| count as u64);
            let wait = asked.second().is_some_and(|truth| truth != 0);
            let most = Asked::read(message, [1, 2, 3, 0])?.count();
            if most.is_some_and(|most| most > 0 && (most as u64) < workers) {
                let message = "max_worker cannot be less than min_worker.";
                return Err(Failure::new(ErrorCode::WireInvalidField, message));
            }
            Ok(Change::Scale { model, version, workers, wait })
        }
        (Operation::SetDefault, Some(version)) => Ok(Change::SetDefault { model, version }),
        (Operation::Unregister, version) => Ok(Change::Unregister { model, version }),
        _ => Err(Failure::new(ErrorCode::WireUnsupported, "this protocol has no such change")),
    }
}

/// What came of a change: its sentence, behind room for the envelope.
pub fn encode_outcome(outcome: &Outcome) -> Vec<u8> {
    let (_, sentence) = torchserve::sentence(outcome);
    management_response(sentence.as_bytes())
}

/// A `ManagementResponse`, behind room for the envelope.
pub(super) fn management_response(text: &[u8]) -> Vec<u8> {
    let mut out = vec![0; PREFIX];
    push_bytes(&mut out, 1, text);
    out
}
