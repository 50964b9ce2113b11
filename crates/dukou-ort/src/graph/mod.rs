//! Reads an ONNX graph before the runtime does, and refuses in our own words what is not one.

mod proto;

use dukou_types::{ErrorCode, Failure};
use prost::{Message, bytes::Bytes};

/// Bits of one element, by `TensorProto.DataType`; `None` for strings and what we do not know.
pub(crate) const fn element_bits(data_type: i32) -> Option<usize> {
    match data_type {
        25 | 26 => Some(2),
        21..=23 => Some(4),
        2 | 3 | 9 | 17..=20 | 24 => Some(8),
        4 | 5 | 10 | 16 => Some(16),
        1 | 6 | 12 => Some(32),
        7 | 11 | 13 | 14 => Some(64),
        15 => Some(128),
        _ => None,
    }
}

/// A tensor whose elements are in a file of their own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct External {
    /// The tensor's name.
    pub tensor: String,
    /// `TensorProto.DataType`.
    pub data_type: i32,
    /// Extents.
    pub dims: Vec<i64>,
    /// The file, as the graph says it.
    pub location: String,
    /// Where the elements begin.
    pub offset: usize,
    /// Their bytes.
    pub length: usize,
    /// Whether it is an initializer of the outermost graph (the only ones that can be shared).
    pub outermost: bool,
}

/// What we need to know of a graph.
#[derive(Debug, Default)]
pub(crate) struct Facts {
    /// Opsets by domain; the default domain is `ai.onnx`.
    pub opsets: Vec<(String, i64)>,
    /// Domain and operator of every node, each once.
    pub operators: Vec<(String, String)>,
    /// Bytes of all initializers, wherever they are.
    pub weight_bytes: usize,
    /// What lies outside the file.
    pub externals: Vec<External>,
}

impl Facts {
    /// The opset of a domain, as a text for a sentence.
    pub fn opset(&self, domain: &str) -> String {
        let domain = named(domain);
        match self.opsets.iter().find(|(name, _)| *name == domain) {
            Some((_, version)) => format!("opset {version} of `{domain}`"),
            None => format!("domain `{domain}`, which the model imports no opset of"),
        }
    }

    /// Locations of external data, each once, in the order of the graph.
    pub fn locations(&self) -> Vec<&str> {
        let mut seen: Vec<&str> = Vec::new();
        for external in &self.externals {
            if !seen.contains(&external.location.as_str()) {
                seen.push(&external.location);
            }
        }
        seen
    }
}

fn named(domain: &str) -> String {
    if domain.is_empty() { "ai.onnx".to_owned() } else { domain.to_owned() }
}

/// Whether bytes begin as exporters begin a model: `ir_version`, and then a field that ONNX has.
fn begins_like_onnx(bytes: &[u8]) -> bool {
    matches!(bytes, [0x08, 1..=0x20, rest @ ..]
        if rest.first().is_none_or(|tag| matches!(tag, 0x12 | 0x1a | 0x22 | 0x28 | 0x32 | 0x3a | 0x42)))
}

/// Decodes a graph. `what` names it in sentences. Weights are not copied.
pub(crate) fn read(bytes: Bytes, what: &str) -> Result<Facts, Failure> {
    let onnx_like = begins_like_onnx(&bytes);
    let size = bytes.len();
    let refuse = |why: &str| {
        if onnx_like {
            Failure::new(
                ErrorCode::FormatsCorrupt,
                format!(
                    "{what} begins like an ONNX model, but its {size} bytes are not a whole one: {why}"
                ),
            )
        } else {
            Failure::new(
                ErrorCode::FormatsNotAModel,
                format!(
                    "{what} ({size} bytes) is not an ONNX model, the kind that the engine reads: {why}"
                ),
            )
        }
    };
    if size == 0 {
        return Err(refuse("it is empty"));
    }
    if bytes.get(4..8) == Some(b"ORTM") {
        return Err(refuse(
            "it is in ONNX Runtime's own format; serve the ONNX file that it was made from",
        ));
    }
    let model = proto::Model::decode(bytes).map_err(|error| refuse(&error.to_string()))?;
    let graph = model.graph.ok_or_else(|| refuse("it holds no graph"))?;
    if model.ir_version == 0 || graph.node.is_empty() && graph.output.is_empty() {
        return Err(refuse("its graph has no nodes and no outputs"));
    }
    if model.ir_version >= 3 && model.opset_import.is_empty() {
        return Err(refuse("it does not say which operator sets it uses"));
    }
    let mut facts = Facts {
        opsets: model
            .opset_import
            .iter()
            .map(|opset| (named(&opset.domain), opset.version))
            .collect(),
        ..Facts::default()
    };
    walk(&graph, true, &mut facts, what)?;
    for function in &model.functions {
        walk_nodes(&function.node, &mut facts, what)?;
    }
    Ok(facts)
}

fn walk(
    graph: &proto::Graph,
    outermost: bool,
    facts: &mut Facts,
    what: &str,
) -> Result<(), Failure> {
    for tensor in &graph.initializer {
        note(tensor, outermost, facts, what)?;
    }
    for sparse in &graph.sparse_initializer {
        note_sparse(sparse, facts, what)?;
    }
    walk_nodes(&graph.node, facts, what)
}

fn walk_nodes(nodes: &[proto::Node], facts: &mut Facts, what: &str) -> Result<(), Failure> {
    for node in nodes {
        let operator = (named(&node.domain), node.op_type.clone());
        if !facts.operators.contains(&operator) {
            facts.operators.push(operator);
        }
        for attribute in &node.attribute {
            for tensor in attribute.t.iter().chain(&attribute.tensors) {
                note(tensor, false, facts, what)?;
            }
            for sparse in attribute.sparse_tensor.iter().chain(&attribute.sparse_tensors) {
                note_sparse(sparse, facts, what)?;
            }
            for graph in attribute.g.iter().chain(&attribute.graphs) {
                walk(graph, false, facts, what)?;
            }
        }
    }
    Ok(())
}

fn note_sparse(sparse: &proto::SparseTensor, facts: &mut Facts, what: &str) -> Result<(), Failure> {
    for tensor in sparse.values.iter().chain(&sparse.indices) {
        note(tensor, false, facts, what)?;
    }
    Ok(())
}

/// Bytes that a tensor's extents and element type ask for.
fn tensor_bytes(dims: &[i64], data_type: i32) -> Option<usize> {
    let bits = element_bits(data_type)?;
    let count = dims
        .iter()
        .try_fold(1_usize, |count, &extent| count.checked_mul(usize::try_from(extent).ok()?))?;
    Some(count.checked_mul(bits)?.div_ceil(8))
}

fn note(
    tensor: &proto::Tensor,
    outermost: bool,
    facts: &mut Facts,
    what: &str,
) -> Result<(), Failure> {
    let needed = tensor_bytes(&tensor.dims, tensor.data_type);
    facts.weight_bytes = facts.weight_bytes.saturating_add(needed.unwrap_or(0));
    if tensor.data_location != 1 {
        return Ok(());
    }
    let name = &tensor.name;
    let corrupt = |why: String| {
        Failure::new(ErrorCode::FormatsCorrupt, format!("{what}: weights `{name}`: {why}"))
    };
    let entry = |key: &str| {
        tensor.external_data.iter().find(|entry| entry.key == key).map(|entry| entry.value.as_str())
    };
    let number = |key: &str| match entry(key) {
        None => Ok(None),
        Some(text) => text.parse::<usize>().map(Some).map_err(|_| {
            corrupt(format!("external data's `{key}` is `{}`, not a number of bytes", clip(text)))
        }),
    };
    let location = entry("location").unwrap_or_default();
    if location.is_empty() {
        return Err(corrupt("are external data without a `location`".to_owned()));
    }
    let needed = needed.ok_or_else(|| {
        corrupt(format!("shape {:?} of element type {} has no size", tensor.dims, tensor.data_type))
    })?;
    let length = number("length")?.unwrap_or(needed);
    if length != needed {
        return Err(corrupt(format!(
            "external data are {length} bytes long, shape {:?} needs {needed}",
            tensor.dims
        )));
    }
    facts.externals.push(External {
        tensor: name.clone(),
        data_type: tensor.data_type,
        dims: tensor.dims.clone(),
        location: location.to_owned(),
        offset: number("offset")?.unwrap_or(0),
        length,
        outermost,
    });
    Ok(())
}

/// A text of somebody else's, short and printable enough for a sentence.
pub(crate) fn clip(text: &str) -> String {
    let clean: String =
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(200).collect();
    if clean.len() < text.len() { format!("{clean}…") } else { clean }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn model(graph: proto::Graph) -> Bytes {
        let opset_import = vec![proto::OperatorSet { domain: String::new(), version: 17 }];
        let model =
            proto::Model { ir_version: 9, graph: Some(graph), opset_import, functions: vec![] };
        model.encode_to_vec().into()
    }

    fn external(location: &str, offset: &str, length: &str) -> proto::Tensor {
        let entry = |key: &str, value: &str| proto::Entry { key: key.into(), value: value.into() };
        proto::Tensor {
            dims: vec![4],
            data_type: 1,
            name: "w".into(),
            external_data: vec![
                entry("location", location),
                entry("offset", offset),
                entry("length", length),
            ],
            data_location: 1,
            ..Default::default()
        }
    }

    fn node(attribute: Vec<proto::Attribute>) -> proto::Node {
        proto::Node { op_type: "If".into(), attribute, ..Default::default() }
    }

    #[test]
    fn external_data_is_found_in_every_corner() {
        let inner = proto::Graph {
            initializer: vec![external("inner.bin", "0", "16")],
            ..Default::default()
        };
        let attribute = proto::Attribute {
            g: Some(inner),
            t: Some(external("constant.bin", "16", "16")),
            ..Default::default()
        };
        let sparse =
            proto::SparseTensor { values: Some(external("sparse.bin", "0", "16")), indices: None };
        let graph = proto::Graph {
            node: vec![node(vec![attribute])],
            initializer: vec![external("outer.bin", "64", "16")],
            sparse_initializer: vec![sparse],
            ..Default::default()
        };
        let facts = read(model(graph), "it").unwrap();
        assert_eq!(facts.locations(), ["outer.bin", "sparse.bin", "constant.bin", "inner.bin"]);
        assert_eq!(facts.externals.iter().filter(|e| e.outermost).count(), 1);
        assert_eq!((facts.externals[0].offset, facts.externals[0].length), (64, 16));
        assert_eq!(facts.weight_bytes, 64);
        assert_eq!(facts.opset(""), "opset 17 of `ai.onnx`");
    }

    #[test]
    fn a_length_that_is_not_the_shapes_is_refused() {
        for (offset, length) in
            [("0", "15"), ("0", "17"), ("x", "16"), ("0", "-1"), ("99999999999999999999", "16")]
        {
            let graph = proto::Graph {
                node: vec![node(vec![])],
                initializer: vec![external("w.bin", offset, length)],
                ..Default::default()
            };
            let failure = read(model(graph), "it").unwrap_err();
            assert_eq!(failure.code, ErrorCode::FormatsCorrupt, "{offset} {length}");
        }
    }

    #[test]
    fn what_is_no_model_is_told_from_what_is_broken() {
        let graph = proto::Graph { node: vec![node(vec![])], ..Default::default() };
        let whole = model(graph);
        assert!(read(whole.clone(), "it").is_ok());
        for length in 2..whole.len() {
            let failure = read(whole.slice(..length), "it").unwrap_err();
            assert_eq!(failure.code, ErrorCode::FormatsCorrupt, "{length} bytes");
        }
        for other in [
            &b""[..],
            b"hello",
            b"{\"a\": 1}",
            b"\x89PNG\r\n\x1a\n",
            b"PK\x03\x04",
            b"\x80\x04\x95",
        ] {
            let failure = read(Bytes::copy_from_slice(other), "it").unwrap_err();
            assert_eq!(failure.code, ErrorCode::FormatsNotAModel, "{other:?}");
        }
    }

    #[test]
    fn deep_nesting_ends_in_a_sentence() {
        let mut graph = proto::Graph { node: vec![node(vec![])], ..Default::default() };
        for _ in 0..200 {
            let attribute = proto::Attribute { g: Some(graph), ..Default::default() };
            graph = proto::Graph { node: vec![node(vec![attribute])], ..Default::default() };
        }
        assert_eq!(read(model(graph), "it").unwrap_err().code, ErrorCode::FormatsCorrupt);
    }
}
