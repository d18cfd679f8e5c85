//! What a store promises, one test each, on both of them.

use super::*;

/// Each promise on both stores.
macro_rules! on_both_stores {
    ($($promise:ident)*) => {
        mod in_memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(&super::Fixture::memory()).await;
            })*
        }
        mod on_redis {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise(&super::Fixture::redis()).await;
            })*
        }
    };
}

on_both_stores! {
    a_commit_writes_cells_dues_marks_state_and_position
    a_commit_that_does_not_chain_writes_nothing
    a_new_due_takes_over_the_marks_of_its_account
    a_lifted_mark_is_gone_everywhere_and_no_other
    a_claim_returns_what_is_held_and_fences_the_older_token
    a_load_answers_in_order_and_refuses_what_is_not_ours_or_went_back
    bearing_again_leaves_what_is_there
    the_pointer_moves_only_from_what_the_caller_saw
    reads_are_of_the_active_generation_alone
    absence_comes_with_positions
    an_older_dump_is_unchained_and_an_empty_store_is_missing
    commits_in_flight_are_taken_in_the_order_sent_and_all_fail_after_one
    a_commit_past_every_chunk_is_written_whole
    heartbeats_and_keys_on_hold_are_told_of_the_active_generation
}

async fn a_commit_writes_cells_dues_marks_state_and_position(store: &Fixture) {
    let from = store.claimed(L0, OURS).await;
    let mut commit = step(L0, from);
    // Values are bytes: no encoding is assumed.
    let raw = Bytes::from_static(b"\x00\xff\r\n$5");
    commit.cells = vec![cell("a", "A", true), CellWrite { value: raw.clone(), ..cell("b", "", true) }];
    commit.owing = vec![owing("c", "a"), owing("c", "b"), owing("d", "a")];
    commit.owing[1].due = raw.clone();
    commit.quarantines = vec![
        mark(Subject::Account(account("a")), quarantine(L0, 4), &["c", "d"]),
        mark(Subject::Account(account("z")), quarantine(L0, 5), &[]),
    ];
    commit.state = Some(state(1));
    store.commit(&commit).await.unwrap();
    store.activate(None, G1).await.unwrap();

    let held = store.dump(G1).await;
    assert_eq!(
        held.cells,
        BTreeMap::from([(account_cell("a"), "A".into()), (account_cell("b"), raw.clone())])
    );
    assert_eq!(
        held.owing,
        BTreeMap::from([
            (customer("c"), [(account("a"), due("c", "a")), (account("b"), raw.clone())].into()),
            (customer("d"), [(account("a"), due("d", "a"))].into()),
        ])
    );
    let by_subject = [("a", quarantine(L0, 4)), ("z", quarantine(L0, 5))];
    let by_subject = by_subject.map(|(id, mark)| (Subject::Account(account(id)), mark));
    assert_eq!(held.index, BTreeMap::from([(L0, BTreeMap::from(by_subject.clone()))]));
    assert_eq!(held.quarantines, by_subject.map(|(id, mark)| (id, BTreeMap::from([(L0, mark)]))).into());
    let marked = BTreeMap::from([((account("a"), L0), quarantine(L0, 4))]);
    assert_eq!(
        held.due_quarantines,
        BTreeMap::from([(customer("c"), marked.clone()), (customer("d"), marked)])
    );
    assert_eq!(held.positions, BTreeMap::from([(L0, after(&commit))]));
    assert_eq!(held.states, BTreeMap::from([(L0, state(1))]));

    let read = store.account(&account("a")).await.unwrap().unwrap();
    assert_eq!(read.snapshot.generation, G1);
    assert_eq!(read.snapshot.positions, [(L0, after(&commit))]);
    assert_eq!(read.cell, Some(Bytes::from_static(b"A")));
    assert_eq!(read.quarantines, [quarantine(L0, 4)]);
    let read = store.customer(&customer("c")).await.unwrap().unwrap();
    assert_eq!(read.cell, None);
    let mut dues = read.dues;
    dues.sort();
    assert_eq!(dues, [(account("a"), due("c", "a")), (account("b"), raw)]);
    assert_eq!(read.quarantines, [quarantine(L0, 4)]);
}

async fn a_commit_that_does_not_chain_writes_nothing(store: &Fixture) {
    let first = step(L0, store.claimed(L0, OURS).await);
    let first = Commit { cells: vec![cell("a", "A", true)], ..first };
    store.commit(&first).await.unwrap();
    let chained = Commit {
        cells: vec![cell("a", "A2", false), cell("b", "B", true)],
        owing: vec![owing("c", "a")],
        quarantines: vec![mark(Subject::Account(account("q")), quarantine(L0, 4), &["c"])],
        state: Some(state(2)),
        ..step(L0, after(&first))
    };
    let before = store.dump(G1).await;
    let with = |change: &dyn Fn(&mut Commit)| {
        let mut commit = chained.clone();
        change(&mut commit);
        commit
    };
    let guard = |key: &str, value: &'static str| {
        let unless_changed = Some((account_cell(key), Bytes::from_static(value.as_bytes())));
        QuarantineWrite { unless_changed, ..mark(Subject::Account(account("a")), quarantine(L0, 4), &["c"]) }
    };
    let rows = [
        ("another token", with(&|c| c.from.token = THEIRS), StoreError::Fenced { partition: L0 }),
        (
            "another token and checkpoint",
            with(&|c| c.from = Position { token: THEIRS, ..first.from }),
            StoreError::Fenced { partition: L0 },
        ),
        ("an older checkpoint", with(&|c| c.from = first.from), StoreError::Unchained { partition: L0 }),
        ("a later commit", with(&|c| c.from.checkpoint.commit += 1), StoreError::Unchained { partition: L0 }),
        (
            "another offset",
            with(&|c| c.from.checkpoint.next = Offset(9)),
            StoreError::Unchained { partition: L0 },
        ),
        (
            "another last record",
            with(&|c| c.from.checkpoint.last = None),
            StoreError::Unchained { partition: L0 },
        ),
        (
            "not complete",
            with(&|c| c.from.checkpoint.complete = false),
            StoreError::Unchained { partition: L0 },
        ),
        ("a partition without position", with(&|c| c.partition = L1), StoreError::Missing { partition: L1 }),
        ("another generation", with(&|c| c.generation = G2), StoreError::Missing { partition: L0 }),
        ("a born cell exists", with(&|c| c.cells[0].born = true), StoreError::Guarded { partition: L0 }),
        (
            "a guarded cell differs",
            with(&|c| c.quarantines = vec![guard("a", "A0")]),
            StoreError::Guarded { partition: L0 },
        ),
        (
            "a guarded cell is absent",
            with(&|c| c.quarantines = vec![guard("x", "X")]),
            StoreError::Guarded { partition: L0 },
        ),
        (
            "a cell guarded as absent exists",
            with(&|c| c.quarantines = vec![guard("a", "")]),
            StoreError::Guarded { partition: L0 },
        ),
        (
            "the second guard differs",
            with(&|c| c.quarantines = vec![guard("a", "A"), guard("a", "B")]),
            StoreError::Guarded { partition: L0 },
        ),
    ];
    for (what, commit, refusal) in rows {
        assert_eq!(store.commit(&commit).await, Err(refusal), "{what}");
        assert_eq!(store.dump(G1).await, before, "{what}");
    }
    let kept = with(&|c| c.quarantines = vec![guard("a", "A"), guard("x", "")]);
    store.commit(&kept).await.unwrap();
    assert_eq!(store.commit(&kept).await, Err(StoreError::Unchained { partition: L0 }), "the same once more");
}

async fn a_new_due_takes_over_the_marks_of_its_account(store: &Fixture) {
    // Two foreign partitions hold the account's key back; its home learns of it when a customer is born.
    for partition in [L1, P0] {
        let from = store.claimed(partition, OURS).await;
        let quarantines = vec![mark(Subject::Account(account("a")), quarantine(partition, 4), &[])];
        store.commit(&Commit { quarantines, ..step(partition, from) }).await.unwrap();
    }
    let from = store.claimed(L0, OURS).await;
    let own = mark(Subject::Account(account("b")), quarantine(L0, 6), &[]);
    let opened = vec![owing("new", "a"), owing("new", "free"), owing("same", "b")];
    store.commit(&Commit { owing: opened, quarantines: vec![own], ..step(L0, from) }).await.unwrap();
    let marks = BTreeMap::from([
        (customer("new"), [L1, P0].map(|p| ((account("a"), p), quarantine(p, 4))).into()),
        // Marked by this very commit, which did not know of the customer.
        (customer("same"), BTreeMap::from([((account("b"), L0), quarantine(L0, 6))])),
    ]);
    assert_eq!(store.dump(G1).await.due_quarantines, marks);

    // A due that changes replaces the one before; whoever is not new to the account has its marks already.
    let from = store.claim(G1, L0, OURS).await.unwrap().position;
    let changed = Owing { due: "more".into(), opened: false, ..owing("new", "a") };
    let known = Owing { opened: false, ..owing("known", "a") };
    let owing = vec![changed, owing("new", "b"), known];
    store.commit(&Commit { owing, ..step(L0, from) }).await.unwrap();
    let held = store.dump(G1).await;
    let dues = [("a", "more".into()), ("b", due("new", "b")), ("free", due("new", "free"))];
    assert_eq!(held.owing[&customer("new")], dues.map(|(id, due)| (account(id), due)).into());
    assert_eq!(held.owing[&customer("known")], [(account("a"), due("known", "a"))].into());
    assert!(!held.due_quarantines.contains_key(&customer("known")));
    assert_eq!(held.due_quarantines[&customer("new")].len(), 3, "those of b too");
}

async fn a_lifted_mark_is_gone_everywhere_and_no_other(store: &Fixture) {
    let held = |id: &str, offset| mark(Subject::Account(account(id)), quarantine(L0, offset), &["c", "d"]);
    let from = store.claimed(L1, OURS).await;
    let elsewhere = vec![mark(Subject::Account(account("a")), quarantine(L1, 9), &["c"])];
    store.commit(&Commit { quarantines: elsewhere, ..step(L1, from) }).await.unwrap();
    let before = store.dump(G1).await;
    let from = store.claimed(L0, OURS).await;
    let first = Commit { quarantines: vec![held("a", 4), held("b", 5)], ..step(L0, from) };
    store.commit(&first).await.unwrap();

    // The customer "new" comes to owe by the very commit that lifts the mark, which does not know of it.
    let lifted = |id, offset| QuarantineWrite { lifted: true, ..held(id, offset) };
    let second = Commit {
        cells: vec![cell("a", "A", true)],
        owing: vec![owing("new", "a")],
        quarantines: vec![lifted("a", 4), held("b", 7)],
        ..step(L0, after(&first))
    };
    store.commit(&second).await.unwrap();
    let found = store.dump(G1).await;
    let of_b = BTreeMap::from([(Subject::Account(account("b")), quarantine(L0, 7))]);
    assert_eq!(found.index.get(&L0), Some(&of_b));
    let on_a = found.quarantines.get(&Subject::Account(account("a"))).unwrap();
    assert_eq!(on_a.keys().collect::<Vec<_>>(), [&L1]);
    let told = |id: &str| found.due_quarantines[&customer(id)].keys().cloned().collect::<Vec<_>>();
    assert_eq!(told("c"), [(account("a"), L1), (account("b"), L0)]);
    assert_eq!(told("d"), [(account("b"), L0)]);
    assert_eq!(told("new"), [(account("a"), L1)]);

    let third = Commit { quarantines: vec![lifted("b", 7)], ..step(L0, after(&second)) };
    store.commit(&third).await.unwrap();
    let found = store.dump(G1).await;
    assert_eq!((found.index, found.quarantines), (before.index, before.quarantines));
}

async fn a_claim_returns_what_is_held_and_fences_the_older_token(store: &Fixture) {
    assert_eq!(store.claim(G1, L0, OURS).await.unwrap_err(), StoreError::Missing { partition: L0 });
    store.bear(G1, &[(L0, Offset(17)), (P0, Offset(0))]).await.unwrap();
    let claimed = store.claim(G1, L0, OURS).await.unwrap();
    assert_eq!(claimed.position, Position { token: OURS, checkpoint: Checkpoint::born(Offset(17)) });
    assert_eq!(claimed.quarantined, []);
    let mut commit = step(L0, claimed.position);
    commit.quarantines = vec![mark(Subject::Account(account("a")), quarantine(L0, 17), &[])];
    store.commit(&commit).await.unwrap();

    let theirs = store.claim(G1, L0, THEIRS).await.unwrap();
    assert_eq!(theirs.position, Position { token: THEIRS, checkpoint: commit.to });
    assert_eq!(theirs.quarantined, [(Subject::Account(account("a")), quarantine(L0, 17))]);
    let late = step(L0, after(&commit));
    assert_eq!(store.commit(&late).await, Err(StoreError::Fenced { partition: L0 }));
    store.commit(&step(L0, theirs.position)).await.unwrap();
    // A claim of one partition leaves the others alone.
    let other = store.claim(G1, P0, OURS).await.unwrap();
    assert_eq!(other.quarantined, []);
    assert_eq!(other.position.checkpoint, Checkpoint::born(Offset(0)));
}

async fn a_load_answers_in_order_and_refuses_what_is_not_ours_or_went_back(store: &Fixture) {
    let from = store.claimed(L0, OURS).await;
    let ids: Vec<String> = (0..1_201).map(|n| format!("a{n}")).collect();
    let commit = Commit { cells: ids.iter().map(|id| cell(id, id, true)).collect(), ..step(L0, from) };
    store.commit(&commit).await.unwrap();
    let acknowledged = after(&commit);

    // More than one call of Redis takes, with gaps and a repetition.
    let mut asked: Vec<&str> = ids.iter().rev().map(String::as_str).collect();
    asked.insert(700, "gap");
    asked.push("a3");
    let keys: Vec<Subject> = asked.iter().map(|id| account_cell(id)).collect();
    let loaded = store.load(G1, L0, acknowledged, &keys).await.unwrap();
    let expected: Vec<Option<Bytes>> =
        asked.iter().map(|id| (*id != "gap").then(|| Bytes::copy_from_slice(id.as_bytes()))).collect();
    assert_eq!(loaded, expected);
    assert_eq!(store.load(G1, L0, acknowledged, &[]).await.unwrap(), Vec::<Option<Bytes>>::new());

    let key = [account_cell("a1")];
    let behind = Position { token: OURS, checkpoint: Checkpoint { commit: 0, ..commit.to } };
    assert!(store.load(G1, L0, behind, &key).await.is_ok(), "commits in flight may have landed meanwhile");
    let ahead = Position { token: OURS, checkpoint: Checkpoint { commit: 2, ..commit.to } };
    let rows = [
        (
            "another token",
            L0,
            Position { token: THEIRS, ..acknowledged },
            StoreError::Fenced { partition: L0 },
        ),
        ("the store went back", L0, ahead, StoreError::Unchained { partition: L0 }),
        ("never born", L1, acknowledged, StoreError::Missing { partition: L1 }),
    ];
    for (what, partition, position, refusal) in rows {
        assert_eq!(store.load(G1, partition, position, &key).await, Err(refusal), "{what}");
    }
    assert_eq!(store.load(G2, L0, acknowledged, &key).await, Err(StoreError::Missing { partition: L0 }));
}

async fn bearing_again_leaves_what_is_there(store: &Fixture) {
    let commit = step(L0, store.claimed(L0, OURS).await);
    store.commit(&commit).await.unwrap();
    store.bear(G1, &[(L0, Offset(0)), (L1, Offset(40))]).await.unwrap();
    store.bear(G1, &[]).await.unwrap();
    assert_eq!(store.claim(G1, L0, THEIRS).await.unwrap().position.checkpoint, commit.to);
    assert_eq!(store.claim(G1, L1, THEIRS).await.unwrap().position.checkpoint, Checkpoint::born(Offset(40)));
    assert_eq!(store.claim(G2, L0, OURS).await.unwrap_err(), StoreError::Missing { partition: L0 });
}

async fn the_pointer_moves_only_from_what_the_caller_saw(store: &Fixture) {
    assert_eq!(store.active().await, Ok(None));
    assert_eq!(store.activate(Some(G1), G2).await, Ok(false));
    assert_eq!(store.activate(None, G1).await, Ok(true));
    assert_eq!(store.activate(None, G2).await, Ok(false));
    assert_eq!(store.activate(Some(G2), G2).await, Ok(false));
    assert_eq!(store.active().await, Ok(Some(G1)));
    assert_eq!(store.activate(Some(G1), G2).await, Ok(true));
    assert_eq!(store.active().await, Ok(Some(G2)));
}

async fn reads_are_of_the_active_generation_alone(store: &Fixture) {
    for (generation, value) in [(G1, "one"), (G2, "two")] {
        store.bear(generation, &[(L0, Offset(0))]).await.unwrap();
        let from = store.claim(generation, L0, OURS).await.unwrap().position;
        let mut commit = Commit { generation, ..step(L0, from) };
        commit.cells = vec![cell("a", value, true)];
        commit.owing = vec![Owing { due: value.into(), ..owing("c", "a") }];
        store.commit(&commit).await.unwrap();
    }
    assert!(store.account(&account("a")).await.unwrap().is_none());
    assert!(store.customer(&customer("c")).await.unwrap().is_none());
    assert!(store.states().await.unwrap().is_none());
    assert_eq!(store.quarantined(L0).await, Ok(vec![]));
    let mut from = None;
    for (to, value) in [(G1, "one"), (G2, "two"), (G1, "one")] {
        assert!(store.activate(from, to).await.unwrap());
        from = Some(to);
        let read = store.account(&account("a")).await.unwrap().unwrap();
        assert_eq!((read.snapshot.generation, read.cell), (to, Some(Bytes::from_static(value.as_bytes()))));
        let read = store.customer(&customer("c")).await.unwrap().unwrap();
        assert_eq!(read.snapshot.generation, to);
        assert_eq!(read.dues, [(account("a"), Bytes::from_static(value.as_bytes()))]);
    }
}

async fn absence_comes_with_positions(store: &Fixture) {
    let commit = step(L0, store.claimed(L0, OURS).await);
    store.commit(&commit).await.unwrap();
    store.activate(None, G1).await.unwrap();
    let read = store.account(&account("nobody")).await.unwrap().unwrap();
    assert_eq!((read.cell, read.quarantines), (None, vec![]));
    assert_eq!(read.snapshot.positions, [(L0, after(&commit))]);
    let read = store.customer(&customer("nobody")).await.unwrap().unwrap();
    assert_eq!((read.cell, read.dues, read.quarantines), (None, vec![], vec![]));
    assert_eq!(read.snapshot.positions, [(L0, after(&commit))]);
}

async fn an_older_dump_is_unchained_and_an_empty_store_is_missing(store: &Fixture) {
    let first = Commit { cells: vec![cell("a", "1", true)], ..step(L0, store.claimed(L0, OURS).await) };
    store.commit(&first).await.unwrap();
    store.activate(None, G1).await.unwrap();
    let saved = store.save();
    let second = Commit { cells: vec![cell("a", "2", false)], ..step(L0, after(&first)) };
    store.commit(&second).await.unwrap();
    store.account(&account("a")).await.unwrap().unwrap();

    store.restore(&saved);
    let third = step(L0, after(&second));
    assert_eq!(store.commit(&third).await, Err(StoreError::Unchained { partition: L0 }));
    let key = [account_cell("a")];
    assert_eq!(store.load(G1, L0, after(&second), &key).await, Err(StoreError::Unchained { partition: L0 }));
    // Cell and checkpoint went back together: folding goes on from there.
    assert_eq!(store.load(G1, L0, after(&first), &key).await, Ok(vec![Some(Bytes::from_static(b"1"))]));
    store.commit(&second).await.unwrap();

    store.lose_everything();
    assert_eq!(store.commit(&third).await, Err(StoreError::Missing { partition: L0 }));
    assert_eq!(store.load(G1, L0, after(&second), &key).await, Err(StoreError::Missing { partition: L0 }));
    assert_eq!(store.claim(G1, L0, OURS).await.unwrap_err(), StoreError::Missing { partition: L0 });
    assert!(store.account(&account("a")).await.unwrap().is_none());
    store.activate(None, G1).await.unwrap();
    assert_eq!(store.account(&account("a")).await.unwrap().unwrap().snapshot.positions, []);
}

async fn commits_in_flight_are_taken_in_the_order_sent_and_all_fail_after_one(store: &Fixture) {
    let mut position = store.claimed(L0, OURS).await;
    let mut commits = Vec::new();
    for _ in 0..64 {
        let commit = step(L0, position);
        position = after(&commit);
        commits.push(commit);
    }
    assert!(join_all(commits.iter().map(|commit| store.commit(commit))).await.iter().all(Result::is_ok));

    let mut commits = Vec::new();
    for n in 0..16 {
        let mut commit = step(L0, position);
        position = after(&commit);
        if n == 5 {
            // Refused, for nobody wrote that cell.
            let unless_changed = Some((account_cell("x"), Bytes::from_static(b"x")));
            let mark = mark(Subject::Account(account("x")), quarantine(L0, 1), &[]);
            commit.quarantines = vec![QuarantineWrite { unless_changed, ..mark }];
        }
        commits.push(commit);
    }
    let told = join_all(commits.iter().map(|commit| store.commit(commit))).await;
    let mut expected = vec![Ok(()); 5];
    expected.push(Err(StoreError::Guarded { partition: L0 }));
    expected.resize(16, Err(StoreError::Unchained { partition: L0 }));
    assert_eq!(told, expected);
    assert_eq!(store.claim(G1, L0, OURS).await.unwrap().position, commits[5].from);
}

async fn a_commit_past_every_chunk_is_written_whole(store: &Fixture) {
    const MANY: usize = 9_001;
    let holder = MemoryStore::new();
    holder.bear(G1, &[(L0, Offset(0))]).await.unwrap();
    holder.claim(G1, L0, OURS).await.unwrap();
    let from = store.claimed(L0, OURS).await;
    let id = |n: usize| format!("a{n}");
    let mut commit = step(L0, from);
    commit.cells = (0..MANY).map(|n| cell(&id(n), &format!("v{n}"), n % 2 == 0)).collect();
    commit.owing = (0..MANY).map(|n| Owing { opened: n % 2 == 0, ..owing("one", &id(n)) }).collect();
    commit.quarantines = (0..MANY)
        .map(|n| mark(Subject::Account(account(&id(n))), quarantine(L0, n as i64), &["two"]))
        .collect();
    for target in [&holder as &dyn WriteStore, &*store.store as &dyn WriteStore] {
        target.commit(&commit).await.unwrap();
    }
    let held = store.dump(G1).await;
    assert_eq!(held.cells.len(), MANY);
    assert!(held == holder.dump(G1), "the two stores differ");
    // Of the cells to be born, the last one exists: the check passes every chunk too.
    let mut again = step(L0, after(&commit));
    again.cells = (0..MANY).map(|n| cell(&format!("b{n}"), "", true)).collect();
    again.cells.push(cell("a0", "", true));
    assert_eq!(store.commit(&again).await, Err(StoreError::Guarded { partition: L0 }));
}

async fn heartbeats_and_keys_on_hold_are_told_of_the_active_generation(store: &Fixture) {
    let commit = step(L0, store.claimed(L0, OURS).await);
    let subject = Subject::Account(account("a"));
    let quarantines = vec![mark(subject.clone(), quarantine(L0, 4), &[])];
    store.commit(&Commit { quarantines, state: Some(state(1)), ..commit.clone() }).await.unwrap();
    // The heartbeat alone is a commit too, and the commit number rises.
    let beat = Commit {
        to: Checkpoint { commit: 2, ..commit.to },
        state: Some(state(2)),
        ..step(L0, after(&commit))
    };
    store.commit(&beat).await.unwrap();
    let from = store.claimed(P0, OURS).await;
    let subject_of_payments = Subject::Customer(customer("a"));
    let mut other = step(P0, from);
    other.quarantines = vec![mark(subject_of_payments.clone(), quarantine(P0, 1), &[])];
    store.commit(&other).await.unwrap();
    store.activate(None, G1).await.unwrap();
    let (snapshot, states) = store.states().await.unwrap().unwrap();
    assert_eq!(snapshot.positions, [(L0, after(&beat)), (P0, after(&other))]);
    assert_eq!(states, [(L0, state(2))]);
    assert_eq!(store.quarantined(L0).await, Ok(vec![(subject, quarantine(L0, 4))]));
    assert_eq!(store.quarantined(P0).await, Ok(vec![(subject_of_payments, quarantine(P0, 1))]));
    assert_eq!(store.quarantined(L1).await, Ok(vec![]));
    let read = store.customer(&customer("a")).await.unwrap().unwrap();
    assert_eq!(read.quarantines, [quarantine(P0, 1)], "a customer is no account of the same id");
    assert_eq!(store.healthy().await, Ok(()));
    assert_eq!(store.check(true).await, Ok(()));
}
