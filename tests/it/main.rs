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
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::disallowed_types,
    clippy::duration_suboptimal_units,
    clippy::float_arithmetic,
    clippy::format_push_string,
    clippy::many_single_char_names,
    clippy::redundant_closure_for_method_calls,
    clippy::similar_names,
    clippy::single_match_else,
    clippy::zombie_processes,
    clippy::too_many_lines,
    clippy::type_complexity,
    clippy::unnecessary_wraps,
    reason = "tables are long, seeds and chances are numbers; money in tests is text"
)]

mod access;
mod api;
mod audit;
mod commit_rule;
mod compared;
mod crash;
mod decisions;
mod deployment;
mod drift;
mod explain;
mod fold;
mod fold_laws;
mod kafka_loss;
mod observability;
mod ops;
mod partitioners;
mod poison;
mod rebalance;
mod rebuild;
mod redis_loss;
mod runbook;
mod snapshot;
mod stack;
mod store;
mod support;
mod tidy;
mod traces;
mod transactions;
mod wire;
