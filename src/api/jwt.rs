//! Tokens that an issuer signed: what is read of them, and who verifies them.

use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use hashlink::LruCache;
use jsonwebtoken::{Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;
use serde_json::Number;
use sha2::{Digest as _, Sha256};

use super::{
    auth::Provider,
    jwks::{Algorithm, Found, Keys},
    refusal::Reason,
    unavailable::Unavailable,
};
use crate::domain::{AccountId, Time};

/// Verified tokens that are remembered.
const CACHED_MAX: usize = 4_096;
/// What a token must be for.
const SCOPE: &str = "aisp.balances";
/// The longest id of a key.
const KEY_ID_MAX: usize = 256;

/// What a token must say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// `iss`, exactly.
    pub issuer: String,
    /// What `aud` must hold.
    pub audience: String,
    /// Those that are taken; a key allows but its own.
    pub algorithms: Vec<Algorithm>,
    /// By how much the issuer's clock may differ.
    pub leeway_seconds: i64,
    /// The longest token.
    pub token_bytes_max: usize,
    /// How long a verified token is remembered.
    pub remember: Duration,
}

/// A token is not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Untaken {
    /// Not one of the issuer's for us.
    Bad(Reason),
    /// Whether it is right cannot be told now.
    Unknown(Unavailable),
}

/// Verifies tokens by the issuer's keys.
pub struct JwtAuth {
    rules: Rules,
    keys: Arc<Keys>,
    verified: Mutex<LruCache<[u8; 32], Remembered>>,
    /// Only digests under a key of this process are remembered.
    key: [u8; 32],
}

struct Remembered {
    token: Arc<Verified>,
    /// The set of keys that verified it: a key that was withdrawn verifies nothing any more.
    epoch: u64,
    until: Instant,
}

/// What a token with a right signature, issuer and audience says.
#[derive(Debug)]
struct Verified {
    provider: Arc<Provider>,
    in_scope: bool,
    not_before: Option<i64>,
    expires: i64,
}

#[derive(Deserialize)]
struct Claims {
    // Compared by the library; read here so that an array of issuers is refused.
    #[allow(dead_code, reason = "its type is what matters")]
    iss: String,
    exp: Number,
    nbf: Option<Number>,
    client_id: String,
    accounts: Vec<String>,
    scope: Option<String>,
}

impl JwtAuth {
    /// Tokens of this issuer, by these keys.
    pub fn new(rules: Rules, keys: Arc<Keys>) -> Self {
        let verified = Mutex::new(LruCache::new(CACHED_MAX));
        JwtAuth { rules, keys, verified, key: rand::random() }
    }

    /// The keys, to go on with after a reload.
    pub fn keys(&self) -> &Arc<Keys> {
        &self.keys
    }

    /// The provider that a token names, its own times not yet looked at.
    pub async fn provider(&self, token: &[u8], now: Time) -> Result<Checked, Untaken> {
        if token.len() > self.rules.token_bytes_max {
            return Err(Untaken::Bad(Reason::OversizedToken));
        }
        let digest = Sha256::new().chain_update(self.key).chain_update(token).finalize().into();
        let verified = match self.remembered(&digest) {
            Some(verified) => verified,
            // Rare, and large: the answers that need no verification are not to carry it around.
            None => Box::pin(self.verify(token, digest)).await?,
        };
        Ok(Checked { useless: self.useless(&verified, now), provider: Arc::clone(&verified.provider) })
    }

    /// Why a verified token may not be used now.
    fn useless(&self, token: &Verified, now: Time) -> Option<Reason> {
        let (now, leeway) = (now.0.as_second(), self.rules.leeway_seconds);
        if token.not_before.is_some_and(|from| from > now.saturating_add(leeway)) {
            Some(Reason::NotYetValid)
        } else if token.expires.saturating_add(leeway) <= now {
            Some(Reason::Expired)
        } else if token.in_scope {
            None
        } else {
            Some(Reason::Scope)
        }
    }

    async fn verify(&self, token: &[u8], digest: [u8; 32]) -> Result<Arc<Verified>, Untaken> {
        let bad = Untaken::Bad;
        let shape = token.split(|byte| *byte == b'.').count() == 3;
        let header = decode_header(token).ok().filter(|_| shape);
        let header = header.ok_or(bad(Reason::MalformedToken))?;
        // Nothing that a header may demand is known here, and none of its keys or addresses is looked at.
        let long = header.kid.as_ref().is_some_and(|kid| kid.len() > KEY_ID_MAX);
        if header.crit.is_some() || long {
            return Err(bad(Reason::MalformedToken));
        }
        let algorithm = Algorithm::of(header.alg).filter(|alg| self.rules.algorithms.contains(alg));
        let algorithm = algorithm.ok_or(bad(Reason::WrongAlgorithm))?;
        let Found { keys, epoch } = self
            .keys
            .find(header.kid.as_deref(), algorithm)
            .await
            .map_err(|e| e.map_or(bad(Reason::UnknownKey), Untaken::Unknown))?;

        let mut validation = Validation::new(algorithm.into());
        validation.validate_exp = false;
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&self.rules.issuer]);
        validation.set_audience(&[&self.rules.audience]);
        let mut refused = Reason::UnknownKey;
        for key in keys {
            match decode::<Claims>(token, &key, &validation) {
                Ok(data) => {
                    let verified = Arc::new(of(data.claims).ok_or(bad(Reason::MalformedToken))?);
                    self.remember(digest, &verified, epoch);
                    return Ok(verified);
                }
                Err(error) => refused = reason(error.kind()),
            }
        }
        Err(bad(refused))
    }

    fn remember(&self, digest: [u8; 32], token: &Arc<Verified>, epoch: u64) {
        if let Some(until) = Instant::now().checked_add(self.rules.remember) {
            self.lock().insert(digest, Remembered { token: Arc::clone(token), epoch, until });
        }
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<Arc<Verified>> {
        let epoch = self.keys.epoch()?;
        let mut verified = self.lock();
        let held = verified.get(digest)?;
        if held.epoch == epoch && Instant::now() < held.until {
            return Some(Arc::clone(&held.token));
        }
        verified.remove(digest);
        None
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, LruCache<[u8; 32], Remembered>> {
        // Every step under the lock leaves the cache whole.
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A verified token, and why it may not be used now, if so.
#[derive(Debug)]
pub struct Checked {
    /// Who bears it.
    pub provider: Arc<Provider>,
    /// Told only to who has the provider's API key, too.
    pub useless: Option<Reason>,
}

fn of(claims: Claims) -> Option<Verified> {
    let named = (1..=128).contains(&claims.client_id.len())
        && claims.client_id.bytes().all(|byte| byte.is_ascii_graphic());
    if !named {
        return None;
    }
    // An id that no account can have names none.
    let accounts: HashSet<_> = claims.accounts.iter().filter_map(|id| AccountId::parse(id).ok()).collect();
    let scope = claims.scope.unwrap_or_default();
    Some(Verified {
        not_before: claims.nbf.as_ref().map(seconds).map_or(Some(None), |nbf| nbf.map(Some))?,
        expires: seconds(&claims.exp)?,
        in_scope: scope.split(' ').any(|word| word == SCOPE),
        provider: Arc::new(Provider { client_id: claims.client_id, accounts }),
    })
}

/// Whole seconds of a date; its fraction is cut off, and no float is read.
fn seconds(number: &Number) -> Option<i64> {
    let text = number.to_string();
    let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
    if !fraction.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    whole.parse().ok()
}

#[allow(clippy::wildcard_enum_match_arm, reason = "the library's errors may grow")]
fn reason(kind: &ErrorKind) -> Reason {
    match kind {
        ErrorKind::InvalidSignature => Reason::BadSignature,
        ErrorKind::InvalidIssuer => Reason::WrongIssuer,
        ErrorKind::InvalidAudience => Reason::WrongAudience,
        ErrorKind::InvalidAlgorithm => Reason::WrongAlgorithm,
        _ => Reason::MalformedToken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_whole_seconds() {
        let rows = [
            ("1546772400", Some(1_546_772_400)),
            ("1546772400.9", Some(1_546_772_400)),
            ("-1", Some(-1)),
            ("1e99", None),
            ("99999999999999999999", None),
        ];
        for (text, expected) in rows {
            let number: Number = serde_json::from_str(text).unwrap();
            assert_eq!(seconds(&number), expected, "{text}");
        }
    }
}
