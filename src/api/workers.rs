//! Threads that answer. A connection stays with one of them, and so do its requests: answering wakes no other thread.

use std::{
    io,
    num::NonZero,
    sync::{Arc, mpsc},
    thread,
};

use tokio::runtime::{Builder, Handle};
use tokio_util::sync::{CancellationToken, DropGuard};

/// What the threads are called.
pub const THREAD: &str = "answers";

/// Threads with an event loop each; they end with the last clone.
#[derive(Clone)]
pub struct Workers(Arc<Threads>);

struct Threads {
    workers: Vec<Worker>,
    _stop: Option<DropGuard>,
}

struct Worker {
    runtime: Handle,
    /// Held once more by each connection.
    connections: Arc<()>,
}

/// A place with a worker, given back when it is dropped.
pub struct Place {
    /// Where the connection's tasks run.
    pub runtime: Handle,
    _connection: Arc<()>,
}

impl Workers {
    /// As many as there are processors.
    pub fn start() -> io::Result<Self> {
        let stop = CancellationToken::new();
        let guard = stop.clone().drop_guard();
        let mut workers = Vec::new();
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            let stop = stop.clone();
            // Made and dropped on its own thread: within another runtime it may not be dropped.
            let (tell, told) = mpsc::channel();
            thread::Builder::new().name(THREAD.to_owned()).spawn(move || {
                let runtime = Builder::new_current_thread().enable_all().build();
                // Whoever starts it waits for this.
                drop(
                    tell.send(
                        runtime.as_ref().map(|runtime| runtime.handle().clone()).map_err(io::Error::kind),
                    ),
                );
                if let Ok(runtime) = runtime {
                    runtime.block_on(stop.cancelled());
                }
            })?;
            let runtime = told.recv().map_err(io::Error::other)??;
            workers.push(Worker::of(runtime));
        }
        Ok(Workers(Arc::new(Threads { workers, _stop: Some(guard) })))
    }

    /// No thread more: what is answered is answered on the runtime of the caller.
    pub fn here() -> Self {
        Workers(Arc::new(Threads { workers: vec![Worker::of(Handle::current())], _stop: None }))
    }

    /// A place where the fewest are taken.
    pub fn place(&self) -> Place {
        let least = self.0.workers.iter().min_by_key(|worker| Arc::strong_count(&worker.connections));
        // There is one at least.
        let (runtime, connection) = least.map_or_else(
            || (Handle::current(), Arc::default()),
            |worker| (worker.runtime.clone(), Arc::clone(&worker.connections)),
        );
        Place { runtime, _connection: connection }
    }
}

impl Worker {
    fn of(runtime: Handle) -> Self {
        Worker { runtime, connections: Arc::default() }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashMap, time::Duration};

    use super::*;

    #[tokio::test]
    async fn places_are_spread_evenly_and_given_back() {
        let workers = Workers::start().unwrap();
        let threads = workers.0.workers.len();
        let taken = |places: &[Place]| {
            let mut by_runtime = HashMap::new();
            for place in places {
                let count: &mut usize = by_runtime.entry(place.runtime.id()).or_default();
                *count = count.saturating_add(1);
            }
            by_runtime
        };
        let mut places: Vec<Place> = (0..threads * 3).map(|_| workers.place()).collect();
        assert_eq!(taken(&places).into_values().collect::<Vec<_>>(), vec![3; threads]);
        let busy = places[0].runtime.id();
        places.retain(|place| place.runtime.id() == busy);
        places.extend((0..(threads - 1) * 3).map(|_| workers.place()));
        assert_eq!(taken(&places).into_values().collect::<Vec<_>>(), vec![3; threads]);
    }

    #[tokio::test]
    async fn a_task_runs_on_the_thread_of_its_place() {
        let name = || thread::current().name().map(str::to_owned);
        let there = Workers::start().unwrap().place();
        let here = Workers::here().place();
        let own = name();
        assert_eq!(here.runtime.spawn(async move { name() }).await.unwrap(), own);
        let workers = Workers::start().unwrap();
        let named = workers.place().runtime.spawn(async move { name() }).await.unwrap();
        assert_eq!(named.as_deref(), Some(THREAD));
        // The first workers are dropped: their threads end.
        let end = async { while there.runtime.spawn(async {}).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(10), end).await.unwrap();
    }
}
