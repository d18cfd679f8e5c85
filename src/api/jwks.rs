//! The issuer's keys: from a file or an address, kept while the issuer is down, asked for again when a token
//! names one that is not known.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Mutex;

use super::unavailable::Unavailable;
use crate::fetch::Fetcher;

/// The longest document.
const DOCUMENT_BYTES_MAX: usize = 256 << 10;
/// Keys of one document that are looked at.
const KEYS_MAX: usize = 64;
/// What the issuer is asked for.
const ACCEPTED: &str = "application/json, application/jwk-set+json";

/// The signatures that are taken. Each goes with one kind of key, so that a key cannot be used as another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// RSA, PKCS #1, SHA-256.
    Rs256,
    /// ECDSA on P-256, SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl Algorithm {
    /// By its name in configuration and headers.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "RS256" => Some(Algorithm::Rs256),
            "ES256" => Some(Algorithm::Es256),
            "EdDSA" => Some(Algorithm::EdDsa),
            _ => None,
        }
    }

    /// The library's, if it is one of ours.
    #[allow(clippy::wildcard_enum_match_arm, reason = "those of secrets and of others are not taken")]
    pub fn of(algorithm: jsonwebtoken::Algorithm) -> Option<Self> {
        match algorithm {
            jsonwebtoken::Algorithm::RS256 => Some(Algorithm::Rs256),
            jsonwebtoken::Algorithm::ES256 => Some(Algorithm::Es256),
            jsonwebtoken::Algorithm::EdDSA => Some(Algorithm::EdDsa),
            _ => None,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Algorithm::Rs256 => "RS256",
            Algorithm::Es256 => "ES256",
            Algorithm::EdDsa => "EdDSA",
        }
    }
}

impl From<Algorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Rs256 => jsonwebtoken::Algorithm::RS256,
            Algorithm::Es256 => jsonwebtoken::Algorithm::ES256,
            Algorithm::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// Where the keys are.
#[derive(Clone)]
pub enum Source {
    /// A file, read again at each refresh.
    File(PathBuf),
    /// An address.
    Url(Arc<Fetcher>),
}

/// When the keys are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How often, while nothing is wrong.
    pub refresh: Duration,
    /// Not more often than this, whatever tokens name.
    pub refresh_min: Duration,
    /// How long keys are used after they were last seen at the issuer.
    pub usable_max: Duration,
}

/// The issuer's keys.
#[derive(Clone)]
pub struct Keys {
    source: Source,
    times: Times,
    /// What outlives a reload.
    shared: Arc<Shared>,
}

struct Shared {
    held: ArcSwap<Held>,
    epochs: AtomicU64,
    attempt: Arc<Mutex<Option<Attempt>>>,
}

struct Held {
    document: Vec<u8>,
    keys: Vec<Key>,
    epoch: u64,
    /// None while no document was ever read.
    seen: Option<Instant>,
}

struct Attempt {
    at: Instant,
    outcome: Result<(), String>,
}

struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    public: DecodingKey,
}

/// Keys that a token may be signed with.
pub struct Found {
    /// One, unless an issuer gives two the same id.
    pub keys: Vec<DecodingKey>,
    /// The set that they are of.
    pub epoch: u64,
}

impl Keys {
    /// None yet: [`Keys::refresh`] brings them.
    pub fn new(source: Source, times: Times) -> Self {
        let held = Held { document: Vec::new(), keys: Vec::new(), epoch: 0, seen: None };
        let shared =
            Shared { held: ArcSwap::from_pointee(held), epochs: AtomicU64::new(0), attempt: Arc::default() };
        Keys { source, times, shared: Arc::new(shared) }
    }

    /// The keys in hand, of the same place, at other times.
    pub fn go_on(&self, source: Source, times: Times) -> Self {
        Keys { source, times, shared: Arc::clone(&self.shared) }
    }

    /// Whether these go on with the others' keys.
    pub fn go_on_from(&self, others: &Keys) -> bool {
        Arc::ptr_eq(&self.shared, &others.shared)
    }

    /// Whether they are in a file: that is not down for a while, but wrong.
    pub fn in_file(&self) -> bool {
        matches!(self.source, Source::File(_))
    }

    /// The set in use; none while there is none, or while it has not been seen for too long.
    pub fn epoch(&self) -> Option<u64> {
        let held = self.shared.held.load();
        self.usable(&held).then_some(held.epoch)
    }

    fn usable(&self, held: &Held) -> bool {
        held.seen.is_some_and(|seen| seen.elapsed() <= self.times.usable_max)
    }

    /// The keys of this id. One that is not known is asked for at the issuer, at most as often as the bound
    /// allows. `Err(None)` where there is none.
    pub async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Found, Option<Unavailable>> {
        if let Some(found) = self.held(id, algorithm) {
            return Ok(found);
        }
        let worked = self.attempt(self.times.refresh_min).await.is_ok();
        if let Some(found) = self.held(id, algorithm) {
            return Ok(found);
        }
        // The issuer may have it: it cannot be asked.
        if worked && self.epoch().is_some() { Err(None) } else { Err(Some(Unavailable::NoKeys)) }
    }

    fn held(&self, id: Option<&str>, algorithm: Algorithm) -> Option<Found> {
        let held = self.shared.held.load();
        if !self.usable(&held) {
            return None;
        }
        let mut keys: Vec<_> = held.keys.iter().filter(|key| key.algorithm == algorithm).collect();
        match id {
            Some(_) => keys.retain(|key| key.id.as_deref() == id),
            // Without an id there must be no choice.
            None if keys.len() > 1 => keys.clear(),
            None => {}
        }
        let found =
            Found { keys: keys.into_iter().map(|key| key.public.clone()).collect(), epoch: held.epoch };
        (!found.keys.is_empty()).then_some(found)
    }

    /// Asks for the keys now; where that does not work, tells why.
    pub async fn refresh(&self) -> Result<(), String> {
        self.attempt(Duration::ZERO).await
    }

    /// Asks unless that was done so lately; callers that come meanwhile share the attempt.
    async fn attempt(&self, unless_within: Duration) -> Result<(), String> {
        let mut attempt = Arc::clone(&self.shared.attempt).lock_owned().await;
        if let Some(last) = attempt.as_ref().filter(|last| last.at.elapsed() < unless_within) {
            return last.outcome.clone();
        }
        let keys = self.clone();
        // Whoever asked may hang up: it ends all the same, and counts.
        let asked = tokio::spawn(async move {
            let outcome = keys.read().await;
            if let Err(error) = &outcome {
                let keys = keys.shared.held.load().keys.len();
                tracing::warn!(%error, keys, "the issuer's keys cannot be read: those in hand are used on");
            }
            *attempt = Some(Attempt { at: Instant::now(), outcome: outcome.clone() });
            outcome
        });
        asked.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    async fn read(&self) -> Result<(), String> {
        let document = match &self.source {
            Source::File(path) => read_file(path).await?,
            Source::Url(fetcher) => fetcher.get(ACCEPTED, DOCUMENT_BYTES_MAX).await?,
        };
        let held = self.shared.held.load();
        let seen = Some(Instant::now());
        if held.seen.is_some() && held.document == document {
            let (keys, epoch) = (parse(&document)?, held.epoch);
            self.shared.held.store(Arc::new(Held { document, keys, epoch, seen }));
            return Ok(());
        }
        // A document without a usable key does not take the place of one that has some.
        let keys = parse(&document)?;
        let epoch = self.shared.epochs.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        tracing::info!(keys = keys.len(), "the issuer's keys are read");
        self.shared.held.store(Arc::new(Held { document, keys, epoch, seen }));
        Ok(())
    }

    /// How long it takes until they are to be asked for again.
    pub fn due(&self) -> Duration {
        // Held only while the issuer is asked: then nobody else has to.
        let Ok(attempt) = self.shared.attempt.try_lock() else { return self.times.refresh_min };
        let Some(last) = attempt.as_ref() else { return Duration::ZERO };
        let wait = if last.outcome.is_ok() { self.times.refresh } else { self.times.refresh_min };
        wait.saturating_sub(last.at.elapsed())
    }
}

async fn read_file(path: &std::path::Path) -> Result<Vec<u8>, String> {
    let fault = |error: std::io::Error| format!("{}: {error}", path.display());
    let size = tokio::fs::metadata(path).await.map_err(fault)?.len();
    if usize::try_from(size).is_ok_and(|size| size <= DOCUMENT_BYTES_MAX) {
        tokio::fs::read(path).await.map_err(fault)
    } else {
        Err(format!("{} is longer than {DOCUMENT_BYTES_MAX} bytes", path.display()))
    }
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    r#use: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    d: Option<Value>,
}

/// The usable keys of a document; those of other kinds, uses and algorithms are left out.
fn parse(document: &[u8]) -> Result<Vec<Key>, String> {
    let document: Document = serde_json::from_slice(document).map_err(|_| "this is no JWKS".to_owned())?;
    let keys = document.keys.len();
    if keys > KEYS_MAX {
        tracing::warn!(keys, "the JWKS holds more than {KEYS_MAX} keys: those beyond are not looked at");
    }
    let keys: Vec<_> = document
        .keys
        .into_iter()
        .take(KEYS_MAX)
        .filter_map(|key| serde_json::from_value::<Jwk>(key).ok())
        .filter_map(|jwk| usable(&jwk))
        .collect();
    if keys.is_empty() { Err("the JWKS holds no key that can be used".to_owned()) } else { Ok(keys) }
}

fn usable(jwk: &Jwk) -> Option<Key> {
    let decoded = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_ref()?).ok();
    let verifies = jwk.r#use.as_deref().is_none_or(|for_what| for_what == "sig")
        && jwk.key_ops.as_ref().is_none_or(|all| all.iter().any(|one| one == "verify"));
    // Whoever publishes the private half has lost the key.
    if !verifies || jwk.d.is_some() {
        return None;
    }
    let (algorithm, key) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
        ("RSA", _) => {
            let (n, e) = (decoded(&jwk.n)?, decoded(&jwk.e)?);
            let length = n.iter().skip_while(|byte| **byte == 0).count();
            let fits = (256..=1_024).contains(&length) && (1..=8).contains(&e.len());
            (Algorithm::Rs256, fits.then(|| DecodingKey::from_rsa_raw_components(&n, &e))?)
        }
        ("EC", Some("P-256")) => {
            let (x, y) = (decoded(&jwk.x)?, decoded(&jwk.y)?);
            let fits = x.len() == 32 && y.len() == 32;
            let key = DecodingKey::from_ec_components(jwk.x.as_ref()?, jwk.y.as_ref()?).ok();
            (Algorithm::Es256, key.filter(|_| fits)?)
        }
        ("OKP", Some("Ed25519")) => {
            let fits = decoded(&jwk.x)?.len() == 32;
            let key = DecodingKey::from_ed_components(jwk.x.as_ref()?).ok();
            (Algorithm::EdDsa, key.filter(|_| fits)?)
        }
        _ => return None,
    };
    let alg = jwk.alg.as_deref().is_none_or(|alg| alg == algorithm.name());
    alg.then(|| Key { id: jwk.kid.clone(), algorithm, public: key })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is logged while a document of so many keys is read, and how many of them are taken.
    fn read(count: u8) -> (usize, String) {
        let x = |n: u8| URL_SAFE_NO_PAD.encode([n; 32]);
        let keys: Vec<_> = (0..count).map(|n| json!({ "kty": "OKP", "crv": "Ed25519", "x": x(n) })).collect();
        let document = json!({ "keys": keys }).to_string();
        let file = tempfile::NamedTempFile::new().unwrap();
        let log =
            tracing_subscriber::fmt().with_ansi(false).with_writer(Arc::new(file.reopen().unwrap())).finish();
        let taken = tracing::subscriber::with_default(log, || parse(document.as_bytes())).unwrap();
        (taken.len(), std::fs::read_to_string(file.path()).unwrap())
    }

    #[tokio::test]
    async fn an_attempt_counts_as_one_whoever_has_hung_up() {
        let issuer = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", issuer.local_addr().unwrap());
        let minute = Duration::from_mins(1);
        let fetcher = Fetcher::new(&url, None, Duration::from_millis(500)).unwrap();
        let times = Times { refresh: minute, refresh_min: minute, usable_max: minute };
        let keys = Keys::new(Source::Url(Arc::new(fetcher)), times);
        let asked = tokio::select! {
            found = keys.find(Some("k"), Algorithm::EdDsa) => panic!("found: {}", found.is_ok()),
            asked = issuer.accept() => asked.unwrap(),
        };
        // The issuer never answers: who asks again waits for the same attempt, and begins none.
        let again = keys.find(Some("k"), Algorithm::EdDsa).await;
        assert!(matches!(again, Err(Some(Unavailable::NoKeys))));
        let one_more = tokio::time::timeout(Duration::from_millis(200), issuer.accept()).await;
        assert!(one_more.is_err(), "the issuer was asked twice");
        drop(asked);
    }

    #[test]
    fn keys_beyond_the_bound_are_told() {
        assert_eq!(read(64), (64, String::new()));
        let (taken, log) = read(66);
        assert_eq!(taken, 64);
        assert!(log.contains("more than 64 keys") && log.contains("keys=66"), "{log}");
        assert_eq!(log.lines().count(), 1, "{log}");
    }
}
