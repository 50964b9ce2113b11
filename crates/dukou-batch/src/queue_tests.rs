//! The queue by itself: order, caps, company, patience.

use dukou_testkit::{ManualTime, request};
use dukou_types::CancelFlag;

use super::*;

struct Nobody;

impl Observe for Nobody {
    fn ran(&self, _rows: usize, _compute: Duration) {}
}

/// A queue with its clock, and the ends where askers would hear.
struct Bench {
    queue: Queue,
    time: ManualTime,
    caps: Caps,
    ears: Vec<oneshot::Receiver<Reply>>,
}

impl Bench {
    fn new(rows: usize, bytes: usize, delay_ms: u64) -> Self {
        let delay = Duration::from_millis(delay_ms);
        let caps = Caps { rows, bytes, delay };
        Self { queue: Queue::default(), time: ManualTime::default(), caps, ears: Vec::new() }
    }

    fn push(&mut self, request: InferRequest) {
        let (reply, hear) = oneshot::channel();
        self.ears.push(hear);
        let asker = Asker { reply, account: Arc::new(Nobody), arrived: self.time.now() };
        self.queue.push(Ticket::new(request, asker, true));
    }

    /// The ids of what runs next, and of what was dropped on the way.
    fn next(&mut self) -> (Option<Vec<u64>>, Vec<u64>) {
        let mut gone = Vec::new();
        let next = self.queue.next(self.time.now(), self.caps, &mut gone);
        let ids = |tickets: Vec<Ticket>| tickets.iter().map(|t| t.request.id.0).collect();
        let run = match next {
            Next::Run(tickets) => Some(ids(tickets)),
            Next::Wait(_) | Next::Empty => None,
        };
        (run, ids(gone))
    }

    fn runs(&mut self) -> Vec<Vec<u64>> {
        std::iter::from_fn(|| self.next().0).collect()
    }
}

#[test]
fn those_who_wait_ride_together_up_to_the_rows() {
    let mut bench = Bench::new(8, usize::MAX, 0);
    for (id, rows) in [(1, 3), (2, 4), (3, 2), (4, 1), (5, 9), (6, 8)] {
        bench.push(request(id, rows, 1, 0.0));
    }
    // 4 fits beside 1 and 2; 5 is larger than the cap and runs all the same, alone.
    assert_eq!(bench.runs(), [vec![1, 2, 4], vec![3], vec![5], vec![6]]);
}

#[test]
fn bytes_are_a_cap_too() {
    let mut bench = Bench::new(usize::MAX, 100, 0);
    for id in 1..=4 {
        bench.push(request(id, 1, 10, 0.0));
    }
    bench.push(request(5, 1, 1000, 0.0));
    assert_eq!(bench.runs(), [vec![1, 2], vec![3, 4], vec![5]]);
}

#[test]
fn only_equals_ride_together() {
    let mut bench = Bench::new(64, usize::MAX, 0);
    bench.push(request(1, 1, 4, 0.0));
    bench.push(request(2, 1, 5, 0.0));
    bench.push(request(3, 2, 4, 0.0));
    let mut other_outputs = request(4, 1, 4, 0.0);
    other_outputs.outputs = dukou_types::Requested::Only(smallvec::smallvec![0]);
    bench.push(other_outputs);
    let mut other_parameters = request(5, 1, 4, 0.0);
    other_parameters.parameters.push(("temperature".into(), dukou_types::Param::Int(1)));
    bench.push(other_parameters);
    assert_eq!(bench.runs(), [vec![1, 3], vec![2], vec![4], vec![5]]);
}

#[test]
fn inputs_that_disagree_on_their_rows_ride_with_nobody() {
    let mut bench = Bench::new(64, usize::MAX, 0);
    let two_inputs = |id, rows| {
        let mut both = request(id, 2, 1, 0.0);
        both.inputs.extend(request(id, rows, 1, 0.0).inputs);
        both
    };
    bench.push(two_inputs(1, 3));
    bench.push(two_inputs(2, 2));
    bench.push(two_inputs(3, 2));
    assert_eq!(bench.runs(), [vec![1], vec![2, 3]]);
}

#[test]
fn priority_then_deadline_then_arrival() {
    let mut bench = Bench::new(1, usize::MAX, 0);
    let now = bench.time.now();
    let later = |seconds| Some(now + Duration::from_secs(seconds));
    for (id, priority, deadline) in [
        (1, 0, later(9)),
        (2, 101, later(1)),
        (3, 0, later(5)),
        (4, 2, None),
        (5, 1, later(9)),
        (6, 0, None),
        (7, 0, later(5)),
    ] {
        let mut asked = request(id, 1, 1, 0.0);
        (asked.priority, asked.deadline) = (priority, deadline);
        bench.push(asked);
    }
    let order: Vec<u64> = bench.runs().into_iter().flatten().collect();
    assert_eq!(order, [5, 4, 3, 7, 1, 6, 2]);
}

#[test]
fn what_is_late_or_left_is_not_run() {
    let mut bench = Bench::new(64, usize::MAX, 0);
    let deadline = bench.time.now() + Duration::from_secs(1);
    let left = CancelFlag::default();
    for id in 1..=4 {
        let mut asked = request(id, 1, 1, 0.0);
        match id {
            1 => asked.deadline = Some(deadline),
            2 => asked.cancel = left.clone(),
            _ => {}
        }
        bench.push(asked);
    }
    drop(bench.ears.remove(3));
    left.cancel();
    bench.time.pass(Duration::from_secs(1));
    assert_eq!(bench.next(), (Some(vec![3]), vec![1, 2, 4]));
    assert!(bench.queue.is_empty());
}

#[test]
fn a_purge_finds_the_gone_anywhere() {
    let mut bench = Bench::new(1, usize::MAX, 0);
    for id in 1..=3 {
        bench.push(request(id, 1, 1, 0.0));
    }
    drop(bench.ears.remove(1));
    let mut gone = Vec::new();
    bench.queue.purge(bench.time.now(), &mut gone);
    assert_eq!(gone.len(), 1);
    assert_eq!(bench.runs(), [vec![1], vec![3]]);
}

#[test]
fn a_delay_waits_for_the_eldest_a_full_run_or_a_deadline() {
    let mut bench = Bench::new(4, usize::MAX, 10);
    bench.push(request(1, 1, 1, 0.0));
    bench.time.pass(Duration::from_millis(6));
    bench.push(request(2, 1, 1, 0.0));
    assert_eq!(bench.next().0, None);
    bench.time.pass(Duration::from_millis(4));
    assert_eq!(bench.next().0, Some(vec![1, 2]), "the eldest has waited for its delay");

    bench.push(request(3, 2, 1, 0.0));
    bench.push(request(4, 2, 1, 0.0));
    assert_eq!(bench.next().0, Some(vec![3, 4]), "full");

    let mut hurried = request(5, 1, 1, 0.0);
    hurried.deadline = Some(bench.time.now() + Duration::from_millis(5));
    bench.push(hurried);
    assert_eq!(bench.next().0, Some(vec![5]), "its deadline is before the delay's end");
}

#[test]
fn looking_past_is_bounded_and_keeps_the_order() {
    let mut bench = Bench::new(64, usize::MAX, 0);
    bench.push(request(0, 1, 1, 0.0));
    for id in 1..=400 {
        bench.push(request(id, 1, 2, 0.0));
    }
    bench.push(request(401, 1, 1, 0.0));
    assert_eq!(bench.next().0, Some(vec![0]), "401 stands too far behind");
    let rest: Vec<u64> = bench.runs().into_iter().flatten().collect();
    assert_eq!(rest[..400], (1..=400).collect::<Vec<_>>()[..]);
}
