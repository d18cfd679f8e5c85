//! Whether the server is a database that still has what was written: nothing evicted, and the primary.
//!
//! What evicts leaves no trace in what is left, and the server's own count of it ends with the server's run. So the
//! write side notes the count in the store whenever it changed, and the generations that were there when it rose: a
//! note that outlives both sides' processes, and the server's. It goes with the rest when the database is emptied.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Mutex, PoisonError},
};

use super::{RedisStore, bulk, fields, generation, info_field, link::Link, unexpected};
use crate::store::{Generation, StoreError, keys};

/// Fields of the note: `run:<id>` → how often keys had been evicted in that run of a server when that was last seen.
/// The others are the generations that lost keys.
const RUN: &str = "run:";

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
    runs: HashMap<String, u64>,
    lossy: BTreeSet<Generation>,
}

/// The count when this process looked last.
#[derive(Default)]
pub(super) struct Seen(Mutex<Option<Evicted>>);

impl Seen {
    fn get(&self, run: &str) -> Option<u64> {
        let seen = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        seen.as_ref().filter(|seen| seen.run == run).map(|seen| seen.count)
    }

    fn set(&self, evicted: &Evicted) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(evicted.clone());
    }
}

/// Whether keys were evicted since: in a run that nobody has seen before, those of ours count that are there.
fn has_risen(before: Option<u64>, now: u64, holds_ours: bool) -> bool {
    match before {
        Some(before) => now > before,
        None => now > 0 && holds_ours,
    }
}

impl Server {
    fn read(info: &str) -> Server {
        let field = |name: &str| info_field(info, name).unwrap_or_default();
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

    /// Whether it is one that this program can work with.
    fn is_usable(&self) -> Result<(), StoreError> {
        self.fault.clone().map_or(Ok(()), |reason| Err(StoreError::Corrupt { reason }))
    }

    /// Whether it is one that keeps what it is given, too.
    fn judge(&self) -> Result<(), StoreError> {
        self.is_usable()?;
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
    pub(super) async fn trust_written(&self, own: Generation) -> Result<(), StoreError> {
        let server = server(&self.writer).await?;
        server.is_usable()?;
        let Evicted { run, count } = &server.evicted;
        let mut note = self.note(&self.writer).await?;
        let noted = note.runs.get(run).copied();
        let mut exists = redis::cmd("EXISTS");
        exists.arg(self.keys(own).positions());
        let holds_ours = matches!(self.writer.call(&exists).await?, redis::Value::Int(1));
        let mut write = redis::cmd("HSET");
        write.arg(keys::evicted(&self.prefix)).arg(format!("{RUN}{run}")).arg(*count);
        // Noted before the policy is judged: a restart of the server would let it be forgotten.
        if noted != Some(*count) {
            // What is not there yet has lost nothing.
            let there: BTreeSet<_> =
                self.listed().await?.into_iter().chain(holds_ours.then_some(own)).collect();
            if has_risen(noted.or_else(|| self.seen.get(run)), *count, !there.is_empty()) {
                note.lossy.extend(there);
                for generation in &note.lossy {
                    write.arg(generation.0).arg("evicted");
                }
            }
            self.writer.call(&write).await?;
        }
        self.seen.set(&server.evicted);
        server.judge()?;
        if note.lossy.contains(&own) { Err(lossy(own)) } else { Ok(()) }
    }

    /// The same for readers of the active generation.
    pub(super) async fn trust_read(&self, link: &Link) -> Result<(), StoreError> {
        let server = server(link).await?;
        server.judge()?;
        let Evicted { run, count } = &server.evicted;
        let note = self.note(link).await?;
        let mut get = redis::cmd("GET");
        get.arg(keys::active(&self.prefix));
        let active = generation(link.call(&get).await?)?;
        let before = note.runs.get(run).copied().or_else(|| self.seen.get(run));
        let risen = has_risen(before, *count, active.is_some());
        match active {
            Some(active) if risen || note.lossy.contains(&active) => Err(lossy(active)),
            Some(_) => {
                self.seen.set(&server.evicted);
                Ok(())
            }
            // The pointer may be what was evicted: that is not seen yet, or the write side would not note it.
            None => Ok(()),
        }
    }

    pub(super) async fn read_note(&self) -> Result<(), StoreError> {
        self.note(&self.writer).await.map(|_| ())
    }

    async fn note(&self, link: &Link) -> Result<Note, StoreError> {
        let mut all = redis::cmd("HGETALL");
        all.arg(keys::evicted(&self.prefix));
        let mut note = Note::default();
        for (field, value) in fields(link.call(&all).await?)? {
            if let Some(run) = field.strip_prefix(RUN) {
                let count = String::from_utf8(value).ok().and_then(|count| count.parse().ok());
                note.runs.insert(run.to_owned(), count.ok_or_else(unexpected)?);
            } else {
                note.lossy.insert(Generation(field.parse().map_err(|_| unexpected())?));
            }
        }
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

    #[test]
    fn what_was_evicted_since_is_told_from_what_was_before() {
        // Seen before in this run, now, whether there is anything of ours, whether it has risen.
        let rows = [
            (None, 0, true, false),
            (None, 7, false, false),
            (None, 7, true, true),
            (Some(7), 7, true, false),
            (Some(7), 8, true, true),
            (Some(7), 8, false, true),
            // Somebody reset the server's statistics.
            (Some(7), 0, true, false),
        ];
        for (before, now, holds_ours, risen) in rows {
            assert_eq!(has_risen(before, now, holds_ours), risen, "{before:?} {now:?} {holds_ours}");
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
