//! Batches on their way from the polling thread to their owners, bounded by bytes.
//!
//! A broker delivers a stretch of one partition after the other. What one owner cannot take at once has to wait
//! somewhere, or the thread waits and all other owners with it: so the bound is one of memory, over all partitions,
//! and each has an equal share of it.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use tokio::sync::mpsc;

use super::batch::Batch;

/// Memory for what waits, over all queues.
#[derive(Debug)]
pub struct Room {
    bytes_max: usize,
    queues: AtomicUsize,
}

impl Room {
    /// So many bytes.
    pub fn new(bytes_max: usize) -> Arc<Self> {
        Arc::new(Room { bytes_max, queues: AtomicUsize::new(0) })
    }

    /// The share of each queue.
    fn share(&self) -> usize {
        self.bytes_max.checked_div(self.queues.load(Ordering::Relaxed)).unwrap_or(self.bytes_max)
    }
}

/// The polling thread's end.
#[derive(Debug)]
pub struct Sender {
    batches: mpsc::UnboundedSender<Batch>,
    waiting: Arc<AtomicUsize>,
    room: Arc<Room>,
}

/// The owner's end.
#[derive(Debug)]
pub struct Receiver {
    batches: mpsc::UnboundedReceiver<Batch>,
    waiting: Arc<AtomicUsize>,
}

/// A queue with a share of the room, until its sender is dropped.
pub fn queue(room: &Arc<Room>) -> (Sender, Receiver) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicUsize::new(0));
    room.queues.fetch_add(1, Ordering::Relaxed);
    let sender = Sender { batches: sender, waiting: Arc::clone(&waiting), room: Arc::clone(room) };
    (sender, Receiver { batches: receiver, waiting })
}

impl Sender {
    /// Whether the owner has taken everything, or is gone.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) == 0 || self.batches.is_closed()
    }

    /// Puts a batch behind the others, or gives it back where the share is used up. An empty queue takes any. Where
    /// the owner is gone nobody needs it, and nobody is to wait for it.
    pub fn try_send(&self, batch: Batch) -> Result<(), Batch> {
        if self.batches.is_closed() {
            return Ok(());
        }
        let (waiting, weight) = (self.waiting.load(Ordering::Relaxed), weight(&batch));
        if waiting > 0 && waiting.saturating_add(weight) > self.room.share() {
            return Err(batch);
        }
        self.waiting.fetch_add(weight, Ordering::Relaxed);
        drop(self.batches.send(batch));
        Ok(())
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.room.queues.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Receiver {
    /// The next batch; `None` once the sender is dropped and everything is taken.
    pub async fn recv(&mut self) -> Option<Batch> {
        let batch = self.batches.recv().await?;
        self.waiting.fetch_sub(weight(&batch), Ordering::Relaxed);
        Some(batch)
    }
}

/// About what a batch takes; never nothing.
fn weight(batch: &Batch) -> usize {
    const EACH: usize = 128;
    batch.bytes().saturating_add(batch.len().saturating_add(1).saturating_mul(EACH))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(claim: u64) -> Batch {
        Batch::new(claim)
    }

    #[tokio::test]
    async fn a_queue_takes_its_share_and_any_batch_where_it_is_empty() {
        let room = Room::new(2 * weight(&batch(0)));
        let (one, mut of_one) = queue(&room);
        assert!(one.is_empty());
        assert!(one.try_send(batch(1)).is_ok());
        assert!(one.try_send(batch(2)).is_ok());
        assert_eq!(one.try_send(batch(3)).unwrap_err().claim, 3, "given back");
        assert_eq!(of_one.recv().await.unwrap().claim, 1);
        assert!(one.try_send(batch(3)).is_ok());

        let (two, mut of_two) = queue(&room);
        assert!(two.try_send(batch(4)).is_ok());
        assert!(two.try_send(batch(5)).is_err(), "half of the room is one batch");
        assert_eq!(of_two.recv().await.unwrap().claim, 4);
        assert!(two.is_empty());
        drop(two);
        assert!(of_two.recv().await.is_none());

        assert_eq!(of_one.recv().await.unwrap().claim, 2);
        assert!(one.try_send(batch(6)).is_ok(), "the whole room again");
    }

    #[tokio::test]
    async fn a_queue_whose_owner_is_gone_takes_everything() {
        let (sender, receiver) = queue(&Room::new(1));
        assert!(sender.try_send(batch(1)).is_ok());
        assert!(sender.try_send(batch(2)).is_err(), "the share is used up");
        drop(receiver);
        assert!(sender.try_send(batch(2)).is_ok());
        assert!(sender.is_empty());
    }
}
