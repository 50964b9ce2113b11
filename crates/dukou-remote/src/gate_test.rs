use proptest::prelude::*;

use super::*;

fn on(revisions: &[u64]) -> Vec<Seen> {
    let seen = |&number: &u64| Seen { healthy: true, serves: Serves::Revision(number) };
    revisions.iter().map(seen).collect()
}

fn settled(current: u64, revisions: &[u64]) -> u64 {
    let mut gate = Gate::above(Some(current));
    gate.settle(&on(revisions));
    gate.current().unwrap()
}

#[test]
fn it_begins_with_the_highest() {
    let mut gate = Gate::default();
    assert!(gate.admits(Serves::Unheard), "nothing is known yet");
    gate.settle(&[Seen { healthy: true, serves: Serves::Foreign }]);
    assert_eq!(gate.current(), None);
    gate.settle(&on(&[4, 6, 5]));
    assert_eq!(gate.current(), Some(6));
    assert!(gate.admits(Serves::Revision(6)) && gate.admits(Serves::Foreign));
    assert!(!gate.admits(Serves::Revision(5)) && !gate.admits(Serves::Revision(7)));
}

#[test]
fn it_rises_when_half_have_followed() {
    assert_eq!(settled(5, &[5, 5, 6]), 5);
    assert_eq!(settled(5, &[5, 6, 6]), 6);
    assert_eq!(settled(5, &[5, 6]), 6, "one of two is not fewer than half");
    assert_eq!(settled(5, &[5, 5, 5, 6, 7]), 5);
    assert_eq!(settled(5, &[5, 6, 7]), 6, "two have reached 6, one 7");
    assert_eq!(settled(5, &[5, 5, 9, 9]), 9);
}

#[test]
fn nobody_on_the_current_one_raises_it_and_nothing_lowers_it() {
    assert_eq!(settled(5, &[7]), 7);
    assert_eq!(settled(5, &[4, 4, 4, 7]), 7, "the current one is gone");
    assert_eq!(settled(5, &[4, 4]), 5, "who lags is out, also when nobody else is left");
    let mut gate = Gate::above(Some(5));
    gate.settle(&[Seen { healthy: false, serves: Serves::Revision(9) }]);
    assert_eq!(gate.current(), Some(5), "who is ill has no say");
}

#[test]
fn a_revision_of_ours_is_r_and_a_number() {
    assert_eq!(Serves::parse(Some("r17")), Serves::Revision(17));
    for foreign in ["bare", "r", "r1x", "R1", "17", "r-1", "r+1", "r99999999999999999999999", ""] {
        assert_eq!(Serves::parse(Some(foreign)), Serves::Foreign, "{foreign}");
    }
    assert_eq!(Serves::parse(None), Serves::Foreign);
}

fn replicas() -> impl Strategy<Value = Vec<Seen>> {
    let serves = prop_oneof![
        1 => Just(Serves::Unheard),
        1 => Just(Serves::Foreign),
        8 => (0_u64..6).prop_map(Serves::Revision),
    ];
    let seen = (any::<bool>(), serves).prop_map(|(healthy, serves)| Seen { healthy, serves });
    proptest::collection::vec(seen, 0..6)
}

proptest! {
    #[test]
    fn what_callers_are_given_never_falls(history in proptest::collection::vec(replicas(), 1..20)) {
        let mut gate = Gate::default();
        let mut given = 0;
        for seen in history {
            gate.settle(&seen);
            for number in 0..6 {
                if gate.delivers(Serves::Revision(number)) && gate.current().is_some() {
                    prop_assert!(number >= given);
                    given = number;
                }
            }
        }
    }

    #[test]
    fn it_locks_nobody_out_who_is_up_to_date(floor in proptest::option::of(0_u64..6), seen in replicas()) {
        let mut gate = Gate::above(floor);
        gate.settle(&seen);
        let numbers: Vec<u64> =
            seen.iter().filter(|s| s.healthy).filter_map(|s| s.serves.number()).collect();
        if numbers.iter().any(|number| Some(*number) >= floor) {
            let admitted = seen.iter().any(|s| s.healthy && s.serves.number().is_some() && gate.admits(s.serves));
            prop_assert!(admitted, "{seen:?} {gate:?}");
        }
    }

    #[test]
    fn it_rises_only_for_half_or_for_want_of_the_current(floor in 0_u64..6, seen in replicas()) {
        let mut gate = Gate::above(Some(floor));
        gate.settle(&seen);
        let now = gate.current().unwrap();
        let numbers: Vec<u64> =
            seen.iter().filter(|s| s.healthy).filter_map(|s| s.serves.number()).collect();
        if now > floor {
            let followed = numbers.iter().filter(|number| **number >= now).count();
            prop_assert!(2 * followed >= numbers.len() || !numbers.contains(&floor));
            prop_assert!(numbers.contains(&now));
        }
        let before = gate;
        gate.settle(&seen);
        prop_assert!(gate.current() >= before.current());
    }
}
