//! The store in memory: the oracle of the tests, and the demo's.
