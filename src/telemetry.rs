//! Logs, and every metric's name.
