//! What befalls Redis alone: how it may be set up, what it may refuse, how it is lost and found.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering},
};

use balance_projector::store::redis::Manners;

use super::*;

fn corrupt_about(told: &Result<(), StoreError>, words: &str) {
    match told {
        Err(StoreError::Corrupt { reason }) if reason.contains(words) => {}
        other => panic!("not corrupt for {words}: {other:?}"),
    }
}

fn transient<T: std::fmt::Debug>(told: &Result<T, StoreError>) {
    assert!(matches!(told, Err(StoreError::Transient { .. })), "not transient: {told:?}");
}

#[tokio::test]
async fn a_redis_that_evicts_is_refused_by_both_sides() {
    let store = Fixture::redis_with(&["--maxmemory-policy", "allkeys-lru"]);
    corrupt_about(&store.check(true).await, "maxmemory-policy allkeys-lru");
    corrupt_about(&store.healthy().await, "maxmemory-policy allkeys-lru");
    store.server().command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
    assert_eq!(store.check(true).await, Ok(()));
}

/// Somebody turned eviction on and off again.
fn evict(server: &Server) {
    server.command::<()>(&["SET", "x", "y"]);
    server.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]);
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    eventually_evicted(server);
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    server.command::<()>(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]);
}

#[tokio::test]
async fn a_generation_that_lost_keys_by_eviction_is_not_believed_until_the_database_is_emptied() {
    let fixture = Fixture::redis();
    let url = fixture.server().url();
    let settings = config::Redis { url, ..config::Redis::default() };
    let another = || RedisStore::new(&settings).expect("a store");
    let (g1, g2) = (Generation(1), Generation(2));
    // What was evicted before anything of ours was there is none of ours.
    evict(fixture.server());
    let store = another();
    assert_eq!(store.trust(g1).await, Ok(()));
    let begin = || async {
        store.bear(g1, &[(L0, Offset(0))]).await.expect("born");
        store.activate(None, g1).await.expect("active");
    };
    begin().await;
    assert_eq!((another().trust(g1).await, another().healthy().await), (Ok(()), Ok(())));
    evict(fixture.server());
    begin().await;
    // Nobody has looked meanwhile, and whoever looks first is new.
    assert_eq!(another().trust(g2).await, Ok(()), "what is not there yet has lost nothing");
    corrupt_about(&another().trust(g1).await, "evicted keys of generation 1");
    corrupt_about(&another().healthy().await, "evicted keys of generation 1");
    // One that was begun behind it is whole.
    assert_eq!(another().trust(g2).await, Ok(()));
    fixture.server().command::<()>(&["FLUSHALL"]);
    assert_eq!(store.trust(g1).await, Ok(()));
    begin().await;
    assert_eq!((store.trust(g1).await, another().healthy().await), (Ok(()), Ok(())));
}

#[tokio::test]
async fn what_was_evicted_with_the_pointer_is_noted_whoever_looked_before() {
    let store = Fixture::redis();
    assert_eq!(store.trust(G1).await, Ok(()));
    let begin = || async {
        store.bear(G1, &[(L0, Offset(0))]).await.expect("born");
        store.activate(None, G1).await.expect("active");
    };
    begin().await;
    assert_eq!(store.healthy().await, Ok(()));
    evict(store.server());
    assert_eq!(store.healthy().await, Ok(()), "there is no generation to be read");
    begin().await;
    corrupt_about(&store.trust(G1).await, "evicted keys of generation 1");
    corrupt_about(&store.healthy().await, "evicted keys of generation 1");
}

#[tokio::test]
async fn a_replica_is_refused_by_both_sides() {
    let (primary, store) = (Server::start(), Fixture::redis());
    store.server().command::<()>(&["REPLICAOF", "127.0.0.1", &primary.port()]);
    corrupt_about(&store.check(false).await, "a replica");
    corrupt_about(&store.healthy().await, "a replica");
}

fn eventually_evicted(server: &Server) {
    crate::support::eventually(Duration::from_secs(10), || {
        let stats: String = server.command(&["INFO", "stats"]);
        if stats.contains("evicted_keys:0\r") { Err(stats) } else { Ok(()) }
    });
}

#[tokio::test]
async fn a_redis_cluster_is_refused() {
    // The bus would take a port 10,000 above, which may be anybody's.
    let bus = free_port().to_string();
    let store = Fixture::redis_with(&["--cluster-enabled", "yes", "--cluster-port", &bus]);
    corrupt_about(&store.check(true).await, "Cluster");
    corrupt_about(&store.healthy().await, "Cluster");
}

#[test]
fn a_url_that_cannot_be_read_is_refused_without_repeating_it() {
    let config = config::Redis { url: "redis//user:hunter2@host".to_owned(), ..config::Redis::default() };
    match RedisStore::new(&config) {
        Err(StoreError::Corrupt { reason }) => {
            assert!(reason.contains("redis.url") && !reason.contains("hunter2"));
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("read"),
    }
}

/// The connections that a server has, but for the one that asks.
fn connections(server: &Server) -> BTreeSet<String> {
    let list: String = server.command(&["CLIENT", "LIST"]);
    let others = list.lines().filter(|line| !line.contains("cmd=client|list"));
    others.filter_map(|line| Some(line.split_once("id=")?.1.split_once(' ')?.0.to_owned())).collect()
}

/// A Redis with a generation that readers are pointed to.
async fn served() -> Fixture {
    let fixture = Fixture::redis();
    fixture.bear(G1, &[(L0, Offset(0))]).await.expect("born");
    fixture.activate(None, G1).await.expect("active");
    fixture
}

#[tokio::test]
async fn reads_do_not_stay_with_a_server_that_samples_have_left() {
    let fixture = served().await;
    let server = fixture.server();
    let of_others = connections(server);
    let store = connect(&server.url());
    let own = || &connections(server) - &of_others;
    let account = AccountId::parse("A").expect("an id");
    store.healthy().await.expect("healthy");
    let examined = own();
    store.account(&account).await.expect("a read");
    let before = own();
    assert_eq!((examined.len(), before.len()), (1, 2), "reads have a connection of their own");
    store.account(&account).await.expect("a read");
    assert_eq!(own(), before, "which they keep");

    let id = examined.first().expect("one").as_str();
    server.command::<()>(&["CLIENT", "KILL", "ID", id]);
    transient(&store.healthy().await);
    store.healthy().await.expect("healthy again");
    store.account(&account).await.expect("a read");
    let after = own();
    assert_eq!((after.len(), after.intersection(&before).count()), (2, 0), "{before:?} {after:?}");
}

/// An address behind which there is now one server, now another, for connections to come.
async fn behind_one_address(ports: [String; 2]) -> (String, Arc<AtomicUsize>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("redis://{}/", listener.local_addr().expect("an address"));
    let chosen = Arc::new(AtomicUsize::new(0));
    let now = Arc::clone(&chosen);
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let server = format!("127.0.0.1:{}", ports[now.load(Ordering::Relaxed)]);
            let mut server = tokio::net::TcpStream::connect(server).await.expect("a server");
            tokio::spawn(async move { drop(tokio::io::copy_bidirectional(&mut client, &mut server).await) });
        }
    });
    (url, chosen)
}

#[tokio::test]
async fn reads_and_samples_are_of_one_server() {
    let (first, second) = (served().await, served().await);
    let of_others = [connections(first.server()), connections(second.server())];
    let own = || {
        let now = [connections(first.server()), connections(second.server())];
        [&now[0] - &of_others[0], &now[1] - &of_others[1]]
    };
    let (url, chosen) = behind_one_address([first.server().port(), second.server().port()]).await;
    let store = connect(&url);
    let account = AccountId::parse("A").expect("an id");
    store.healthy().await.expect("healthy");
    let [examined, _] = own();
    store.account(&account).await.expect("a read");

    // The address leads elsewhere, and the connection for reads alone breaks.
    chosen.store(1, Ordering::Relaxed);
    let reads = own()[0].difference(&examined).next().expect("one").clone();
    first.server().command::<()>(&["CLIENT", "KILL", "ID", &reads]);
    transient(&store.account(&account).await);
    transient(&store.account(&account).await);
    store.account(&account).await.expect("a read");
    store.healthy().await.expect("healthy");
    crate::support::eventually(Duration::from_secs(10), || {
        let now = own();
        if now.each_ref().map(BTreeSet::len) == [0, 2] { Ok(()) } else { Err(now) }
    });
}

#[tokio::test]
async fn each_runtime_that_reads_has_a_connection_as_long_as_it_is_there() {
    let fixture = served().await;
    let server = fixture.server();
    let of_others = connections(server);
    let store = Arc::new(connect(&server.url()));
    let own = || (&connections(server) - &of_others).len();
    let elsewhere = || {
        let store = Arc::clone(&store);
        std::thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            let account = AccountId::parse("A").expect("an id");
            runtime.block_on(store.account(&account)).expect("a read");
            runtime
        })
        .join()
        .expect("no panic")
    };
    // Samples have one of their own.
    store.healthy().await.expect("healthy");
    store.account(&AccountId::parse("A").expect("an id")).await.expect("a read");
    assert_eq!(own(), 2);
    let runtime = elsewhere();
    assert_eq!(own(), 3);
    runtime.shutdown_background();
    crate::support::eventually(Duration::from_secs(10), || if own() == 2 { Ok(()) } else { Err(own()) });
    let runtime = elsewhere();
    assert_eq!(own(), 3);
    runtime.shutdown_background();
}

/// The permissions that the documentation of the store names, and no others.
const ACL: &str = "~{bp}:* +evalsha +evalsha_ro +multi +exec +script|load +info +get +mget +set +mset +exists +hget +hset +hsetnx \
                   +hgetall +hvals +hdel +del +scan";

fn user(server: &Server, name: &str, rules: &str) -> RedisStore {
    let mut words = vec!["ACL", "SETUSER", name, "on", ">secret", "resetkeys", "-@all"];
    words.extend(rules.split_whitespace());
    server.command::<()>(&words);
    connect(&server.url().replace("redis://", &format!("redis://{name}:secret@")))
}

#[tokio::test]
async fn the_check_at_the_start_passes_with_the_documented_permissions_and_leaves_no_key() {
    let server = Server::start();
    assert_eq!(user(&server, "enough", ACL).check(true).await, Ok(()));
    assert_eq!(server.command::<u64>(&["DBSIZE"]), 0);
}

#[tokio::test]
async fn a_missing_permission_shows_at_the_start() {
    let server = Server::start();
    for missing in [
        "-evalsha",
        "-evalsha_ro",
        "-script",
        "-info",
        "-get",
        "-mget",
        "-multi",
        "-exec",
        "-set",
        "-mset",
        "-exists",
        "-hget",
        "-hset",
        "-hsetnx",
        "-hdel",
        "-hgetall",
        "-del",
    ] {
        let store = user(&server, &format!("without{missing}"), &format!("{ACL} {missing}"));
        corrupt_about(&store.check(true).await, "lacks a permission");
    }
    let store = user(&server, "elsewhere", &ACL.replace("~{bp}:*", "~other:*"));
    corrupt_about(&store.check(true).await, "lacks a permission");
    let wrong = connect(&server.url().replace("redis://", "redis://enough:wrong@"));
    corrupt_about(&wrong.check(true).await, "user or the password");
}

#[tokio::test]
async fn a_script_that_stopped_half_way_is_healed_by_folding_again() {
    let store = Fixture::redis();
    let first = Commit { cells: vec![cell("a", "1", true)], ..step(L0, store.claimed(L0, OURS).await) };
    store.commit(&first).await.unwrap();
    let keys = Keys::new("{bp}", G1);
    store.server().command::<()>(&["SET", &keys.states(), "not a hash"]);
    let mut second = step(L0, after(&first));
    second.cells = vec![cell("a", "2", false), cell("b", "1", true)];
    second.owing = vec![owing("c", "b")];
    second.state = Some(state(1));
    corrupt_about(&store.commit(&second).await, "another type");
    // Redis does not roll back: the cells are written, the position is not.
    store.server().command::<()>(&["DEL", &keys.states()]);
    let half = store.dump(G1).await;
    assert_eq!(half.cells[&account_cell("b")], "1");
    assert_eq!(half.owing[&customer("c")], [(account("b"), due("c", "b"))].into());
    assert_eq!(half.positions[&L0], after(&first));

    let claimed = store.claim(G1, L0, THEIRS).await.unwrap();
    assert_eq!(claimed.position.checkpoint, first.to);
    let loaded = store.load(G1, L0, claimed.position, &[account_cell("a"), account_cell("b")]).await.unwrap();
    assert_eq!(loaded, [Some(Bytes::from_static(b"2")), Some(Bytes::from_static(b"1"))]);
    // Both cells have applied the record: nothing is left to write but the position.
    let again = Commit { state: Some(state(1)), ..step(L0, claimed.position) };
    store.commit(&again).await.unwrap();
    let whole = store.dump(G1).await;
    assert_eq!(whole.clone().figures(), half.figures());
    assert_eq!(whole.positions[&L0], after(&again));
}

#[tokio::test]
async fn a_script_that_stops_at_the_cells_has_written_what_is_owed_on_them() {
    let store = Fixture::redis();
    let mut commit = step(L0, store.claimed(L0, OURS).await);
    commit.cells = vec![cell("a", "1", true)];
    commit.owing = vec![owing("c", "a"), owing("d", "a")];
    // The second customer's dues cannot be written: a cell that skips what it has folded must not be there.
    let keys = Keys::new("{bp}", G1);
    store.server().command::<()>(&["SET", &keys.owing(&customer("d")), "not a hash"]);
    corrupt_about(&store.commit(&commit).await, "another type");
    store.server().command::<()>(&["DEL", &keys.owing(&customer("d"))]);
    let half = store.dump(G1).await;
    assert_eq!(half.owing, [(customer("c"), [(account("a"), due("c", "a"))].into())].into());
    assert_eq!((half.cells.len(), half.positions[&L0]), (0, commit.from));
    store.commit(&commit).await.unwrap();
    let whole = store.dump(G1).await;
    assert_eq!(whole.owing[&customer("d")], [(account("a"), due("d", "a"))].into());
    assert_eq!(whole.cells[&account_cell("a")], "1");
}

#[tokio::test]
async fn a_dead_a_hung_and_a_forgetful_redis_are_transient_and_heal_by_themselves() {
    let mut store = Fixture::impatient_redis();
    let mut position = store.claimed(L0, OURS).await;
    store.activate(None, G1).await.unwrap();
    store.account(&account("a")).await.unwrap().unwrap();
    let mut commit = step(L0, position);
    store.commit(&commit).await.unwrap();
    position = after(&commit);

    // Scripts forgotten, as after a fail-over: loaded again, nothing else needed. Reads do without.
    store.server().command::<()>(&["SCRIPT", "FLUSH"]);
    commit = step(L0, position);
    transient(&store.commit(&commit).await);
    store.account(&account("a")).await.unwrap().unwrap();
    store.customer(&customer("c")).await.unwrap().unwrap();
    healed(&store, &commit).await;
    position = after(&commit);

    // Hung: both give up in their time.
    store.server().signal(Signal::Stop);
    commit = step(L0, position);
    let started = std::time::Instant::now();
    transient(&store.account(&account("a")).await);
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    transient(&store.commit(&commit).await);
    transient(&store.commit(&commit).await);
    store.server().signal(Signal::Cont);
    // What was sent before may still be executed: a claim tells, and fences it.
    let claimed = eventually_claimed(&store).await;
    commit = step(L0, claimed);
    healed(&store, &commit).await;
    position = after(&commit);

    // Killed, and back with its dump.
    store.server().save();
    store.server_mut().kill();
    commit = step(L0, position);
    transient(&store.commit(&commit).await);
    transient(&store.account(&account("a")).await);
    transient(&store.check(true).await);
    store.server_mut().restart();
    healed(&store, &commit).await;
}

async fn healed(store: &Fixture, commit: &Commit) {
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    loop {
        match store.commit(commit).await {
            Ok(()) => break,
            Err(StoreError::Transient { .. }) if std::time::Instant::now() < deadline => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(other) => panic!("{other}"),
        }
    }
    while store.account(&account("a")).await.is_err() || store.customer(&customer("c")).await.is_err() {
        assert!(std::time::Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn eventually_claimed(store: &Fixture) -> Position {
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    loop {
        match store.claim(G1, L0, THEIRS).await {
            Ok(claimed) => return claimed.position,
            Err(error) => assert!(std::time::Instant::now() < deadline, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_full_or_demoted_redis_takes_no_commit_and_is_transient() {
    let store = Fixture::redis();
    let mut commit = step(L0, store.claimed(L0, OURS).await);
    commit.owing = vec![owing("c", "a")];
    commit.cells = vec![cell("a", "1", true)];
    let before = store.dump(G1).await;
    for (on, off) in [
        (["CONFIG", "SET", "maxmemory", "1"].as_slice(), ["CONFIG", "SET", "maxmemory", "0"].as_slice()),
        (&["REPLICAOF", "127.0.0.1", "1"], &["REPLICAOF", "NO", "ONE"]),
    ] {
        store.server().command::<()>(on);
        transient(&store.commit(&commit).await);
        store.server().command::<()>(off);
        assert_eq!(store.dump(G1).await, before, "{on:?}");
    }
    healed(&store, &commit).await;
}

#[tokio::test]
async fn customers_that_are_read_together_get_their_own_dues() {
    let store = Fixture::redis();
    let accounts_of = |n: usize| (0..n % 4).map(move |k| format!("a{}", (n + k) % 40));
    let mut commit = step(L0, store.claimed(L0, OURS).await);
    let owe = |n: usize| accounts_of(n).map(move |on| owing(&format!("c{n}"), &on));
    commit.owing = (0..40).flat_map(owe).collect();
    store.commit(&commit).await.unwrap();
    store.activate(None, G1).await.unwrap();
    let reads = join_all((0..40).map(|n| {
        let store = &store;
        async move { (n, store.customer(&customer(&format!("c{n}"))).await.unwrap().unwrap()) }
    }));
    for (n, mut read) in reads.await {
        read.dues.sort();
        let mut expected: Vec<_> =
            accounts_of(n).map(|id| (account(&id), due(&format!("c{n}"), &id))).collect();
        expected.sort();
        assert_eq!(read.dues, expected, "c{n}");
    }
}

#[tokio::test]
async fn a_full_redis_is_read_and_not_written() {
    let store = Fixture::redis();
    let from = store.claimed(L0, OURS).await;
    let mut commit = step(L0, from);
    commit.cells = vec![cell("a1", "v1", true)];
    store.commit(&commit).await.unwrap();
    store.activate(None, G1).await.unwrap();
    let read = async || store.account(&account("a1")).await.map(|read| read.and_then(|read| read.cell));
    let held = Ok(Some(Bytes::from("v1")));
    assert_eq!(read().await, held);
    store.server().command::<()>(&["CONFIG", "SET", "maxmemory", "1"]);
    for _ in 0..20 {
        assert_eq!(read().await, held);
    }
    let next = step(L0, after(&commit));
    transient(&store.commit(&next).await);
    store.server().command::<()>(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(store.commit(&next).await, Ok(()));
    assert_eq!(read().await, held);
}

#[tokio::test]
async fn commits_take_turns_and_are_small_while_readers_ask() {
    let fixture = Fixture::redis();
    let manners = Manners { commits_at_once: 2, calls_of_readers: 80, cells_beside_readers: 7 };
    let store = connect(&fixture.server().url()).with_manners(manners);
    let commits = [step(L0, fixture.claimed(L0, OURS).await), step(L1, fixture.claimed(L1, OURS).await)];
    fixture.activate(None, G1).await.unwrap();
    assert_eq!(store.cells_max(), usize::MAX);
    let until = async |wanted: usize| {
        while store.cells_max() != wanted {
            store.account(&account("a1")).await.unwrap();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let asked = tokio::time::timeout(Duration::from_secs(30), async {
        tokio::select! {
            () = store.give_way_to_readers() => {}
            () = until(7) => {}
        }
    });
    asked.await.expect("it gives way");
    let [first, second] = commits.each_ref().map(|commit| store.commit(commit));
    assert_eq!(futures::join!(second, first), (Ok(()), Ok(())));
    let held = fixture.dump(G1).await.positions;
    assert_eq!((held[&L0], held[&L1]), (after(&commits[0]), after(&commits[1])));
}

#[tokio::test]
async fn calls_of_readers_are_told_from_commits() {
    let fixture = Fixture::redis();
    let from = fixture.claimed(L0, OURS).await;
    fixture.activate(None, G1).await.unwrap();
    let store = connect(&fixture.server().url());
    let calls = store.calls_of_readers().await.unwrap();
    store.account(&account("a")).await.unwrap().unwrap();
    store.customer(&customer("c")).await.unwrap().unwrap();
    assert_eq!(store.calls_of_readers().await, Ok(calls + 2));
    store.commit(&step(L0, from)).await.unwrap();
    assert_eq!(store.calls_of_readers().await, Ok(calls + 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_that_wait_together_share_calls_and_each_gets_its_own() {
    let store = Fixture::redis();
    let from = store.claimed(L0, OURS).await;
    let mut commit = step(L0, from);
    commit.cells = (0..300).map(|n| cell(&format!("a{n}"), &format!("v{n}"), true)).collect();
    commit.owing = (0..300).map(|n| owing(&format!("c{n}"), &format!("a{n}"))).collect();
    let poison = |n: i64| mark(Subject::Account(account(&format!("a{n}"))), quarantine(L0, n), &[]);
    commit.quarantines = [7, 8, 200].map(poison).into();
    commit.quarantines[2].customers = vec![customer("c7")];
    store.commit(&commit).await.unwrap();
    store.activate(None, G1).await.unwrap();
    store.account(&account("a0")).await.unwrap().unwrap();
    store.server().command::<()>(&["CONFIG", "RESETSTAT"]);
    let accounts = join_all((0..300).map(|n| {
        let store = &store;
        async move { (n, store.account(&account(&format!("a{n}"))).await.unwrap().unwrap()) }
    }));
    let customers = join_all((0..300).map(|n| {
        let store = &store;
        async move { (n, store.customer(&customer(&format!("c{n}"))).await.unwrap().unwrap()) }
    }));
    let (accounts, customers) = futures::join!(accounts, customers);
    for (n, read) in accounts {
        assert_eq!(read.cell, Some(Bytes::from(format!("v{n}"))));
        let held = if [7, 8, 200].contains(&n) { vec![quarantine(L0, n)] } else { vec![] };
        assert_eq!(read.quarantines, held, "{n}");
    }
    for (n, read) in customers {
        let (who, on) = (format!("c{n}"), format!("a{n}"));
        assert_eq!(read.dues, [(account(&on), due(&who, &on))]);
        assert_eq!(
            read.quarantines.len(),
            usize::from([7, 8, 200].contains(&n)) + usize::from(n == 7),
            "{n}"
        );
    }
    let stats: String = store.server().command(&["INFO", "commandstats"]);
    let calls = |command: &str| {
        let calls = stats.lines().find_map(|line| line.strip_prefix("cmdstat_")?.strip_prefix(command));
        calls
            .and_then(|calls| calls.strip_prefix(":calls=")?.split(',').next()?.parse().ok())
            .unwrap_or(0_u32)
    };
    // Those on hold are read once more, by a script.
    let calls = calls("exec") + calls("evalsha_ro");
    assert!((1..100).contains(&calls), "{calls} calls for 600 reads");
}

#[tokio::test]
async fn a_foreign_key_under_the_generation_is_told_by_a_dump() {
    let store = Fixture::redis();
    store.server().command::<()>(&["SET", "{bp}:g1:x:y", "z"]);
    let Backend::Redis(redis, _) = &store.backend else { panic!("on Redis") };
    corrupt_about(&redis.dump(G1).await.map(drop), "did not write");
}
