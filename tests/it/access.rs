//! Who may read and write, and how they are connected: what takes a real process, Redis or Kafka to show.

mod counts;
mod descriptors;
mod failover;
mod hangup;
mod kafka;
mod redis;
