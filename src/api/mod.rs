//! The read side: both views over HTTP, and the admin listener.
//!
//! A read in three hops: [`router`] picks the view by path, the view ([`customer_balance`],
//! [`account_balance`]) checks the request and asks the store once, and [`freshness`] decides whether the
//! answer may be believed. Nothing here writes but counts of limited reads, and nothing here knows of Kafka but the
//! topics' names.
//!
//! ```no_run
//! # use std::sync::Arc;
//! # use balance_projector::{api::{Admin, Clock, Server, Settings}, config::Config, store::memory::MemoryStore, telemetry};
//! # use tokio_util::sync::CancellationToken;
//! # async fn serve(config: Config, shutdown: CancellationToken) -> anyhow::Result<()> {
//! let mut registry = telemetry::registry();
//! let settings = Settings::of(&config)?;
//! let clock = Clock::system(settings.zone.clone());
//! let server = Server::bind(settings, clock, Arc::new(MemoryStore::new()), Arc::new(MemoryStore::new()), &mut registry).await?;
//! let ready = vec![server.readiness()];
//! let admin = Admin::bind(config.admin.listen, Arc::new(registry), ready).await?;
//! tokio::join!(server.run(shutdown.clone()), admin.run(shutdown));
//! # Ok(())
//! # }
//! ```

mod access;
mod account_balance;
pub mod admin;
mod auth;
mod clock;
mod connections;
mod customer_balance;
mod etag;
mod freshness;
mod headers;
mod jwks;
mod jwt;
mod limits;
mod metrics;
mod min_position;
mod openapi;
mod refusal;
mod reply;
mod router;
mod server;
mod settings;
mod unavailable;
mod workers;

pub use admin::{Admin, Readiness, Report};
pub use clock::Clock;
pub use server::{ReloadError, Reloader, Server, StartError};
pub use settings::{Settings, SettingsError};
