//! Certificates of the tests: an authority, and what it says of servers and clients.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    date_time_ymd,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::{TlsOptions, TlsPeer, Transport};

/// When a certificate is valid.
#[derive(Clone, Copy)]
pub enum Period {
    Past,
    Now,
    Future,
}

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
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
        std::fs::write(dir.path().join("ca.pem"), certificate.pem()).expect("written");
        let certificate = certificate.der().clone();
        Self { issuer: Issuer::new(params, key), certificate, dir }
    }

    /// One for tests that need nothing special.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Authority> = OnceLock::new();
        SHARED.get_or_init(Self::new)
    }

    pub fn file(&self) -> PathBuf {
        self.dir.path().join("ca.pem")
    }

    fn sign(&self, name: &str, period: Period) -> (rcgen::Certificate, KeyPair) {
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

    /// A server of this name.
    pub fn server(&self, name: &str, period: Period) -> Arc<ServerConfig> {
        let (certificate, key) = self.sign(name, period);
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a server");
        Arc::new(config)
    }

    /// A server that wants certificates of its clients.
    pub fn server_for_clients(&self, name: &str) -> Arc<ServerConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        let (certificate, key) = self.sign(name, Period::Now);
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
        let config = builder()
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("a server");
        Arc::new(config)
    }

    /// Files with a client's certificate and key.
    pub fn identity(&self, name: &str) -> (PathBuf, PathBuf) {
        let (certificate, key) = self.sign(name, Period::Now);
        let (cert, secret) = (self.dir.path().join("cert.pem"), self.dir.path().join("key.pem"));
        std::fs::write(&cert, certificate.pem()).expect("written");
        std::fs::write(&secret, key.serialize_pem()).expect("written");
        (cert, secret)
    }
}

fn builder() -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
}

/// A client of `localhost` that trusts this authority.
pub fn client(authority: &Authority, change: impl FnOnce(&mut TlsOptions)) -> TlsPeer {
    let mut options = TlsOptions { ca: Some(authority.file()), ..TlsOptions::default() };
    change(&mut options);
    Transport::new(options, false).tls("localhost", Some("http/1.1")).expect("usable options")
}
