//! Projects payment and ledger events from Kafka into exact balances in Redis, and serves them over HTTP.
//!
//! The map of the code, in the order in which a record travels:
//!
//! | module | what it does |
//! |---|---|
//! | [`source`] | Kafka: polling, assignment, watermarks, the producers; the embedded broker |
//! | [`wire`] | bytes → event, every mode and version; or a dead letter |
//! | [`domain`] | pure: money, events, cells, and the fold of an event into a cell |
//! | [`decisions`] | the topic that outlives a lost store: births, homes, what operators decided |
//! | [`projector`] | the loop: decode, fold, commit; dead letters, quarantine, halts |
//! | [`store`] | one atomic commit, checked loads, reads in one round trip; Redis, and memory |
//! | [`api`] | the two views, authentication, errors, freshness, health |
//! | [`compare`] | exact comparison of generations, and of a generation with the log |
//! | [`snapshot`] | a whole generation in a file, and back |
//! | [`ops`] | the operator's commands, one file each |
//! | [`config`] | every setting, validated once |
//! | [`fetch`] | one exchange with one address: an issuer's keys, a batch of spans |
//! | [`tls`] | certificates, keys and passwords from files |
//! | [`telemetry`] | logs, and every metric's name |
//! | [`traces`] | spans from a record to its commit and from a request to the store, over OTLP |
//!
//! `api` knows nothing of `source` and `projector`: they meet in the store alone.

pub mod api;
pub mod compare;
pub mod config;
pub mod decisions;
pub mod domain;
mod fetch;
pub mod ops;
pub mod projector;
pub mod snapshot;
pub mod source;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod traces;
pub mod wire;
