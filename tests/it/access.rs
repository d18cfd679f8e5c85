//! Who may read and write, and how they are connected: what takes a real Redis or a real Kafka to show.

mod counts;
mod failover;
mod hangup;
mod kafka;
mod redis;
