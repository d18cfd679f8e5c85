//! The read side: answers both views until it is told to stop.

use std::sync::Arc;

use super::parts;
use crate::{
    api::{Clock, Server, Settings},
    config::Config,
    store::redis::RedisStore,
    telemetry,
};

/// Runs until SIGTERM or SIGINT, or until only a person can help.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = parts::shutdown()?;
    let store = Arc::new(RedisStore::new(&config.redis)?);
    let mut registry = telemetry::registry();
    let settings = Settings::of(&config)?;
    let clock = Clock::system(settings.zone.clone());
    let server = Server::bind(settings, clock, Arc::clone(&store) as _, store, &mut registry).await?;
    let admin = parts::admin(config.admin.listen, registry, vec![server.readiness()]).await?;
    parts::until_all(
        shutdown.clone(),
        [parts::spawn(admin.run(shutdown.clone())), parts::spawn(server.run(shutdown))],
    )
    .await
}
