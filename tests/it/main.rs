//! The promises of the program, one module each, held by the whole binary on real brokers and stores.

mod ops;
