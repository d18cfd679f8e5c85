//! Both sides in one process.

use std::sync::Arc;

use super::parts;
use crate::{
    api::{Clock, Server, Settings},
    config::Config,
    projector::Standing,
    source::Cluster,
    store::redis::RedisStore,
    telemetry,
};

/// Runs until SIGTERM or SIGINT, or until only a person can help.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = parts::shutdown()?;
    // Two connections: a reader is not to wait behind a writer's commits.
    let (writes, reads) =
        (Arc::new(RedisStore::new(&config.redis)?), Arc::new(RedisStore::new(&config.redis)?));
    let mut registry = telemetry::registry();
    let standing = Arc::new(Standing::new(&mut registry));
    let settings = Settings::of(&config)?;
    let clock = Clock::system(settings.zone.clone());
    let server = Server::bind(settings, clock, Arc::clone(&reads) as _, reads, &mut registry).await?;
    let readiness = vec![parts::write_side(&standing), server.readiness()];
    let admin = parts::admin(config.admin.listen, registry, readiness).await?;
    let cluster = Cluster::new(config.kafka.clone());
    parts::until_all(
        shutdown.clone(),
        [
            parts::spawn(admin.run(shutdown.clone())),
            parts::spawn(server.run(shutdown.clone())),
            tokio::spawn(parts::project(config, cluster, writes, standing, shutdown)),
        ],
    )
    .await
}
