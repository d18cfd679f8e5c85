//! `status`: where the projection stands, and what needs a person.
//!
//! It looks twice, a little over two heartbeats apart: only a beat that rises between the looks tells that a
//! partition's owner lives.

mod log;
mod report;

pub(super) use report::columns;

use std::{io::Write as _, time::Duration};

use anyhow::Context as _;

use super::{Outcome, letters};
use crate::{
    config::Config,
    source::Cluster,
    store::{ReadStore, redis::RedisStore},
};

use self::{
    log::LogView,
    report::{Looks, Report},
};

/// The command line of `status`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Print JSON instead of a table.
    #[arg(long)]
    pub json: bool,
    /// How many keys on hold to name.
    #[arg(long, default_value_t = 10, value_name = "KEYS")]
    pub keys: usize,
}

/// Looks, and tells.
pub async fn run(config: Config, args: Args) -> anyhow::Result<Outcome> {
    let store = RedisStore::new(&config.redis).context("redis")?;
    let report = look(&config, &store, args.keys).await?;
    let text = if args.json { report.json()? } else { report.table() };
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(if report.needs_person.is_empty() { Outcome::Well } else { Outcome::NeedsPerson })
}

async fn look(config: &Config, store: &impl ReadStore, keys_max: usize) -> anyhow::Result<Report> {
    let unhealthy = store.healthy().await.err();
    let first = store.states().await.context("the store's partitions cannot be read")?;
    let beats = config.projector.heartbeat_ms.saturating_mul(2).saturating_add(200);
    tokio::time::sleep(Duration::from_millis(beats.max(1_200))).await;
    let second = store.states().await.context("the store's partitions cannot be read")?;

    let mut keys = Vec::new();
    let mut next = Vec::new();
    if let Some((snapshot, _)) = &second {
        for (partition, position) in &snapshot.positions {
            next.push((*partition, position.checkpoint.next));
            if keys.len() < keys_max {
                let quarantined = store.quarantined(*partition).await;
                keys.extend(quarantined.context("the keys on hold cannot be read")?);
            }
        }
    }
    keys.truncate(keys_max);

    let cluster = Cluster::new(config.kafka.clone());
    let asked = cluster.clone();
    let looked = tokio::task::spawn_blocking(move || {
        let mut log = LogView::look(&asked, &next);
        // Where the brokers do not answer, that is told already.
        let looked = log.faults.is_empty().then(|| letters::without_key(&asked));
        let nobodys = looked.transpose();
        if let Err(error) = &nobodys {
            log.faults.push(format!("the dead letters cannot be read: {error:#}"));
        }
        (log, nobodys.ok().flatten())
    });
    let (log, dead_letters_without_key) = looked.await.context("the log cannot be read")?;
    let looks = Looks { cluster, first, second, unhealthy, log, keys, dead_letters_without_key };
    Ok(Report::new(&looks, config.api.max_staleness_ms))
}

#[cfg(test)]
mod tests {
    use rdkafka::{
        ClientConfig,
        mocking::MockCluster,
        producer::{BaseProducer, BaseRecord, Producer as _},
    };

    use super::*;
    use crate::{
        domain::{AccountId, Checkpoint, Class, Offset, PartitionId, Subject, Time, Topic},
        store::{
            Commit, Generation, PartitionState, Position, Quarantine, QuarantineWrite, Token,
            WriteStore as _, memory::MemoryStore,
        },
    };

    const GENERATION: Generation = Generation(1);

    /// What an owner commits: the next offset, a beat, and a key on hold where there is one.
    struct Owner {
        partition: PartitionId,
        position: Position,
    }

    impl Owner {
        async fn claim(store: &MemoryStore, partition: PartitionId) -> Owner {
            let claimed = store.claim(GENERATION, partition, Token([7; 16])).await.unwrap();
            Owner { partition, position: claimed.position }
        }

        async fn beat(&mut self, store: &MemoryStore, next: i64, held: Option<(Subject, Quarantine)>) {
            let commit = self.position.checkpoint.commit.checked_add(1).unwrap();
            let to = Checkpoint { next: Offset(next), commit, complete: true, last: None };
            let state = PartitionState {
                claim: 1,
                beat: commit,
                caught_up_ms_ago: Some(0),
                next: to.next,
                high_watermark: None,
                halt: None,
                paused: None,
                cut: None,
                zone: None,
                quarantined_keys: u64::from(held.is_some()),
                waiting_records: 0,
                owner: "test".to_owned(),
            };
            let quarantines = held.map(|(subject, quarantine)| QuarantineWrite {
                subject,
                quarantine,
                lifted: false,
                customers: Vec::new(),
                unless_changed: None,
            });
            let commit = Commit {
                generation: GENERATION,
                partition: self.partition,
                from: self.position,
                to,
                cells: Vec::new(),
                owing: Vec::new(),
                quarantines: quarantines.into_iter().collect(),
                state: Some(state),
            };
            store.commit(&commit).await.unwrap();
            self.position.checkpoint = to;
        }
    }

    #[tokio::test]
    async fn lag_owners_and_keys_on_hold_are_told_from_the_store_and_the_log() {
        let cluster = MockCluster::new(1).unwrap();
        let mut config = Config::default();
        config.kafka.brokers = cluster.bootstrap_servers();
        let producer: BaseProducer =
            ClientConfig::new().set("bootstrap.servers", &config.kafka.brokers).create().unwrap();
        for topic in ["ledger.events", "payment.events"] {
            cluster.create_topic(topic, 1, 1).unwrap();
            for _ in 0..5 {
                // The broker keeps the publisher's timestamp: in 2001.
                let record = BaseRecord::to(topic).key("A1").payload("x").timestamp(1_000_000_000_000);
                producer.send(record).unwrap();
            }
        }
        producer.flush(Duration::from_secs(20)).unwrap();

        let store = MemoryStore::new();
        let [ledger, payment] = Topic::ALL.map(|topic| PartitionId { topic, partition: 0 });
        store.bear(GENERATION, &[(ledger, Offset(0)), (payment, Offset(0))]).await.unwrap();
        store.activate(None, GENERATION).await.unwrap();
        let mut live = Owner::claim(&store, ledger).await;
        let mut dead = Owner::claim(&store, payment).await;
        let quarantine = Quarantine {
            partition: ledger,
            offset: Offset(2),
            class: Class::NotJson,
            since: Time::from_millis(1_000_000_000_000),
            waiting: 3,
            heals: false,
        };
        live.beat(&store, 5, Some((Subject::Account(AccountId::parse("A1").unwrap()), quarantine))).await;
        dead.beat(&store, 3, None).await;

        let beating = async {
            tokio::time::sleep(Duration::from_millis(600)).await;
            live.beat(&store, 5, None).await;
        };
        let (report, ()) = tokio::join!(look(&config, &store, 10), beating);
        let report: serde_json::Value = serde_json::from_str(&report.unwrap().json().unwrap()).unwrap();

        let [ledger, payment] = [&report["partitions"][0], &report["partitions"][1]];
        assert_eq!((&ledger["topic"], &ledger["lag"]), (&"ledger.events".into(), &0.into()));
        assert_eq!(
            (&ledger["owner_lives"], &ledger["oldest_unapplied_ms"]),
            (&true.into(), &serde_json::Value::Null)
        );
        assert_eq!((&payment["topic"], &payment["lag"]), (&"payment.events".into(), &2.into()));
        assert_eq!(payment["owner_lives"], false);
        let twenty_years_ms = 20 * 365 * 86_400_000_u64;
        assert!(payment["oldest_unapplied_ms"].as_u64().unwrap() > twenty_years_ms, "{payment}");
        let held = &report["quarantined"][0];
        assert_eq!(
            (&held["key"], &held["offset"], &held["class"]),
            (&"A1".into(), &2.into(), &"not-json".into())
        );
        let needs = report["needs_person"].as_array().unwrap();
        let needs: Vec<_> = needs.iter().map(|line| line.as_str().unwrap()).collect();
        assert_eq!(
            needs,
            [
                "payment.events/0 has no living owner and 2 records wait: start a `project`",
                "1 key is on hold: decide on the dead letters",
            ]
        );
    }
}
