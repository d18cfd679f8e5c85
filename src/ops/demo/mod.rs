//! Everything in one process with sample data, on loopback; keeps nothing.
//!
//! The same code as in production on librdkafka's in-process broker and the store in memory. The credentials
//! below exist here and nowhere else.

use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use anyhow::Context as _;
use serde_json::json;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    hash_password::{argon2id, sha256},
    parts,
};
use crate::{
    api::{Clock, Readiness, Server, Settings},
    config::{Config, Log, LogFormat, ProfileConfig, TokenConfig, User},
    projector::Standing,
    source::{
        Cluster,
        embedded::EmbeddedBroker,
        producer::{Outgoing, Producer},
    },
    store::{ReadStore, memory::MemoryStore},
    telemetry, wire,
};

const SAMPLE: &str = include_str!("sample.ndjson");
const PARTITIONS: i32 = 3;
const USER: (&str, &str) = ("ocsuser", "ocsuser");
const PROFILE: &str = "WaterField_314";
const TOKEN: &str = "AbCdEf123456";
const API_KEY: &str = "00000000-1212-0f0f-a0a0-123456789abc";
const CUSTOMER: &str = "000152301242008";
const ACCOUNT: &str = "D2C8C1DCC51A3738538A40A4863CA288E0225E52";
const MULTI_CURRENCY: &str = "DEMO-MULTI-CURRENCY";
const LIVE_ACCOUNT: &str = "DEMO-LIVE";
const LIVE_CUSTOMER: &str = "demo-live";

/// The command line of `demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// Where both views listen, on 127.0.0.1; 0 takes a free port.
    #[arg(long, default_value_t = 8080)]
    pub port: u16,
    /// No live events: figures stand still, for scripts.
    #[arg(long)]
    pub quiet_trickle: bool,
}

/// The demo's log: what needs a person.
pub fn log() -> Log {
    Log { level: "warn,rdkafka=off,librdkafka=off".to_owned(), format: LogFormat::Text, file: None }
}

/// Runs until SIGTERM or SIGINT.
pub async fn run(args: Args) -> anyhow::Result<()> {
    let shutdown = parts::shutdown()?;
    let config = configuration(args.port)?;
    let broker = EmbeddedBroker::start(config.kafka.clone(), PARTITIONS)
        .context("the embedded broker does not start")?;
    let cluster = broker.cluster().clone();
    let store = Arc::new(MemoryStore::new());
    let reads: Arc<dyn ReadStore> = store.clone();
    let mut registry = telemetry::registry();
    let standing = Arc::new(Standing::new(&mut registry));
    let settings = Settings::of(&config)?;
    let clock = Clock::system(settings.zone.clone());
    let server = Server::bind(settings, clock, Arc::clone(&reads), store.clone(), &mut registry)
        .await
        .context("here it is `demo --port` that sets the port")?;
    let (address, readiness) = (server.local_addr(), server.readiness());
    let admin =
        parts::admin(config.admin.listen, registry, vec![parts::write_side(&standing), server.readiness()])
            .await?;
    let admin_address = admin.local_addr();
    let sent = publish_sample(&cluster).await?;
    parts::until_all(
        shutdown.clone(),
        [
            parts::spawn(admin.run(shutdown.clone())),
            parts::spawn(server.run(shutdown.clone())),
            tokio::spawn(parts::project(config, cluster.clone(), store, standing, shutdown.clone())),
            tokio::spawn(async move {
                if until_ready(reads, readiness, sent, &shutdown).await {
                    greet(address, admin_address, args.quiet_trickle)?;
                    if !args.quiet_trickle {
                        trickle(&cluster, &shutdown).await?;
                    }
                }
                Ok(())
            }),
        ],
    )
    .await
}

fn configuration(port: u16) -> anyhow::Result<Config> {
    let mut config = Config::default();
    let loopback = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    config.api.listen = loopback(port);
    config.admin.listen = loopback(0);
    config.api.users = vec![User {
        name: USER.0.to_owned(),
        password_hash: argon2id(USER.1)?,
        profiles: vec![PROFILE.to_owned()],
    }];
    config.api.profiles = vec![ProfileConfig { id: PROFILE.to_owned(), customer_prefixes: None }];
    config.api.tokens = vec![TokenConfig {
        client_id: "demo".to_owned(),
        token_sha256: sha256(TOKEN),
        api_key_sha256: sha256(API_KEY),
        accounts: [ACCOUNT, MULTI_CURRENCY, LIVE_ACCOUNT].map(str::to_owned).to_vec(),
        expires: None,
    }];
    Ok(config)
}

/// Publishes the sample events, and tells how many.
async fn publish_sample(cluster: &Cluster) -> anyhow::Result<i64> {
    let producer = Producer::new(cluster)?;
    let mut sent = 0_i64;
    for line in SAMPLE.lines() {
        publish(cluster, &producer, line).await?;
        sent = sent.saturating_add(1);
    }
    Ok(sent)
}

async fn publish(cluster: &Cluster, producer: &Producer, line: &str) -> anyhow::Result<()> {
    let (topic, key) = wire::check_line(line.as_bytes(), parts::now(), &Config::default().parameters())?;
    let record = Outgoing {
        topic: cluster.topic_name(topic).to_owned(),
        key: Some(key.as_str().as_bytes().to_vec()),
        value: Some(line.as_bytes().to_vec()),
        headers: vec![("content-type".to_owned(), Some(b"application/cloudevents+json".to_vec()))],
    };
    producer.write(&record).await.context("the embedded broker did not take an event")
}

/// Waits until every sample event is folded and readers are answered; `false` where it is told to stop before.
async fn until_ready(
    store: Arc<dyn ReadStore>,
    readiness: Arc<dyn Readiness>,
    sent: i64,
    shutdown: &CancellationToken,
) -> bool {
    while !shutdown.is_cancelled() {
        let folded = match store.states().await {
            Ok(Some((snapshot, _))) => {
                snapshot.positions.iter().map(|(_, position)| position.checkpoint.next.0).sum()
            }
            Ok(None) | Err(_) => 0,
        };
        if folded >= sent && readiness.report().reasons.is_empty() {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

fn greet(address: SocketAddr, admin: SocketAddr, quiet: bool) -> anyhow::Result<()> {
    let base = format!("http://{address}");
    let (user, password) = USER;
    let view_one = |customer: &str| {
        format!(
            "curl -s {base}/api/v1/customers/{customer}/balance -u {user}:{password} \\\n  -H 'Request-Tracking-Id: \
             12345' -H 'ProfileId: {PROFILE}'"
        )
    };
    let view_two = |account: &str| {
        format!(
            "curl -s {base}/v1/my/accounts/{account}/balance -H 'Authorization: Bearer {TOKEN}' \\\n  -H 'API-key: \
             {API_KEY}' -H 'TPP-Name: Demo' \\\n  -H 'X-Request-ID: 55d4fffc-2634-44d4-9f2b-3aa94fbd51a4' -H \
             'User-Involved: true'"
        )
    };
    let mut out = std::io::stdout().lock();
    writeln!(out, "ready {base}")?;
    writeln!(out, "\nAn in-process broker and a store in memory, on loopback alone: nothing is kept.")?;
    writeln!(out, "\n# what a customer owes\n{}", view_one(CUSTOMER))?;
    writeln!(out, "\n# an account's balances\n{}", view_two(ACCOUNT))?;
    writeln!(out, "\n# one in several currencies\n{}", view_two(MULTI_CURRENCY))?;
    if !quiet {
        writeln!(out, "\n# a customer who is charged 0.10 every second\n{}", view_one(LIVE_CUSTOMER))?;
    }
    writeln!(
        out,
        "\n# readiness and metrics\ncurl -s http://{admin}/readyz\ncurl -s http://{admin}/metrics"
    )?;
    writeln!(out, "\nCtrl-C stops it.")?;
    Ok(out.flush()?)
}

/// One booked entry a second, until the stop.
async fn trickle(cluster: &Cluster, shutdown: &CancellationToken) -> anyhow::Result<()> {
    let producer = Producer::new(cluster)?;
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return Ok(()),
            _ = seconds.tick() => publish(cluster, &producer, &live_event()).await?,
        }
    }
}

fn live_event() -> String {
    let now = parts::now().0;
    json!({
        "specversion": "1.0",
        "id": Uuid::new_v4(),
        "source": "urn:demo:ledger",
        "type": "ledger.entry.booked.v1",
        "subject": LIVE_ACCOUNT,
        "time": now.to_string(),
        "data": {
            "entry_id": Uuid::new_v4(),
            "account_id": LIVE_ACCOUNT,
            "customer_id": LIVE_CUSTOMER,
            "amount": "0.10",
            "currency": "EUR",
            "credit_debit_indicator": "DBIT",
            "booking_date": now.strftime("%F").to_string(),
        },
    })
    .to_string()
}
