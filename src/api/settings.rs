//! The read side's part of the configuration, in the form in which it is used.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    time::Duration,
};

use argon2::password_hash::phc::PasswordHash;
use jiff::{Timestamp, tz::TimeZone};

use super::{
    auth::{Profile, TokenUser, User},
    connections::Bounds,
    limits::Rate,
    min_position::TopicNames,
};
use crate::{
    config::{Config, OnQuarantine},
    domain::{AccountId, BalanceType, Time},
};

/// A setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key} {wanted}")]
pub struct SettingsError {
    /// The key in the configuration.
    pub key: String,
    /// What it may be.
    pub wanted: &'static str,
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
    pub(super) tokens: HashMap<[u8; 32], TokenUser>,
    pub(super) credential_cache: Duration,
    pub(super) shutdown_max: Duration,
    pub(super) unattended_reads_max: u32,
    pub(super) user_rate: Rate,
    pub(super) provider_rate: Rate,
    pub(super) bounds: Bounds,
    /// The zone of days.
    pub zone: TimeZone,
}

impl Settings {
    /// Takes what the read side needs. The configuration was checked when it was loaded; a program that
    /// made its own is told the key here.
    pub fn of(config: &Config) -> Result<Self, SettingsError> {
        let api = &config.api;
        let zone =
            TimeZone::get(&config.zone).map_err(|_| wrong("zone".to_owned(), "may be an IANA time zone"))?;
        let mut users = HashMap::new();
        for (at, user) in api.users.iter().enumerate() {
            let key = |name: &str| format!("api.users[{at}].{name}");
            let wanted = "may be an argon2 hash in PHC form, as `hash-password` prints it";
            let password_hash =
                PasswordHash::new(&user.password_hash).map_err(|_| wrong(key("password_hash"), wanted))?;
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
                client_id: token.client_id.clone(),
                api_key_sha256: api_key,
                accounts: accounts.map_err(|_| wrong(key("accounts"), "may be an array of account ids"))?,
                expires: expires.map_err(|_| wrong(key("expires"), "may be an RFC 3339 instant"))?.map(Time),
            };
            if tokens.insert(digest, known).is_some() {
                return Err(wrong(key("token_sha256"), "stands in api.tokens twice"));
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
            tokens,
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
}

fn wrong(key: String, wanted: &'static str) -> SettingsError {
    SettingsError { key, wanted }
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
