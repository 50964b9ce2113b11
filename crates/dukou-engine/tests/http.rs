//! The doors, with raw TCP: heads and bodies that are slow, large, many, foreign, or not finished.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod crossing;

use crossing::{Crossing, body, http, infer};
use serde_json::json;

#[test]
fn an_inference_says_who_answered() {
    let crossing = Crossing::serving(|_| {});
    let answer = crossing.ask(&infer("", 2));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("dukou-version"), Some("7"));
    assert_eq!(answer.header("dukou-revision"), Some("r1"));
    let id = answer.header("dukou-request-id").unwrap();
    assert!(id.len() == 16 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
    let said = answer.json();
    assert_eq!((&said["model_name"], &said["model_version"]), (&json!("digits"), &json!("7")));
    assert_eq!(said["outputs"][1]["shape"], json!([2, 10]));
    let sum: f64 = said["outputs"][1]["data"].as_array().unwrap()[..10]
        .iter()
        .map(|p| p.as_f64().unwrap())
        .sum();
    assert!((sum - 1.0).abs() < 1e-5, "probabilities of a row sum to {sum}");
    crossing.wait_until("it is counted", |crossing| crossing.counted("ok") == 1);
}

#[test]
fn versions_and_aliases_are_routed() {
    let crossing = Crossing::serving(|_| {});
    for path in ["versions/7", "aliases/champion", "versions/champion"] {
        let answer =
            crossing.ask(&http(&format!("POST /v2/models/digits/{path}/infer"), "", &body(1)));
        assert_eq!((answer.status, answer.header("dukou-version")), (200, Some("7")), "{path}");
    }
    for (path, code) in [
        ("digits/versions/8", "request.unknown-version"),
        ("digits/aliases/challenger", "request.unknown-version"),
        ("digits/aliases/7", "request.unknown-version"),
        ("letters", "request.unknown-model"),
    ] {
        let answer = crossing.ask(&http(&format!("POST /v2/models/{path}/infer"), "", &body(1)));
        assert_eq!((answer.status, answer.code().as_str()), (404, code), "{path}");
        let id = answer.header("dukou-request-id").unwrap();
        assert_eq!(answer.json()["request_id"], json!(id));
    }
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let crossing = Crossing::serving(|_| {});
    let mut client = crossing.connect();
    let mut all = Vec::new();
    for rows in 1..=20 {
        all.extend(infer("", rows));
        all.extend(http("GET /v2/models/digits", "", ""));
    }
    client.send(&all);
    for rows in 1..=20 {
        assert_eq!(client.answer().json()["outputs"][0]["shape"], json!([rows]));
        assert_eq!(client.answer().json()["name"], json!("digits"));
    }
}

#[test]
fn a_head_that_does_not_end_is_cut_off_and_an_idle_connection_is_not() {
    let crossing = Crossing::serving(|table| table["limits"]["header_ms"] = json!(80));
    let mut idle = crossing.connect();
    idle.send(&infer("", 1));
    assert_eq!(idle.answer().status, 200);
    let mut silent = crossing.connect();
    let mut slow = crossing.connect();
    slow.send(b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: local");
    assert!(slow.is_closed(), "a head that does not end");
    assert!(silent.is_closed(), "a connection that never asked");
    idle.send(&infer("", 1));
    assert_eq!(idle.answer().status, 200, "between requests a client owes nothing");
}

#[test]
fn a_head_too_large_is_refused() {
    let crossing = Crossing::serving(|_| {});
    let long = format!("x-long: {}\r\n", "a".repeat(300_000));
    let mut client = crossing.connect();
    client.send(&http("GET /", &long, "")[..200_000]);
    assert_eq!(client.answer().status, 431);
    let many: String = (0..200).map(|n| format!("x-{n}: 1\r\n")).collect();
    assert_eq!(crossing.ask(&http("GET /", &many, "")).status, 431);
    assert_eq!(crossing.ask(b"\x16\x03\x01 no http\r\n\r\n").status, 400);
}

#[test]
fn a_body_too_large_is_refused_before_it_is_read() {
    let crossing = Crossing::serving(|table| table["limits"]["body_bytes"] = json!(100_000));
    // Announced: nothing of it has to be sent.
    let answer = crossing.ask(
        b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5000000000\r\n\r\n",
    );
    assert_eq!((answer.status, answer.code().as_str()), (413, "request.body-too-large"));
    let said = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(said.contains("100000") && said.contains("`limits.body_bytes`"), "{said}");
    // In chunks: as soon as it is known.
    let mut client = crossing.connect();
    client.send(
        b"POST /v2/models/digits/infer HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    let chunk = [b"4000\r\n".as_slice(), &[b' '; 0x4000], b"\r\n"].concat();
    // A client that does not listen before it has sent everything hears it all the same.
    for _ in 0..200 {
        client.send(&chunk);
    }
    assert_eq!(client.answer().code(), "request.body-too-large");
    // Where nothing is served, nothing is read.
    let answer = crossing
        .ask(b"POST /nothing HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5000000000\r\n\r\n");
    assert_eq!((answer.status, answer.code().as_str()), (404, "wire.unknown-path"));
}

#[test]
fn a_slow_body_meets_the_deadline() {
    let crossing = Crossing::serving(|_| {});
    let mut client = crossing.connect();
    let request = infer("dukou-timeout-ms: 50\r\n", 1);
    client.send(&request[..request.len() - 10]);
    let answer = client.answer();
    assert_eq!((answer.status, answer.code().as_str()), (504, "limits.deadline"));
    let patience = body(1).replacen('{', r#"{"parameters": {"timeout": 9223372036854775807},"#, 1);
    let answer = crossing.ask(&http("POST /v2/models/digits/infer", "", &patience));
    assert_eq!(answer.status, 200, "all the time in the world: {answer:?}");
    let answer = crossing.ask(&infer("dukou-timeout-ms: soon\r\n", 1));
    assert_eq!((answer.status, answer.code().as_str()), (400, "wire.invalid-field"));
}

#[test]
fn foreign_hosts_and_origins_are_refused() {
    let crossing =
        Crossing::serving(|table| table["listeners"][0]["hosts"] = json!(["Ours.Example"]));
    let ask = |host: &str, more: &str| {
        crossing
            .ask(format!("GET /v2/health/live HTTP/1.1\r\nhost: {host}\r\n{more}\r\n").as_bytes())
    };
    assert_eq!(ask("localhost:1", "").status, 200);
    assert_eq!(ask("ours.example:80", "").status, 200);
    assert_eq!(ask("localhost:1", "origin: http://localhost:1\r\n").status, 200);
    let answer = ask("evil.example", "");
    assert_eq!((answer.status, answer.code().as_str()), (403, "access.foreign-host"));
    let answer = ask("localhost:1", "origin: https://evil.example\r\n");
    assert_eq!((answer.status, answer.code().as_str()), (403, "access.foreign-origin"));
    // In the request line, as proxies are asked: it is the host then.
    let answer =
        crossing.ask(b"GET http://evil.example/v2/health/live HTTP/1.1\r\nhost: localhost\r\n\r\n");
    assert_eq!(answer.code(), "access.foreign-host");
}

#[test]
fn a_listener_that_is_open_asks_for_no_host() {
    let crossing = Crossing::serving(|table| table["listeners"][0]["access"] = json!("open"));
    let answer = crossing.ask(b"GET /v2/health/ready HTTP/1.1\r\nhost: models.example\r\n\r\n");
    assert_eq!(answer.status, 200);
}

#[test]
fn wrong_methods_and_head() {
    let crossing = Crossing::serving(|_| {});
    let answer = crossing.ask(&http("GET /v2/models/digits/infer", "", ""));
    assert_eq!((answer.status, answer.header("allow")), (405, Some("POST")));
    let answer = crossing.ask(&http("POST /v2/health/live", "", "{}"));
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
    let mut client = crossing.connect();
    client.send(
        &[http("HEAD /v2/models/digits", "", ""), http("GET /v2/health/live", "", "")].concat(),
    );
    let raw = {
        let mut read = Vec::new();
        while !read.ends_with(b"{\"live\":true}") {
            let mut bytes = [0; 4096];
            let count = std::io::Read::read(&mut client.stream, &mut bytes).unwrap();
            assert!(count > 0, "{}", String::from_utf8_lossy(&read));
            read.extend_from_slice(&bytes[..count]);
        }
        String::from_utf8(read).unwrap()
    };
    let (head, rest) = raw.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("content-length: ") && !head.contains("content-length: 0"), "{head}");
    assert!(rest.starts_with("HTTP/1.1 200"), "no body behind a HEAD's head: {rest}");
}

#[test]
fn the_front_page_lists_the_models() {
    let crossing = Crossing::serving(|_| {});
    let said = crossing.ask(&http("GET /", "", "")).json();
    assert_eq!(said["models"][0]["name"], json!("digits"));
    assert_eq!(said["models"][0]["versions"], json!(["7"]));
    assert_eq!(said["models"][0]["infer"], json!("/v2/models/digits/infer"));
    let metrics = crossing.ask(&http("GET /metrics", "", ""));
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    assert!(String::from_utf8(metrics.body).unwrap().contains("dukou_"));
}

#[test]
fn before_the_first_table_it_lives_and_is_not_ready() {
    let crossing = Crossing::empty();
    assert_eq!(crossing.ask(&http("GET /v2/health/live", "", "")).status, 200);
    for request in [http("GET /v2/health/ready", "", ""), infer("", 1)] {
        let answer = crossing.ask(&request);
        assert_eq!((answer.status, answer.code().as_str()), (503, "server.not-ready"));
        assert_eq!(answer.header("retry-after"), Some("1"));
    }
    assert_eq!(crossing.ask(&http("GET /", "", "")).json()["models"], json!([]));
}

#[test]
fn a_split_is_drawn_by_weight_and_every_answer_says_its_version() {
    let crossing = Crossing::serving(|table| {
        let model = &mut table["models"][0];
        let mut second = model["versions"][0].clone();
        second["version"] = json!("8");
        model["versions"].as_array_mut().unwrap().push(second);
        model["split"] = json!([
            {"version": "7", "arm": "main", "weight": 3},
            {"version": "8", "arm": "canary", "weight": 1},
        ]);
    });
    let mut client = crossing.connect();
    let mut canary = 0;
    for _ in 0..400 {
        client.send(&infer("", 1));
        let answer = client.answer();
        let version = answer.header("dukou-version").unwrap();
        assert_eq!(answer.json()["model_version"], json!(version));
        canary += u32::from(version == "8");
    }
    assert!((50..150).contains(&canary), "{canary} of 400 went to an arm of a quarter");
}

#[test]
fn garbage_is_survived() {
    let crossing = Crossing::serving(|table| table["limits"]["header_ms"] = json!(50));
    let whole = infer("x-some: thing\r\ntransfer-encoding: chunked\r\n", 1);
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    for _ in 0..300 {
        let mut bytes = if next(2) == 0 { infer("", 1) } else { whole.clone() };
        for _ in 0..=next(8) {
            let place = next(bytes.len());
            bytes[place] = u8::try_from(next(256)).unwrap();
        }
        bytes.truncate(next(bytes.len()) + 1);
        let mut client = crossing.connect();
        let _refused_already = std::io::Write::write_all(&mut client.stream, &bytes);
        client.stream.shutdown(std::net::Shutdown::Write).unwrap();
        while !client.is_closed() {}
    }
    assert_eq!(crossing.ask(&infer("", 1)).status, 200);
    assert_eq!(crossing.counted("engine.internal"), 0);
}
