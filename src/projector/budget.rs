//! How much memory decoded cells may take, over all partitions of a process.

use std::sync::atomic::{AtomicUsize, Ordering};

/// What cells may weigh together.
#[derive(Debug)]
pub(super) struct Budget {
    bytes_max: usize,
    partitions: AtomicUsize,
    held: AtomicUsize,
}

impl Budget {
    pub(super) fn new(bytes_max: usize) -> Self {
        Budget { bytes_max, partitions: AtomicUsize::new(1), held: AtomicUsize::new(0) }
    }

    /// So many partitions are owned.
    pub(super) fn divide(&self, partitions: usize) {
        self.partitions.store(partitions.max(1), Ordering::Relaxed);
    }

    /// A partition's part, which is empty yet.
    pub(super) fn part(&self) -> Part<'_> {
        Part { budget: self, weight: 0 }
    }
}

/// What one partition holds of it, and gives back when it ends.
pub(super) struct Part<'b> {
    budget: &'b Budget,
    weight: usize,
}

impl Part<'_> {
    /// The partition's cells weigh so much by now.
    pub(super) fn weighs(&mut self, bytes: usize) {
        let held = &self.budget.held;
        if bytes > self.weight {
            held.fetch_add(bytes.saturating_sub(self.weight), Ordering::Relaxed);
        } else {
            held.fetch_sub(self.weight.saturating_sub(bytes), Ordering::Relaxed);
        }
        self.weight = bytes;
    }

    /// What they may weigh: what the others leave, an equal share at least.
    pub(super) fn bytes_max(&self) -> usize {
        let Budget { bytes_max, partitions, held } = self.budget;
        let left = self.weight.saturating_add(*bytes_max).saturating_sub(held.load(Ordering::Relaxed));
        left.max(bytes_max.checked_div(partitions.load(Ordering::Relaxed)).unwrap_or_default())
    }
}

impl Drop for Part<'_> {
    fn drop(&mut self) {
        self.weighs(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_may_take_what_the_others_leave_and_its_share_at_least() {
        let budget = Budget::new(1_200);
        budget.divide(3);
        let (mut one, mut two) = (budget.part(), budget.part());
        assert_eq!(one.bytes_max(), 1_200);
        one.weighs(1_000);
        assert_eq!(
            (one.bytes_max(), two.bytes_max()),
            (1_200, 400),
            "the other's share is its own all the same"
        );
        two.weighs(400);
        assert_eq!((one.bytes_max(), two.bytes_max()), (800, 400), "who has more than a share gives way");
        one.weighs(800);
        assert_eq!((one.bytes_max(), two.bytes_max()), (800, 400));
        drop(one);
        assert_eq!(two.bytes_max(), 1_200);
    }
}
