//! The write side: folds events into balances.

use std::sync::Arc;

use super::parts;
use crate::{config::Config, projector::Standing, source::Cluster, telemetry};

/// Runs until SIGTERM or SIGINT, or until only a person can help.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let shutdown = parts::shutdown()?;
    parts::reload_on_hangup(config.clone(), None, None)?;
    let store = parts::write_store(&config.redis)?;
    let mut registry = telemetry::registry();
    let standing = Arc::new(Standing::new(&mut registry));
    let admin = parts::admin(config.admin.listen, registry, vec![parts::write_side(&standing)]).await?;
    let cluster = Cluster::new(config.kafka.clone());
    parts::until_all(
        shutdown.clone(),
        [
            parts::spawn(admin.run(shutdown.clone())),
            tokio::spawn(parts::project(config, cluster, store, standing, shutdown)),
        ],
    )
    .await
}
