//! Turns of commits: how many Redis is given at the same time, of all partitions together; while readers ask, one.

use std::{
    future::Future,
    pin::pin,
    sync::atomic::{AtomicBool, Ordering},
    task::Poll,
    time::Duration,
};

use tokio::sync::{Mutex, Semaphore};

/// How often readers are looked for, and how often in a row nobody is there before that is believed.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKS_A_SECOND: u64 = 10;
const LOOKS_ALONE: u32 = 5;

/// How a write side shares Redis with readers.
#[derive(Debug, Clone, Copy)]
pub struct Manners {
    /// Commits at the same time while nobody asks.
    pub commits_at_once: u32,
    /// Calls a second from which on readers are held to be there; each process that serves makes four by itself.
    pub calls_of_readers: u64,
    /// The most cells in a commit while they are.
    pub cells_beside_readers: usize,
}

/// The turns.
#[derive(Debug)]
pub(super) struct Turns {
    manners: Manners,
    free: Semaphore,
    /// Who waits for a turn, in order.
    queue: Mutex<()>,
    beside_readers: AtomicBool,
}

impl Turns {
    pub(super) fn new(manners: Manners) -> Self {
        let free = Semaphore::new(usize::try_from(manners.commits_at_once).unwrap_or(Semaphore::MAX_PERMITS));
        Turns { manners, free, queue: Mutex::default(), beside_readers: AtomicBool::new(false) }
    }

    /// The most cells that a commit should have now.
    pub(super) fn cells_max(&self) -> usize {
        if self.beside_readers.load(Ordering::Relaxed) {
            self.manners.cells_beside_readers
        } else {
            usize::MAX
        }
    }

    /// Waits for a turn and sends what a future sends when it is first polled: in the order of the calls, whoever is given
    /// a turn first.
    pub(super) async fn take<T>(&self, send: impl Future<Output = T>) -> T {
        let mut send = pin!(send);
        let queue = self.queue.lock().await;
        // It is never closed.
        let _turn = self.free.acquire().await.ok();
        let first = futures::poll!(send.as_mut());
        drop(queue);
        match first {
            Poll::Ready(replied) => replied,
            Poll::Pending => send.await,
        }
    }

    /// Takes turns away while readers ask. `count` tells how often they have called since the server counts; where it says
    /// nothing, or counts anew, what was known before holds.
    pub(super) async fn give_way<C>(&self, count: impl Fn() -> C)
    where
        C: Future<Output = Option<u64>>,
    {
        let (mut taken, mut calls, mut looks_alone) = (None, None, 0_u32);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            let now = count().await;
            let since: Option<u64> =
                calls.zip(now).and_then(|(before, now): (u64, u64)| now.checked_sub(before));
            calls = now;
            let Some(since) = since else { continue };
            if since.saturating_mul(LOOKS_A_SECOND) >= self.manners.calls_of_readers {
                looks_alone = 0;
                self.beside_readers.store(true, Ordering::Relaxed);
                if taken.is_none() {
                    taken = self.free.acquire_many(self.manners.commits_at_once.saturating_sub(1)).await.ok();
                }
            } else {
                looks_alone = looks_alone.saturating_add(1);
                if looks_alone >= LOOKS_ALONE {
                    self.beside_readers.store(false, Ordering::Relaxed);
                    taken = None;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64},
    };

    use super::*;

    const MANNERS: Manners = Manners { commits_at_once: 12, calls_of_readers: 80, cells_beside_readers: 50 };

    #[tokio::test(start_paused = true)]
    async fn turns_are_taken_while_readers_ask_and_given_back_half_a_second_after_they_have_gone() {
        let turns = Arc::new(Turns::new(MANNERS));
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
        let order = std::sync::Mutex::new(Vec::new());
        let send = |n: u32| {
            let order = &order;
            turns.take(async move {
                order.lock().unwrap().push(n);
                tokio::task::yield_now().await;
            })
        };
        let (mut first, mut second) = (pin!(send(1)), pin!(send(2)));
        assert!(futures::poll!(first.as_mut()).is_pending() && futures::poll!(second.as_mut()).is_pending());
        drop(held);
        // Both turns are free, and the second asks first.
        assert!(futures::poll!(second.as_mut()).is_pending());
        assert!(order.lock().unwrap().is_empty(), "it waits for the first");
        futures::join!(second, first, send(3));
        assert_eq!(*order.lock().unwrap(), [1, 2, 3]);
    }
}
