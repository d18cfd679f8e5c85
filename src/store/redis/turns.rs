//! Turns of commits: how many Redis is given at the same time, of all partitions together; while readers ask, one.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use tokio::{
    sync::{Mutex, Semaphore},
    time::Instant,
};
use tokio_util::task::AbortOnDropHandle;

/// How often readers are looked for, and how often in a row nobody is there before that is believed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKS_ALONE: u32 = 5;
/// So long a commit waits for its turn, and then goes without one: readers come first, and what they read stays fresh.
const PATIENCE: Duration = Duration::from_millis(250);

/// How a write side shares Redis with readers.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Commits at the same time while nobody asks.
    pub commits_at_once: u32,
    /// Calls of readers a second from which on they are held to be there.
    pub calls_of_readers: u32,
    /// The cells from which on a commit goes out while they are.
    pub cells_beside_readers: usize,
}

/// The turns.
#[derive(Debug)]
pub(super) struct Turns {
    manners: Manners,
    free: Semaphore,
    /// Who waits for a turn, in order.
    queue: Arc<Mutex<()>>,
    beside_readers: AtomicBool,
}

impl Turns {
    pub(super) fn new(manners: Manners) -> Arc<Self> {
        let free = Semaphore::new(usize::try_from(manners.commits_at_once).unwrap_or(Semaphore::MAX_PERMITS));
        Arc::new(Turns { manners, free, queue: Arc::default(), beside_readers: AtomicBool::new(false) })
    }

    /// The most cells that are to be gathered for a commit now.
    pub(super) fn cells_max(&self) -> usize {
        if self.beside_readers.load(Ordering::Relaxed) {
            self.manners.cells_beside_readers
        } else {
            usize::MAX
        }
    }

    /// Waits for a turn and sends what a future sends when it is first polled: in the order in which these calls are first
    /// polled, whoever is given a turn first. A task of its own, for who waits for the reply may be busy with something
    /// else, and others wait for the turn. `None` where the runtime ends.
    pub(super) async fn take<T: Send + 'static>(
        self: &Arc<Self>,
        send: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        let mut place = Box::pin(Arc::clone(&self.queue).lock_owned());
        // This puts it into the queue.
        let queue = futures::poll!(place.as_mut());
        let (turns, begun) = (Arc::clone(self), Instant::now());
        let task = tokio::spawn(async move {
            let queue = match queue {
                Poll::Ready(queue) => queue,
                Poll::Pending => place.await,
            };
            let patience = PATIENCE.saturating_sub(begun.elapsed());
            let _turn = tokio::time::timeout(patience, turns.free.acquire()).await;
            let mut send = pin!(send);
            let first = futures::poll!(send.as_mut());
            drop(queue);
            match first {
                Poll::Ready(replied) => replied,
                Poll::Pending => send.await,
            }
        });
        AbortOnDropHandle::new(task).await.ok()
    }

    /// Takes all turns but one away while readers ask. `count` tells how often they have called since the server counts;
    /// where it says nothing, or counts anew, what was known before holds.
    pub(super) async fn give_way<C>(&self, count: impl Fn() -> C)
    where
        C: Future<Output = Option<u64>>,
    {
        let (mut taken, mut before, mut looks_alone) = (None, None, 0_u32);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = count().await.map(|calls| (Instant::now(), calls));
            let asked = before.zip(now).and_then(|(before, now)| self.is_asked(before, now));
            before = now;
            match asked {
                None => {}
                Some(true) => {
                    looks_alone = 0;
                    self.beside_readers.store(true, Ordering::Relaxed);
                    if taken.is_none() {
                        let all_but_one = self.manners.commits_at_once.saturating_sub(1);
                        taken = self.free.acquire_many(all_but_one).await.ok();
                    }
                }
                Some(false) => {
                    looks_alone = looks_alone.saturating_add(1);
                    if looks_alone >= LOOKS_ALONE {
                        self.beside_readers.store(false, Ordering::Relaxed);
                        taken = None;
                    }
                }
            }
        }
    }

    /// Whether readers asked between two counts; `None` where the server counts anew.
    fn is_asked(&self, before: (Instant, u64), now: (Instant, u64)) -> Option<bool> {
        let calls = now.1.checked_sub(before.1)?;
        let passed = now.0.duration_since(before.0);
        Some(
            u128::from(calls).saturating_mul(1_000)
                >= u128::from(self.manners.calls_of_readers).saturating_mul(passed.as_millis()),
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;

    const MANNERS: Manners = Manners { commits_at_once: 12, calls_of_readers: 80, cells_beside_readers: 50 };

    #[tokio::test(start_paused = true)]
    async fn turns_are_taken_while_readers_ask_and_given_back_half_a_second_after_they_have_gone() {
        let turns = Turns::new(MANNERS);
        let [calls, per_look] = [0, 0].map(|n| Arc::new(AtomicU64::new(n)));
        let answers = Arc::new(AtomicBool::new(true));
        let count = {
            let (calls, per_look, answers) =
                (Arc::clone(&calls), Arc::clone(&per_look), Arc::clone(&answers));
            move || {
                let calls = calls.fetch_add(per_look.load(Ordering::Relaxed), Ordering::Relaxed);
                std::future::ready(answers.load(Ordering::Relaxed).then_some(calls))
            }
        };
        let gives_way = Arc::clone(&turns);
        tokio::spawn(async move { gives_way.give_way(count).await });
        let after = async |looks: u32| {
            tokio::time::sleep(LOOK_EVERY * looks + LOOK_EVERY / 2).await;
            (turns.free.available_permits(), turns.cells_max())
        };
        let (alone, beside) = ((12, usize::MAX), (1, 50));
        per_look.store(7, Ordering::Relaxed);
        assert_eq!(after(20).await, alone, "a server samples");
        per_look.store(8, Ordering::Relaxed);
        assert_eq!(after(2).await, beside, "readers ask");
        per_look.store(0, Ordering::Relaxed);
        assert_eq!(after(3).await, beside, "a moment without readers is no absence");
        assert_eq!(after(4).await, alone, "nobody asks");
        answers.store(false, Ordering::Relaxed);
        assert_eq!(after(10).await, alone, "what was known holds");
        answers.store(true, Ordering::Relaxed);
        calls.store(0, Ordering::Relaxed);
        per_look.store(1_000, Ordering::Relaxed);
        assert_eq!(after(2).await, beside, "they are back");
        answers.store(false, Ordering::Relaxed);
        assert_eq!(after(10).await, beside, "what was known holds");
    }

    #[tokio::test]
    async fn commits_are_sent_in_the_order_in_which_they_were_begun_whatever_turns_become_free() {
        let turns = Turns::new(Manners { commits_at_once: 2, ..MANNERS });
        let held = [turns.free.acquire().await, turns.free.acquire().await];
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let send = |n: u32| {
            let order = Arc::clone(&order);
            turns.take(async move {
                order.lock().unwrap().push(n);
                tokio::task::yield_now().await;
                n
            })
        };
        let (mut first, mut second) = (pin!(send(1)), pin!(send(2)));
        assert!(futures::poll!(first.as_mut()).is_pending() && futures::poll!(second.as_mut()).is_pending());
        assert!(order.lock().unwrap().is_empty(), "there are no turns");
        drop(held);
        // The first one's owner is busy: nobody waits for that.
        assert_eq!(second.await, Some(2));
        assert_eq!(first.await, Some(1));
        assert_eq!(*order.lock().unwrap(), [1, 2]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_that_has_waited_long_enough_goes_without_a_turn() {
        let turns = Turns::new(Manners { commits_at_once: 1, ..MANNERS });
        let _held = turns.free.acquire().await;
        let begun = Instant::now();
        let sent = [1, 2].map(|n| turns.take(std::future::ready(n)));
        assert_eq!(futures::future::join_all(sent).await, [Some(1), Some(2)]);
        let waited = begun.elapsed();
        assert!(waited >= PATIENCE && waited < PATIENCE * 2, "{waited:?}: not one after the other");
    }
}
