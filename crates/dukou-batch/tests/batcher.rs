//! The batcher, case by case.
#![allow(clippy::unwrap_used, clippy::panic, clippy::async_yields_async, reason = "tests")]

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use dukou_batch::{Batcher, Counts, Mode, Observe, Settings, SystemClock};
use dukou_testkit::{Deed, Fake, Gate, request, signature, values};
use dukou_types::ErrorCode;

#[derive(Default)]
struct Ran(Mutex<Vec<usize>>);

impl Observe for Ran {
    fn ran(&self, rows: usize, _compute: Duration) {
        self.0.lock().unwrap().push(rows);
    }
}

const SETTINGS: Settings =
    Settings { max_rows: 64, max_bytes: 1 << 20, delay: Duration::ZERO, queue: 64 };
const INLINE: Mode = Mode::Inline { lanes: 1 };

fn batcher(fake: &Arc<Fake>, mode: Mode, settings: Settings) -> Batcher {
    let backend = Arc::clone(fake) as Arc<dyn dukou_exec::Execute>;
    Batcher::new(backend, Arc::new(SystemClock), true, mode, settings).unwrap()
}

#[tokio::test]
async fn arrivals_of_one_turn_ride_in_one_run() {
    let fake = Arc::new(Fake::new(signature(true), 1));
    let (batcher, ran) = (batcher(&fake, INLINE, SETTINGS), Arc::new(Ran::default()));
    let askers: Vec<_> = (0..8_u16)
        .map(|id| {
            let (batcher, ran) = (batcher.clone(), Arc::clone(&ran));
            tokio::spawn(async move {
                batcher.submit(request(id.into(), 2, 1, f32::from(id)), ran).await.unwrap()
            })
        })
        .collect();
    for (id, asker) in askers.into_iter().enumerate() {
        let (response, ride) = asker.await.unwrap();
        assert_eq!(values(&response), Some(vec![2.0 * id as f32; 2]));
        assert_eq!((ride.rows, ride.requests), (16, 8));
    }
    assert_eq!(fake.seen().len(), 1);
    assert_eq!(*ran.0.lock().unwrap(), [16]);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_forgets_those_who_left() {
    let gate = Gate::default();
    gate.close();
    let fake = Arc::new(Fake::new(signature(true), 1).behind(&gate));
    let (batcher, ran) =
        (batcher(&fake, Mode::Pooled, Settings { queue: 2, ..SETTINGS }), Arc::new(Ran::default()));
    let ask = |id| batcher.submit(request(id, 1, 1, 1.0), Arc::clone(&ran) as _);
    let running = ask(1);
    gate.wait_for(1);
    let (second, third) = (ask(2), ask(3));
    let refused = ask(4).await.unwrap_err();
    assert_eq!(refused.code, ErrorCode::LimitsQueueFull);
    assert!(refused.message.contains("`limits.queue`"), "{refused}");
    assert_eq!(fake.given_back(), 1, "the refused request's lease");
    drop(second);
    let fourth = ask(5);
    assert_eq!(batcher.queued(), 2);
    gate.open();
    for answer in [running, third, fourth] {
        answer.await.unwrap();
    }
    assert_eq!(batcher.queued(), 0);
    assert_eq!(batcher.counts(), Counts { refused: 1, cancelled: 1, ..Counts::default() });
}

#[tokio::test]
async fn one_bad_request_does_not_take_its_neighbours_with_it() {
    let deed = |value| {
        if value == 13.0 { Deed::FailRun } else { Deed::Answer }
    };
    let fake = Arc::new(Fake::new(signature(true), 1).doing(deed));
    let (batcher, ran) = (batcher(&fake, INLINE, SETTINGS), Arc::new(Ran::default()));
    let ask = |id, value| batcher.submit(request(id, 1, 1, value), Arc::clone(&ran) as _);
    let (good, bad, other) = (ask(1, 1.0), ask(2, 13.0), ask(3, 3.0));
    assert_eq!(values(&good.await.unwrap().0), Some(vec![2.0]));
    assert_eq!(bad.await.unwrap_err().code, ErrorCode::RequestRejectedByModel);
    let (response, ride) = other.await.unwrap();
    assert_eq!((values(&response), ride.requests), (Some(vec![6.0]), 1));
    let sizes: Vec<usize> = fake.seen().iter().map(|run| run.ids.len()).collect();
    assert_eq!(sizes, [3, 1, 1, 1], "together once, then each alone once, and no more");
    assert_eq!(batcher.counts().retried, 3);
}

#[tokio::test]
async fn who_leaves_before_the_run_is_not_run() {
    let fake = Arc::new(Fake::new(signature(true), 1));
    let (batcher, ran) = (batcher(&fake, INLINE, SETTINGS), Arc::new(Ran::default()));
    let asked = request(1, 1, 1, 1.0);
    let cancel = asked.cancel.clone();
    let leaver = batcher.submit(asked, Arc::clone(&ran) as _);
    let stayer = batcher.submit(request(2, 1, 1, 1.0), ran);
    drop(leaver);
    assert!(cancel.is_cancelled());
    stayer.await.unwrap();
    assert_eq!(fake.seen()[0].ids, [2]);
    assert_eq!(batcher.counts(), Counts { cancelled: 1, ..Counts::default() });
}

#[tokio::test]
async fn a_panic_is_an_answer_and_the_next_run_goes_on() {
    let deed = |value| {
        if value == 13.0 { Deed::Panic } else { Deed::Answer }
    };
    for mode in [INLINE, Mode::Pooled] {
        let fake = Arc::new(Fake::new(signature(true), 1).doing(deed));
        let (batcher, ran) = (batcher(&fake, mode, SETTINGS), Arc::new(Ran::default()));
        let bad = batcher.submit(request(1, 1, 1, 13.0), Arc::clone(&ran) as _).await.unwrap_err();
        assert_eq!(bad.code, ErrorCode::EngineInternal);
        assert!(bad.detail.unwrap().contains("told to panic"));
        let good = batcher.submit(request(2, 1, 1, 1.0), ran).await.unwrap();
        assert_eq!(values(&good.0), Some(vec![2.0]));
    }
}

#[tokio::test]
async fn caps_can_change_while_the_version_stays() {
    let gate = Gate::default();
    gate.close();
    let fake = Arc::new(Fake::new(signature(true), 1).behind(&gate));
    let (batcher, ran) = (batcher(&fake, Mode::Pooled, SETTINGS), Arc::new(Ran::default()));
    let ask = |id| batcher.submit(request(id, 1, 1, 1.0), Arc::clone(&ran) as _);
    let first = ask(1);
    gate.wait_for(1);
    let rest = [ask(2), ask(3), ask(4)];
    batcher.set(Settings { max_rows: 2, ..SETTINGS });
    gate.open();
    first.await.unwrap();
    for answer in rest {
        answer.await.unwrap();
    }
    let sizes: Vec<usize> = fake.seen().iter().map(|run| run.rows).collect();
    assert_eq!(sizes, [1, 2, 1]);
}

#[tokio::test]
async fn an_inline_delay_gathers_later_arrivals() {
    let fake = Arc::new(Fake::new(signature(true), 1));
    // Far longer than the test: only a full run ends the wait.
    let settings = Settings { max_rows: 2, delay: Duration::from_secs(3600), ..SETTINGS };
    let (batcher, ran) = (batcher(&fake, INLINE, settings), Arc::new(Ran::default()));
    let first = batcher.submit(request(1, 1, 1, 1.0), Arc::clone(&ran) as _);
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    assert!(fake.seen().is_empty());
    let second = batcher.submit(request(2, 1, 1, 1.0), ran);
    first.await.unwrap();
    second.await.unwrap();
    assert_eq!(fake.seen()[0].ids, [1, 2]);
}

#[test]
fn the_end_of_a_runtime_frees_its_lane_and_tells_its_askers() {
    let fake = Arc::new(Fake::new(signature(true), 1));
    let (batcher, ran) = (batcher(&fake, INLINE, SETTINGS), Arc::new(Ran::default()));
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let first = runtime();
    // Queued, its drain scheduled and never run.
    let orphan =
        first.block_on(async { batcher.submit(request(1, 1, 1, 1.0), Arc::clone(&ran) as _) });
    drop(first);
    let second = runtime();
    let answer = second.block_on(async { batcher.submit(request(2, 1, 1, 1.0), ran).await });
    assert!(answer.is_ok());
    // The lane was free for the second runtime's drain, which took the orphan along.
    assert!(second.block_on(orphan).is_ok());

    let third = runtime();
    let lost =
        third.block_on(async { batcher.submit(request(3, 1, 1, 1.0), Arc::new(Ran::default())) });
    drop(third);
    drop(batcher);
    assert_eq!(second.block_on(lost).unwrap_err().code, ErrorCode::ServerDraining);
}

#[tokio::test]
async fn the_last_batcher_ends_its_threads_and_frees_the_model() {
    let fake = Arc::new(Fake::new(signature(true), 3));
    let batcher = batcher(&fake, Mode::Pooled, SETTINGS);
    batcher.submit(request(1, 1, 1, 1.0), Arc::new(Ran::default())).await.unwrap();
    let weak = Arc::downgrade(&fake);
    drop(fake);
    drop(batcher);
    while weak.strong_count() > 0 {
        tokio::task::yield_now().await;
    }
}
