//! From a graph's document and the signatures of its models to steps that fit together.

use std::{fmt, sync::Arc};

use dukou_types::{DType, Dim, ErrorCode, Failure, ModelName, Signature, TensorSpec, Version};
use smallvec::SmallVec;

use super::{From, Graph, Kind, Member, Step};
use crate::table::{Combine, EnsembleNode, GraphSource, ModelNode, Node, SwitchNode, Wiring};

/// The signatures of all versions of a model that may answer, by the name that a node says.
pub type Signatures<'s> = &'s dyn Fn(&ModelName, Option<&Version>) -> Vec<Arc<Signature>>;

/// Compiles a graph whose document was checked by itself.
///
/// # Errors
/// `graph.invalid`: an input or output that is none; `graph.mismatch`: two sides that do not fit.
pub fn compile(source: &GraphSource, signatures: Signatures<'_>) -> Result<Graph, Failure> {
    let mut compiler = Compiler {
        source,
        signatures,
        inputs: Vec::new(),
        steps: (0..source.nodes.len()).map(|_| None).collect(),
    };
    for index in 0..source.nodes.len() {
        compiler.node(index)?;
    }
    compiler.finish()
}

struct Compiler<'a> {
    source: &'a GraphSource,
    signatures: Signatures<'a>,
    /// The graph's inputs as far as they are known, in the order in which nodes ask for them.
    inputs: Vec<Given>,
    steps: Vec<Option<Made>>,
}

/// An input of the graph.
struct Given {
    name: Box<str>,
    /// What its consumers take.
    spec: Option<TensorSpec>,
    /// Who said so, for a sentence.
    said_by: String,
    /// The values that a switch knows, where it is looked at by one.
    values: Vec<Box<str>>,
}

/// A step and what it gives.
struct Made {
    step: Step,
    outputs: Vec<TensorSpec>,
}

impl<'a> Compiler<'a> {
    /// Compiles a node after those that it needs; the document has no circles.
    fn node(&mut self, index: usize) -> Result<(), Failure> {
        if self.steps[index].is_some() {
            return Ok(());
        }
        let source = self.source;
        let made = match &source.nodes[index] {
            Node::Model(node) => self.model(node),
            Node::Ensemble(node) => self.ensemble(node),
            Node::Switch(node) => self.switch(node),
        }?;
        self.steps[index] = Some(made);
        Ok(())
    }

    fn model(&mut self, node: &ModelNode) -> Result<Made, Failure> {
        let member = Member { model: node.model.clone(), version: node.version.clone() };
        let signature = self.signature(&node.name, &member)?;
        let inputs = self.wire(&node.name, &member, node.inputs.as_ref(), &signature.inputs)?;
        Ok(made(&node.name, Kind::Model(member), inputs, signature.outputs))
    }

    fn switch(&mut self, node: &SwitchNode) -> Result<Made, Failure> {
        let (on, looked_at) = self.reference(&node.name, &node.switch)?;
        match (on, looked_at) {
            (From::Input(position), _) => {
                let values = node.cases.keys().map(|value| value.as_str().into());
                self.inputs[position].values.extend(values);
            }
            (From::Step { .. }, Some(spec)) if !can_choose(spec.dtype) => {
                return Err(mismatch(
                    &node.name,
                    format_args!(
                        "it chooses by `{}`, which is {}, and can choose by whole numbers, BOOL and BYTES",
                        node.switch, spec.dtype
                    ),
                ));
            }
            (From::Step { .. }, _) => {}
        }
        let member = |model: &ModelName| Member { model: model.clone(), version: None };
        let cases: Vec<(Box<str>, Member)> = node
            .cases
            .iter()
            .map(|(value, model)| (value.as_str().into(), member(model)))
            .collect();
        let otherwise = node.otherwise.as_ref().map(member);
        let mut agreed: Option<(Member, Signature)> = None;
        for candidate in cases.iter().map(|(_, member)| member).chain(&otherwise) {
            let signature = self.signature(&node.name, candidate)?;
            agreed = Some(match agreed {
                None => (candidate.clone(), signature),
                Some((first, before)) => {
                    let both = both_sides(&before, &signature).ok_or_else(|| {
                        mismatch(
                            &node.name,
                            format_args!(
                                "model `{}` is {}, and model `{}` is {}: only alike can stand for each other",
                                first.model,
                                described(&before),
                                candidate.model,
                                described(&signature)
                            ),
                        )
                    })?;
                    (first, both)
                }
            });
        }
        let Some((first, signature)) = agreed else {
            return Err(invalid(&node.name, format_args!("it has no cases")));
        };
        let mut inputs = self.wire(&node.name, &first, node.inputs.as_ref(), &signature.inputs)?;
        inputs.push(on);
        let mut made =
            made(&node.name, Kind::Switch { on, cases, otherwise }, inputs, signature.outputs);
        // What is looked at is waited for like an input, and is none.
        made.step.inputs.pop();
        Ok(made)
    }

    fn ensemble(&mut self, node: &EnsembleNode) -> Result<Made, Failure> {
        let mut inputs = Vec::new();
        let mut agreed: Option<TensorSpec> = None;
        for reference in &node.ensemble {
            let (from, spec) = self.reference(&node.name, reference)?;
            let Some(spec) = spec else {
                return Err(invalid(&node.name, format_args!("`{reference}` is made by no node")));
            };
            let allowed = match node.combine {
                Combine::Mean => matches!(spec.dtype, DType::Fp32 | DType::Fp64),
                Combine::Vote => can_choose(spec.dtype),
            };
            if !allowed {
                let takes = match node.combine {
                    Combine::Mean => "a mean is of FP32 or FP64",
                    Combine::Vote => "a vote is of whole numbers, BOOL or BYTES",
                };
                return Err(mismatch(
                    &node.name,
                    format_args!("`{reference}` is {}, and {takes}", spec.dtype),
                ));
            }
            agreed = Some(match agreed {
                None => spec,
                Some(before) => both_specs(&before, &spec).ok_or_else(|| {
                    mismatch(
                        &node.name,
                        format_args!(
                            "`{}` is {}, and `{reference}` is {}",
                            node.ensemble[0],
                            shape_of(&before),
                            shape_of(&spec)
                        ),
                    )
                })?,
            });
            inputs.push(from);
        }
        let weights = node.weights.clone().unwrap_or_else(|| vec![1; inputs.len()]);
        let kind = Kind::Ensemble { combine: node.combine, weights };
        Ok(made(&node.name, kind, inputs, agreed.into_iter().collect()))
    }

    /// What a member takes and gives, whichever of its versions answers.
    fn signature(&self, node: &str, member: &Member) -> Result<Signature, Failure> {
        let mut versions = (self.signatures)(&member.model, member.version.as_ref()).into_iter();
        let Some(first) = versions.next() else {
            return Err(invalid(node, format_args!("model `{}` is not served", member.model)));
        };
        let mut agreed = (*first).clone();
        for other in versions {
            agreed = both_sides(&agreed, &other).ok_or_else(|| {
                mismatch(
                    node,
                    format_args!(
                        "one version of model `{}` is {}, another {}",
                        member.model,
                        described(&agreed),
                        described(&other)
                    ),
                )
            })?;
        }
        Ok(agreed)
    }

    /// Where a member's inputs come from, in their order.
    fn wire(
        &mut self,
        node: &str,
        member: &Member,
        wiring: Option<&Wiring>,
        specs: &[TensorSpec],
    ) -> Result<Vec<From>, Failure> {
        let sources: Vec<(From, Option<TensorSpec>, String)> = match wiring {
            None => specs
                .iter()
                .map(|spec| {
                    (From::Input(self.given(&spec.name)), None, format!("input.{}", spec.name))
                })
                .collect(),
            Some(Wiring::Node(name)) => self.all_of(node, member, name, specs)?,
            Some(Wiring::Each(each)) => {
                if let Some(unknown) =
                    each.keys().find(|key| specs.iter().all(|s| *s.name != ***key))
                {
                    return Err(invalid(
                        node,
                        format_args!(
                            "model `{}` has no input `{unknown}`; its inputs are {}",
                            member.model,
                            names(specs)
                        ),
                    ));
                }
                let mut sources = Vec::new();
                for spec in specs {
                    let Some(reference) = each.get(&*spec.name) else {
                        return Err(invalid(
                            node,
                            format_args!(
                                "nothing is said of input `{}` of model `{}`",
                                spec.name, member.model
                            ),
                        ));
                    };
                    let (from, given) = self.reference(node, reference)?;
                    sources.push((from, given, reference.clone()));
                }
                sources
            }
        };
        let mut inputs = Vec::new();
        for ((from, given, reference), spec) in sources.into_iter().zip(specs) {
            let what = format!("input `{}` of model `{}`", spec.name, member.model);
            match (from, given) {
                (From::Input(position), _) => self.take(node, position, spec, what)?,
                (_, Some(given)) if both_specs(&given, spec).is_none() => {
                    return Err(mismatch(
                        node,
                        format_args!(
                            "{what} is {}, and `{reference}` is {}",
                            shape_of(spec),
                            shape_of(&given)
                        ),
                    ));
                }
                _ => {}
            }
            inputs.push(from);
        }
        Ok(inputs)
    }

    /// All inputs from the outputs of one node: by name, or in order where equally many.
    fn all_of(
        &mut self,
        node: &str,
        member: &Member,
        name: &str,
        specs: &[TensorSpec],
    ) -> Result<Vec<(From, Option<TensorSpec>, String)>, Failure> {
        let step = self.step(node, name)?;
        let outputs = self.outputs(step);
        let by_name: Option<Vec<usize>> = specs
            .iter()
            .map(|spec| outputs.iter().position(|output| output.name == spec.name))
            .collect();
        let positions = match by_name {
            Some(positions) => positions,
            None if outputs.len() == specs.len() => (0..specs.len()).collect(),
            None => {
                return Err(mismatch(
                    node,
                    format_args!(
                        "model `{}` takes {}, and node `{name}` gives {}",
                        member.model,
                        names(specs),
                        names(outputs)
                    ),
                ));
            }
        };
        let source = |output: usize| {
            let spec = outputs[output].clone();
            let reference = format!("{name}.{}", spec.name);
            (From::Step { step, output }, Some(spec), reference)
        };
        Ok(positions.into_iter().map(source).collect())
    }

    /// What a reference means, and its type where a node makes it.
    fn reference(&mut self, node: &str, text: &str) -> Result<(From, Option<TensorSpec>), Failure> {
        let (name, output) = text.split_once('.').map_or((text, None), |(n, o)| (n, Some(o)));
        if let ("input", Some(input)) = (name, output) {
            let position = self.given(input);
            return Ok((From::Input(position), self.inputs[position].spec.clone()));
        }
        let step = self.step(node, name)?;
        let outputs = self.outputs(step);
        let position = match (output, outputs) {
            (None, [_]) => 0,
            (None, several) => {
                return Err(invalid(
                    node,
                    format_args!(
                        "node `{name}` gives {}: say which, as `{name}.NAME`",
                        names(several)
                    ),
                ));
            }
            (Some(output), _) => {
                outputs.iter().position(|spec| *spec.name == *output).ok_or_else(|| {
                    invalid(
                        node,
                        format_args!(
                            "node `{name}` has no output `{output}`; its outputs are {}",
                            names(outputs)
                        ),
                    )
                })?
            }
        };
        let spec = outputs[position].clone();
        Ok((From::Step { step, output: position }, Some(spec)))
    }

    fn step(&mut self, node: &str, name: &str) -> Result<usize, Failure> {
        let found = self.source.nodes.iter().position(|other| other.name() == name);
        let index =
            found.ok_or_else(|| invalid(node, format_args!("there is no node `{name}`")))?;
        self.node(index)?;
        Ok(index)
    }

    fn outputs(&self, step: usize) -> &[TensorSpec] {
        self.steps[step].as_ref().map_or(&[], |made| &made.outputs)
    }

    fn given(&mut self, name: &str) -> usize {
        if let Some(position) = self.inputs.iter().position(|input| *input.name == *name) {
            return position;
        }
        let given =
            Given { name: name.into(), spec: None, said_by: String::new(), values: Vec::new() };
        self.inputs.push(given);
        self.inputs.len() - 1
    }

    /// One more consumer of an input of the graph.
    fn take(
        &mut self,
        node: &str,
        position: usize,
        spec: &TensorSpec,
        said_by: String,
    ) -> Result<(), Failure> {
        let given = &mut self.inputs[position];
        let agreed = match &given.spec {
            None => spec.clone(),
            Some(before) => both_specs(before, spec).ok_or_else(|| {
                mismatch(
                    node,
                    format_args!(
                        "`input.{}` is {} for {}, and {} for {said_by}",
                        given.name,
                        shape_of(before),
                        given.said_by,
                        shape_of(spec)
                    ),
                )
            })?,
        };
        given.spec = Some(TensorSpec { name: (*given.name).into(), ..agreed });
        given.said_by = said_by;
        Ok(())
    }

    fn finish(mut self) -> Result<Graph, Failure> {
        const OUTPUTS: &str = "outputs";
        let source = self.source;
        let mut outputs = Vec::new();
        match &source.outputs {
            Wiring::Node(name) => {
                let step = self.step(OUTPUTS, name)?;
                let specs = self.outputs(step).iter().cloned().enumerate();
                outputs.extend(specs.map(|(output, spec)| (From::Step { step, output }, spec)));
            }
            Wiring::Each(each) => {
                for (name, reference) in each {
                    let (from, spec) = self.reference(OUTPUTS, reference)?;
                    let spec = spec.ok_or_else(|| {
                        invalid(OUTPUTS, format_args!("`{reference}` is made by no node"))
                    })?;
                    outputs.push((from, TensorSpec { name: name.as_str().into(), ..spec }));
                }
            }
        }
        let inputs = self.inputs.iter().map(Given::spec).collect::<Result<Vec<_>, _>>()?;
        let mut steps: Vec<Step> = self.steps.into_iter().flatten().map(|made| made.step).collect();
        let read: Vec<From> = steps.iter().flat_map(Step::reads).collect();
        for from in read.into_iter().chain(outputs.iter().map(|(from, _)| *from)) {
            if let From::Step { step, output } = from
                && !steps[step].wanted.contains(&output)
            {
                steps[step].wanted.push(output);
            }
        }
        if let Some(idle) = steps.iter().find(|step| step.wanted.is_empty()) {
            return Err(invalid(&idle.name, format_args!("nothing needs what it gives")));
        }
        steps.iter_mut().for_each(|step| step.wanted.sort_unstable());
        let (outputs, specs): (Vec<_>, Vec<_>) = outputs.into_iter().unzip();
        let signature = Signature {
            inputs: inputs.into_iter().map(free).collect(),
            outputs: specs.into_iter().map(free).collect(),
            // Requests ride together at the models, each with those of its own kind.
            batchable: false,
        };
        Ok(Graph { signature, steps, outputs })
    }
}

impl Given {
    /// What the graph takes here. What only a switch looks at is text, or whole numbers where all of
    /// its cases are such.
    fn spec(&self) -> Result<TensorSpec, Failure> {
        let numbers =
            !self.values.is_empty() && self.values.iter().all(|v| v.parse::<i64>().is_ok());
        match &self.spec {
            Some(spec) if !self.values.is_empty() && !can_choose(spec.dtype) => Err(mismatch(
                "input",
                format_args!(
                    "a switch looks at `input.{}`, which is {} for {}; it can choose by whole numbers, BOOL and BYTES",
                    self.name, spec.dtype, self.said_by
                ),
            )),
            Some(spec) => Ok(spec.clone()),
            None => Ok(TensorSpec {
                name: (*self.name).into(),
                dtype: if numbers { DType::Int64 } else { DType::Bytes },
                shape: vec![Dim::Any(())],
            }),
        }
    }
}

impl Step {
    fn reads(&self) -> impl Iterator<Item = From> + '_ {
        let on = match &self.kind {
            Kind::Switch { on, .. } => Some(*on),
            _ => None,
        };
        self.inputs.iter().copied().chain(on)
    }
}

fn made(name: &str, kind: Kind, inputs: Vec<From>, outputs: Vec<TensorSpec>) -> Made {
    let mut needs = SmallVec::new();
    for from in &inputs {
        if let From::Step { step, .. } = from
            && !needs.contains(step)
        {
            needs.push(*step);
        }
    }
    let step = Step { name: name.into(), kind, inputs, needs, wanted: SmallVec::new() };
    Made { step, outputs }
}

/// The symbols of two models have nothing to do with each other.
fn free(mut spec: TensorSpec) -> TensorSpec {
    for dim in &mut spec.shape {
        if matches!(dim, Dim::Symbol(_)) {
            *dim = Dim::Any(());
        }
    }
    spec
}

/// What both of two specs allow, under the name of the first; none where that is nothing.
fn both_specs(a: &TensorSpec, b: &TensorSpec) -> Option<TensorSpec> {
    if a.dtype != b.dtype || a.shape.len() != b.shape.len() {
        return None;
    }
    let dims = a.shape.iter().zip(&b.shape).map(|(a, b)| match (a, b) {
        (Dim::Fixed(a), Dim::Fixed(b)) if a != b => None,
        (Dim::Fixed(fixed), _) | (_, Dim::Fixed(fixed)) => Some(Dim::Fixed(*fixed)),
        _ => Some(Dim::Any(())),
    });
    Some(TensorSpec { name: a.name.clone(), dtype: a.dtype, shape: dims.collect::<Option<_>>()? })
}

/// The same of whole signatures: inputs and outputs in the same order, of the same names.
fn both_sides(a: &Signature, b: &Signature) -> Option<Signature> {
    let side = |a: &[TensorSpec], b: &[TensorSpec]| -> Option<Vec<TensorSpec>> {
        if a.len() != b.len() {
            return None;
        }
        a.iter().zip(b).map(|(a, b)| both_specs(a, b).filter(|_| a.name == b.name)).collect()
    };
    Some(Signature {
        inputs: side(&a.inputs, &b.inputs)?,
        outputs: side(&a.outputs, &b.outputs)?,
        batchable: false,
    })
}

const fn can_choose(dtype: DType) -> bool {
    !matches!(dtype, DType::Fp16 | DType::Bf16 | DType::Fp32 | DType::Fp64)
}

fn shape_of(spec: &TensorSpec) -> String {
    format!("{} {:?}", spec.dtype, spec.wire_shape())
}

fn names(specs: &[TensorSpec]) -> String {
    let names: Vec<_> = specs.iter().map(|spec| format!("`{}`", spec.name)).collect();
    names.join(", ")
}

fn described(signature: &Signature) -> String {
    let list = |specs: &[TensorSpec]| {
        let each = specs.iter().map(|spec| format!("`{}` {}", spec.name, shape_of(spec)));
        each.collect::<Vec<_>>().join(", ")
    };
    format!("{} → {}", list(&signature.inputs), list(&signature.outputs))
}

fn invalid(node: &str, why: fmt::Arguments<'_>) -> Failure {
    Failure::new(ErrorCode::GraphInvalid, at(node, why))
}

fn mismatch(node: &str, why: fmt::Arguments<'_>) -> Failure {
    Failure::new(ErrorCode::GraphMismatch, at(node, why))
}

fn at(node: &str, why: fmt::Arguments<'_>) -> String {
    match node {
        "outputs" | "input" => format!("the graph's {node}: {why}"),
        node => format!("node `{node}`: {why}"),
    }
}

#[cfg(test)]
#[path = "compile_test.rs"]
mod tests;
