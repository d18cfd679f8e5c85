//! Pages of `SCAN`: each key that is there from the first page to the last comes up at least once.

use super::{array, bulk, link::Link, parts, text, unexpected};
use crate::store::StoreError;

/// How many keys a page asks for: Redis is held for well under a millisecond.
pub(super) const PAGE_KEYS: usize = 500;

/// A walk over the keys of a pattern.
#[derive(Debug, Clone)]
pub(super) struct Scan {
    pattern: String,
    cursor: Option<String>,
}

impl Scan {
    pub(super) fn new(pattern: String) -> Self {
        Scan { pattern, cursor: Some("0".to_owned()) }
    }

    /// The next keys, which need not be text where they are another's; `None` behind the last page.
    pub(super) async fn page(&mut self, link: &Link) -> Result<Option<Vec<Vec<u8>>>, StoreError> {
        let Some(cursor) = &self.cursor else { return Ok(None) };
        let mut scan = redis::cmd("SCAN");
        scan.arg(cursor).arg("MATCH").arg(&self.pattern).arg("COUNT").arg(PAGE_KEYS);
        let [next, page] = parts(link.call(&scan).await?)?;
        let next = text(next)?;
        self.cursor = (next != "0").then_some(next);
        let keys = array(page)?.into_iter().map(|key| Ok(bulk(key)?.unwrap_or_default()));
        keys.collect::<Result<_, _>>().map(Some)
    }
}

/// A key of this program's.
pub(super) fn own(key: Vec<u8>) -> Result<String, StoreError> {
    String::from_utf8(key).map_err(|_| unexpected())
}
