use super::*;
use crate::counters::RequestCount;

fn key(revision: &str) -> ArmKey {
    ArmKey {
        model: ModelName::parse("digits").unwrap(),
        version: Version::parse("1").unwrap(),
        digest: None,
        arm: Arm::parse("main").unwrap(),
        revision: Revision::parse(revision).unwrap(),
    }
}

fn count(error: Option<ErrorCode>, rows: usize) -> RequestCount {
    RequestCount {
        dialect: Dialect::V2,
        error,
        rows,
        request: Duration::from_micros(120),
        queue: error.is_none().then_some(Duration::from_micros(7)),
        found: None,
    }
}

#[test]
fn what_a_retired_arm_counted_stays_counted() {
    let state = State::new(2);
    let counters = state.arm(&key("r1"));
    counters.request(&count(None, 3));
    state.freeze();
    assert_eq!(state.arms.lock().live.len(), 1, "a table still holds it");
    drop(counters);
    state.freeze();
    assert!(state.arms.lock().live.is_empty());
    assert_eq!(state.arms()[&key("r1")].rows, 3);

    // The same revision comes back: one row, both counts.
    state.arm(&key("r1")).request(&count(None, 4));
    state.freeze();
    let arms = state.arms();
    assert_eq!((arms.len(), arms[&key("r1")].requests(), arms[&key("r1")].rows), (1, 2, 7));
}

#[test]
fn an_arm_that_counted_nothing_leaves_nothing() {
    let state = State::new(2);
    drop(state.arm(&key("r1")));
    state.freeze();
    assert!(state.arms().is_empty());
}

#[test]
fn rows_of_long_ago_are_folded_and_lose_nothing() {
    let state = State::new(1);
    let tables = FROZEN_ROWS + 10;
    for number in 0..tables {
        state.arm(&key(&format!("r{number}"))).request(&count(None, 1));
    }
    state.freeze();
    let arms = state.arms();
    assert!(arms.len() <= FROZEN_ROWS + 1);
    assert_eq!(arms[&key("earlier")].requests(), 10);
    assert_eq!(arms.values().map(Totals::requests).sum::<u64>(), tables as u64);
}

#[test]
fn two_starts_have_two_epochs() {
    assert_ne!(State::new(1).epoch, State::new(1).epoch);
    assert_eq!(State::new(1).epoch.len(), 16);
}

#[test]
fn refusals_are_counted_by_code() {
    let state = State::new(1);
    state.refused(Dialect::V2, ErrorCode::WireUnknownPath);
    state.refused(Dialect::V2, ErrorCode::WireUnknownPath);
    assert_eq!(state.refusals(), [(Dialect::V2, ErrorCode::WireUnknownPath, 2)]);
}
