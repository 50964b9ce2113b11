use std::thread;

use super::*;

#[test]
fn what_many_threads_count_adds_up_to_the_last_one() {
    const THREADS: usize = 8;
    const EACH: usize = 5_000;
    let counters = ArmCounters::new(4);
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let counters = &counters;
            scope.spawn(move || {
                for turn in 0..EACH {
                    let error = (turn % 10 == 0).then_some(ErrorCode::RequestWrongShape);
                    counters.request(&RequestCount {
                        dialect: Dialect::V2,
                        error,
                        rows: 1 + thread,
                        request: Duration::from_micros(120),
                        queue: error.is_none().then_some(Duration::from_micros(7)),
                        found: None,
                    });
                    if turn % 4 == 0 {
                        counters.ran(4, Duration::from_micros(60));
                    }
                }
            });
        }
    });
    let totals = counters.totals();
    let all = (THREADS * EACH) as u64;
    assert_eq!(totals.requests(), all);
    let results: Vec<_> = totals.by_result().collect();
    assert_eq!(
        results,
        [
            (Dialect::V2, None, all / 10 * 9),
            (Dialect::V2, Some(ErrorCode::RequestWrongShape), all / 10)
        ]
    );
    assert_eq!(totals.rows, (1..=THREADS).sum::<usize>() as u64 * EACH as u64);
    assert_eq!(totals.request.sum_ns, all * 120_000);
    assert_eq!(totals.request.counts.iter().sum::<u64>(), all);
    assert_eq!(totals.queue.counts[0], all / 10 * 9);
    assert_eq!(totals.batches(), all / 4);
    assert_eq!(totals.batch_rows[2], all / 4);
    assert_eq!(totals.batch_rows_sum, all);
    assert_eq!(totals.batch_sizes[&4].count, all / 4);
    assert_eq!((totals.batch_sizes.len(), totals.batch_sizes[&4].ns), (1, totals.compute.sum_ns));
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    assert!((1_700_000_000_000..=since).contains(&u128::from(totals.last_ms)), "{totals:?}");
    assert_eq!(totals.compute.sum_ns, all / 4 * 60_000);
}

#[test]
fn buckets_include_their_upper_bound() {
    for (index, &bound) in BOUNDS_US.iter().enumerate() {
        let bound = bound * 1000;
        assert_eq!(time_bucket(bound), index, "at the bound {bound} ns");
        assert_eq!(time_bucket(bound + 1), index + 1, "just above {bound} ns");
    }
    assert_eq!(time_bucket(0), 0);
    assert_eq!(time_bucket(u64::MAX), BUCKETS - 1);
    assert_eq!(BOUNDS_US[17], 6_553_600);
}

#[test]
fn rows_fall_into_powers_of_two() {
    for (rows, bucket) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (65_536, 16), (65_537, 17)] {
        assert_eq!(doubling_bucket(rows, ROW_BUCKETS), bucket, "{rows} rows");
    }
}
