//! What a generation takes, and its removal in steps that nobody notices.

use std::time::Duration;

use super::{RedisStore, bulk, info_field, scan::Scan};
use crate::store::{
    Generation, StoreError,
    keys::{Keys, Name},
};

/// Pages that are looked at to tell a generation's share of all keys.
const SAMPLE_PAGES: usize = 40;
/// Between two steps of a removal: readers take their turn.
const STEP_EVERY: Duration = Duration::from_millis(2);

/// Memory as the server counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footprint {
    /// About how many bytes the generation takes: its share of the keys, of all that is used for data.
    pub generation_bytes: u64,
    /// All that is used.
    pub used_bytes: u64,
    /// `maxmemory`, where it is set.
    pub max_bytes: Option<u64>,
}

impl RedisStore {
    /// What a generation takes, by a sample of the keys.
    pub async fn footprint(&self, generation: Generation) -> Result<Footprint, StoreError> {
        let mut info = redis::cmd("INFO");
        info.arg("memory");
        let info = bulk(self.writer.call(&info).await?)?.unwrap_or_default();
        let info = String::from_utf8_lossy(&info).into_owned();
        let field = |name: &str| {
            info_field(&info, name).and_then(|value| value.parse::<u64>().ok()).unwrap_or_default()
        };
        let used_bytes = field("used_memory");
        let data = used_bytes.saturating_sub(field("used_memory_startup"));
        let (own, all) = self.sample(&self.keys(generation)).await?;
        let generation_bytes = data.saturating_mul(own).checked_div(all).unwrap_or_default();
        Ok(Footprint {
            generation_bytes,
            used_bytes,
            max_bytes: Some(field("maxmemory")).filter(|max| *max > 0),
        })
    }

    /// How many of the keys that were looked at are the generation's, and how many were looked at.
    async fn sample(&self, keys: &Keys) -> Result<(u64, u64), StoreError> {
        let (mut own, mut all) = (0_u64, 0_u64);
        let mut scan = Scan::new("*".to_owned());
        for _ in 0..SAMPLE_PAGES {
            let Some(page) = scan.page(&self.writer).await? else { break };
            for key in page {
                all = all.saturating_add(1);
                // Keys of others need not be text.
                let ours = std::str::from_utf8(&key).is_ok_and(|key| keys.owns(key));
                own = own.saturating_add(u64::from(ours));
            }
        }
        Ok((own, all))
    }

    /// Removes the generation's positions: from here on every commit to it is refused.
    pub async fn remove_positions(&self, generation: Generation) -> Result<(), StoreError> {
        let mut unlink = redis::cmd("UNLINK");
        unlink.arg(self.keys(generation).key(&Name::Positions));
        self.writer.call(&unlink).await.map(|_| ())
    }

    /// Removes all that a generation holds, a few hundred keys at a time; tells after each step how many keys were
    /// removed so far. May be stopped and begun again.
    pub async fn remove(&self, generation: Generation, mut told: impl FnMut(u64)) -> Result<u64, StoreError> {
        let keys = self.keys(generation);
        let mut removed = 0_u64;
        loop {
            // A scan misses keys that are written while it runs: the last one finds nothing.
            let found = self.remove_once(&keys, &mut removed, &mut told).await?;
            if !found {
                return Ok(removed);
            }
        }
    }

    async fn remove_once(
        &self,
        keys: &Keys,
        removed: &mut u64,
        told: &mut impl FnMut(u64),
    ) -> Result<bool, StoreError> {
        let mut found = false;
        let mut scan = Scan::new(keys.pattern());
        while let Some(page) = scan.page(&self.writer).await? {
            if !page.is_empty() {
                found = true;
                *removed = removed.saturating_add(u64::try_from(page.len()).unwrap_or(u64::MAX));
                let mut unlink = redis::cmd("UNLINK");
                for key in page {
                    unlink.arg(key);
                }
                self.writer.call(&unlink).await?;
                told(*removed);
            }
            tokio::time::sleep(STEP_EVERY).await;
        }
        Ok(found)
    }
}
