use std::{
    collections::HashMap,
    future::pending,
    pin::pin,
    sync::atomic::{AtomicBool, AtomicUsize},
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use dukou_batch::{Batcher, Mode, Observe, Ride, Settings};
use dukou_testkit::{Deed, Fake, ManualTime, request, signature, values};
use dukou_types::{DType, InferResponse, Param, Principal, Requested, SharedBytes, Tensor};
use proptest::{collection::vec, prelude::*};
use smallvec::smallvec;

use super::*;

struct Still(ManualTime);

impl Clock for Still {
    fn now(&self) -> std::time::Instant {
        self.0.now()
    }
}

struct Unwatched;

impl Observe for Unwatched {
    fn ran(&self, _rows: usize, _compute: Duration) {}
}

const RIDE: Ride = Ride { queue: Duration::ZERO, compute: Duration::ZERO, rows: 1, requests: 1 };
const PLENTY: Caching = Caching { max_bytes: 1 << 20, ttl_ms: None };

fn cache(settings: &Caching) -> Cache {
    Cache::new(settings, Arc::new(SystemClock)).unwrap()
}

fn fake() -> Fake {
    Fake::new(signature(true), 1)
}

/// An answer of so many numbers.
fn answer(numbers: usize, value: f32) -> InferResponse {
    InferResponse {
        outputs: request(0, 1, numbers, value).inputs,
        parameters: Vec::new(),
        served_by: None,
    }
}

/// Asks, and says whether it was run.
async fn asks(cache: &Cache, identity: u64, request: InferRequest) -> Found {
    let rest = async |_| Ok((answer(4, 1.0), RIDE));
    cache.answer(identity, &fake(), request, rest).await.unwrap().found.unwrap()
}

#[tokio::test]
async fn what_was_asked_is_known_and_buffers_go_back() {
    let (cache, fake) = (cache(&PLENTY), fake());
    let ask = |value: f32| {
        cache.answer(7, &fake, request(1, 1, 2, value), async move |_| Ok((answer(2, value), RIDE)))
    };
    let first = ask(3.0).await.unwrap();
    assert_eq!((first.found, first.ride), (Some(Found::Miss), Some(RIDE)));
    let again = ask(3.0).await.unwrap();
    assert_eq!((again.found, again.ride), (Some(Found::Hit), None));
    assert_eq!(values(&again.response), Some(vec![3.0; 2]));
    assert_eq!(fake.given_back(), 1);
    assert_eq!(ask(4.0).await.unwrap().found, Some(Found::Miss));
    assert_eq!(cache.kept().entries, 2);
}

#[tokio::test]
async fn whatever_differs_is_another_question() {
    let cache = cache(&PLENTY);
    let plain = || request(1, 1, 2, 1.0);
    let differing: [fn(&mut InferRequest); 10] = [
        |r| r.principal = Principal::Named("a".into()),
        |r| r.principal = Principal::Named("b".into()),
        |r| r.principal = Principal::Anonymous,
        |r| r.outputs = Requested::Only(smallvec![0]),
        |r| r.parameters.push(("k".into(), Param::Int(1))),
        |r| r.parameters.push(("k".into(), Param::Double(f64::from_bits(1)))),
        |r| r.parameters.push(("k".into(), Param::String("1".into()))),
        |r| r.inputs[0].dtype = DType::Int32,
        |r| r.inputs[0].shape = vec![2, 1],
        |r| r.inputs[0].name = "z".into(),
    ];
    assert_eq!(asks(&cache, 7, plain()).await, Found::Miss);
    assert_eq!(asks(&cache, 8, plain()).await, Found::Miss, "another loaded version");
    for change in differing {
        for expected in [Found::Miss, Found::Hit] {
            let mut other = plain();
            change(&mut other);
            assert_eq!(asks(&cache, 7, other).await, expected);
        }
    }
    let mut same = plain();
    (same.priority, same.client_id) = (9, Some("me".into()));
    assert_eq!(asks(&cache, 7, same).await, Found::Hit, "what no answer depends on");
}

#[test]
fn one_hash_does_not_make_one_question() {
    let asked = Asked { hash: 1, bytes: b"one" };
    let other = Question::from(Asked { hash: 1, bytes: b"two" });
    assert!(!quick_cache::Equivalent::equivalent(&asked, &other));
    assert!(quick_cache::Equivalent::equivalent(&asked, &asked.into()));
}

#[tokio::test]
async fn an_answer_is_good_for_its_time() {
    let time = ManualTime::default();
    let settings = Caching { ttl_ms: Some(1000), ..PLENTY };
    let cache = Cache::new(&settings, Arc::new(Still(time.clone()))).unwrap();
    let ask = || asks(&cache, 7, request(1, 1, 1, 1.0));
    assert_eq!(ask().await, Found::Miss);
    time.pass(Duration::from_millis(999));
    assert_eq!(ask().await, Found::Hit);
    time.pass(Duration::from_millis(1));
    assert_eq!((ask().await, ask().await), (Found::Miss, Found::Hit));
    assert_eq!(cache.kept().expired, 1);
}

#[tokio::test]
async fn failures_are_never_kept() {
    let (cache, fake) = (cache(&PLENTY), fake());
    let runs = AtomicUsize::new(0);
    for _ in 0..2 {
        let failed = cache.answer(7, &fake, request(1, 1, 1, 1.0), async |_| {
            runs.fetch_add(1, Relaxed);
            Err(Failure::new(ErrorCode::RequestRejectedByModel, "no"))
        });
        assert_eq!(failed.await.unwrap_err().code, ErrorCode::RequestRejectedByModel);
    }
    assert_eq!((runs.load(Relaxed), cache.kept().entries, cache.kept().bytes), (2, 0, 0));
}

#[tokio::test]
async fn many_askers_wait_for_one_run() {
    let (cache, fake) = (cache(&PLENTY), fake());
    let (runs, open) = (AtomicUsize::new(0), tokio::sync::Notify::new());
    let ask = || {
        cache.answer(7, &fake, request(1, 1, 1, 1.0), async |_| {
            runs.fetch_add(1, Relaxed);
            open.notified().await;
            Ok((answer(1, 5.0), RIDE))
        })
    };
    let (first, second, third, _) = tokio::join!(ask(), ask(), ask(), async { open.notify_one() });
    let found = [first, second, third].map(|answered| {
        let answered = answered.unwrap();
        assert_eq!(values(&answered.response), Some(vec![5.0]));
        answered.found.unwrap()
    });
    assert_eq!(found, [Found::Miss, Found::Wait, Found::Wait]);
    assert_eq!(runs.load(Relaxed), 1);
}

#[tokio::test]
async fn those_who_wait_outlive_a_leader_that_leaves_or_fails() {
    let (cache, fake) = (cache(&PLENTY), fake());
    let ask = |run: Option<Result<f32, ErrorCode>>| {
        cache.answer(7, &fake, request(1, 1, 1, 1.0), async move |_| match run {
            None => pending().await,
            Some(Ok(value)) => Ok((answer(1, value), RIDE)),
            Some(Err(code)) => {
                tokio::task::yield_now().await;
                Err(Failure::new(code, "no"))
            }
        })
    };
    let mut context = Context::from_waker(Waker::noop());
    let mut gone = Box::pin(ask(None));
    assert!(gone.as_mut().poll(&mut context).is_pending());
    let mut fails = Box::pin(ask(Some(Err(ErrorCode::EngineInternal))));
    assert!(fails.as_mut().poll(&mut context).is_pending());
    drop(gone);
    let mut last = pin!(ask(Some(Ok(2.0))));
    assert!(fails.as_mut().poll(&mut context).is_pending(), "it leads now");
    assert!(last.as_mut().poll(&mut context).is_pending());
    assert!(matches!(fails.as_mut().poll(&mut context), Poll::Ready(Err(_))));
    let answered = last.await.unwrap();
    assert_eq!((answered.found, values(&answered.response)), (Some(Found::Miss), Some(vec![2.0])));
}

#[tokio::test]
async fn each_keeps_its_own_deadline() {
    let (cache, fake, open) = (cache(&PLENTY), fake(), tokio::sync::Notify::new());
    let leads = cache.answer(7, &fake, request(1, 1, 1, 1.0), async |_| {
        open.notified().await;
        Ok((answer(1, 2.0), RIDE))
    });
    let mut hurried = request(2, 1, 1, 1.0);
    hurried.deadline = Some(std::time::Instant::now());
    let waits = async {
        let rest = async |_| Ok((answer(1, 2.0), RIDE));
        let waited = cache.answer(7, &fake, hurried, rest).await;
        open.notify_one();
        waited
    };
    let (led, waited) = tokio::join!(leads, waits);
    assert_eq!(led.unwrap().found, Some(Found::Miss));
    assert_eq!(waited.unwrap_err().code, ErrorCode::LimitsDeadline);
    assert_eq!(fake.given_back(), 1, "the lease of the one that gave up");
}

#[tokio::test]
async fn what_a_version_answered_goes_with_it() {
    let cache = cache(&PLENTY);
    for (identity, value) in [(1, 1.0), (1, 2.0), (2, 1.0)] {
        asks(&cache, identity, request(1, 1, 1, value)).await;
    }
    let all = cache.kept().bytes;
    cache.forget(&[1]);
    assert_eq!((cache.kept().entries, cache.kept().bytes), (1, all / 3));
    assert_eq!(asks(&cache, 2, request(1, 1, 1, 1.0)).await, Found::Hit);
    assert_eq!(asks(&cache, 1, request(1, 1, 1, 1.0)).await, Found::Miss);
}

#[tokio::test]
async fn settings_that_stay_keep_the_answers() {
    let before = Arc::new(cache(&PLENTY));
    let same = Cache::carried_over(&PLENTY, Some(&before)).unwrap();
    assert!(Arc::ptr_eq(&before, &same));
    let larger = Caching { max_bytes: 2 << 20, ..PLENTY };
    assert_eq!(Cache::carried_over(&larger, Some(&before)).unwrap().kept().entries, 0);
}

#[tokio::test]
async fn a_kept_answer_holds_no_batch() {
    struct Batch(Arc<AtomicBool>, Vec<u8>);
    impl AsRef<[u8]> for Batch {
        fn as_ref(&self) -> &[u8] {
            &self.1
        }
    }
    impl Drop for Batch {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let (cache, fake, freed) = (cache(&PLENTY), fake(), Arc::new(AtomicBool::new(false)));
    let run = async |_| {
        let batch = SharedBytes::new(Arc::new(Batch(Arc::clone(&freed), vec![7; 4096])));
        let tensor = |name: &str, data| Tensor {
            name: name.into(),
            dtype: DType::Uint8,
            shape: vec![3],
            data,
        };
        let part = tensor("part", Data::Shared(batch.slice(100..103).unwrap()));
        let texts = vec![Bytes::from_static(b"a"), Bytes::new(), Bytes::from_static(b"bcd")];
        let words = Tensor { dtype: DType::Bytes, ..tensor("words", Data::Strings(texts)) };
        Ok((
            InferResponse {
                outputs: smallvec![part, words],
                parameters: Vec::new(),
                served_by: None,
            },
            RIDE,
        ))
    };
    let first = cache.answer(7, &fake, request(1, 1, 1, 1.0), run).await.unwrap();
    drop(first);
    assert!(freed.load(Relaxed));
    let known = cache.answer(7, &fake, request(1, 1, 1, 1.0), async |_| panic!("known")).await;
    let outputs = known.unwrap().response.outputs;
    assert_eq!(outputs[0].bytes(), Some(&[7, 7, 7][..]));
    assert_eq!(outputs[1].strings().unwrap(), ["a", "", "bcd"]);
}

/// A question's value, the numbers of its input and of its answer.
fn asked() -> impl Strategy<Value = Vec<(u8, usize, usize)>> {
    vec((any::<u8>(), 1..3000_usize, 0..20_000_usize), 1..120)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is asked, whatever its size: the bytes that are kept stay within the bound and are those of
    /// the entries, and what is known is what was answered.
    #[test]
    fn the_bound_holds_under_any_sequence(sequence in asked(), kilobytes in 64..700_u64) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let cache = cache(&Caching { max_bytes: kilobytes * 1024, ttl_ms: None });
        let fake = fake();
        let mut answered: HashMap<(u8, usize), usize> = HashMap::new();
        for (value, width, numbers) in sequence {
            let ask = cache.answer(1, &fake, request(1, 1, width, value.into()), async |_| {
                Ok((answer(numbers, value.into()), RIDE))
            });
            let got = runtime.block_on(ask).unwrap();
            let given = answered.entry((value, width)).or_insert(numbers);
            if got.found == Some(Found::Miss) {
                *given = numbers;
            }
            prop_assert_eq!(values(&got.response).unwrap(), vec![f32::from(value); *given]);
            let kept = cache.kept();
            prop_assert!(kept.bytes <= kept.max_bytes, "{:?}", kept);
            let entries: u64 = cache.entries.iter().map(|(q, a)| Sizes.weight(&q, &a)).sum();
            prop_assert_eq!(kept.bytes, entries);
        }
    }

    /// Two requests have the same bytes only where they are the same.
    #[test]
    fn questions_are_told_apart(
        one in (vec((any::<bool>(), 0..3_usize, "[ab]{0,2}"), 0..3), vec(("[ab]{0,2}", "[ab]{0,2}"), 0..3)),
        two in (vec((any::<bool>(), 0..3_usize, "[ab]{0,2}"), 0..3), vec(("[ab]{0,2}", "[ab]{0,2}"), 0..3)),
    ) {
        type Said = (Vec<(bool, usize, String)>, Vec<(String, String)>);
        let bytes = |(inputs, parameters): &Said| {
            let mut asked = request(1, 0, 0, 0.0);
            asked.inputs = inputs.iter().map(|(strings, count, name)| {
                let data = if *strings {
                    Data::Strings(vec![Bytes::copy_from_slice(name.as_bytes()); *count])
                } else {
                    Data::Owned(dukou_types::Buffer::zeroed(*count))
                };
                Tensor { name: (&**name).into(), dtype: DType::Bytes, shape: vec![*count], data }
            }).collect();
            let texts = parameters.iter();
            asked.parameters =
                texts.map(|(k, v)| ((&**k).into(), Param::String((&**v).into()))).collect();
            let mut bytes = Vec::new();
            write_question(1, &asked, &mut bytes);
            bytes
        };
        prop_assert_eq!(bytes(&one) == bytes(&two), one == two);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() })]

    /// Many at once, on several threads, through a batcher, of few questions, some of which fail, some of
    /// whose askers leave: whoever gets an answer gets his own.
    #[test]
    fn nobody_gets_anothers_answer(askers in vec(vec((0..6_u8, 0..3_u8, any::<bool>()), 1..40), 2..10)) {
        // -1 fails alone, -2 with all that ride with it.
        let deed = |first: f32| match first {
            1.0 => Deed::FailAlone,
            2.0 => Deed::FailRun,
            _ => Deed::Answer,
        };
        let fake = Arc::new(fake().doing(deed));
        let settings = Settings { max_rows: 8, max_bytes: 1 << 20, delay: Duration::ZERO, queue: 1000 };
        let backend = Arc::clone(&fake) as Arc<dyn Execute>;
        let batcher =
            Batcher::new(backend, Arc::new(SystemClock), true, Mode::Pooled, settings).unwrap();
        // Room for a few: what is asked for is pushed out and asked for again.
        let cache = Arc::new(cache(&Caching { max_bytes: 65_536, ttl_ms: Some(1) }));
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
        let tasks: Vec<_> = askers.into_iter().map(|questions| {
            let (cache, fake, batcher) = (Arc::clone(&cache), Arc::clone(&fake), batcher.clone());
            runtime.spawn(async move {
                for (value, who, leaves) in questions {
                    let mut asked = request(1, 1, 1500, value.into());
                    asked.principal = Principal::Named(who.to_string().into());
                    let mut asking = Box::pin(cache.answer(who.into(), &*fake, asked, |request| {
                        batcher.submit(request, Arc::new(Unwatched))
                    }));
                    if leaves {
                        // Looked at once, then left.
                        let once = std::future::poll_fn(|c| Poll::Ready(asking.as_mut().poll(c)));
                        if once.await.is_pending() {
                            continue;
                        }
                        continue;
                    }
                    match asking.await {
                        Ok(got) => {
                            assert!(!matches!(value, 1 | 2), "a failure was answered");
                            assert_eq!(values(&got.response), Some(vec![2.0 * f32::from(value); 1500]));
                        }
                        Err(failure) => {
                            assert!(matches!(value, 1 | 2), "{failure}");
                            assert_eq!(failure.code, ErrorCode::RequestRejectedByModel);
                        }
                    }
                    assert!(cache.kept().bytes <= 65_536);
                }
            })
        }).collect();
        for task in tasks {
            runtime.block_on(task).unwrap();
        }
    }
}
