//! Random calls: the two stores cannot be told apart.

use super::*;

/// Random calls, wrong ones among them: both stores tell the same and hold the same after each.
#[tokio::test]
async fn the_two_stores_cannot_be_told_apart() {
    let (memory, redis) = (Fixture::memory(), Fixture::redis());
    let mut refused = [0_usize; 5];
    for seed in 0..60_u64 {
        memory.lose_everything();
        redis.lose_everything();
        let mut random = StdRng::seed_from_u64(seed);
        let mut positions: Vec<(PartitionId, Position)> = vec![];
        for call in 0..50 {
            let partition = *[L0, L1, P0].choose(&mut random).unwrap();
            let generation = if random.random_bool(0.95) { G1 } else { G2 };
            match if call < 3 { 0 } else { random.random_range(0..16) } {
                0 => {
                    let births = [(partition, Offset(random.random_range(0..3)))];
                    assert_eq!(memory.bear(generation, &births).await, redis.bear(generation, &births).await);
                }
                1 | 2 => {
                    let token = Token([random.random_range(1..3); 16]);
                    let sorted = |claimed: Result<balance_projector::store::Claimed, StoreError>| {
                        claimed.map(|mut claimed| {
                            claimed.quarantined.sort_by(|a, b| a.0.cmp(&b.0));
                            (claimed.position, claimed.quarantined)
                        })
                    };
                    let ours = sorted(memory.claim(generation, partition, token).await);
                    assert_eq!(ours, sorted(redis.claim(generation, partition, token).await));
                    positions.extend(ours.ok().map(|(position, _)| (partition, position)));
                }
                3 => {
                    let acknowledged = pick(&mut random, partition, &positions);
                    let keys: Vec<Subject> = (0..4).map(|n| account_cell(&format!("a{n}"))).collect();
                    let ours = memory.load(generation, partition, acknowledged, &keys).await;
                    assert_eq!(ours, redis.load(generation, partition, acknowledged, &keys).await);
                }
                4 => {
                    let from = if random.random_bool(0.5) { None } else { Some(generation) };
                    assert_eq!(memory.activate(from, G1).await, redis.activate(from, G1).await);
                }
                _ => {
                    let mut commit = step(partition, pick(&mut random, partition, &positions));
                    commit.generation = generation;
                    fill(&mut random, &mut commit);
                    let ours = memory.commit(&commit).await;
                    assert_eq!(ours, redis.commit(&commit).await, "seed {seed}, call {call}");
                    if ours.is_ok() {
                        positions.push((partition, after(&commit)));
                    }
                    refused[match ours {
                        Ok(()) => 0,
                        Err(StoreError::Missing { .. }) => 1,
                        Err(StoreError::Fenced { .. }) => 2,
                        Err(StoreError::Unchained { .. }) => 3,
                        Err(StoreError::Guarded { .. }) => 4,
                        Err(other) => panic!("{other}"),
                    }] += 1;
                }
            }
        }
        for generation in [G1, G2] {
            assert_eq!(memory.dump(generation).await, redis.dump(generation).await, "seed {seed}");
        }
        for n in 0..3 {
            let [ours, theirs] =
                [&memory, &redis].map(|store| {
                    let id = account(&format!("a{n}"));
                    async move {
                        store.account(&id).await.unwrap().map(|read| {
                            (read.snapshot.positions.clone(), read.cell, sorted(read.quarantines))
                        })
                    }
                });
            assert_eq!(ours.await, theirs.await, "seed {seed}");
            let [ours, theirs] = [&memory, &redis].map(|store| {
                let id = customer(&format!("c{n}"));
                async move {
                    let read = store.customer(&id).await;
                    read.map(|read| {
                        read.map(|mut read| {
                            read.dues.sort();
                            (read.snapshot.positions.clone(), read.cell, read.dues, sorted(read.quarantines))
                        })
                    })
                }
            });
            assert_eq!(ours.await, theirs.await, "seed {seed}");
        }
    }
    assert!(refused.iter().all(|count| *count > 10), "not every answer was met: {refused:?}");
}

/// Mostly the newest position that this test knows of the partition.
fn pick(random: &mut StdRng, partition: PartitionId, positions: &[(PartitionId, Position)]) -> Position {
    let own = positions.iter().rfind(|(of, _)| *of == partition && random.random_bool(0.8));
    let any = own.or_else(|| positions.choose(random));
    any.map_or(Position { token: OURS, checkpoint: Checkpoint::born(Offset(0)) }, |(_, position)| *position)
}

fn sorted(mut quarantines: Vec<Quarantine>) -> Vec<Quarantine> {
    quarantines.sort_by_key(|mark| (mark.partition, mark.offset, mark.waiting));
    quarantines
}

fn fill(random: &mut StdRng, commit: &mut Commit) {
    let mut some = |most: u32| random.random_range(0..most);
    for n in 0..some(3) {
        commit.cells.push(cell(&format!("a{n}"), &format!("v{}", some(4)), some(8) == 0));
    }
    for n in 0..some(3) {
        let due = format!("{}", some(4)).into();
        let opened = some(2) == 0;
        commit.owing.push(Owing { due, opened, ..owing(&format!("c{n}"), &format!("a{}", some(3))) });
    }
    if some(3) == 0 {
        let id = format!("a{}", some(3));
        let subject = match commit.partition.topic {
            Topic::Ledger => Subject::Account(account(&id)),
            Topic::Payment => Subject::Customer(customer(&format!("c{}", some(3)))),
        };
        let quarantine = Quarantine { waiting: u64::from(some(5)), ..quarantine(commit.partition, 2) };
        let customers: &[&str] = match &subject {
            Subject::Account(_) => &["c0", "c2"],
            Subject::Customer(_) => &[],
        };
        let unless_changed =
            (some(4) == 0).then(|| (account_cell(&id), Bytes::from(format!("v{}", some(4)))));
        let lifted = some(3) == 0;
        commit.quarantines.push(QuarantineWrite {
            unless_changed,
            lifted,
            ..mark(subject, quarantine, customers)
        });
    }
    if some(4) == 0 {
        commit.state = Some(state(u64::from(some(100))));
    }
}
