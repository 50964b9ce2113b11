//! The batcher's laws, over whatever arrives: random sizes, priorities, deadlines, departures, and
//! backends that fail, panic or say nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::async_yields_async, reason = "tests")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use dukou_batch::{Batcher, Mode, Observe, Settings, SystemClock};
use dukou_testkit::{Deed, Fake, request, signature, values};
use dukou_types::ErrorCode;
use proptest::prelude::*;
use tokio::runtime::Builder;

/// What one asker does.
#[derive(Clone, Debug)]
struct Asks {
    rows: usize,
    width: usize,
    value: f32,
    priority: u32,
    leaves: bool,
    late: bool,
    /// Turns of the event loop before it asks.
    after: u8,
}

/// Values above this do something else than to be answered.
const HARM: f32 = 1000.0;

fn deed(value: f32) -> Deed {
    match value {
        1001.0 => Deed::FailRun,
        1002.0 => Deed::FailAlone,
        1003.0 => Deed::Panic,
        1004.0 => Deed::Silence,
        1005.0 => Deed::Twice,
        _ => Deed::Answer,
    }
}

fn asks() -> impl Strategy<Value = Asks> {
    let value = prop_oneof![
        20 => (0_u16..1000).prop_map(f32::from),
        3 => Just(1001.0_f32),
        1 => Just(1002.0),
        1 => Just(1003.0),
        1 => Just(1004.0),
        1 => Just(1005.0),
    ];
    (1_usize..12, 1_usize..3, value, 0_u32..4, 0_u8..8, 0_u8..8, 0_u8..4).prop_map(
        |(rows, width, value, priority, leaves, late, after)| Asks {
            rows,
            width,
            value,
            priority,
            leaves: leaves == 0,
            late: late == 0,
            after,
        },
    )
}

#[derive(Default)]
struct Runs(AtomicUsize);

impl Observe for Runs {
    fn ran(&self, _rows: usize, _compute: Duration) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

const MAX_ROWS: usize = 16;
const MAX_BYTES: usize = 96;

fn check(all: &[Asks], mode: Mode, instances: usize, delay: Duration) {
    let fake = Arc::new(Fake::new(signature(true), instances).doing(deed));
    let settings = Settings { max_rows: MAX_ROWS, max_bytes: MAX_BYTES, delay, queue: usize::MAX };
    let backend = Arc::clone(&fake) as Arc<dyn dukou_exec::Execute>;
    let batcher = Batcher::new(backend, Arc::new(SystemClock), true, mode, settings).unwrap();
    let runs = Arc::new(Runs::default());
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let heard = runtime.block_on(async {
        let askers: Vec<_> = all
            .iter()
            .enumerate()
            .map(|(id, asks)| {
                let (batcher, runs, asks) = (batcher.clone(), Arc::clone(&runs), asks.clone());
                tokio::spawn(async move {
                    for _ in 0..asks.after {
                        tokio::task::yield_now().await;
                    }
                    let mut asked = request(id as u64, asks.rows, asks.width, asks.value);
                    asked.priority = asks.priority;
                    if asks.late {
                        asked.deadline = Some(std::time::Instant::now());
                    }
                    let answer = batcher.submit(asked, runs);
                    if asks.leaves {
                        return None;
                    }
                    Some(answer.await)
                })
            })
            .collect();
        let mut heard = Vec::new();
        for asker in askers {
            heard.push(asker.await.unwrap());
        }
        heard
    });
    // Those that left are swept out with the next run; the pool may still be at its last one.
    drop(runtime);

    assert!(!fake.overlapped(), "two runs of one instance overlapped");
    let seen = fake.seen();
    for run in &seen {
        let alone = run.ids.len() == 1;
        assert!(
            alone || (run.rows <= MAX_ROWS && run.bytes <= MAX_BYTES),
            "over the caps: {run:?}"
        );
        let widths = |id: &u64| all[usize::try_from(*id).unwrap()].width;
        assert!(run.ids.iter().all(|id| widths(id) == widths(&run.ids[0])), "unlike: {run:?}");
    }
    for (id, (asks, heard)) in all.iter().zip(&heard).enumerate() {
        let times = seen.iter().filter(|run| run.ids.contains(&(id as u64))).count();
        assert!(times <= 2, "request {id} ran {times} times");
        let Some(reply) = heard else { continue };
        if asks.late {
            let code = reply.as_ref().map(|_| ()).map_err(|failure| failure.code);
            assert_eq!((code, times), (Err(ErrorCode::LimitsDeadline), 0), "request {id} was late");
            continue;
        }
        let neighbours = |deed_of: Deed| {
            seen.iter().filter(|run| run.ids.contains(&(id as u64))).any(|run| {
                run.ids.iter().any(|n| deed(all[usize::try_from(*n).unwrap()].value) == deed_of)
            })
        };
        match (deed(asks.value), reply) {
            (Deed::Answer, Ok((response, ride))) => {
                let expected = vec![2.0 * asks.value; asks.rows * asks.width];
                assert_eq!(values(response), Some(expected), "request {id} heard another's answer");
                let rode = |run: &dukou_testkit::Seen| {
                    run.ids.contains(&(id as u64))
                        && (run.rows, run.ids.len()) == (ride.rows, ride.requests)
                };
                assert!(seen.iter().any(rode), "request {id} did not ride as it says: {ride:?}");
            }
            // A panic takes its batch with it, and nothing else.
            (_, Err(failure)) if neighbours(Deed::Panic) => {
                assert_eq!(failure.code, ErrorCode::EngineInternal);
            }
            (Deed::Silence, Ok((response, _))) => assert!(response.outputs.is_empty()),
            (Deed::FailRun | Deed::FailAlone, Err(failure)) => {
                assert_eq!(failure.code, ErrorCode::RequestRejectedByModel);
            }
            (Deed::Twice, Err(failure)) => assert_eq!(failure.code, ErrorCode::WireUnsupported),
            (deed, reply) => {
                panic!("request {id} ({deed:?}, {}) heard {reply:?}", asks.value >= HARM)
            }
        }
    }
    assert!(runs.0.load(Ordering::Acquire) <= seen.len(), "a run was counted twice");
    if mode != Mode::Pooled {
        assert_eq!(runs.0.load(Ordering::Acquire), seen.len(), "every run is counted once");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn inline(all in prop::collection::vec(asks(), 1..40), instances in 1_usize..3) {
        check(&all, Mode::Inline { lanes: 2 }, instances, Duration::ZERO);
    }

    #[test]
    fn pooled(all in prop::collection::vec(asks(), 1..40), instances in 1_usize..4) {
        check(&all, Mode::Pooled, instances, Duration::ZERO);
    }

    #[test]
    fn pooled_with_a_delay(all in prop::collection::vec(asks(), 1..20)) {
        check(&all, Mode::Pooled, 2, Duration::from_micros(500));
    }
}
