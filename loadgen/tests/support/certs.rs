//! Certificates of the tests: an authority, and what it says of servers and clients.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::path::PathBuf;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, date_time_ymd,
};

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub enum Period {
    Past,
    Now,
    Future,
}

/// An authority with a directory of its own for files.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// Its own certificate.
    pub certificate: Certificate,
    dir: tempfile::TempDir,
}

impl Authority {
    pub fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "tests");
        let certificate = params.self_signed(&key).expect("signed");
        let dir = tempfile::tempdir().expect("dir");
        let authority = Self { issuer: Issuer::new(params, key), certificate, dir };
        std::fs::write(authority.file(), authority.certificate.pem()).expect("written");
        authority
    }

    /// The file with its certificate.
    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    /// A certificate for this name.
    pub fn sign(&self, name: &str, period: Period) -> (Certificate, KeyPair) {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(vec![name.to_owned()]).expect("a name");
        let (from, until) = match period {
            Period::Past => (2001, 2002),
            Period::Now => (2001, 2090),
            Period::Future => (2089, 2090),
        };
        params.not_before = date_time_ymd(from, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        (params.signed_by(&key, &self.issuer).expect("signed"), key)
    }

    /// The same as files: certificate and key.
    pub fn files(&self, name: &str, period: Period) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.sign(name, period);
        let stem = name.replace(':', "_");
        let cert = self.dir.path().join(format!("{stem}.pem"));
        let secret = self.dir.path().join(format!("{stem}.key"));
        std::fs::write(&cert, certificate.pem()).expect("written");
        std::fs::write(&secret, key.serialize_pem()).expect("written");
        (cert, secret)
    }
}
