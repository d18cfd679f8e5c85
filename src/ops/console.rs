//! What the commands on generations work with: the decisions, the store, and who feeds what.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use anyhow::Context as _;

use crate::{
    config::Config,
    decisions::{self, Act, Birth, Decision, Decisions},
    domain::PartitionId,
    source::{Cluster, producer::Producer},
    store::{Fed, Generation, Live, ReadStore as _, WriteStore as _, redis::RedisStore},
};

/// Kafka and Redis, as an operator's command uses them.
pub struct Console {
    /// The settings.
    pub config: Config,
    /// Kafka.
    pub cluster: Cluster,
    /// Writes decisions.
    pub producer: Producer,
    /// Redis.
    pub store: Arc<RedisStore>,
}

/// Two looks at what is fed, a little over two heartbeats apart.
pub struct Looked {
    /// The second one.
    pub live: Live,
    /// Whose heartbeat rose between them: these have an owner that lives.
    pub beating: BTreeSet<(Generation, PartitionId)>,
}

impl Looked {
    /// A generation, as the second look found it.
    pub fn fed(&self, generation: Generation) -> Option<&Fed> {
        self.live.generations.iter().find(|fed| fed.snapshot.generation == generation)
    }
}

impl Console {
    /// Neither is reached yet.
    pub fn open(config: Config) -> anyhow::Result<Self> {
        let cluster = Cluster::new(config.kafka.clone());
        let producer = Producer::new(&cluster).context("kafka settings")?;
        let store = Arc::new(RedisStore::new(&config.redis).context("redis")?);
        Ok(Console { config, cluster, producer, store })
    }

    /// Everything that was decided so far.
    pub async fn decisions(&self) -> anyhow::Result<Decisions> {
        let cluster = self.cluster.clone();
        let read = tokio::task::spawn_blocking(move || decisions::read(&cluster)).await?;
        read.with_context(|| {
            let crate::config::Kafka { decisions_topic, brokers, .. } = self.cluster.settings();
            format!("topic {decisions_topic} cannot be read (kafka.brokers {brokers})")
        })
    }

    /// Publishes a decision; it is acknowledged when this returns.
    pub async fn record(&self, decision: &Decision) -> anyhow::Result<()> {
        decisions::record(&self.cluster, &self.producer, decision)
            .await
            .context("the decision was not acknowledged: whether it counts is not known, so look again before repeating it")
    }

    /// What is fed, at one instant.
    pub async fn live(&self) -> anyhow::Result<Live> {
        self.store.live().await.with_context(|| self.unread())
    }

    /// Where the store is that cannot be read.
    pub fn unread(&self) -> String {
        format!("the store cannot be read (redis.url {})", self.config.masked().redis.url)
    }

    /// Looks twice.
    pub async fn look(&self) -> anyhow::Result<Looked> {
        let first = self.live().await?;
        tokio::time::sleep(self.two_beats()).await;
        let live = self.live().await?;
        let beat = |live: &Live, generation, partition| {
            let fed = live.generations.iter().find(|fed| fed.snapshot.generation == generation)?;
            let (_, state) = fed.states.iter().find(|(of, _)| *of == partition)?;
            Some((state.claim, state.beat))
        };
        let mut beating = BTreeSet::new();
        for fed in &live.generations {
            let generation = fed.snapshot.generation;
            for (partition, _) in &fed.snapshot.positions {
                let now = beat(&live, generation, *partition);
                if now.is_some() && now != beat(&first, generation, *partition) {
                    beating.insert((generation, *partition));
                }
            }
        }
        Ok(Looked { live, beating })
    }

    /// A little over two heartbeats: within it every owner that lives has spoken.
    pub fn two_beats(&self) -> Duration {
        let beats = self.config.projector.heartbeat_ms.saturating_mul(2).saturating_add(200);
        Duration::from_millis(beats.max(1_200))
    }
}

/// The generation of this number, or else the one that readers are served.
pub async fn named_or_served(store: &RedisStore, number: Option<u32>) -> anyhow::Result<Generation> {
    if let Some(number) = number {
        return Ok(Generation(number));
    }
    let served = store.active().await.context("the projection cannot be read")?;
    served.context("no generation is active: start a `project`, or name one with --generation")
}

/// The birth of a generation that is fed; an error that names those that are.
pub fn born(decisions: &Decisions, generation: Generation) -> anyhow::Result<&Birth> {
    let known: Vec<_> = decisions.live().map(|birth| birth.generation.0.to_string()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    let Generation(number) = generation;
    if let Some(act) = decisions.retired.get(&generation) {
        anyhow::bail!("generation {number} was retired by {} at {:.0}; there is {known}", act.who, act.at.0);
    }
    decisions
        .births
        .get(&generation)
        .with_context(|| format!("generation {number} was never begun; there is {known}"))
}

/// `, because …`, where a reason was given.
pub fn because(act: &Act) -> String {
    if act.why.is_empty() { String::new() } else { format!(" ({})", act.why) }
}
