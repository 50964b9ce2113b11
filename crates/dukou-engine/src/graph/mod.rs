//! A graph: a model that is made of other models of the same table.
//!
//! It is compiled with its table: what it takes and gives follows from its models, what does not fit
//! is refused with both sides named ([`compile`]). Running it ([`run`]) decides nothing but what a
//! switch looks at.

mod combine;
mod compile;
mod run;

use dukou_types::{ModelName, Signature, Version};
use smallvec::SmallVec;

pub use compile::{Signatures, compile};
pub use run::run;

use crate::table::Combine;

/// A compiled graph.
#[derive(Debug, PartialEq, Eq)]
pub struct Graph {
    /// What it takes and gives.
    pub signature: Signature,
    steps: Vec<Step>,
    /// Where its outputs come from, in the signature's order.
    outputs: Vec<From>,
}

/// One node.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    name: Box<str>,
    kind: Kind,
    /// Where its inputs come from: in the order of its model's signature.
    inputs: Vec<From>,
    /// The steps whose outputs it needs.
    needs: SmallVec<[usize; 4]>,
    /// Positions of its model's outputs that somebody needs.
    wanted: SmallVec<[usize; 4]>,
}

#[derive(Debug, PartialEq, Eq)]
enum Kind {
    Model(Member),
    Ensemble { combine: Combine, weights: Vec<u64> },
    Switch { on: From, cases: Vec<(Box<str>, Member)>, otherwise: Option<Member> },
}

/// A model of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    model: ModelName,
    /// A version or alias; none: the split's.
    version: Option<Version>,
}

/// Where a tensor comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum From {
    /// The graph's input at this position.
    Input(usize),
    /// A step's output.
    Step { step: usize, output: usize },
}
