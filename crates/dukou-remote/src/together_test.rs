use std::time::{Duration, Instant};

use dukou_types::{DType, Param, Principal, RequestId, Requested, Trace};
use proptest::prelude::*;

use super::*;

/// Numbers of this shape that begin at `first`, and a word a row.
fn request(rows: usize, width: usize, first: i32) -> InferRequest {
    let mut numbers = Buffer::zeroed(rows * width * 4);
    for (place, number) in numbers.typed_mut::<i32>().iter_mut().enumerate() {
        *number = first + i32::try_from(place).unwrap();
    }
    let words = (0..rows).map(|row| Bytes::from(format!("{first}/{row}"))).collect();
    let tensor = |name: &str, dtype, shape, data| Tensor { name: name.into(), dtype, shape, data };
    InferRequest::new(
        RequestId(1),
        Principal::Loopback,
        SmallVec::from_vec(vec![
            tensor("x", DType::Int32, vec![rows, width], Data::Owned(numbers)),
            tensor("word", DType::Bytes, vec![rows], Data::Strings(words)),
        ]),
    )
}

/// What a replica answers that gives everything back.
fn echo(all: &InferRequest) -> InferResponse {
    InferResponse { outputs: all.inputs.clone(), ..InferResponse::default() }
}

proptest! {
    #[test]
    fn everybody_gets_the_answer_to_his_own_rows(
        rows in proptest::collection::vec(1_usize..5, 2..9), width in 1_usize..4,
    ) {
        let first = |position: usize| i32::try_from(position * 1000).unwrap();
        let requests: Vec<_> =
            rows.iter().enumerate().map(|(at, &rows)| request(rows, width, first(at))).collect();
        let asked: Vec<&InferRequest> = requests.iter().collect();
        let all = merged(&asked).unwrap();
        prop_assert_eq!(all.rows(), rows.iter().sum::<usize>());
        let parts = split(&echo(&all), rows.iter().copied(), all.rows()).unwrap();
        prop_assert_eq!(parts.len(), requests.len());
        for (part, request) in parts.iter().zip(&requests) {
            for (output, input) in part.outputs.iter().zip(&request.inputs) {
                prop_assert_eq!(&output.shape, &input.shape);
                prop_assert_eq!(output.bytes(), input.bytes());
                prop_assert_eq!(output.strings(), input.strings());
            }
        }
    }
}

#[test]
fn an_answer_with_other_rows_is_nobodys() {
    let (a, b) = (request(1, 2, 0), request(2, 2, 10));
    let all = merged(&[&a, &b]).unwrap();
    let mut short = echo(&all);
    short.outputs[1].shape = vec![2];
    assert!(split(&short, [1, 2].into_iter(), 3).is_none());
    let mut scalar = echo(&all);
    scalar.outputs[0].shape = vec![];
    assert!(split(&scalar, [1, 2].into_iter(), 3).is_none());
}

#[test]
fn who_asks_something_else_does_not_ride_along() {
    let like = request(1, 2, 0);
    assert!(fits(&like, &request(3, 2, 7)));
    assert!(!fits(&like, &request(1, 3, 0)), "rows of another form");
    let others: [fn(&mut InferRequest); 3] = [
        |request| request.outputs = Requested::Only(SmallVec::from_slice(&[0])),
        |request| request.priority = 1,
        |request| request.parameters.push(("a".into(), Param::Int(1))),
    ];
    for change in others {
        let mut other = request(1, 2, 0);
        change(&mut other);
        assert!(!fits(&like, &other));
        assert!(fits(&other, &other.clone()));
    }
}

#[test]
fn who_travels_alone() {
    assert!(may_ride(&request(1, 2, 0)));
    assert!(!may_ride(&request(0, 2, 0)), "no rows");
    assert!(!may_ride(&request(1, SMALL / 4 + 1, 0)), "too large");
    let mut uneven = request(2, 2, 0);
    uneven.inputs[1].shape = vec![1];
    assert!(!may_ride(&uneven));
    let mut scalar = request(1, 1, 0);
    scalar.inputs[0].shape = vec![];
    assert!(!may_ride(&scalar));
    let mut traced = request(1, 2, 0);
    traced.trace = Some(Trace { id: 1, parent: 1, flags: 0 });
    assert!(may_ride(&traced));
    traced.trace = Some(Trace { id: 1, parent: 1, flags: 1 });
    assert!(!may_ride(&traced), "its trace is recorded");
}

#[test]
fn the_last_deadline_holds_for_all() {
    let now = Instant::now();
    let due = |seconds| InferRequest {
        deadline: Some(now + Duration::from_secs(seconds)),
        ..request(1, 2, 0)
    };
    let all = merged(&[&due(3), &due(9), &due(5)]).unwrap();
    assert_eq!(all.deadline, Some(now + Duration::from_secs(9)));
    assert_eq!(merged(&[&due(3), &request(1, 2, 0)]).unwrap().deadline, None);
}
