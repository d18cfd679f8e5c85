//! The sections of certificates, issuers and passwords.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// HTTPS of both views. Without a certificate they speak HTTP.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ApiTls {
    /// PEM: the certificate, then its chain.
    pub certificate_file: Option<PathBuf>,
    /// PEM: its key.
    pub key_file: Option<PathBuf>,
    /// PEM: the authorities of clients' certificates; none are asked for without it.
    pub client_ca_file: Option<PathBuf>,
    /// Whether a client without a certificate may connect.
    pub client_certificates: ClientCertificates,
    /// Whether a provider's certificate must name the organisation of its `TPP-Name`.
    pub match_organisation: bool,
}

/// Whether clients must have a certificate, where an authority is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientCertificates {
    /// One without cannot connect.
    Required,
    /// One without can; a bad one cannot.
    Optional,
}

/// Tokens that an issuer signed. Without an issuer none are taken.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Jwt {
    /// `iss`.
    pub issuer: Option<String>,
    /// What `aud` must hold.
    pub audience: Option<String>,
    /// The issuer's keys: a path, or an address.
    pub jwks: Option<String>,
    /// PEM: the authority of the address's certificate; the system's where left out.
    pub jwks_ca_file: Option<PathBuf>,
    /// The signatures that are taken.
    pub algorithms: Vec<String>,
    /// By how much the issuer's clock may differ.
    pub leeway_s: u32,
    /// The longest token.
    pub token_bytes_max: usize,
    /// How long a verified token is remembered.
    pub cache_ms: u64,
    /// How often the keys are asked for.
    pub refresh_ms: u64,
    /// Not more often than this, whatever tokens name.
    pub refresh_ms_min: u64,
    /// How long keys are used while the issuer does not answer.
    pub usable_ms_max: u64,
    /// How long the issuer may take to answer.
    pub fetch_ms_max: u64,
}

/// TLS of a connection that this program opens.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClientTls {
    /// PEM: the authority of the servers' certificates; the system's where left out.
    pub ca_file: Option<PathBuf>,
    /// PEM: this client's certificate.
    pub certificate_file: Option<PathBuf>,
    /// PEM: its key.
    pub key_file: Option<PathBuf>,
}

/// How the brokers are spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum KafkaSecurity {
    /// As they come.
    Plain,
    /// By TLS.
    Tls,
}

/// Who this program is to the brokers. Without a mechanism: nobody, or the certificate's subject.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sasl {
    /// `PLAIN`, `SCRAM-SHA-256` or `SCRAM-SHA-512`.
    pub mechanism: Option<String>,
    /// The user.
    pub username: Option<String>,
    /// The file with its password.
    pub password_file: Option<PathBuf>,
}

/// Redis behind sentinels. Without one, `redis.url` names the primary.
#[derive(Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Sentinel {
    /// `host:port`, each.
    pub nodes: Vec<String>,
    /// The name of the primary.
    pub primary: Option<String>,
    /// The user of the sentinels themselves.
    pub username: Option<String>,
    /// The file with its password.
    pub password_file: Option<PathBuf>,
}

impl Default for ApiTls {
    fn default() -> Self {
        ApiTls {
            certificate_file: None,
            key_file: None,
            client_ca_file: None,
            client_certificates: ClientCertificates::Required,
            match_organisation: false,
        }
    }
}

impl Default for Jwt {
    fn default() -> Self {
        Jwt {
            issuer: None,
            audience: None,
            jwks: None,
            jwks_ca_file: None,
            algorithms: ["RS256", "ES256", "EdDSA"].map(str::to_owned).to_vec(),
            leeway_s: 30,
            token_bytes_max: 8 << 10,
            cache_ms: 60_000,
            refresh_ms: 300_000,
            refresh_ms_min: 10_000,
            usable_ms_max: 86_400_000,
            fetch_ms_max: 3_000,
        }
    }
}
