//! What is believed of heartbeats, and which answers are refused.

#![allow(clippy::arithmetic_side_effects, reason = "a test fails where it overflows")]

use super::*;
use crate::{
    domain::Checkpoint,
    store::{Position, Token},
};

const MAX: Duration = Duration::from_secs(30);
const LEDGER: PartitionId = PartitionId { topic: Topic::Ledger, partition: 0 };
const LEDGER_1: PartitionId = PartitionId { topic: Topic::Ledger, partition: 1 };
const PAYMENT: PartitionId = PartitionId { topic: Topic::Payment, partition: 0 };
const ACCOUNT: RestsOn = RestsOn::Account { home: Some(0) };

#[test]
fn what_was_answered_once_is_not_taken_back() {
    let (early, late) = (snapshot(5, 9), snapshot(7, 10));
    let log: Arc<str> = Arc::from("ledger*1,payment*1");
    let build = |log: &str| Build { log: log.into(), partitions: BTreeMap::new() };
    let builds = [(1, build(&log)), (2, build(&log)), (3, build("another*4,payment*1"))];
    let builds = builds.map(|(number, build)| (Generation(number), build)).into();
    let view = Arc::new(View { active: Some(Generation(1)), builds, ..View::default() });
    let look = |reached: &Reached| Look { view: Arc::clone(&view), reached: Arc::new(reached.clone()) };
    let reached = Reached::default().raised(&log, &late);
    assert!(look(&reached).fell_behind(&early));
    assert!(!look(&reached).fell_behind(&late));
    // A read that was sent before the later answer was given may rest on less.
    assert!(!look(&Reached::default()).fell_behind(&early));
    // An older snapshot does not lower what was reached, whichever generation it is of; another log has other
    // offsets.
    assert!(look(&reached.raised(&log, &early)).fell_behind(&early));
    let of = |number| Snapshot { generation: Generation(number), ..early.clone() };
    assert!(look(&reached).fell_behind(&of(2)));
    assert!(!look(&reached).fell_behind(&of(3)));
}

#[test]
fn figures_of_days_are_not_answered_by_another_zone() {
    let start = Instant::now() + Duration::from_secs(1_000);
    let zoned = |beat, zone: &str| {
        let mut states = states(1, beat, Some(0));
        for (_, state) in &mut states {
            state.zone = Some(zone.to_owned());
        }
        live(snapshot(5, 9), states)
    };
    let customer = RestsOn::Customer { home: Some(0) };
    for (zone, account) in [("Europe/Prague", true), ("America/New_York", false)] {
        let mut view = View { zone: Arc::from("Europe/Prague"), ..View::default() };
        let mut at = start;
        for beat in 1..=4 {
            at += Duration::from_secs(1);
            view = view.advanced(&zoned(beat, zone), at);
        }
        let told = view.staleness(&snapshot(5, 9), ACCOUNT, MAX, at);
        assert_eq!(told.is_ok(), account, "{zone}: {told:?}");
        assert!(account || told == Err(Unavailable::Incomplete), "{told:?}");
        assert!(view.staleness(&snapshot(5, 9), customer, MAX, at).is_ok(), "no day is told of a customer");
        let reasons = view.reasons(MAX, at).join("; ");
        assert_eq!(reasons.contains("set `zone` of this process"), !account, "{reasons}");
    }
}

fn snapshot(next: i64, commit: u64) -> Snapshot {
    let checkpoint = Checkpoint { next: Offset(next), commit, complete: true, last: None };
    let position = Position { token: Token([7; 16]), checkpoint };
    Snapshot { generation: Generation(1), positions: vec![(LEDGER, position), (PAYMENT, position)] }
}

fn states(claim: u64, beat: u64, caught_up_ms_ago: Option<u64>) -> Vec<(PartitionId, PartitionState)> {
    let state = PartitionState {
        claim,
        beat,
        caught_up_ms_ago,
        next: Offset(0),
        high_watermark: None,
        halt: None,
        paused: None,
        cut: None,
        zone: None,
        quarantined_keys: 0,
        waiting_records: 0,
        owner: String::new(),
    };
    vec![(LEDGER, state.clone()), (PAYMENT, state)]
}

fn live(snapshot: Snapshot, states: Vec<(PartitionId, PartitionState)>) -> Live {
    let active = Some(snapshot.generation);
    Live { active, generations: vec![Fed { snapshot, log: Arc::from("log"), states }] }
}

type Sample = (i64, u64, u64, u64, Option<u64>);
type Age = Result<u128, Unavailable>;

/// Samples a second apart: (next, commit, claim, beat, caught up ms ago); the staleness right at the
/// last one, in milliseconds.
fn after(samples: &[Sample]) -> Age {
    let start = Instant::now() + Duration::from_secs(1_000);
    let mut view = View::default();
    let mut at = start;
    for &(next, commit, claim, beat, caught_up) in samples {
        at += Duration::from_secs(1);
        view = view.advanced(&live(snapshot(next, commit), states(claim, beat, caught_up)), at);
    }
    let &(next, commit, ..) = samples.last().unwrap();
    view.staleness(&snapshot(next, commit), ACCOUNT, MAX, at).map(|age| age.as_millis())
}

#[test]
fn a_heartbeat_is_believed_only_when_its_number_rose_within_one_claim() {
    let rows: &[(&str, &[Sample], Age)] = &[
        ("a first look finds anything", &[(5, 5, 1, 1, Some(0))], Err(Unavailable::Stale)),
        (
            "it rose by one, and may have been on its way when the one before was seen",
            &[(5, 5, 1, 1, Some(0)), (5, 6, 1, 2, Some(40))],
            Err(Unavailable::Stale),
        ),
        (
            "the one before was not there a sample earlier",
            &[(5, 5, 1, 1, Some(0)), (5, 6, 1, 2, Some(0)), (5, 7, 1, 3, Some(40))],
            Ok(2_040),
        ),
        (
            "however long it was on its way",
            &[
                (5, 5, 1, 1, Some(0)),
                (5, 6, 1, 2, Some(0)),
                (5, 6, 1, 2, Some(0)),
                (5, 6, 1, 2, Some(0)),
                (5, 7, 1, 3, Some(40)),
            ],
            Ok(4_040),
        ),
        ("one between was not seen", &[(5, 5, 1, 1, Some(0)), (5, 7, 1, 3, Some(40))], Ok(1_040)),
        ("it stands still", &[(5, 5, 1, 1, Some(0)), (5, 5, 1, 1, Some(0))], Err(Unavailable::Stale)),
        ("it fell", &[(5, 5, 1, 2, Some(0)), (5, 6, 1, 1, Some(0))], Err(Unavailable::Stale)),
        ("another claim", &[(5, 5, 1, 1, Some(0)), (5, 6, 2, 3, Some(0))], Err(Unavailable::Stale)),
        ("not caught up", &[(5, 5, 1, 1, None), (5, 6, 1, 3, None)], Err(Unavailable::Stale)),
        (
            "a dead projector ages",
            &[(5, 5, 1, 1, Some(0)), (5, 6, 1, 3, Some(0)), (5, 6, 1, 3, Some(0)), (5, 6, 1, 3, Some(0))],
            Ok(3_000),
        ),
        (
            "a hung broker ages",
            &[(5, 5, 1, 1, Some(0)), (5, 6, 1, 3, Some(0)), (5, 7, 1, 5, Some(1_000))],
            Ok(2_000),
        ),
        (
            "a rebalance keeps what was true",
            &[(5, 5, 1, 1, Some(0)), (5, 6, 1, 3, Some(0)), (6, 7, 9, 1, None)],
            Ok(2_000),
        ),
        (
            "a lost suffix forgets it: the offset fell",
            &[(5, 5, 1, 1, Some(0)), (5, 6, 1, 3, Some(0)), (4, 7, 1, 5, Some(0))],
            Err(Unavailable::Stale),
        ),
        (
            "a lost suffix forgets it: the commit number fell",
            &[(5, 5, 1, 1, Some(0)), (5, 6, 1, 3, Some(0)), (5, 5, 1, 5, Some(0))],
            Err(Unavailable::Stale),
        ),
        ("older than allowed", &[(5, 5, 1, 1, Some(0)), (5, 6, 1, 3, Some(29_001))], Err(Unavailable::Stale)),
        ("as old as allowed", &[(5, 5, 1, 1, Some(0)), (5, 6, 1, 3, Some(29_000))], Ok(30_000)),
    ];
    for (name, samples, expected) in rows {
        assert_eq!(after(samples), *expected, "{name}");
    }
}

#[test]
fn a_failed_sample_sets_a_new_baseline_and_keeps_what_was_true() {
    let start = Instant::now() + Duration::from_secs(1_000);
    let second = Duration::from_secs(1);
    let fault = StoreError::Transient { reason: "gone".to_owned() };
    let fresh = View::default()
        .advanced(&live(snapshot(5, 5), states(1, 1, Some(0))), start)
        .advanced(&live(snapshot(5, 6), states(1, 3, Some(0))), start + second);
    let failed = fresh.without_beats(fault);
    assert_eq!(failed.reasons(MAX, start + second), ["the store did not answer: gone"]);
    let back = failed.advanced(&live(snapshot(5, 9), states(1, 5, Some(0))), start + 4 * second);
    let age = back.staleness(&snapshot(5, 9), ACCOUNT, MAX, start + 4 * second);
    assert_eq!(age, Ok(4 * second), "counted from before the failure");
}

#[test]
fn a_read_that_may_not_be_believed_is_refused_with_its_reason() {
    let at = Instant::now() + Duration::from_secs(1_000);
    let view = View::default()
        .advanced(&live(snapshot(5, 5), states(1, 1, Some(0))), at)
        .advanced(&live(snapshot(5, 6), states(1, 3, Some(0))), at);
    let check = |snapshot: &Snapshot, rests_on| view.staleness(snapshot, rests_on, MAX, at).err();
    let other = |change: &dyn Fn(&mut Snapshot)| {
        let mut snapshot = snapshot(5, 6);
        change(&mut snapshot);
        snapshot
    };
    let absent = RestsOn::Account { home: None };
    let customer = RestsOn::Customer { home: Some(0) };
    let lost = RestsOn::Account { home: Some(8) };
    let rows: &[(&str, Snapshot, RestsOn, Option<Unavailable>)] = &[
        ("as seen", snapshot(5, 6), ACCOUNT, None),
        ("further than seen", snapshot(50, 60), customer, None),
        ("absent", snapshot(5, 6), absent, None),
        ("an offset lower than seen", snapshot(4, 6), ACCOUNT, Some(Unavailable::WentBack)),
        ("a commit lower than seen", snapshot(5, 5), ACCOUNT, Some(Unavailable::WentBack)),
        (
            "another generation",
            other(&|s| s.generation = Generation(2)),
            ACCOUNT,
            Some(Unavailable::NoGeneration),
        ),
        (
            "another partition is not complete",
            other(&|s| s.positions[1].1.checkpoint.complete = false),
            ACCOUNT,
            Some(Unavailable::Incomplete),
        ),
        ("a partition is gone", other(&|s| s.positions.truncate(1)), ACCOUNT, Some(Unavailable::WentBack)),
        (
            "a partition not seen before",
            other(&|s| s.positions.push((LEDGER_1, s.positions[0].1))),
            ACCOUNT,
            Some(Unavailable::Stale),
        ),
        ("a home that has no position", snapshot(5, 6), lost, Some(Unavailable::Incomplete)),
    ];
    for (name, snapshot, rests_on, expected) in rows {
        assert_eq!(check(snapshot, *rests_on), *expected, "{name}");
    }
}

#[test]
fn a_customer_rests_on_its_home_and_every_ledger_partition() {
    let rows = [
        (RestsOn::Account { home: Some(0) }, [true, false, false]),
        (RestsOn::Account { home: None }, [true, true, false]),
        (RestsOn::Customer { home: Some(0) }, [true, true, true]),
        (RestsOn::Customer { home: Some(1) }, [true, true, false]),
        (RestsOn::Customer { home: None }, [true, true, true]),
    ];
    for (rests_on, expected) in rows {
        assert_eq!([LEDGER, LEDGER_1, PAYMENT].map(|p| rests_on.holds(p)), expected, "{rests_on:?}");
    }
}
