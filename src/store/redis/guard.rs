//! Whether the server is a database that still has what was written: nothing evicted, and the primary.
//!
//! What evicts leaves no trace in what is left, and the server's own count of it ends with the server's run. So the
//! write side notes the count in the store whenever it changed, and the generations that were there when it rose: a
//! note that outlives both sides' processes, and the server's. It goes with the rest when the database is emptied.

use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use super::{RedisStore, bulk, fields, generation, link::Link, unexpected};
use crate::store::{Generation, StoreError, keys};

/// The fields of the note besides the generations.
const RUN: &str = "run";
const COUNT: &str = "count";

/// How often keys were evicted in one run of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Evicted {
    run: String,
    count: u64,
}

/// What `INFO` says.
struct Server {
    evicted: Evicted,
    policy: String,
    fault: Option<String>,
}

/// What is noted in the store.
#[derive(Debug, Default)]
struct Note {
    evicted: Option<Evicted>,
    lossy: BTreeSet<Generation>,
}

/// The count when this process looked last.
#[derive(Default)]
pub(super) struct Seen(Mutex<Option<Evicted>>);

impl Seen {
    fn get(&self) -> Option<Evicted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set(&self, evicted: &Evicted) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(evicted.clone());
    }
}

/// Whether keys were evicted since: those of a run that nobody saw the beginning of count as ours where there is
/// anything of ours.
fn has_risen(before: Option<&Evicted>, now: &Evicted, holds_ours: bool) -> bool {
    match before {
        Some(before) if before.run == now.run => now.count > before.count,
        Some(_) => now.count > 0,
        None => now.count > 0 && holds_ours,
    }
}

impl Server {
    fn read(info: &str) -> Server {
        let field = |name: &str| {
            info.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .unwrap_or_default()
                .trim()
        };
        let version = field("redis_version");
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        let fault = if major.is_none_or(|major| major < 7) {
            Some(format!("Redis is version {version}; version 7 or later is needed"))
        } else if field("cluster_enabled") == "1" {
            let remedy = "point redis.url to a primary with replicas";
            Some(format!("this is a Redis Cluster, which is not supported; {remedy}"))
        } else if field("role") != "master" {
            let remedy = "point redis.url to the primary, or name the sentinels in redis.sentinel";
            Some(format!("this Redis is a replica, which is behind by an unknown time; {remedy}"))
        } else {
            None
        };
        let evicted = Evicted {
            run: field("run_id").to_owned(),
            count: field("evicted_keys").parse().unwrap_or_default(),
        };
        Server { evicted, policy: field("maxmemory_policy").to_owned(), fault }
    }

    /// Whether it is one that keeps what it is given.
    fn judge(&self) -> Result<(), StoreError> {
        if let Some(reason) = &self.fault {
            return Err(StoreError::Corrupt { reason: reason.clone() });
        }
        if self.policy != "noeviction" {
            return Err(StoreError::Corrupt {
                reason: format!(
                    "Redis has maxmemory-policy {}: it drops balances without a word; set noeviction, and rebuild \
                     if evicted_keys is above zero",
                    self.policy
                ),
            });
        }
        Ok(())
    }
}

fn lossy(generation: Generation) -> StoreError {
    StoreError::Corrupt {
        reason: format!(
            "Redis has evicted keys of generation {}: balances are missing; set noeviction, and empty the database or \
             rebuild",
            generation.0
        ),
    }
}

impl RedisStore {
    /// A primary that evicts nothing, of a version that will do.
    pub(super) async fn check_server(&self, link: &Link) -> Result<(), StoreError> {
        server(link).await?.judge()
    }

    /// The same for the owner of a generation, which must be whole; takes note of what was evicted.
    pub(super) async fn guard_written(&self, own: Generation) -> Result<(), StoreError> {
        let server = server(&self.writer).await?;
        let mut note = self.note(&self.writer).await?;
        let now = &server.evicted;
        let before = note.evicted.clone().or_else(|| self.seen.get());
        let mut exists = redis::cmd("EXISTS");
        exists.arg(self.keys(own).positions());
        let holds_ours = matches!(self.writer.call(&exists).await?, redis::Value::Int(1));
        let mut write = redis::cmd("HSET");
        write.arg(keys::evicted(&self.prefix)).arg(RUN).arg(&now.run).arg(COUNT).arg(now.count);
        let risen = has_risen(before.as_ref(), now, holds_ours);
        if risen {
            note.lossy.extend(self.listed().await?);
            note.lossy.insert(own);
            for generation in &note.lossy {
                write.arg(generation.0).arg("evicted");
            }
        }
        if risen || note.evicted.as_ref() != Some(now) {
            self.writer.call(&write).await?;
        }
        self.seen.set(now);
        server.judge()?;
        if note.lossy.contains(&own) { Err(lossy(own)) } else { Ok(()) }
    }

    /// The same for readers of the active generation.
    pub(super) async fn guard_read(&self, link: &Link) -> Result<(), StoreError> {
        let server = server(link).await?;
        server.judge()?;
        let note = self.note(link).await?;
        let mut get = redis::cmd("GET");
        get.arg(keys::active(&self.prefix));
        let active = generation(link.call(&get).await?)?;
        let before = note.evicted.or_else(|| self.seen.get());
        let risen = has_risen(before.as_ref(), &server.evicted, active.is_some());
        if let Some(active) = active.filter(|active| risen || note.lossy.contains(active)) {
            return Err(lossy(active));
        }
        self.seen.set(&server.evicted);
        Ok(())
    }

    async fn note(&self, link: &Link) -> Result<Note, StoreError> {
        let mut all = redis::cmd("HGETALL");
        all.arg(keys::evicted(&self.prefix));
        let mut note = Note::default();
        let (mut run, mut count) = (None, None);
        for (field, value) in fields(link.call(&all).await?)? {
            let value = String::from_utf8(value).map_err(|_| unexpected())?;
            match field.as_str() {
                RUN => run = Some(value),
                COUNT => count = Some(value.parse().map_err(|_| unexpected())?),
                number => {
                    note.lossy.insert(Generation(number.parse().map_err(|_| unexpected())?));
                }
            }
        }
        note.evicted = run.zip(count).map(|(run, count)| Evicted { run, count });
        Ok(note)
    }

    /// Every generation that is fed or served.
    async fn listed(&self) -> Result<Vec<Generation>, StoreError> {
        let mut get = redis::cmd("GET");
        get.arg(keys::active(&self.prefix));
        let active = generation(self.writer.call(&get).await?)?;
        let mut all = redis::cmd("HGETALL");
        all.arg(keys::live(&self.prefix));
        let mut listed: Vec<Generation> = active.into_iter().collect();
        for (number, _) in fields(self.writer.call(&all).await?)? {
            listed.push(Generation(number.parse().map_err(|_| unexpected())?));
        }
        Ok(listed)
    }
}

async fn server(link: &Link) -> Result<Server, StoreError> {
    let mut info = redis::cmd("INFO");
    info.arg("server").arg("memory").arg("stats").arg("cluster").arg("replication");
    let said = bulk(link.call(&info).await?)?.unwrap_or_default();
    Ok(Server::read(&String::from_utf8_lossy(&said)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evicted(run: &str, count: u64) -> Evicted {
        Evicted { run: run.to_owned(), count }
    }

    #[test]
    fn what_was_evicted_since_is_told_from_what_was_before() {
        // Seen before, now, whether there is anything of ours, whether it has risen.
        let rows = [
            (None, evicted("a", 0), true, false),
            (None, evicted("a", 7), false, false),
            (None, evicted("a", 7), true, true),
            (Some(evicted("a", 7)), evicted("a", 7), true, false),
            (Some(evicted("a", 7)), evicted("a", 8), true, true),
            (Some(evicted("a", 7)), evicted("b", 0), true, false),
            (Some(evicted("a", 7)), evicted("b", 1), true, true),
        ];
        for (before, now, holds_ours, risen) in rows {
            assert_eq!(
                has_risen(before.as_ref(), &now, holds_ours),
                risen,
                "{before:?} {now:?} {holds_ours}"
            );
        }
    }

    #[test]
    fn a_server_that_is_no_primary_database_is_named_for_what_it_is() {
        let rows = [
            ("", ""),
            ("redis_version:7.0.15\r\n", "redis_version:6.2.1\r\n|version 6.2.1"),
            ("role:master", "role:slave|a replica"),
            ("cluster_enabled:0", "cluster_enabled:1|Redis Cluster"),
            ("maxmemory_policy:noeviction", "maxmemory_policy:allkeys-lru|maxmemory-policy allkeys-lru"),
        ];
        let good =
            "redis_version:7.0.15\r\ncluster_enabled:0\r\nrole:master\r\nmaxmemory_policy:noeviction\r\n";
        for (part, other) in rows {
            let Some((other, says)) = other.split_once('|') else {
                assert_eq!(Server::read(good).judge(), Ok(()));
                continue;
            };
            match Server::read(&good.replace(part, other)).judge() {
                Err(StoreError::Corrupt { reason }) => assert!(reason.contains(says), "{reason}"),
                told => panic!("{other}: {told:?}"),
            }
        }
    }
}
