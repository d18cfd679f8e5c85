//! The promises of the program, one module each, held by the whole binary on a real Kafka and a real Redis.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking"
)]

mod api;
mod commit_rule;
mod fold;
mod fold_laws;
mod kafka_loss;
mod ops;
mod partitioners;
mod poison;
mod stack;
mod store;
mod support;
mod transactions;
mod wire;
