//! Authorities, and the certificates that they issue, as files.

use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use balance_projector::tls::Identity;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use super::Folder;

/// An authority with a folder of its own.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    folder: Folder,
    /// Its certificate.
    pub file: PathBuf,
}

impl Authority {
    pub fn new() -> Self {
        let folder = Folder::new("authority");
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, "an authority of tests");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).expect("a certificate");
        let file = folder.join("ca.pem");
        std::fs::write(&file, certificate.pem()).expect("a file");
        Authority { issuer: Issuer::new(params, key), folder, file }
    }

    /// A certificate of this machine, for servers and clients, of this organisation.
    pub fn issue(&self, name: &str, organisation: &str) -> Identity {
        self.issue_between(name, organisation, 2000, 2999)
    }

    /// One that ends with the first of January of a year.
    pub fn issue_until(&self, name: &str, organisation: &str, year: i32) -> Identity {
        self.issue_between(name, organisation, 2000, year)
    }

    /// One that begins and ends with the first of January of these years.
    pub fn issue_between(&self, name: &str, organisation: &str, from: i32, until: i32) -> Identity {
        let hosts = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(hosts).expect("parameters");
        params.distinguished_name.push(DnType::CommonName, name);
        params.distinguished_name.push(DnType::OrganizationName, organisation);
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let identity = Identity {
            certificate: self.folder.join(&format!("{name}.pem")),
            key: self.folder.join(&format!("{name}.key")),
        };
        std::fs::write(&identity.certificate, certificate.pem()).expect("a file");
        secret(&identity.key, &key.serialize_pem());
        identity
    }
}

/// A file that nobody else can read.
pub fn secret(path: &Path, text: &str) {
    std::fs::write(path, text).expect("a file");
    mode(path, 0o600);
}

/// Sets who may use a file.
pub fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("permissions");
}
