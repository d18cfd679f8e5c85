//! Exact comparison: of two generations, and of a generation with the log, while events keep flowing.
//!
//! Both go the same way. One call reads a subject on the left together with the positions that it belongs to. What
//! stands on the right is at an earlier position, or at the same one: it is folded forward in memory, by the records
//! of that key up to the left's positions ([`tail`]), and only then compared ([`engine`]). So nothing has to stand
//! still on the left.
//!
//! | | left | right |
//! |---|---|---|
//! | comparison of generations | the live generation | the candidate, held at its checkpoints |
//! | audit | the projection | the log, folded in memory up to a cut ([`refold`]) |
//!
//! What only serves to find cells and keys on hold is held against them, in each generation by itself ([`derived`]).

pub mod audit;
pub mod derived;
pub mod difference;
pub mod engine;
pub mod refold;
pub mod subject;
pub mod tail;
