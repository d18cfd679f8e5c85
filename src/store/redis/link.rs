//! A connection to Redis that makes itself anew, and what the server's errors mean.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, Pipeline, RedisError, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
use tokio::{sync::Mutex, time::Instant};

use super::{
    Code, info_field,
    target::{Target, Undialled},
};
use crate::{config, store::StoreError};

const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// A caller waits this long for the next dial; where it is further off, the call fails at once.
const WAIT_MAX: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);

/// One multiplexed connection for many callers.
///
/// It is dropped after every error that leaves the effect unknown, and made anew by the next caller, not
/// more often than the backoff allows. Scripts are loaded whenever it is made: so a call never has to load
/// one itself, which would let it overtake, or be overtaken by, the calls in flight around it.
pub(super) struct Link {
    target: Target,
    config: AsyncConnectionConfig,
    scripts: Vec<Code>,
    live: ArcSwapOption<Live>,
    dialled: AtomicU64,
    /// The one whose server it keeps to.
    followed: Option<Arc<Link>>,
    dial: Mutex<Dial>,
}

struct Live {
    connection: MultiplexedConnection,
    number: u64,
    /// The server, as long as it runs.
    run: String,
    /// The number of the followed one.
    after: Option<u64>,
}

struct Dial {
    backoff: Duration,
    not_before: Option<Instant>,
}

impl Link {
    /// A link that connects when it is first used. Fails for a URL or files that cannot be read.
    pub(super) fn new(
        settings: &config::Redis,
        timeout: Duration,
        scripts: Vec<Code>,
    ) -> Result<Self, StoreError> {
        let target = Target::new(settings)?;
        // Files that cannot be read stop the start; later they are read with each connection.
        target.client(None).map_err(|error| match error {
            Undialled::Settings(reason) => StoreError::Corrupt { reason },
            Undialled::Redis(error) => remedy(&error).0,
        })?;
        Ok(Link {
            target,
            config: AsyncConnectionConfig::new()
                .set_connection_timeout(Some(timeout))
                .set_response_timeout(Some(timeout))
                .set_pipeline_buffer_size(256),
            scripts,
            live: ArcSwapOption::empty(),
            dialled: AtomicU64::new(0),
            followed: None,
            dial: Mutex::new(Dial { backoff: BACKOFF_MIN, not_before: None }),
        })
    }

    /// Another connection to the same server, which is made anew whenever the first one is: what is examined through one
    /// is examined for both, and nobody is with a server that the first one is not with.
    pub(super) fn following(self: &Arc<Self>) -> Self {
        Link {
            target: self.target.clone(),
            config: self.config.clone(),
            scripts: self.scripts.clone(),
            live: ArcSwapOption::empty(),
            dialled: AtomicU64::new(0),
            followed: Some(Arc::clone(self)),
            dial: Mutex::new(Dial { backoff: BACKOFF_MIN, not_before: None }),
        }
    }

    /// Sends one command.
    pub(super) async fn call(&self, command: &Cmd) -> Result<Value, StoreError> {
        let live = self.live().await?;
        let mut connection = live.connection.clone();
        let reply = connection.req_packed_command(command).await;
        self.judge(&live, reply.and_then(Value::extract_error))
    }

    /// Sends several commands in one round trip; the first error counts for all.
    pub(super) async fn call_all(&self, commands: &Pipeline) -> Result<Vec<Value>, StoreError> {
        let live = self.live().await?;
        let mut connection = live.connection.clone();
        let reply = connection.req_packed_commands(commands, 0, commands.len()).await;
        let ended = reply.as_ref().is_ok_and(|values| match values.last() {
            Some(Value::ServerError(error)) => error.code() == "EXECABORT",
            // One of its commands may have failed: that is within.
            Some(_) | None => true,
        });
        let reply = reply.and_then(|values| values.into_iter().map(Value::extract_error).collect());
        if reply.is_err() && !ended {
            // A transaction that was begun and not ended would take in whatever comes next.
            self.drop_if(live.number);
        }
        self.judge(&live, reply)
    }

    fn judge<T>(&self, live: &Live, reply: Result<T, RedisError>) -> Result<T, StoreError> {
        reply.map_err(|error| {
            let (remedy, keep) = remedy(&error);
            if !keep {
                self.drop_if(live.number);
            }
            remedy
        })
    }

    fn drop_if(&self, number: u64) {
        let current = self.live.load();
        if current.as_ref().is_some_and(|live| live.number == number) {
            // A newer one that slips in between is dropped too, and made anew: that costs a dial, no more.
            self.live.store(None);
        }
    }

    async fn live(&self) -> Result<Arc<Live>, StoreError> {
        let Some(followed) = &self.followed else { return self.own(None).await };
        let first = followed.own(None).await?;
        let live = self.own(Some(first.number)).await?;
        if live.run != first.run {
            // What names the server has named another one since: whoever is right, both ask again.
            followed.drop_if(first.number);
            self.drop_if(live.number);
            let reason = "Redis was reached at two servers at the same time, as in a fail-over".to_owned();
            return Err(StoreError::Transient { reason });
        }
        Ok(live)
    }

    async fn own(&self, after: Option<u64>) -> Result<Arc<Live>, StoreError> {
        let current = || self.live.load_full().filter(|live| live.after == after);
        if let Some(live) = current() {
            return Ok(live);
        }
        let mut dial = self.dial.lock().await;
        if let Some(live) = current() {
            return Ok(live);
        }
        if let Some(wait) = dial.not_before.and_then(|instant| instant.checked_duration_since(Instant::now()))
        {
            // Callers queue for the dial one by one: a long wait of each would add up.
            if wait > WAIT_MAX {
                return Err(StoreError::Transient { reason: "waiting to connect again".to_owned() });
            }
            tokio::time::sleep(wait).await;
        }
        match self.connect().await {
            Ok((connection, run)) => {
                let number = self.dialled.fetch_add(1, Ordering::Relaxed);
                let live = Arc::new(Live { connection, number, run, after });
                self.live.store(Some(Arc::clone(&live)));
                // A server that takes connections and fails every call is not dialled in a tight loop either.
                dial.not_before = Instant::now().checked_add(BACKOFF_MIN);
                dial.backoff = BACKOFF_MIN;
                Ok(live)
            }
            Err(error) => {
                dial.not_before = Instant::now().checked_add(dial.backoff);
                dial.backoff = dial.backoff.saturating_mul(2).min(BACKOFF_MAX);
                Err(match error {
                    Undialled::Settings(reason) => StoreError::Transient { reason },
                    Undialled::Redis(error) => remedy(&error).0,
                })
            }
        }
    }

    /// A connection, and the `run_id` of the server.
    async fn connect(&self) -> Result<(MultiplexedConnection, String), Undialled> {
        let mut connection = self.target.dial(&self.config).await?;
        let mut load = redis::pipe();
        for script in &self.scripts {
            load.cmd("SCRIPT").arg("LOAD").arg(script.text);
        }
        load.cmd("INFO").arg("server");
        let said: Vec<String> = load.query_async(&mut connection).await?;
        let info = said.last().map(String::as_str).unwrap_or_default();
        let run = info_field(info, "run_id").unwrap_or_default();
        Ok((connection, run.to_owned()))
    }
}

/// The remedy of an error, and whether the connection may be kept.
fn remedy(error: &RedisError) -> (StoreError, bool) {
    let said = format!("{} {}", error.code().unwrap_or_default(), error.detail().unwrap_or_default());
    let said = said.trim();
    let transient = |keep| {
        let reason = if said.is_empty() { error.to_string() } else { said.to_owned() };
        (StoreError::Transient { reason }, keep)
    };
    let corrupt = |what: &str| {
        let says = if said.is_empty() { String::new() } else { format!(" (Redis says: {said})") };
        (StoreError::Corrupt { reason: format!("{what}{says}") }, true)
    };
    // Inside a script a missing permission is reported as a plain error.
    if said.contains("NOPERM") || said.contains("user executing the script") {
        return corrupt(
            "the Redis user lacks a permission; grant it the commands and keys of the documentation's ACL line",
        );
    }
    if matches!(error.kind(), ErrorKind::AuthenticationFailed) {
        return corrupt("Redis refuses the user or the password of redis.url");
    }
    match error.code() {
        Some("WRONGTYPE") => corrupt(
            "a key of this program holds another type; something else writes under redis.prefix: \
             remove that key, or choose another prefix",
        ),
        Some("NOAUTH" | "WRONGPASS") => corrupt("Redis refuses the user or the password of redis.url"),
        Some("MOVED" | "ASK" | "CROSSSLOT" | "CLUSTERDOWN") => corrupt(
            "this is a Redis Cluster, which is not supported; point redis.url to a primary with replicas",
        ),
        Some("ERR") if said.contains("unknown command") => {
            corrupt("this Redis lacks a command; version 7 or later is needed, with no command renamed")
        }
        // After a fail-over the old primary answers READONLY, and a new one may not know the scripts.
        Some("READONLY" | "NOSCRIPT" | "MASTERDOWN" | "UNBLOCKED") | None => transient(false),
        Some(_) => transient(true),
    }
}
