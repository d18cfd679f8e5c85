//! Who asks: Basic credentials of view one, Bearer tokens and API keys of view two.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use argon2::{
    Argon2,
    password_hash::{PasswordVerifier as _, phc::PasswordHash},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hashlink::LruCache;
use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

use super::{
    headers::{Single, single},
    jwt::{Checked, JwtAuth, Untaken},
    refusal::Reason,
    unavailable::Unavailable,
};
use crate::domain::{AccountId, Time};

/// View two's second secret.
pub const API_KEY: HeaderName = HeaderName::from_static("api-key");

/// Verified credentials that are remembered.
const CACHED_MAX: usize = 1_024;
/// Passwords that wait to be verified: at some 20 ms each, those behind would wait for too long.
const QUEUED_MAX: usize = 256;

/// A user of view one.
#[derive(Clone)]
pub struct User {
    pub(super) name: String,
    pub(super) password_hash: PasswordHash,
    pub(super) profiles: HashSet<String>,
}

/// A profile of view one.
#[derive(Clone)]
pub struct Profile {
    /// All customers where `None`.
    pub(super) customer_prefixes: Option<Vec<String>>,
}

impl Profile {
    /// Whether the customer is inside the profile.
    pub fn covers(&self, customer: &str) -> bool {
        match &self.customer_prefixes {
            None => true,
            Some(prefixes) => prefixes.iter().any(|prefix| customer.starts_with(prefix.as_str())),
        }
    }
}

/// A third-party provider, and what its token lets it read.
#[derive(Debug, PartialEq, Eq)]
pub struct Provider {
    /// Who it is.
    pub client_id: String,
    /// The accounts of the consent.
    pub accounts: HashSet<AccountId>,
}

/// The bearer of a static token.
#[derive(Clone)]
pub struct TokenUser {
    pub(super) provider: Arc<Provider>,
    pub(super) api_key_sha256: [u8; 32],
    pub(super) expires: Option<Time>,
}

/// The caller is not let in.
#[derive(Debug, PartialEq, Eq)]
pub enum NotLetIn {
    /// Missing, repeated or wrong.
    Unauthorised(Reason),
    /// Right, but of no use: the verified caller, and why.
    Forbidden(Reason, String),
    /// Whether it is right cannot be told now: too many others wait, or the issuer cannot be asked.
    Busy(Unavailable),
}

const WRONG: NotLetIn = NotLetIn::Unauthorised(Reason::WrongPassword);

/// From the digest of credentials to the user's name, and until when it holds unless it is used again.
type Verified = LruCache<[u8; 32], (Vec<u8>, Instant)>;

/// Verifies Basic credentials.
pub struct BasicAuth {
    users: HashMap<Vec<u8>, User>,
    /// Verified in place of an unknown user's, so that asking for one costs the same. Hashes of other
    /// parameters than the first user's take another time.
    decoy: Option<PasswordHash>,
    verified: Mutex<Verified>,
    remember: Duration,
    /// Only digests under a key of this process are remembered: a core dump holds no password hash that
    /// is quick to try.
    key: [u8; 32],
    queue: Semaphore,
    /// Argon2 takes memory and a processor: some are left for those that need no verification.
    at_work: Arc<Semaphore>,
}

impl BasicAuth {
    /// Takes the users; verified credentials are remembered for so long after their last use.
    pub fn new(users: HashMap<Vec<u8>, User>, remember: Duration) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let mut names: Vec<_> = users.keys().collect();
        names.sort_unstable();
        let decoy = names.first().and_then(|name| users.get(*name)).map(|user| user.password_hash.clone());
        BasicAuth {
            users,
            decoy,
            verified: Mutex::new(LruCache::new(CACHED_MAX)),
            remember,
            key: rand::random(),
            queue: Semaphore::new(QUEUED_MAX),
            at_work: Arc::new(Semaphore::new(cores.div_ceil(2))),
        }
    }

    /// The user whose credentials the request bears.
    pub async fn user(&self, headers: &HeaderMap) -> Result<&User, NotLetIn> {
        const NONE: NotLetIn = NotLetIn::Unauthorised(Reason::NoCredentials);
        let Single::Once(value) = single(headers, &AUTHORIZATION) else { return Err(NONE) };
        let encoded = credentials(value, b"Basic").ok_or(NONE)?;
        let decoded = STANDARD.decode(encoded).map_err(|_| NONE)?;
        let colon = decoded.iter().position(|b| *b == b':').ok_or(NONE)?;
        let (name, password) = decoded.split_at(colon);
        let password = password.get(1..).unwrap_or_default();

        let digest = self.digest(&decoded);
        if let Some(user) = self.remembered(&digest) {
            return Ok(user);
        }
        // Rare, and large: the answers that need no verification are not to carry it around.
        Box::pin(self.verify(name, password, digest)).await
    }

    async fn verify(&self, name: &[u8], password: &[u8], digest: [u8; 32]) -> Result<&User, NotLetIn> {
        let busy = |_| NotLetIn::Busy(Unavailable::TooManyLogins);
        let _queued = self.queue.try_acquire().map_err(busy)?;
        let at_work = Arc::clone(&self.at_work).acquire_owned().await;
        let at_work = at_work.map_err(|_| NotLetIn::Busy(Unavailable::TooManyLogins))?;
        // Another request of the same caller may have been verified meanwhile.
        if let Some(user) = self.remembered(&digest) {
            return Ok(user);
        }
        let user = self.users.get(name);
        let hash = user.map(|user| &user.password_hash).or(self.decoy.as_ref());
        let matches = match hash.cloned() {
            None => false,
            Some(hash) => {
                let password = password.to_vec();
                let verify = move || {
                    // It goes on where the caller has hung up, and counts as long as it does.
                    let _at_work = at_work;
                    Argon2::default().verify_password(&password, &hash).is_ok()
                };
                tokio::task::spawn_blocking(verify).await.unwrap_or(false)
            }
        };
        let user = user.filter(|_| matches).ok_or(WRONG)?;
        let until = Instant::now().checked_add(self.remember).ok_or(WRONG)?;
        self.lock().insert(digest, (name.to_vec(), until));
        Ok(user)
    }

    fn digest(&self, credentials: &[u8]) -> [u8; 32] {
        Sha256::new().chain_update(self.key).chain_update(credentials).finalize().into()
    }

    fn remembered(&self, digest: &[u8; 32]) -> Option<&User> {
        let mut verified = self.lock();
        let (name, until) = verified.get_mut(digest)?;
        let now = Instant::now();
        if now < *until {
            // Who asks all the time never waits behind those who guess.
            *until = now.checked_add(self.remember).unwrap_or(*until);
            self.users.get(name)
        } else {
            verified.remove(digest);
            None
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Verified> {
        // Every step under the lock leaves the cache whole.
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Who may read view two.
#[derive(Clone, Default)]
pub struct Providers {
    /// Bearers of static tokens, by the SHA-256 of the token.
    pub tokens: HashMap<[u8; 32], TokenUser>,
    /// The SHA-256 of the API key of those whose tokens an issuer signs.
    pub api_keys: HashMap<String, [u8; 32]>,
    /// Who is not let in, whatever is borne.
    pub blocked: HashSet<String>,
}

/// Verifies Bearer tokens together with their API keys.
pub struct BearerAuth {
    providers: Providers,
    jwt: Option<JwtAuth>,
}

impl BearerAuth {
    /// Takes who may read, and the issuer whose tokens are taken.
    pub fn new(providers: Providers, jwt: Option<JwtAuth>) -> Self {
        BearerAuth { providers, jwt }
    }

    /// The issuer's part.
    pub fn jwt(&self) -> Option<&JwtAuth> {
        self.jwt.as_ref()
    }

    /// The provider whose token and API key the request bears.
    pub async fn provider(&self, headers: &HeaderMap, now: Time) -> Result<Arc<Provider>, NotLetIn> {
        let none = NotLetIn::Unauthorised(Reason::NoCredentials);
        let (Single::Once(token), Single::Once(api_key)) =
            (single(headers, &AUTHORIZATION), single(headers, &API_KEY))
        else {
            return Err(none);
        };
        let Some(token) = credentials(token, b"Bearer") else { return Err(none) };
        // Looked up by digest: how long that takes tells of a digest, not of a token.
        let (provider, useless, expected) = if let Some(known) = self.providers.tokens.get(&sha256(token)) {
            let expired = known.expires.is_some_and(|expires| expires <= now).then_some(Reason::Expired);
            (Arc::clone(&known.provider), expired, Some(&known.api_key_sha256))
        } else if let Some(jwt) = self.jwt.as_ref().filter(|_| token.contains(&b'.')) {
            let Checked { provider, useless } = jwt.provider(token, now).await?;
            let expected = self.providers.api_keys.get(&provider.client_id);
            (provider, useless, expected)
        } else {
            return Err(NotLetIn::Unauthorised(Reason::UnknownToken));
        };
        let same_key = expected.is_some_and(|key| bool::from(key.ct_eq(&sha256(api_key.as_bytes()))));
        if !same_key {
            return Err(NotLetIn::Unauthorised(Reason::WrongApiKey));
        }
        let blocked = self.providers.blocked.contains(&provider.client_id).then_some(Reason::Blocked);
        match useless.or(blocked) {
            None => Ok(provider),
            Some(Reason::NotYetValid) => Err(NotLetIn::Unauthorised(Reason::NotYetValid)),
            Some(reason) => Err(NotLetIn::Forbidden(reason, provider.client_id.clone())),
        }
    }
}

impl From<Untaken> for NotLetIn {
    fn from(untaken: Untaken) -> Self {
        match untaken {
            Untaken::Bad(reason) => NotLetIn::Unauthorised(reason),
            Untaken::Unknown(reason) => NotLetIn::Busy(reason),
        }
    }
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What follows the scheme, whose case does not matter.
fn credentials<'a>(value: &'a HeaderValue, scheme: &[u8]) -> Option<&'a [u8]> {
    let (found, rest) = value.as_bytes().split_at_checked(scheme.len())?;
    let rest = rest.strip_prefix(b" ")?.trim_ascii();
    let whole = !rest.is_empty() && rest.iter().all(u8::is_ascii_graphic);
    (found.eq_ignore_ascii_case(scheme) && whole).then_some(rest)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::arithmetic_side_effects, reason = "a test fails where it overflows")]

    use argon2::{Algorithm, Params, Version, password_hash::PasswordHasher as _};

    use super::*;

    fn users(all: &[(&str, &str)]) -> HashMap<Vec<u8>, User> {
        let cheap = Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(8, 1, 1, None).unwrap());
        let user = |(name, password): &(&str, &str)| {
            let password_hash = cheap.hash_password(password.as_bytes()).unwrap();
            let user = User { name: (*name).to_owned(), password_hash, profiles: HashSet::new() };
            (name.as_bytes().to_vec(), user)
        };
        all.iter().map(user).collect()
    }

    fn basic(text: &str) -> HeaderMap {
        let value = format!("Basic {}", STANDARD.encode(text)).try_into().unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    async fn outcome(auth: &BasicAuth, credentials: &str) -> Option<NotLetIn> {
        auth.user(&basic(credentials)).await.err()
    }

    #[tokio::test]
    async fn only_what_was_verified_is_remembered() {
        let auth = BasicAuth::new(users(&[("a", "one"), ("b", "two")]), Duration::from_mins(1));
        let wrong = |credentials: &str| {
            let whole = credentials.contains(':');
            let reason = if whole { Reason::WrongPassword } else { Reason::NoCredentials };
            Some(NotLetIn::Unauthorised(reason))
        };
        for credentials in ["a:two", "b:one", "c:one", "a:", ":one", "a", ""] {
            assert_eq!(outcome(&auth, credentials).await, wrong(credentials), "{credentials}");
            assert_eq!(outcome(&auth, credentials).await, wrong(credentials), "{credentials}");
        }
        assert!(auth.lock().is_empty());
        assert_eq!(outcome(&auth, "a:one").await, None);
        assert_eq!(outcome(&auth, "a:two").await, Some(NotLetIn::Unauthorised(Reason::WrongPassword)));
        assert_eq!(auth.lock().len(), 1);
    }

    #[tokio::test]
    async fn what_is_remembered_needs_no_place_in_the_queue() {
        let mut auth = BasicAuth::new(users(&[("a", "one"), ("b", "two")]), Duration::from_mins(1));
        assert_eq!(outcome(&auth, "a:one").await, None);
        auth.queue = Semaphore::new(0);
        assert_eq!(outcome(&auth, "a:one").await, None);
        let busy = Some(NotLetIn::Busy(Unavailable::TooManyLogins));
        assert_eq!(outcome(&auth, "b:two").await, busy);
        assert_eq!(outcome(&auth, "nobody:two").await, busy, "an unknown user takes the same way");
    }

    #[tokio::test]
    async fn what_is_remembered_for_too_long_is_verified_again() {
        let mut auth = BasicAuth::new(users(&[("a", "one")]), Duration::ZERO);
        assert_eq!(outcome(&auth, "a:one").await, None);
        assert_eq!(outcome(&auth, "a:one").await, None);
        auth.queue = Semaphore::new(0);
        assert_eq!(outcome(&auth, "a:one").await, Some(NotLetIn::Busy(Unavailable::TooManyLogins)));
    }

    #[tokio::test]
    async fn what_is_used_is_remembered_on() {
        let mut auth = BasicAuth::new(users(&[("a", "one")]), Duration::from_mins(1));
        assert_eq!(outcome(&auth, "a:one").await, None);
        auth.queue = Semaphore::new(0);
        let ends = |auth: &BasicAuth| auth.lock().iter().map(|(_, (_, until))| *until).next().unwrap();
        let set =
            |auth: &BasicAuth, end: Instant| auth.lock().iter_mut().for_each(|(_, (_, until))| *until = end);
        set(&auth, Instant::now() + Duration::from_secs(30));
        let used = Instant::now();
        assert_eq!(outcome(&auth, "a:one").await, None);
        assert!(ends(&auth) >= used + Duration::from_mins(1), "a minute after its last use");
        set(&auth, Instant::now());
        assert_eq!(outcome(&auth, "a:one").await, Some(NotLetIn::Busy(Unavailable::TooManyLogins)));
    }

    /// One whose password takes some work to verify: 64 MiB.
    fn costly() -> BasicAuth {
        let costly =
            Argon2::new(Algorithm::Argon2id, Version::V0x13, Params::new(1 << 16, 2, 1, None).unwrap());
        let password_hash = costly.hash_password(b"one").unwrap();
        let user = User { name: "a".to_owned(), password_hash, profiles: HashSet::new() };
        BasicAuth::new(HashMap::from_iter([(b"a".to_vec(), user)]), Duration::from_mins(1))
    }

    #[tokio::test]
    async fn a_verification_counts_until_it_ends_whoever_has_hung_up() {
        let auth = costly();
        let most = auth.at_work.available_permits();
        let headers = basic("a:wrong");
        let mut request = Box::pin(auth.user(&headers));
        assert!(futures::poll!(&mut request).is_pending());
        drop(request);
        assert_eq!(auth.at_work.available_permits(), most - 1);
        while auth.at_work.available_permits() < most {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    #[tokio::test]
    async fn an_unknown_user_costs_what_a_wrong_password_costs() {
        // Enough work to be told from noise.
        let auth = costly();
        let mut took = [Duration::MAX; 2];
        for _ in 0..3 {
            for (fastest, credentials) in took.iter_mut().zip(["a:wrong", "nobody:wrong"]) {
                let started = Instant::now();
                assert_eq!(
                    outcome(&auth, credentials).await,
                    Some(NotLetIn::Unauthorised(Reason::WrongPassword))
                );
                *fastest = (*fastest).min(started.elapsed());
            }
        }
        let [wrong, unknown] = took;
        assert!(unknown * 2 > wrong, "{unknown:?} for an unknown user, {wrong:?} for a wrong password");
    }
}
