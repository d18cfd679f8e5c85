//! Both sides in one process.

use std::{path::PathBuf, sync::Arc};

use super::parts;
use crate::{
    api::{Clock, Server, Settings},
    config::Config,
    projector::Standing,
    source::Cluster,
    store::{ReadStore, redis::RedisStore},
    telemetry,
};

/// Runs until SIGTERM or SIGINT, or until only a person can help. SIGHUP has `path` read again.
pub async fn run(config: Config, path: Option<PathBuf>) -> anyhow::Result<()> {
    let shutdown = parts::shutdown()?;
    parts::raise_descriptors(config.api.connections_max);
    // Two connections: a reader is not to wait behind a writer's commits.
    let (writes, reads) = (parts::write_store(&config.redis)?, Arc::new(RedisStore::new(&config.redis)?));
    let views: Arc<dyn ReadStore> = reads.clone();
    let mut registry = telemetry::registry();
    let standing = Arc::new(Standing::new(&mut registry));
    let settings = Settings::of(&config)?;
    let clock = Clock::system(settings.zone.clone());
    let server = Server::bind(settings, clock, views, reads, &mut registry).await?;
    parts::reload_on_hangup(config.clone(), path, Some(server.reloader()))?;
    let readiness = vec![parts::write_side(&standing), server.readiness()];
    let admin = parts::admin(config.admin.listen, registry, readiness).await?;
    parts::tell_listening(server.local_addr(), admin.local_addr());
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
