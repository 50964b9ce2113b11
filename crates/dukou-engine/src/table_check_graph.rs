//! What must hold of a graph before anything is known of its models: names, references, no circles.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{
    EnsembleNode, GraphSource, Node, ServedModel, Source, Wiring,
    check::{Checked, not_empty, once, range},
    invalid,
};

/// The name by which nodes refer to what the graph is given.
pub const INPUT: &str = "input";
/// Nodes of one graph.
const MOST_NODES: usize = 256;

/// Checks one graph by itself.
pub fn graph(path: &str, graph: &GraphSource) -> Checked {
    not_empty(&format!("{path}.nodes"), &graph.nodes)?;
    range(&format!("{path}.nodes"), graph.nodes.len() as u64, 1, MOST_NODES as u64)?;
    let mut names = HashSet::new();
    for (index, node) in graph.nodes.iter().enumerate() {
        let field = format!("{path}.nodes[{index}].name");
        if node.name() == INPUT || !is_node_name(node.name()) {
            let problem = format!(
                "`{}` is no node's name: letters, digits, `_` and `-`, and not `{INPUT}`",
                node.name()
            );
            return Err(invalid(field, problem));
        }
        once(&field, &mut names, node.name())?;
    }
    for (index, node) in graph.nodes.iter().enumerate() {
        check_node(&format!("{path}.nodes[{index}]"), node, &names)?;
    }
    let outputs = format!("{path}.outputs");
    check_wiring(&outputs, &graph.outputs, &names)?;
    if let Wiring::Each(each) = &graph.outputs {
        if each.is_empty() {
            return Err(invalid(outputs, "is empty, must have at least one entry"));
        }
        if let Some((name, reference)) = each.iter().find(|(_, from)| node_of(from) == INPUT) {
            let problem =
                format!("`{reference}` is given to the graph, and made by none of its nodes");
            return Err(invalid(format!("{outputs}.{name}"), problem));
        }
    }
    let edges = graph.nodes.iter().map(|node| (node.name(), waits_for(node))).collect();
    match circle(&edges) {
        None => Ok(()),
        Some(circle) => {
            Err(invalid(format!("{path}.nodes"), format!("{circle} wait for each other")))
        }
    }
}

/// Checks graphs against the other models of their table.
pub fn models(models: &[ServedModel]) -> Checked {
    let served: HashMap<&str, &ServedModel> =
        models.iter().map(|model| (model.name.as_str(), model)).collect();
    let mut edges = BTreeMap::new();
    for (index, model) in models.iter().enumerate() {
        for (place, version) in model.versions.iter().enumerate() {
            let Source::Graph(graph) = &version.source else { continue };
            let path = format!("models[{index}].versions[{place}].source.graph");
            for (number, node) in graph.nodes.iter().enumerate() {
                check_models_of(&format!("{path}.nodes[{number}]"), node, &served)?;
                let used = node.models().into_iter().map(|name| name.as_str());
                edges.entry(model.name.as_str()).or_insert_with(Vec::new).extend(used);
            }
        }
    }
    match circle(&edges) {
        None => Ok(()),
        Some(circle) => Err(invalid("models", format!("the graphs {circle} use each other"))),
    }
}

fn check_models_of(path: &str, node: &Node, served: &HashMap<&str, &ServedModel>) -> Checked {
    for name in node.models() {
        let Some(model) = served.get(name.as_str()) else {
            let mut known: Vec<_> = served.keys().map(|name| format!("`{name}`")).collect();
            known.sort_unstable();
            let problem = format!(
                "node `{}` asks model `{name}`, and this table serves {}",
                node.name(),
                known.join(", ")
            );
            return Err(invalid(path, problem));
        };
        let Node::Model(node) = node else { continue };
        if let Some(label) = &node.version {
            let known = model.versions.iter().any(|version| version.version == *label)
                || model.aliases.contains_key(label);
            if !known {
                let problem = format!("`{label}` is no version and no alias of `{name}`");
                return Err(invalid(format!("{path}.version"), problem));
            }
        }
    }
    Ok(())
}

fn check_node(path: &str, node: &Node, names: &HashSet<&str>) -> Checked {
    let inputs = format!("{path}.inputs");
    match node {
        Node::Model(node) => {
            node.inputs.as_ref().map_or(Ok(()), |w| check_wiring(&inputs, w, names))
        }
        Node::Ensemble(node) => check_ensemble(path, node, names),
        Node::Switch(node) => {
            check_reference(&format!("{path}.switch"), &node.switch, names)?;
            if node.cases.is_empty() {
                return Err(invalid(
                    format!("{path}.cases"),
                    "is empty, must have at least one entry",
                ));
            }
            node.inputs.as_ref().map_or(Ok(()), |w| check_wiring(&inputs, w, names))
        }
    }
}

fn check_ensemble(path: &str, node: &EnsembleNode, names: &HashSet<&str>) -> Checked {
    let field = format!("{path}.ensemble");
    if node.ensemble.len() < 2 {
        return Err(invalid(
            field,
            format!("names {} outputs, must name two or more", node.ensemble.len()),
        ));
    }
    for (index, reference) in node.ensemble.iter().enumerate() {
        let field = format!("{field}[{index}]");
        check_reference(&field, reference, names)?;
        if node_of(reference) == INPUT {
            return Err(invalid(
                field,
                format!("`{reference}` is given to the graph, and made by no node"),
            ));
        }
    }
    let Some(weights) = &node.weights else { return Ok(()) };
    let field = format!("{path}.weights");
    if weights.len() != node.ensemble.len() {
        let problem = format!("has {} numbers for {} outputs", weights.len(), node.ensemble.len());
        return Err(invalid(field, problem));
    }
    for (index, weight) in weights.iter().enumerate() {
        range(&format!("{field}[{index}]"), *weight, 0, 1_000_000)?;
    }
    if weights.iter().all(|weight| *weight == 0) {
        return Err(invalid(field, "all weights are 0, so that nothing would count"));
    }
    Ok(())
}

fn check_wiring(path: &str, wiring: &Wiring, names: &HashSet<&str>) -> Checked {
    match wiring {
        Wiring::Node(name) if names.contains(&**name) => Ok(()),
        Wiring::Node(name) => Err(unknown(path, name, names)),
        Wiring::Each(each) => each
            .iter()
            .try_for_each(|(name, r)| check_reference(&format!("{path}.{name}"), r, names)),
    }
}

fn check_reference(path: &str, reference: &str, names: &HashSet<&str>) -> Checked {
    let node = node_of(reference);
    if names.contains(node) || (node == INPUT && reference.len() > INPUT.len() + 1) {
        return Ok(());
    }
    Err(unknown(path, reference, names))
}

fn unknown(path: &str, reference: &str, names: &HashSet<&str>) -> super::InvalidTable {
    let mut known: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    known.sort_unstable();
    let problem = format!(
        "`{reference}` is neither `{INPUT}.NAME` nor an output of a node; the nodes are {}",
        known.join(", ")
    );
    invalid(path, problem)
}

/// The part of a reference that names a node.
pub fn node_of(reference: &str) -> &str {
    reference.split_once('.').map_or(reference, |(node, _)| node)
}

/// The nodes whose outputs it needs.
pub fn waits_for(node: &Node) -> Vec<&str> {
    let mut nodes = match node {
        Node::Model(node) => wiring_nodes(node.inputs.as_ref()),
        Node::Ensemble(node) => node.ensemble.iter().map(|r| node_of(r)).collect(),
        Node::Switch(node) => {
            let mut nodes = wiring_nodes(node.inputs.as_ref());
            nodes.push(node_of(&node.switch));
            nodes
        }
    };
    nodes.retain(|name| *name != INPUT);
    nodes
}

fn wiring_nodes(wiring: Option<&Wiring>) -> Vec<&str> {
    match wiring {
        None => Vec::new(),
        Some(Wiring::Node(name)) => vec![name],
        Some(Wiring::Each(each)) => each.values().map(|reference| node_of(reference)).collect(),
    }
}

/// The first circle, in words.
fn circle(edges: &BTreeMap<&str, Vec<&str>>) -> Option<String> {
    let mut done = HashSet::new();
    let mut way = Vec::new();
    edges.keys().find_map(|name| walk(name, edges, &mut way, &mut done))
}

fn walk<'a>(
    name: &'a str,
    edges: &BTreeMap<&'a str, Vec<&'a str>>,
    way: &mut Vec<&'a str>,
    done: &mut HashSet<&'a str>,
) -> Option<String> {
    if let Some(start) = way.iter().position(|passed| *passed == name) {
        let names: Vec<_> =
            way[start..].iter().chain([&name]).map(|name| format!("`{name}`")).collect();
        return Some(names.join(" → "));
    }
    if !done.insert(name) {
        return None;
    }
    way.push(name);
    let found =
        edges.get(name).and_then(|next| next.iter().find_map(|next| walk(next, edges, way, done)));
    way.pop();
    found
}

fn is_node_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
        && text.as_bytes()[0].is_ascii_alphanumeric()
}
