//! The read side: both views over HTTP, and the admin listener.
//!
//! A read in three hops: [`router`] picks the view by path, the view ([`customer_balance`],
//! [`account_balance`]) checks the request and asks the store once, and [`freshness`] decides whether the
//! answer may be believed. Nothing here writes, and nothing here knows of Kafka but the topics' names.

mod account_balance;
pub mod admin;
mod auth;
mod clock;
mod connections;
mod customer_balance;
mod etag;
mod freshness;
mod headers;
mod metrics;
mod min_position;
mod reply;
mod router;
mod server;
mod settings;
mod unavailable;

pub use admin::{Readiness, Report};
pub use clock::Clock;
pub use server::{Server, StartError};
pub use settings::{Settings, SettingsError};
