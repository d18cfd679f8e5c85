//! The promises of the program, one module each, held by the whole binary on a real Kafka and a real Redis.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::missing_panics_doc,
    clippy::panic,
    clippy::unwrap_used,
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
