use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;

/// What the models of these tests take and give: `name dtype dims` a tensor, `?` for a free dimension.
fn models() -> BTreeMap<&'static str, Vec<Arc<Signature>>> {
    let specs = |text: &str| -> Vec<TensorSpec> {
        let spec = |text: &str| {
            let mut words = text.split(' ');
            let (name, dtype) = (words.next().unwrap(), words.next().unwrap());
            let dim = |word: &str| word.parse().map_or(Dim::Symbol("batch".into()), Dim::Fixed);
            let dtype = DType::parse(dtype).unwrap();
            TensorSpec { name: name.into(), dtype, shape: words.map(dim).collect() }
        };
        text.split(", ").map(spec).collect()
    };
    let of = |inputs: &str, outputs: &str| {
        let (inputs, outputs) = (specs(inputs), specs(outputs));
        Arc::new(Signature { inputs, outputs, batchable: true })
    };
    BTreeMap::from([
        ("scale", vec![of("x FP32 ? 3", "y FP32 ? 3")]),
        ("pick", vec![of("features FP32 ? 3", "label INT64 ?, p FP32 ? 2")]),
        ("other", vec![of("features FP32 ? ?", "label INT64 ?, p FP32 ? 2")]),
        ("wide", vec![of("features FP32 ? 4", "label INT64 ?, p FP32 ? 2")]),
        ("words", vec![of("text BYTES ?", "language BYTES ?")]),
        ("drifting", vec![of("x FP32 ? 3", "y FP32 ? 3"), of("x FP32 ? 3", "z FP32 ? 3")]),
    ])
}

fn compiled(nodes: Value, outputs: Value) -> Result<Graph, Failure> {
    let source = serde_json::from_value(json!({"nodes": nodes, "outputs": outputs})).unwrap();
    let models = models();
    let signatures = |name: &ModelName, _: Option<&Version>| {
        models.get(name.as_str()).cloned().unwrap_or_default()
    };
    compile(&source, &signatures)
}

fn node(name: &str, model: &str, inputs: Value) -> Value {
    json!({"name": name, "model": model, "version": null, "inputs": inputs})
}

fn refused(nodes: Value, outputs: Value) -> (ErrorCode, String) {
    let failure = compiled(nodes, outputs).unwrap_err();
    (failure.code, failure.message.into_owned())
}

#[test]
fn a_sequence_takes_what_the_first_takes_and_gives_what_the_last_gives() {
    let nodes = json!([node("a", "scale", json!(null)), node("b", "pick", json!("a"))]);
    let graph = compiled(nodes, json!("b")).unwrap();
    assert_eq!(
        described(&graph.signature),
        "`x` FP32 [-1, 3] → `label` INT64 [-1], `p` FP32 [-1, 2]"
    );
    assert!(!graph.signature.batchable);
    assert_eq!(graph.steps[1].inputs, [From::Step { step: 0, output: 0 }]);
    assert_eq!(graph.steps[1].wanted.as_slice(), [0, 1]);
}

#[test]
fn only_what_is_needed_is_asked_for() {
    let nodes = json!([
        node("a", "pick", json!(null)),
        node("b", "other", json!(null)),
        {"name": "m", "ensemble": ["a.p", "b.p"], "combine": "mean", "weights": [2, 1]},
        {"name": "v", "ensemble": ["a.label", "b.label"], "combine": "vote", "weights": null},
    ]);
    let graph = compiled(nodes.clone(), json!({"p": "m"})).unwrap_err();
    assert_eq!(graph.message, "node `v`: nothing needs what it gives");
    let graph = compiled(nodes, json!({"p": "m", "label": "v"})).unwrap();
    assert_eq!(
        described(&graph.signature),
        "`features` FP32 [-1, 3] → `label` INT64 [-1], `p` FP32 [-1, 2]"
    );
    assert_eq!(graph.steps[0].wanted.as_slice(), [0, 1]);
    assert_eq!(graph.steps[2].kind, Kind::Ensemble { combine: Combine::Mean, weights: vec![2, 1] });
}

#[test]
fn nodes_may_stand_in_any_order() {
    let nodes = json!([
        node("b", "pick", json!({"features": "a.y"})),
        node("a", "scale", json!({"x": "input.row"}))
    ]);
    let graph = compiled(nodes, json!({"p": "b.p"})).unwrap();
    assert_eq!(described(&graph.signature), "`row` FP32 [-1, 3] → `p` FP32 [-1, 2]");
    assert_eq!(graph.steps[0].needs.as_slice(), [1]);
}

#[test]
fn what_only_a_switch_looks_at_is_text_or_whole_numbers() {
    let switch = |cases: Value| json!([{"name": "s", "switch": "input.kind", "cases": cases, "otherwise": null, "inputs": null}]);
    let graph = compiled(switch(json!({"a": "pick", "b": "other"})), json!("s")).unwrap();
    assert!(
        described(&graph.signature).starts_with("`kind` BYTES [-1], `features` FP32 [-1, 3] →")
    );
    let graph = compiled(switch(json!({"1": "pick", "-2": "other"})), json!("s")).unwrap();
    assert!(described(&graph.signature).starts_with("`kind` INT64 [-1]"));
    let graph = compiled(
        json!([
            node("w", "words", json!(null)),
            {"name": "s", "switch": "w.language", "cases": {"de": "pick"}, "otherwise": "other", "inputs": null},
        ]),
        json!("s"),
    )
    .unwrap();
    assert_eq!(graph.steps[1].needs.as_slice(), [0]);
}

#[test]
fn what_does_not_fit_is_refused_with_both_sides() {
    use ErrorCode::{GraphInvalid, GraphMismatch};
    let a = || node("a", "scale", json!(null));
    let cases: [(Value, Value, ErrorCode, &str); 14] = [
        (
            json!([a(), node("b", "wide", json!("a"))]),
            json!("b"),
            GraphMismatch,
            "node `b`: input `features` of model `wide` is FP32 [-1, 4], and `a.y` is FP32 [-1, 3]",
        ),
        (
            json!([node("a", "pick", json!(null)), node("b", "scale", json!("a"))]),
            json!("b"),
            GraphMismatch,
            "node `b`: model `scale` takes `x`, and node `a` gives `label`, `p`",
        ),
        (
            json!([node("a", "pick", json!(null)), node("b", "scale", json!({"x": "a"}))]),
            json!("b"),
            GraphInvalid,
            "node `b`: node `a` gives `label`, `p`: say which, as `a.NAME`",
        ),
        (
            json!([a(), node("b", "pick", json!({"features": "a.z"}))]),
            json!("b"),
            GraphInvalid,
            "node `b`: node `a` has no output `z`; its outputs are `y`",
        ),
        (
            json!([a(), node("b", "pick", json!({"rows": "a.y"}))]),
            json!("b"),
            GraphInvalid,
            "node `b`: model `pick` has no input `rows`; its inputs are `features`",
        ),
        (
            json!([a(), node("b", "pick", json!({}))]),
            json!("b"),
            GraphInvalid,
            "node `b`: nothing is said of input `features` of model `pick`",
        ),
        (
            json!([node("a", "pick", json!(null)), node("b", "wide", json!(null)),
                {"name": "m", "ensemble": ["a.p", "b.p"], "combine": "mean", "weights": null}]),
            json!("m"),
            GraphMismatch,
            "node `b`: `input.features` is FP32 [-1, 3] for input `features` of model `pick`, and FP32 [-1, 4] \
             for input `features` of model `wide`",
        ),
        (
            json!([node("a", "pick", json!(null)),
                {"name": "m", "ensemble": ["a.label", "a.label"], "combine": "mean", "weights": null}]),
            json!("m"),
            GraphMismatch,
            "node `m`: `a.label` is INT64, and a mean is of FP32 or FP64",
        ),
        (
            json!([node("a", "pick", json!(null)),
                {"name": "m", "ensemble": ["a.p", "a.p"], "combine": "vote", "weights": null}]),
            json!("m"),
            GraphMismatch,
            "node `m`: `a.p` is FP32, and a vote is of whole numbers, BOOL or BYTES",
        ),
        (
            json!([node("a", "pick", json!(null)), node("b", "scale", json!(null)),
                {"name": "m", "ensemble": ["a.p", "b.y"], "combine": "mean", "weights": null}]),
            json!("m"),
            GraphMismatch,
            "node `m`: `a.p` is FP32 [-1, 2], and `b.y` is FP32 [-1, 3]",
        ),
        (
            json!([{"name": "s", "switch": "input.k", "cases": {"a": "pick", "b": "scale"}, "otherwise": null, "inputs": null}]),
            json!("s"),
            GraphMismatch,
            "node `s`: model `pick` is `features` FP32 [-1, 3] → `label` INT64 [-1], `p` FP32 [-1, 2], and model \
             `scale` is `x` FP32 [-1, 3] → `y` FP32 [-1, 3]: only alike can stand for each other",
        ),
        (
            json!([{"name": "s", "switch": "input.features", "cases": {"a": "pick"}, "otherwise": null, "inputs": null}]),
            json!("s"),
            GraphMismatch,
            "the graph's input: a switch looks at `input.features`, which is FP32 for input `features` of model \
             `pick`; it can choose by whole numbers, BOOL and BYTES",
        ),
        (
            json!([node("a", "drifting", json!(null))]),
            json!("a"),
            GraphMismatch,
            "node `a`: one version of model `drifting` is `x` FP32 [-1, 3] → `y` FP32 [-1, 3], another \
             `x` FP32 [-1, 3] → `z` FP32 [-1, 3]",
        ),
        (
            json!([a(), node("b", "scale", json!("a"))]),
            json!({"y": "a.y"}),
            GraphInvalid,
            "node `b`: nothing needs what it gives",
        ),
    ];
    for (nodes, outputs, code, message) in cases {
        assert_eq!(refused(nodes, outputs), (code, message.to_owned()));
    }
}
