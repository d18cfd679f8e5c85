//! The read side's part of the configuration, in the form in which it is used.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use argon2::password_hash::phc::PasswordHash;
use jiff::{Timestamp, tz::TimeZone};

use super::{
    auth::{Profile, Provider, Providers, TokenUser, User},
    connections::Bounds,
    jwks::{Algorithm, Keys, Source, Times},
    jwt::Rules,
    limits::Rate,
    min_position::TopicNames,
};
use crate::{
    config::{Api, ApiTls, ClientCertificates, Config, OnQuarantine},
    domain::{AccountId, BalanceType, Time},
    fetch::Fetcher,
    tls::{self, Clients, Identity, TlsError, Validity},
};

/// The dearest password hash that is verified, in KiB, passes and lanes: each login waits for it, and takes the memory.
const HASH_MAX: (u32, u32, u32) = (1 << 18, 64, 64);

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {wanted}")]
pub struct SettingsError {
    /// The key in the configuration.
    pub key: String,
    /// What it may be, or what is wrong with the file that it names.
    pub wanted: String,
}

/// The read side's settings, checked. Not `Debug`: they hold hashes.
pub struct Settings {
    /// Where both views listen.
    pub listen: SocketAddr,
    pub(super) account_base_paths: Vec<String>,
    pub(super) balance_types: Vec<BalanceType>,
    pub(super) currency_error_code: String,
    pub(super) max_staleness: Duration,
    pub(super) on_quarantine: OnQuarantine,
    pub(super) min_position_wait_max: Duration,
    pub(super) min_position_waiters_max: usize,
    pub(super) topics: TopicNames,
    pub(super) users: HashMap<Vec<u8>, User>,
    pub(super) profiles: HashMap<String, Profile>,
    pub(super) providers: Providers,
    pub(super) jwt: Option<JwtSettings>,
    pub(super) tls: Option<TlsSettings>,
    pub(super) match_organisation: bool,
    /// Whether a connection needs a certificate of its client, or may do without; `None` where none is asked for.
    pub(super) client_certificates: Option<ClientCertificates>,
    pub(super) credential_cache: Duration,
    pub(super) shutdown_max: Duration,
    pub(super) unattended_reads_max: u32,
    pub(super) user_rate: Rate,
    pub(super) provider_rate: Rate,
    pub(super) bounds: Bounds,
    /// The zone of days.
    pub zone: TimeZone,
}

/// Whether a password can be verified against it.
fn is_verifiable(hash: &PasswordHash) -> bool {
    let known = argon2::Algorithm::new(hash.algorithm).is_ok();
    let version = hash.version.is_none_or(|version| argon2::Version::try_from(version).is_ok());
    let (memory, passes, lanes) = HASH_MAX;
    let bounded = |costs: &argon2::Params| {
        costs.m_cost() <= memory && costs.t_cost() <= passes && costs.p_cost() <= lanes
    };
    known && version && argon2::Params::try_from(hash).as_ref().is_ok_and(bounded)
}

impl Settings {
    /// Whether clients are asked for certificates, and whether the organisation of one is compared.
    pub(super) fn certificates(&self) -> (Option<ClientCertificates>, bool) {
        (self.client_certificates, self.match_organisation)
    }

    /// Takes what the read side needs. The configuration was checked when it was loaded; a program that
    /// made its own is told the key here.
    pub fn of(config: &Config) -> Result<Self, SettingsError> {
        let api = &config.api;
        let zone =
            TimeZone::get(&config.zone).map_err(|_| wrong("zone".to_owned(), "may be an IANA time zone"))?;
        let mut users = HashMap::new();
        for (at, user) in api.users.iter().enumerate() {
            let key = |name: &str| format!("api.users[{at}].{name}");
            let wanted = "may be an argon2 hash in PHC form, as `hash-password` prints it, of up to 256 MiB, 64 passes and 64 lanes";
            let password_hash = PasswordHash::new(&user.password_hash)
                .ok()
                .filter(is_verifiable)
                .ok_or_else(|| wrong(key("password_hash"), wanted))?;
            let known = User {
                name: user.name.clone(),
                password_hash,
                profiles: user.profiles.iter().cloned().collect(),
            };
            if users.insert(user.name.clone().into_bytes(), known).is_some() {
                return Err(wrong(key("name"), "stands in api.users twice"));
            }
        }
        let mut profiles = HashMap::new();
        for (at, profile) in api.profiles.iter().enumerate() {
            let known = Profile { customer_prefixes: profile.customer_prefixes.clone() };
            if profiles.insert(profile.id.clone(), known).is_some() {
                return Err(wrong(format!("api.profiles[{at}].id"), "stands in api.profiles twice"));
            }
        }
        let mut tokens = HashMap::new();
        for (at, token) in api.tokens.iter().enumerate() {
            let key = |name: &str| format!("api.tokens[{at}].{name}");
            let digits = "may be 64 hexadecimal digits, as `hash-password --token` prints them";
            let digest =
                sha256_of_hex(&token.token_sha256).ok_or_else(|| wrong(key("token_sha256"), digits))?;
            let api_key =
                sha256_of_hex(&token.api_key_sha256).ok_or_else(|| wrong(key("api_key_sha256"), digits))?;
            let accounts: Result<HashSet<_>, _> =
                token.accounts.iter().map(|id| AccountId::parse(id)).collect();
            let expires = token.expires.as_deref().map(str::parse::<Timestamp>).transpose();
            let known = TokenUser {
                provider: Arc::new(Provider {
                    client_id: token.client_id.clone(),
                    accounts: accounts
                        .map_err(|_| wrong(key("accounts"), "may be an array of account ids"))?,
                }),
                api_key_sha256: api_key,
                expires: expires.map_err(|_| wrong(key("expires"), "may be an RFC 3339 instant"))?.map(Time),
            };
            if tokens.insert(digest, known).is_some() {
                return Err(wrong(key("token_sha256"), "stands in api.tokens twice"));
            }
        }
        let mut api_keys = HashMap::new();
        for (at, provider) in api.providers.iter().enumerate() {
            let key = |name: &str| format!("api.providers[{at}].{name}");
            let digits = "may be 64 hexadecimal digits, as `hash-password --token` prints them";
            let digest = sha256_of_hex(&provider.api_key_sha256);
            let digest = digest.ok_or_else(|| wrong(key("api_key_sha256"), digits))?;
            if api_keys.insert(provider.client_id.clone(), digest).is_some() {
                return Err(wrong(key("client_id"), "stands in api.providers twice"));
            }
        }
        Ok(Settings {
            listen: api.listen,
            account_base_paths: api.account_base_paths.clone(),
            balance_types: api.balance_types.clone(),
            currency_error_code: api.currency_error_code.clone(),
            max_staleness: Duration::from_millis(api.max_staleness_ms),
            on_quarantine: api.on_quarantine,
            min_position_wait_max: Duration::from_millis(api.min_position_wait_ms_max),
            min_position_waiters_max: api.min_position_waiters_max,
            topics: TopicNames {
                ledger: config.kafka.ledger_topic.clone(),
                payment: config.kafka.payment_topic.clone(),
            },
            users,
            profiles,
            providers: Providers { tokens, api_keys, blocked: api.blocked.iter().cloned().collect() },
            jwt: JwtSettings::of(api)?,
            tls: TlsSettings::of(&api.tls)?,
            match_organisation: api.tls.match_organisation,
            client_certificates: api.tls.client_ca_file.is_some().then_some(api.tls.client_certificates),
            credential_cache: Duration::from_millis(api.credential_cache_ms),
            shutdown_max: Duration::from_millis(api.shutdown_ms_max),
            unattended_reads_max: api.unattended_reads_max,
            user_rate: Rate { per_second: api.user_requests_per_second, burst: api.user_requests_burst },
            provider_rate: Rate {
                per_second: api.provider_requests_per_second,
                burst: api.provider_requests_burst,
            },
            bounds: Bounds {
                connections: api.connections_max,
                headers: Duration::from_millis(api.headers_ms_max),
                idle: Duration::from_millis(api.idle_ms_max),
                header_bytes: api.header_bytes_max,
            },
            zone,
        })
    }

    /// Whether the issuer's keys are there, where they are in a file. An address is asked only by who serves.
    pub async fn check_keys(&self) -> Result<(), SettingsError> {
        let Some(jwt) = &self.jwt else { return Ok(()) };
        let keys = Keys::new(jwt.source()?, jwt.times);
        if keys.in_file() { keys.refresh().await.map_err(|error| unusable_keys(&error)) } else { Ok(()) }
    }

    /// What clients will not take at this instant, though the views can be served.
    pub fn untimely(&self, now: Time) -> Option<SettingsError> {
        self.tls.as_ref()?.untimely(now)
    }
}

fn wrong(key: String, wanted: &str) -> SettingsError {
    SettingsError { key, wanted: wanted.to_owned() }
}

/// The issuer's keys cannot be had.
pub(super) fn unusable_keys(error: &str) -> SettingsError {
    wrong("api.jwt.jwks".to_owned(), &format!("cannot be used: {error}"))
}

/// An issuer whose tokens are taken.
#[derive(Clone, PartialEq, Eq)]
pub struct JwtSettings {
    pub(super) rules: Rules,
    pub(super) times: Times,
    /// A path or an address.
    pub(super) jwks: String,
    pub(super) authority: Option<PathBuf>,
    pub(super) fetch_max: Duration,
}

impl JwtSettings {
    fn of(api: &Api) -> Result<Option<Self>, SettingsError> {
        let jwt = &api.jwt;
        let (Some(issuer), Some(audience), Some(jwks)) = (&jwt.issuer, &jwt.audience, &jwt.jwks) else {
            return Ok(None);
        };
        let algorithms: Option<Vec<_>> = jwt.algorithms.iter().map(|name| Algorithm::named(name)).collect();
        let settings = JwtSettings {
            rules: Rules {
                issuer: issuer.clone(),
                audience: audience.clone(),
                algorithms: algorithms.ok_or_else(|| {
                    wrong("api.jwt.algorithms".to_owned(), "may be of RS256, ES256 and EdDSA")
                })?,
                leeway_seconds: i64::from(jwt.leeway_s),
                token_bytes_max: jwt.token_bytes_max,
                remember: Duration::from_millis(jwt.cache_ms),
            },
            times: Times {
                refresh: Duration::from_millis(jwt.refresh_ms),
                refresh_min: Duration::from_millis(jwt.refresh_ms_min),
                usable_max: Duration::from_millis(jwt.usable_ms_max),
            },
            jwks: jwks.clone(),
            authority: jwt.jwks_ca_file.clone(),
            fetch_max: Duration::from_millis(jwt.fetch_ms_max),
        };
        settings.source()?;
        Ok(Some(settings))
    }

    /// Whether both have their keys from the same place.
    pub(super) fn same_keys(&self, other: &Self) -> bool {
        (&self.jwks, &self.authority) == (&other.jwks, &other.authority)
    }

    /// Where the keys are.
    pub(super) fn source(&self) -> Result<Source, SettingsError> {
        if !self.jwks.contains("://") {
            return Ok(Source::File(PathBuf::from(&self.jwks)));
        }
        let fetcher = Fetcher::new(&self.jwks, self.authority.as_deref(), self.fetch_max);
        fetcher.map(|fetcher| Source::Url(Arc::new(fetcher))).map_err(|error| unusable_keys(&error))
    }
}

/// HTTPS: the files, and what was read of them.
#[derive(Clone)]
pub struct TlsSettings {
    pub(super) config: Arc<rustls::ServerConfig>,
    pub(super) validity: Validity,
    certificate: PathBuf,
}

impl TlsSettings {
    fn of(api: &ApiTls) -> Result<Option<Self>, SettingsError> {
        let (Some(certificate), Some(key)) = (&api.certificate_file, &api.key_file) else { return Ok(None) };
        let identity = Identity { certificate: certificate.clone(), key: key.clone() };
        let clients = api.client_ca_file.as_ref().map(|authority| Clients {
            authority: authority.clone(),
            required: api.client_certificates == ClientCertificates::Required,
        });
        let unusable = |error: TlsError| wrong("api.tls".to_owned(), &format!("cannot be used: {error}"));
        Ok(Some(TlsSettings {
            config: Arc::new(tls::server(&identity, clients.as_ref()).map_err(unusable)?),
            validity: tls::validity(certificate).map_err(unusable)?,
            certificate: certificate.clone(),
        }))
    }

    /// What is wrong with the certificate at this instant: it has ended, or has not begun.
    pub(super) fn untimely(&self, now: Time) -> Option<SettingsError> {
        let Validity { from, until } = self.validity;
        let at = |second: i64| {
            Timestamp::from_second(second).map_or_else(|_| second.to_string(), |at| at.to_string())
        };
        let second = now.0.as_second();
        let what = if second > until {
            format!("ended at {}", at(until))
        } else if second < from {
            format!("begins only at {}", at(from))
        } else {
            return None;
        };
        let wanted = format!("names a certificate that {what}: {}", self.certificate.display());
        Some(wrong("api.tls.certificate_file".to_owned(), &wanted))
    }
}

fn sha256_of_hex(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()));
        *byte = u8::from_str_radix(pair?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_could_not_be_verified_or_only_at_a_price_is_no_hash() {
        let rest = "c29tZXNhbHRzb21lc2FsdA$Wd4S7pQnpAR5Dn5JAPMEUAwDm1k2JCPNyH0zXL3rW4s";
        for (hash, fits) in [
            ("$argon2id$v=19$m=19456,t=2,p=1$", true),
            ("$argon2i$v=16$m=262144,t=64,p=64$", true),
            ("$argon2xx$v=19$m=19456,t=2,p=1$", false),
            ("$argon2id$v=99$m=19456,t=2,p=1$", false),
            ("$argon2id$v=19$m=19456,t=2,p=0$", false),
            ("$argon2id$v=19$m=262145,t=2,p=1$", false),
            ("$argon2id$v=19$m=19456,t=65,p=1$", false),
            ("$argon2id$v=19$m=19456,t=4000000000,p=1$", false),
        ] {
            let parsed = PasswordHash::new(&format!("{hash}{rest}"));
            assert_eq!(parsed.is_ok_and(|hash| is_verifiable(&hash)), fits, "{hash}");
        }
    }
}
