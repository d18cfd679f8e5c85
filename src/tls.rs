//! Certificates and keys from files: of this server, of its clients, and of the servers that it asks.

use std::{
    fmt::Display,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use x509_cert::{
    Certificate,
    der::{
        Decode as _,
        asn1::{ObjectIdentifier, PrintableStringRef, TeletexStringRef, Utf8StringRef},
    },
};

/// `organizationName`.
const ORGANISATION: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.10");
/// What others must not be able to do with a file that holds a secret.
const OTHERS_MAY: u32 = 0o007;

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {reason}")]
pub struct TlsError {
    /// Which file.
    pub path: String,
    /// What is wrong with it; never what it holds.
    pub reason: String,
}

impl TlsError {
    fn new(path: &Path, reason: &impl Display) -> Self {
        TlsError { path: path.display().to_string(), reason: reason.to_string() }
    }
}

/// A certificate with its chain, and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM: the certificate first.
    pub certificate: PathBuf,
    /// PEM, readable by its owner and group alone.
    pub key: PathBuf,
}

/// Who may connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clients {
    /// PEM: the authorities of their certificates.
    pub authority: PathBuf,
    /// Whether one without a certificate is refused.
    pub required: bool,
}

/// Makes the one provider of cryptography the process's. Further calls change nothing.
pub fn install() {
    // Another one is installed already only where this was called before.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

/// A file that holds a secret: refused where others may read or change it.
pub fn read_secret(path: &Path) -> Result<Vec<u8>, TlsError> {
    let fault = |error: std::io::Error| TlsError::new(path, &error);
    others_may_not(path)?;
    fs::read(path).map_err(fault)
}

/// Refuses a file that others than its owner and group may read or change.
pub fn others_may_not(path: &Path) -> Result<(), TlsError> {
    let mode = fs::metadata(path).map_err(|error| TlsError::new(path, &error))?.permissions().mode();
    if mode & OTHERS_MAY == 0 {
        return Ok(());
    }
    let reason = format!("it holds a secret, and others may use it (mode {:03o}); chmod o= it", mode & 0o777);
    Err(TlsError::new(path, &reason))
}

/// The one line of a file that holds a password.
pub fn read_password(path: &Path) -> Result<String, TlsError> {
    let text = String::from_utf8(read_secret(path)?).map_err(|_| TlsError::new(path, &"it is not UTF-8"))?;
    let password = text.trim_end_matches(['\r', '\n']);
    if password.is_empty() || password.contains('\n') {
        return Err(TlsError::new(path, &"it may be one line"));
    }
    Ok(password.to_owned())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = |error: &dyn Display| TlsError::new(path, &format!("{error}"));
    let text = fs::read(path).map_err(|error| fault(&error))?;
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let all = all.map_err(|error| fault(&error))?;
    if all.is_empty() { Err(fault(&"it holds no certificate")) } else { Ok(all) }
}

fn key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let text = read_secret(path)?;
    // The library's error may quote the file.
    PrivateKeyDer::from_pem_slice(&text).map_err(|_| TlsError::new(path, &"it holds no private key in PEM"))
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| TlsError::new(path, &error))?;
    }
    Ok(roots)
}

/// What a server needs: HTTP/1.1 over TLS 1.2 or 1.3.
pub fn server(identity: &Identity, clients: Option<&Clients>) -> Result<ServerConfig, TlsError> {
    let fault = |error: &dyn Display| TlsError::new(&identity.certificate, &format!("{error}"));
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| fault(&error))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let roots = Arc::new(authorities(&clients.authority)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider());
            let verifier = if clients.required { verifier } else { verifier.allow_unauthenticated() };
            let built = verifier.build().map_err(|error| TlsError::new(&clients.authority, &error))?;
            builder.with_client_cert_verifier(built)
        }
    };
    let (chain, key) = (certificates(&identity.certificate)?, key(&identity.key)?);
    let mut config = builder.with_single_cert(chain, key).map_err(|error| fault(&error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

/// What a client needs: the authority of the server (the system's where none is named), and who it is itself.
pub fn client(authority: Option<&Path>, identity: Option<&Identity>) -> Result<ClientConfig, TlsError> {
    let roots = if let Some(path) = authority {
        authorities(path)?
    } else {
        let mut roots = RootCertStore::empty();
        // What the system holds and cannot be read is no authority of ours.
        let _added = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        roots
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError { path: "TLS".to_owned(), reason: error.to_string() })?
        .with_root_certificates(roots);
    match identity {
        None => Ok(builder.with_no_client_auth()),
        Some(identity) => builder
            .with_client_auth_cert(certificates(&identity.certificate)?, key(&identity.key)?)
            .map_err(|error| TlsError::new(&identity.certificate, &error)),
    }
}

/// From when until when a certificate may be used, both inclusive, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// `notBefore`.
    pub from: i64,
    /// `notAfter`.
    pub until: i64,
}

/// The validity of the first certificate of a file.
pub fn validity(path: &Path) -> Result<Validity, TlsError> {
    let first = certificates(path)?.into_iter().next();
    let fault = || TlsError::new(path, &"it is no X.509 certificate");
    let certificate = Certificate::from_der(first.as_deref().ok_or_else(fault)?).map_err(|_| fault())?;
    let seconds = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs());
    let validity = certificate.tbs_certificate.validity;
    match (seconds(validity.not_before), seconds(validity.not_after)) {
        (Ok(from), Ok(until)) => Ok(Validity { from, until }),
        _ => Err(fault()),
    }
}

/// The organisations that a certificate's subject names.
pub fn organisations(certificate: &[u8]) -> Vec<String> {
    let Ok(certificate) = Certificate::from_der(certificate) else { return Vec::new() };
    let names = certificate.tbs_certificate.subject.0.iter().flat_map(|name| name.0.iter());
    names
        .filter(|name| name.oid == ORGANISATION)
        .filter_map(|name| {
            let value = &name.value;
            let utf8 = || value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.to_string());
            let printable = || value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.to_string());
            let teletex = || value.decode_as::<TeletexStringRef<'_>>().ok().map(|text| text.to_string());
            utf8().or_else(printable).or_else(teletex)
        })
        .collect()
}
