//! The read side over real sockets, against the store in memory: every status, header and body.
//!
//! [`world`] folds events into the store as a projector does, and asks over a plain socket, so that what a
//! client library would hide or refuse (repeated headers, odd bytes) can be sent and seen.

mod account;
mod connections;
mod customer;
mod honesty;
mod world;
