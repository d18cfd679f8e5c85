//! What a generation pins: a process that differs refuses to write it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The version of the fold: raised whenever the same log would give other cells.
pub const FOLD_VERSION: u32 = 1;

/// Everything besides the log on which a cell depends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// [`FOLD_VERSION`] of the code that gave birth to the generation.
    pub fold_version: u32,
    /// The zone of days, as an IANA name.
    pub zone: String,
    /// How many event ids a subject remembers (1 to 1024).
    pub event_window: usize,
    /// The longest value, in bytes.
    pub value_bytes_max: usize,
    /// The deepest nesting of a value.
    pub depth_max: usize,
    /// The types of event that are passed over: of such an event only the number counts, where it has one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types_ignored: Vec<String>,
    /// The key of the fingerprints of ids and facts.
    pub fingerprint_key: FingerprintKey,
}

/// The key of the fingerprints: random at birth, so that nobody can make two ids collide on purpose.
#[derive(Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FingerprintKey(pub [u8; 16]);

impl fmt::Debug for FingerprintKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FingerprintKey(…)")
    }
}
