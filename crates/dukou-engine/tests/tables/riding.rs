//! Requests of one turn that a gateway asks as one: everybody gets his own answer, and what may not ride
//! together does not.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
};

use serde_json::{Value, json};

use crate::support::{Running, adds, outputs, plain, remote, table};

const CLIENTS: u16 = 16;
const EACH: u16 = 40;

/// Many clients ask a model that adds 1, each for numbers of its own.
fn ask_side_by_side(gateway: &Running) {
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            scope.spawn(move || {
                let mut connection = gateway.connect();
                for turn in 0..EACH {
                    let first = f32::from(client * 100 + turn);
                    let answer = connection.infer("adds", [first, first + 0.25, -first]);
                    let wanted = [first + 1.0, first + 1.25, 1.0 - first].map(f64::from);
                    assert_eq!(outputs(&answer), wanted);
                    assert_eq!(answer.json()["outputs"][0]["shape"], json!([1, 3]));
                }
            });
        }
    });
}

fn calls(replica: &Running) -> u64 {
    let (_, state) = replica.local("GET", "/state", "");
    let arms = state["arms"].as_array().unwrap();
    arms.iter().map(|arm| arm["codes"]["ok"].as_u64().unwrap_or(0)).sum()
}

fn gateway_over(urls: &[String]) -> Running {
    let gateway = Running::new();
    gateway.put(&table(100, &[remote("adds", urls)])).unwrap();
    gateway
}

#[test]
fn everybody_gets_his_own_answer_and_the_replicas_get_fewer_calls() {
    let replica = || {
        let replica = Running::new();
        replica.put(&table(1, &[adds(1)])).unwrap();
        replica
    };
    let replicas = [replica(), replica()];
    let gateway = gateway_over(&[replicas[0].url(), replicas[1].url()]);
    ask_side_by_side(&gateway);
    let all = u64::from(CLIENTS * EACH);
    assert_eq!(gateway.arm("remote", "main", "r100")["codes"], json!({ "ok": all }));
    let asked: u64 = gateway.replicas().iter().map(|r| r["requests"].as_u64().unwrap()).sum();
    assert_eq!(asked, all, "each counts, however it travelled");
    let calls: u64 = replicas.iter().map(calls).sum();
    assert!(calls < all, "{calls} calls for {all} requests");
}

#[test]
fn rows_that_meet_and_answers_that_are_kept_do_not_ride() {
    // Every row of `rows_meet` gets what depends on the others: together it would be wrong.
    let replica = Running::new();
    let mut kept = adds(1);
    kept["cache"] = json!({ "max_bytes": 1_000_000, "ttl_ms": null });
    replica.put(&table(1, &[kept, plain("meet", "rows_meet")])).unwrap();
    let describe = |model: &str| {
        replica.connect().get(&format!("/v2/models/{model}")).json()["parameters"].clone()
    };
    assert_eq!(describe("adds"), Value::Null, "one question in a cache is one request's");
    assert_eq!(describe("meet"), Value::Null);
    let gateway = gateway_over(&[replica.url()]);
    ask_side_by_side(&gateway);
    assert_eq!(calls(&replica), u64::from(CLIENTS * EACH), "each by itself");
}

/// A server that says that rows may ride together, and then refuses whoever comes with several.
fn of_one_row_only() -> (String, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let refused = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&refused);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let count = Arc::clone(&count);
            thread::spawn(move || answer_one(stream.unwrap(), &count));
        }
    });
    (url, refused)
}

fn answer_one(mut stream: TcpStream, refused: &AtomicU64) {
    let mut asked = Vec::new();
    let mut bytes = [0; 16 * 1024];
    // A body ends where its head says; the three requests of a GET have none.
    let whole = |asked: &[u8]| {
        let text = String::from_utf8_lossy(asked);
        let head = text.find("\r\n\r\n")?;
        let length = text.lines().find_map(|line| line.strip_prefix("content-length: "));
        (asked.len() >= head + 4 + length.map_or(0, |length| length.parse().unwrap())).then_some(())
    };
    while whole(&asked).is_none() {
        match stream.read(&mut bytes).unwrap() {
            0 => return,
            read => asked.extend_from_slice(&bytes[..read]),
        }
    }
    let text = String::from_utf8_lossy(&asked).into_owned();
    let (status, body) = if text.starts_with("GET /v2/health") {
        ("200 OK", String::new())
    } else if text.starts_with("GET /v2/models") {
        let spec = |name: &str| json!({ "name": name, "datatype": "FP32", "shape": [-1, 3] });
        let parameters = json!({ "batchable": true });
        let model = json!({ "name": "adds", "versions": ["1"], "platform": "x", "inputs": [spec("x")],
                            "outputs": [spec("y")], "parameters": parameters });
        ("200 OK", model.to_string())
    } else if text.contains("\"shape\":[1,3]") {
        let numbers: Vec<f32> = asked[asked.len() - 12..]
            .chunks_exact(4)
            .map(|number| f32::from_le_bytes(number.try_into().unwrap()) + 1.0)
            .collect();
        let output = json!({ "name": "y", "datatype": "FP32", "shape": [1, 3], "data": numbers });
        ("200 OK", json!({ "model_name": "adds", "outputs": [output] }).to_string())
    } else {
        refused.fetch_add(1, Relaxed);
        ("422 Unprocessable", json!({ "error": "one at a time" }).to_string())
    };
    let answer = format!(
        "HTTP/1.1 {status}\r\ndukou-revision: r1\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _gone = stream.write_all(answer.as_bytes());
}

#[test]
fn a_call_that_is_refused_is_asked_again_for_each() {
    let (url, refused) = of_one_row_only();
    let gateway = gateway_over(&[url]);
    ask_side_by_side(&gateway);
    assert!(refused.load(Relaxed) > 0, "some came together");
    let all = u64::from(CLIENTS * EACH);
    assert_eq!(gateway.arm("remote", "main", "r100")["codes"], json!({ "ok": all }));
}
