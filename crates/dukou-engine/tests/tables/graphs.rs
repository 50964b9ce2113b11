//! Models that are made of other models of the same table.

use serde_json::{Value, json};

use crate::support::{
    Answer, Running, adds, bare, graph, model, node, outputs, plain, remote, served, table,
};

fn refusal(answer: &Answer) -> (u16, String, String) {
    let said = answer.json();
    let text = |key: &str| said[key].as_str().unwrap_or_default().to_owned();
    (answer.status, text("code"), text("error"))
}

fn rows(name: &str, rows: usize) -> String {
    json!({ "inputs": [{ "name": name, "datatype": "FP32", "shape": [rows, 3], "data": vec![1.0; rows * 3] }] })
        .to_string()
}

#[test]
fn a_sequence_of_two_services_is_one_model() {
    let far = Running::new();
    far.put(&table(1, &[adds(2)])).unwrap();
    let engine = Running::new();
    let nodes = json!([node("near", "near", json!(null)), node("far", "adds", json!("near"))]);
    engine
        .put(&table(
            7,
            &[
                plain("near", "adds_3"),
                remote("adds", &[far.url()]),
                graph("both", nodes, json!("far")),
            ],
        ))
        .unwrap();
    let mut client = engine.connect();
    let answer = client.infer("both", [1.0, 2.0, 3.0]);
    assert_eq!(outputs(&answer), [6.0, 7.0, 8.0]);
    let carried = (answer.header("dukou-version"), answer.header("dukou-revision"));
    assert_eq!(carried, (Some("graph"), Some("r7")));
    // Each of its models counts what it was asked.
    assert_eq!(engine.arm("graph", "main", "r7")["requests"], 1);
    assert_eq!(engine.arm("remote", "main", "r7")["requests"], 1);
    assert_eq!(engine.arm("1", "main", "r7")["requests"], 1);
    assert_eq!(far.arm("2", "main", "r1")["requests"], 1);
    let metadata = client.get("/v2/models/both").json();
    assert_eq!(metadata["platform"], "ensemble");
    assert_eq!(metadata["inputs"][0]["shape"], json!([-1, 3]));
}

#[test]
fn an_ensemble_is_the_mean_of_its_members() {
    let engine = Running::new();
    let nodes = json!([
        node("a", "a", json!({ "x": "input.row" })),
        node("b", "b", json!({ "x": "input.row" })),
        { "name": "mean", "ensemble": ["a.y", "b.y"], "combine": "mean", "weights": [3, 1] },
    ]);
    let models = [
        plain("a", "adds_1"),
        plain("b", "adds_3"),
        graph("m", nodes, json!({ "z": "mean", "first": "a" })),
    ];
    engine.put(&table(1, &models)).unwrap();
    let mut client = engine.connect();
    let answer = client.post("/v2/models/m/infer", &rows("row", 2));
    assert_eq!(answer.status, 200, "{}", answer.json());
    let said = answer.json()["outputs"].clone();
    assert_eq!(said[0]["name"], "first");
    assert_eq!(said[1]["name"], "z");
    assert_eq!(said[1]["data"], json!([2.5, 2.5, 2.5, 2.5, 2.5, 2.5]));
    // One output alone, under its own name.
    let body = json!({
        "inputs": [{ "name": "row", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0] }],
        "outputs": [{ "name": "z" }],
    });
    let answer = client.post("/v2/models/m/infer", &body.to_string());
    assert_eq!(answer.json()["outputs"].as_array().unwrap().len(), 1);
    assert_eq!(outputs(&answer), [1.5, 1.5, 1.5]);
}

#[test]
fn a_switch_asks_one_of_its_models() {
    let engine = Running::new();
    let switch = |otherwise: Value| {
        json!([{ "name": "way", "switch": "input.language", "cases": { "de": "a", "en": "b" },
                 "otherwise": otherwise, "inputs": null }])
    };
    let models = [
        plain("a", "adds_1"),
        plain("b", "adds_2"),
        graph("strict", switch(json!(null)), json!("way")),
        graph("open", switch(json!("b")), json!("way")),
    ];
    engine.put(&table(1, &models)).unwrap();
    let mut client = engine.connect();
    let mut ask = |model: &str, languages: &[&str]| {
        let body = json!({ "inputs": [
            { "name": "language", "datatype": "BYTES", "shape": [languages.len()], "data": languages },
            { "name": "x", "datatype": "FP32", "shape": [1, 3], "data": [0, 0, 0] },
        ]});
        client.post(&format!("/v2/models/{model}/infer"), &body.to_string())
    };
    assert_eq!(outputs(&ask("strict", &["de"])), [1.0; 3]);
    assert_eq!(outputs(&ask("strict", &["en", "en"])), [2.0; 3]);
    assert_eq!(outputs(&ask("open", &["fr"])), [2.0; 3]);
    let mismatch = |error: &str| (400, "graph.mismatch".to_owned(), error.to_owned());
    assert_eq!(
        refusal(&ask("strict", &["fr"])),
        mismatch("node `way`: `fr` is none of its cases `de`, `en`")
    );
    assert_eq!(
        refusal(&ask("open", &["de", "en"])),
        mismatch(
            "node `way`: it chooses by `language`, which holds both `de` and `en`: one request goes one way"
        )
    );
}

#[test]
fn a_node_that_fails_names_itself() {
    let engine = Running::new();
    let nodes = json!([node("first", "two", json!({ "a": "input.a", "b": "input.b" }))]);
    engine
        .put(&table(1, &[plain("two", "two_inputs"), graph("g", nodes, json!("first"))]))
        .unwrap();
    let input = |name: &str, rows: usize| json!({ "name": name, "datatype": "FP32", "shape": [rows, 3], "data": vec![0; rows * 3] });
    let body = json!({ "inputs": [input("a", 1), input("b", 2)] });
    let answer = engine.connect().post("/v2/models/g/infer", &body.to_string());
    assert_eq!(
        refusal(&answer),
        (
            400,
            "graph.mismatch".into(),
            "node `first` (model `two`): `N` is 1 for one input and 2 for `b`".into()
        )
    );
    let mut full = plain("adds", "adds_1");
    full["limits"]["concurrency"] = json!(1);
    let nodes = json!([
        node("a", "adds", json!(null)),
        node("b", "adds", json!(null)),
        { "name": "m", "ensemble": ["a", "b"], "combine": "mean", "weights": null },
    ]);
    engine.put(&table(2, &[full, graph("g", nodes, json!("m"))])).unwrap();
    let (status, code, error) = refusal(&engine.connect().infer("g", [0.0; 3]));
    assert_eq!((status, &*code), (429, "limits.queue-full"), "{error}");
    assert!(error.starts_with("node `"), "{error}");
}

#[test]
fn one_deadline_is_for_all_of_it() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let far = Running::new();
    far.put(&table(1, &[adds(1)])).unwrap();
    let upstream = far.address;
    // Whatever is no inference is passed on; an inference is never answered.
    std::thread::spawn(move || {
        use std::io::{Read, Write};
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut bytes = vec![0; 64 * 1024];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    if bytes.starts_with(b"POST") {
                        continue;
                    }
                    let mut to = std::net::TcpStream::connect(upstream).unwrap();
                    to.write_all(&bytes[..read]).unwrap();
                    let count = to.read(&mut bytes).unwrap();
                    stream.write_all(&bytes[..count]).unwrap();
                }
            });
        }
    });
    let engine = Running::new();
    let nodes = json!([node("near", "near", json!(null)), node("far", "adds", json!("near"))]);
    let models = [plain("near", "adds_1"), remote("adds", &[url]), graph("g", nodes, json!("far"))];
    engine.put(&table(1, &models)).unwrap();
    let answer =
        engine.connect().post_with("/v2/models/g/infer", "dukou-timeout-ms: 60\r\n", &rows("x", 1));
    let (status, code, _) = refusal(&answer);
    assert_eq!((status, &*code), (504, "limits.deadline"));
}

#[test]
fn a_graph_follows_its_models_from_table_to_table() {
    let engine = Running::new();
    let nodes = json!([node("a", "adds", json!(null)), node("b", "adds", json!("a"))]);
    let twice = graph("twice", nodes, json!("b"));
    let first = engine.put(&table(1, &[adds(1), twice.clone()])).unwrap();
    assert_eq!(first.loaded.len(), 2);
    let mut client = engine.connect();
    assert_eq!(outputs(&client.infer("twice", [0.0; 3])), [2.0; 3]);
    // Another version of what it is made of, of the same signature: the graph itself stays.
    let second = engine.put(&table(2, &[adds(3), twice.clone()])).unwrap();
    assert_eq!((second.loaded.len(), second.retired), (1, 1));
    assert_eq!(outputs(&client.infer("twice", [0.0; 3])), [6.0; 3]);
    // Of another: the table is refused, and the one before serves on.
    let other = served("adds", &[bare("1", &model("one_row_out"))]);
    let refused = engine.put(&table(3, &[other, twice.clone()])).unwrap_err();
    assert_eq!(refused.failure().code.as_str(), "graph.mismatch");
    assert_eq!(
        refused.to_string(),
        "model `twice` version `graph`: graph.mismatch: node `b`: input `x` of model `adds` is FP32 \
         [-1, 3], and `a.y` is FP32 [1, 1]"
    );
    assert_eq!(outputs(&client.infer("twice", [0.0; 3])), [6.0; 3]);
    // A graph of graphs, in whatever order the table has them.
    let nodes = json!([node("a", "twice", json!(null)), node("b", "adds", json!("a"))]);
    let thrice = graph("thrice", nodes, json!("b"));
    engine.put(&table(4, &[thrice, twice, adds(1)])).unwrap();
    assert_eq!(outputs(&client.infer("thrice", [0.0; 3])), [3.0; 3]);
}
