//! The read side: answers both views until it is told to stop.

use std::{path::PathBuf, sync::Arc};

use super::parts;
use crate::{
    api::{Clock, Server, Settings},
    config::Config,
    store::{ReadStore, redis::RedisStore},
    telemetry,
};

/// Runs until SIGTERM or SIGINT, or until only a person can help. SIGHUP has `path` read again.
pub async fn run(config: Config, path: Option<PathBuf>) -> anyhow::Result<()> {
    let shutdown = parts::shutdown()?;
    parts::raise_descriptors(config.api.connections_max);
    let store = Arc::new(RedisStore::new(&config.redis)?);
    let reads: Arc<dyn ReadStore> = store.clone();
    let mut registry = telemetry::registry();
    let settings = Settings::of(&config)?;
    let clock = Clock::system(settings.zone.clone());
    let server = Server::bind(settings, clock, reads, store, &mut registry).await?;
    parts::reload_on_hangup(config.clone(), path, Some(server.reloader()))?;
    let admin = parts::admin(config.admin.listen, registry, vec![server.readiness()]).await?;
    parts::tell_listening(server.local_addr(), admin.local_addr());
    parts::until_all(
        shutdown.clone(),
        [parts::spawn(admin.run(shutdown.clone())), parts::spawn(server.run(shutdown))],
    )
    .await
}
