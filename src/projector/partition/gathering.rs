//! Cells that are gathered: nobody is answered from a partition before it has reached the log's end. Until then what is
//! folded stays for a while, so that a cell which changes again and again is written once.

use super::{COMMIT_WEIGHT_MAX, Pending, Place, Session};
use crate::{domain::Offset, store::StoreError};

/// How long cells are gathered, in heartbeats: so much is folded again after a crash.
const GATHERED_BEATS: u32 = 6;
/// Dead letters that are gathered: each holds its record.
const GATHERED_DEAD_LETTERS: usize = 64;

/// Since when cells are gathered.
pub(super) struct Gathering {
    beats: u32,
    /// Where the fold stood at the last beat.
    stood: Offset,
}

impl Gathering {
    pub(super) fn from(stood: Offset) -> Self {
        Gathering { beats: 0, stood }
    }

    /// What was gathered is on its way out.
    pub(super) fn begin(&mut self) {
        self.beats = 0;
    }

    /// What is gathered goes out with the next heartbeat but one.
    pub(super) fn goes_out_soon(&mut self) {
        self.beats = GATHERED_BEATS;
    }
}

impl Session<'_> {
    /// Whether what is folded stays until more of it has come.
    pub(in crate::projector) fn gathers(&self) -> bool {
        !self.sent.checkpoint.complete && self.halt.is_none() && self.paused.is_none()
    }

    /// Whether what is folded goes out behind this batch.
    pub(super) fn is_due(&self) -> bool {
        if !self.gathers() {
            return self.in_flight.is_empty() || self.is_half_full();
        }
        self.has_reached_an_end()
            || self.pending.dead_letters.len() >= GATHERED_DEAD_LETTERS
            // They go out with the last commit, all of them.
            || self.pending.quarantines.len() >= self.shared.settings.batch_cells_max
            // What is left after the others have gone is not acknowledged yet.
            || self.cache.weight() > self.part.bytes_max()
    }

    /// At a heartbeat: whether what is folded stays. Not where nothing was folded since the last one.
    pub(super) fn goes_on_gathering(&mut self) -> bool {
        let Gathering { beats, stood } = &mut self.gathering;
        let moves = std::mem::replace(stood, self.next) != self.next;
        *beats = beats.saturating_add(1);
        moves && *beats < GATHERED_BEATS && self.gathers() && !self.has_reached_an_end()
    }

    fn has_reached_an_end(&self) -> bool {
        self.ends.front().is_some_and(|(_, end)| *end <= self.next)
    }

    /// Gathered cells beyond what one commit takes go out before it, in commits that leave the offset where it is. A cell
    /// that is ahead of its position is what a script leaves that stopped half way: it is healed by folding again.
    pub(super) async fn write_ahead(&mut self, pending: &mut Pending) -> Result<(), StoreError> {
        if self.sent.checkpoint.complete || self.last_piece(&pending.cells) == 0 {
            return Ok(());
        }
        loop {
            let piece = match self.last_piece(&pending.cells) {
                0 => break,
                begins => pending.cells.split_off(begins),
            };
            self.make_room().await?;
            let to = self.sent.checkpoint.with_next_commit();
            let commit = self.commit_to(to, &piece);
            self.put_in_flight(commit, None).await;
        }
        self.make_room().await
    }

    /// Where the last cells begin that one commit takes; 0 where it takes all of them.
    fn last_piece(&self, cells: &[Place]) -> usize {
        let cells_max = self.cells_max();
        let (mut count, mut weight) = (0_usize, 0_usize);
        let exceeds = |place: &Place| {
            weight = weight.saturating_add(self.cache.weight_at(*place));
            count = count.saturating_add(1);
            count > cells_max || (count > 1 && weight > COMMIT_WEIGHT_MAX)
        };
        cells.iter().rposition(exceeds).map_or(0, |before| before.saturating_add(1))
    }
}
