//! A gateway in front of servers of every dialect: the same answers, refusals in their words, deaths that
//! nobody notices, and what is said of servers that are something else.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
};

use dukou_engine::swap::Refused;
use dukou_wire::Peer;
use serde_json::{Value, json};

use crate::support::{Running, adds, outputs, plain, remote, table};

/// An engine that serves these in every dialect.
pub fn replica(models: &[Value]) -> Running {
    let engine = Running::new();
    let mut table = table(3, models);
    table["listeners"][0]["dialects"] = json!([
        "v2",
        "tensorflow",
        "torchserve",
        "keras",
        "v2-grpc",
        "tensorflow-grpc",
        "torchserve-grpc"
    ]);
    engine.put(&table).unwrap();
    engine
}

/// What a server says of a model, as a document would declare it.
pub fn declared(engine: &Running, model: &str) -> Value {
    let metadata = engine.connect().get(&format!("/v2/models/{model}")).json();
    let side = |name: &str| -> Vec<Value> {
        let specs = metadata[name].as_array().unwrap().iter();
        let of = |spec: &Value| json!({ "name": spec["name"], "dtype": spec["datatype"], "shape": spec["shape"] });
        specs.map(of).collect()
    };
    json!({ "inputs": side("inputs"), "outputs": side("outputs") })
}

/// A model that servers of this dialect answer; what they do not tell is declared.
fn asked_of(peer: Peer, model: &str, replicas: &[&Running]) -> Value {
    let urls: Vec<String> = replicas.iter().map(|replica| replica.url()).collect();
    let mut served = remote(model, &urls);
    let source = &mut served["versions"][0]["source"]["remote"];
    source["dialect"] = json!(peer.name());
    if !peer.tells_signatures() {
        source["signature"] = declared(replicas[0], model);
    }
    served
}

fn gateway(models: &[Value]) -> Running {
    let gateway = Running::new();
    gateway.put(&table(100, models)).unwrap();
    gateway
}

/// Outputs in the order of their names: TensorFlow Serving tells them in no other.
fn by_name(answer: &Value) -> Vec<Value> {
    let mut outputs = answer["outputs"].as_array().unwrap().clone();
    outputs.sort_by_key(|output| output["name"].to_string());
    outputs
}

fn body(inputs: &[(&str, usize)]) -> String {
    let input = |(name, rows): &(&str, usize)| {
        let data: Vec<f64> = (0..rows * 3).map(|at| at as f64 / 4.0 - 1.0).collect();
        json!({ "name": name, "datatype": "FP32", "shape": [rows, 3], "data": data })
    };
    json!({ "inputs": inputs.iter().map(input).collect::<Vec<_>>() }).to_string()
}

#[test]
fn every_dialect_gives_the_answer_that_the_server_itself_gives() {
    let replica = replica(&[adds(1), plain("two", "two_inputs")]);
    let mut direct = replica.connect();
    for &peer in Peer::ALL {
        let of = |model| asked_of(peer, model, &[&replica]);
        let gateway = gateway(&[of("adds"), of("two")]);
        let mut client = gateway.connect();
        for rows in [1, 2, 5] {
            for (model, inputs) in
                [("adds", &[("x", rows)][..]), ("two", &[("a", rows), ("b", rows)])]
            {
                let path = format!("/v2/models/{model}/infer");
                let answer = client.post(&path, &body(inputs));
                assert_eq!(answer.status, 200, "{peer:?}: {}", answer.json());
                let expected = direct.post(&path, &body(inputs)).json();
                assert_eq!(by_name(&answer.json()), by_name(&expected), "{peer:?}");
                assert_eq!(answer.header("dukou-version"), Some("1"), "{peer:?}");
                // Only who keeps the promise of revisions passes one on.
                let revision = (peer == Peer::V2).then_some("r3");
                assert_eq!(answer.header("dukou-revision"), revision, "{peer:?}");
            }
        }
        let states = gateway.replicas();
        assert!(states.iter().all(|state| state["healthy"] == true), "{peer:?}: {states:?}");
    }
}

#[test]
fn what_a_server_refuses_keeps_its_code_in_every_dialect() {
    let replica = replica(&[plain("two", "two_inputs")]);
    for &peer in Peer::ALL {
        let gateway = gateway(&[asked_of(peer, "two", &[&replica])]);
        // What a signature does not say, only the model's own server knows: both have as many rows.
        let odd = body(&[("a", 1), ("b", 2)]);
        let answer = gateway.connect().post("/v2/models/two/infer", &odd);
        let said = answer.json();
        assert_eq!(
            (answer.status, &said["code"]),
            (400, &json!("request.wrong-shape")),
            "{peer:?}: {said}"
        );
        assert!(said["error"].as_str().unwrap().contains('2'), "{peer:?}: {said}");
        // And it goes on being asked.
        let answer = gateway.connect().post("/v2/models/two/infer", &body(&[("a", 1), ("b", 1)]));
        assert_eq!(answer.status, 200, "{peer:?}");
    }
}

#[test]
fn a_server_that_ends_is_not_missed_in_any_dialect() {
    for &peer in Peer::ALL {
        let (gone, left) = (replica(&[adds(1)]), replica(&[adds(1)]));
        let gateway = gateway(&[asked_of(peer, "adds", &[&gone, &left])]);
        let mut client = gateway.connect();
        for _ in 0..10 {
            assert_eq!(outputs(&client.infer("adds", [0.0; 3])), [1.0; 3], "{peer:?}");
        }
        drop(gone);
        for _ in 0..30 {
            assert_eq!(outputs(&client.infer("adds", [0.0; 3])), [1.0; 3], "{peer:?}");
        }
        gateway.wait_until("it is out", |states| states[0]["healthy"] == false);
        assert_eq!(gateway.replicas()[1]["healthy"], true, "{peer:?}");
    }
}

#[test]
fn an_answer_that_was_not_declared_is_refused_with_both_sides() {
    let replica = replica(&[adds(1)]);
    for &peer in Peer::ALL {
        let mut model = asked_of(peer, "adds", &[&replica]);
        let mut signature = declared(&replica, "adds");
        signature["outputs"][0]["shape"] = json!([-1, 4]);
        model["versions"][0]["source"]["remote"]["signature"] = signature;
        let answer = gateway(&[model]).connect().infer("adds", [0.0; 3]);
        let said = answer.json();
        assert_eq!((answer.status, &said["code"]), (502, &json!("replica.failed")), "{peer:?}");
        let words = said["error"].as_str().unwrap();
        assert!(words.contains("what the model's signature does not allow"), "{peer:?}: {words}");
        assert!(words.contains("output `y`") && words.contains("[-1, 4]"), "{peer:?}: {words}");
    }
}

#[test]
fn a_server_that_serves_another_model_is_told_from_the_declared() {
    let replica = replica(&[adds(1)]);
    for &peer in Peer::ALL {
        let mut model = asked_of(peer, "adds", &[&replica]);
        model["versions"][0]["source"]["remote"]["model"] = json!("nobody");
        let spec = spec_of(&model);
        let opened = dukou_remote::Remote::open(&spec, None, std::time::Duration::ZERO);
        // The health of these is the server's, not the model's.
        if matches!(peer, Peer::TorchServe | Peer::TorchServeGrpc | Peer::Keras) {
            opened.unwrap();
            let answer = gateway(&[model]).connect().infer("adds", [0.0; 3]);
            assert_eq!(answer.json()["code"], "request.unknown-model", "{peer:?}");
            continue;
        }
        let failure = opened.unwrap_err();
        assert_eq!(failure.code.as_str(), "replica.unavailable", "{peer:?}");
        assert!(failure.message.contains(&replica.url()), "{peer:?}: {failure}");
    }
}

/// A server that answers every connection with these bytes, once.
fn always(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _asked = stream.read(&mut [0; 16 * 1024]);
            let _gone = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{address}")
}

#[test]
fn a_server_of_something_else_is_found_out_when_it_is_put() {
    let page = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello";
    let url = always(page);
    for &peer in Peer::ALL {
        // Of a Keras server all that can be known beforehand is that something answers.
        if peer == Peer::Keras {
            continue;
        }
        let mut model = remote("adds", std::slice::from_ref(&url));
        let source = &mut model["versions"][0]["source"]["remote"];
        source["dialect"] = json!(peer.name());
        source["signature"] = match peer.tells_signatures() {
            true => Value::Null,
            false => json!({
                "inputs": [{ "name": "x", "dtype": "FP32", "shape": [-1, 3] }],
                "outputs": [{ "name": "y", "dtype": "FP32", "shape": [-1, 3] }],
            }),
        };
        let spec = spec_of(&model);
        let failure =
            dukou_remote::Remote::open(&spec, None, std::time::Duration::ZERO).unwrap_err();
        assert_eq!(failure.code.as_str(), "replica.unavailable", "{peer:?}");
        assert!(failure.message.contains(&url), "{peer:?}: {failure}");
        let words = match peer {
            Peer::V2 => "its metadata is not V2's",
            Peer::TensorFlow | Peer::KserveV1 => "its status is not TensorFlow Serving's",
            Peer::TorchServe => "its health is not TorchServe's",
            _ => "no answer over HTTP/2",
        };
        assert!(failure.message.contains(words), "{peer:?}: {failure}");
    }
}

/// What a table's model becomes, to be looked at without patience.
fn spec_of(model: &Value) -> dukou_remote::Spec {
    let source = &model["versions"][0]["source"]["remote"];
    let declared: Option<dukou_types::DeclaredSignature> =
        serde_json::from_value(source["signature"].clone()).unwrap();
    dukou_remote::Spec {
        peer: Peer::parse(source["dialect"].as_str().unwrap()).unwrap(),
        signature: declared.map(|declared| declared.signature()),
        ..dukou_remote::Spec::of(
            source["model"].as_str().unwrap(),
            vec![source["replicas"][0].as_str().unwrap().into()],
        )
    }
}

#[test]
fn many_calls_go_over_one_connection() {
    let replica = replica(&[adds(1)]);
    let gateway = gateway(&[asked_of(Peer::TensorFlowGrpc, "adds", &[&replica])]);
    thread::scope(|scope| {
        for caller in 0..8 {
            let gateway = &gateway;
            scope.spawn(move || {
                let mut client = gateway.connect();
                for at in 0..50 {
                    let x = (caller * 50 + at) as f32;
                    assert_eq!(outputs(&client.infer("adds", [x; 3])), [f64::from(x) + 1.0; 3]);
                }
            });
        }
    });
    let asked: u64 = gateway.replicas().iter().map(|r| r["requests"].as_u64().unwrap()).sum();
    assert_eq!(asked, 400);
}

#[test]
fn what_cannot_be_asked_is_said_before_anybody_is() {
    let gateway = Running::new();
    let mut model = remote("adds", &["http://127.0.0.1:1".to_owned()]);
    let source = |model: &mut Value, key: &str, value: Value| {
        model["versions"][0]["source"]["remote"][key] = value;
    };
    let parse = |model: &Value| {
        gateway.swap.put_text(table(1, std::slice::from_ref(model)).to_string().as_bytes())
    };
    let said = |model: &Value| match parse(model).unwrap_err() {
        Refused::Table(failure) => failure.to_string(),
        other => panic!("the table itself is at fault: {other}"),
    };
    source(&mut model, "dialect", json!("triton"));
    assert!(said(&model).contains("`triton` is no dialect, must be one of `v2`, `v2-grpc`"));
    source(&mut model, "dialect", json!("torchserve"));
    assert!(said(&model).contains("is missing: a server of `torchserve` does not tell"));
    source(&mut model, "dialect", json!("kserve-v1"));
    source(&mut model, "version", json!("3"));
    assert!(said(&model).contains("`kserve-v1` has no versions, and `3` of `adds` is asked for"));
}
