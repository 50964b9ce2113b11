//! What is bounded, what is given up, and the end: connections, places, departures, drains.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests")]

mod crossing;

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use bytes::Bytes;
use crossing::{Crossing, body, http, infer};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};

/// A batch waits this long for company: requests stand in the queue for as long as a test needs.
fn patient(table: &mut Value) {
    table["models"][0]["batching"]["delay_us"] = json!(1_000_000);
}

#[test]
fn connections_over_the_limit_are_told_so() {
    let crossing = Crossing::serving(|table| table["limits"]["connections"] = json!(2));
    // They count from the moment of their acceptance, whether they have asked or not.
    let (one, _two) = (crossing.connect(), crossing.connect());
    let mut three = crossing.connect();
    let answer = three.answer();
    assert_eq!((answer.status, answer.code().as_str()), (503, "limits.too-many-connections"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(crossing.counted("limits.too-many-connections"), 1);
    drop(one);
    crossing.wait_until("a place is free", |crossing| crossing.ask(&infer("", 1)).status == 200);
}

#[test]
fn a_client_that_leaves_cancels_its_request() {
    let crossing = Crossing::serving(patient);
    let mut client = crossing.connect();
    client.send(&infer("", 1));
    crossing.wait_until("it is queued", |crossing| {
        crossing.engine.serving.load().as_ref().unwrap().versions().any(|v| v.way.queued() == 1)
    });
    drop(client);
    crossing.wait_until("it is written down", |crossing| crossing.counted("server.cancelled") == 1);
    // The one that asks next runs, without it.
    let answer = crossing.ask(&infer("", 64));
    assert_eq!(answer.status, 200);
    let batches: u64 = crossing.engine.state.arms().values().map(|totals| totals.batches()).sum();
    assert_eq!((batches, crossing.counted("ok")), (1, 1));
    assert_eq!(crossing.engine.state.gauges.in_flight.load(Ordering::Relaxed), 0);
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let crossing = Crossing::serving(|table| {
        patient(table);
        table["models"][0]["limits"]["concurrency"] = json!(1);
    });
    let mut first = crossing.connect();
    first.send(&infer("", 1));
    crossing.wait_until("it is admitted", |crossing| {
        crossing.engine.state.gauges.in_flight.load(Ordering::Relaxed) == 1
    });
    let answer = crossing.ask(&infer("", 1));
    assert_eq!((answer.status, answer.code().as_str()), (429, "limits.queue-full"));
    assert!(answer.json()["error"].as_str().unwrap().contains("`limits.concurrency`"));
    assert_eq!(answer.header("retry-after"), Some("1"));
    assert_eq!(first.answer().status, 200);
}

#[test]
fn the_queue_is_bounded() {
    let crossing = Crossing::serving(|table| {
        patient(table);
        table["models"][0]["limits"]["queue"] = json!(1);
    });
    let mut first = crossing.connect();
    first.send(&infer("", 1));
    crossing.wait_until("it is queued", |crossing| {
        crossing.engine.serving.load().as_ref().unwrap().versions().any(|v| v.way.queued() == 1)
    });
    let answer = crossing.ask(&infer("", 1));
    assert_eq!((answer.status, answer.code().as_str()), (429, "limits.queue-full"));
    assert!(answer.json()["error"].as_str().unwrap().contains("`limits.queue`"));
    assert_eq!(first.answer().status, 200);
}

#[test]
fn http2_on_the_same_port() {
    let crossing = Crossing::serving(|_| {});
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let stream = tokio::net::TcpStream::connect(crossing.address).await.unwrap();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .unwrap();
        let connection = tokio::spawn(connection);
        let ask = |uri: &str, body: String| {
            let request = http::Request::post(format!("http://{}{uri}", crossing.address))
                .body(Full::new(Bytes::from(body)))
                .unwrap();
            let mut sender = sender.clone();
            async move {
                let (head, body) = sender.send_request(request).await.unwrap().into_parts();
                (head, body.collect().await.unwrap().to_bytes())
            }
        };
        // Many streams at once, one of them of a few megabytes.
        let large = tokio::spawn(ask("/v2/models/digits/infer", body(20_000)));
        let small: Vec<_> =
            (1..=50).map(|rows| tokio::spawn(ask("/v2/models/digits/infer", body(rows)))).collect();
        for (rows, asked) in (1..=50).zip(small) {
            let (head, said) = asked.await.unwrap();
            assert_eq!((head.status.as_u16(), head.version), (200, http::Version::HTTP_2));
            let said: Value = serde_json::from_slice(&said).unwrap();
            assert_eq!(said["outputs"][0]["shape"], json!([rows]));
        }
        let (head, said) = large.await.unwrap();
        assert_eq!(head.status.as_u16(), 200, "{}", String::from_utf8_lossy(&said));
        // The authority stands in the head's URI here.
        let foreign = http::Request::get("http://evil.example/").body(Full::default()).unwrap();
        let refused = sender.clone().send_request(foreign).await.unwrap();
        assert_eq!(refused.status().as_u16(), 403);
        // A drain says goodbye; what is in flight is answered.
        let last = tokio::spawn(ask("/v2/models/digits/infer", body(1)));
        assert_eq!(last.await.unwrap().0.status.as_u16(), 200);
        crossing.engine.drain.begin();
        connection.await.unwrap().unwrap();
    });
}

#[test]
fn a_drain_under_load_loses_nothing() {
    let mut crossing = Crossing::serving(|_| {});
    let all_started = AtomicBool::new(false);
    let lost = thread::scope(|scope| {
        let clients: Vec<_> = (0..8)
            .map(|_| {
                let (crossing, all_started) = (&crossing, &all_started);
                scope.spawn(move || {
                    let mut client = crossing.connect();
                    let (mut answered, mut lost) = (0, 0);
                    loop {
                        client.send(&infer("", 1));
                        let Some(answer) = client.try_answer() else {
                            lost += 1;
                            break;
                        };
                        assert_eq!(answer.status, 200, "{answer:?}");
                        answered += 1;
                        if answer.header("connection") == Some("close") {
                            break;
                        }
                        assert!(answered < 1_000_000, "the drain never came");
                    }
                    assert!(!all_started.load(Ordering::Acquire) || client.is_closed());
                    lost
                })
            })
            .collect();
        crossing.wait_until("all are asking", |crossing| crossing.counted("ok") > 200);
        all_started.store(true, Ordering::Release);
        crossing.engine.drain.begin();
        clients.into_iter().map(|client| client.join().unwrap()).sum::<u32>()
    });
    assert_eq!(lost, 0, "requests were sent and not answered");
    crossing.drain();
    assert_eq!(crossing.engine.state.gauges.connections.load(Ordering::Relaxed), 0);
}

#[test]
fn a_drain_answers_what_waits_and_says_that_it_is_not_ready() {
    let mut crossing = Crossing::serving(patient);
    let mut waiting = crossing.connect();
    waiting.send(&infer("", 1));
    let mut other = crossing.connect();
    other.send(&http("GET /v2/health/live", "", ""));
    assert_eq!(other.answer().status, 200);
    crossing.wait_until("it is admitted", |crossing| {
        crossing.engine.state.gauges.in_flight.load(Ordering::Relaxed) == 1
    });
    crossing.engine.drain.begin();
    other.send(&http("GET /v2/health/ready", "", ""));
    let answer = other.answer();
    assert_eq!((answer.status, answer.code().as_str()), (503, "server.draining"));
    assert_eq!(answer.header("connection"), Some("close"));
    let answer = waiting.answer();
    assert_eq!(answer.status, 200);
    assert!(waiting.is_closed());
    crossing.drain();
}

#[test]
fn a_drain_is_cut_short_where_the_table_says_so() {
    let mut crossing = Crossing::serving(|table| {
        patient(table);
        table["limits"]["drain_ms"] = json!(20);
    });
    let mut waiting = crossing.connect();
    waiting.send(&infer("", 1));
    crossing.wait_until("it is admitted", |crossing| {
        crossing.engine.state.gauges.in_flight.load(Ordering::Relaxed) == 1
    });
    crossing.drain();
    assert!(waiting.is_closed(), "what is not done by then is given up");
}
