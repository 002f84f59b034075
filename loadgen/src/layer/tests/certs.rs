//! Servers and clients of the tests, with certificates of an authority.

#[path = "../../../tests/support/certs.rs"]
mod authority;

use std::sync::{Arc, OnceLock};

use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};

use super::{TlsOptions, TlsPeer, Transport};
pub use authority::{Authority, Period};

/// An authority for tests that need nothing special.
pub fn shared() -> &'static Authority {
    static SHARED: OnceLock<Authority> = OnceLock::new();
    SHARED.get_or_init(Authority::new)
}

/// A server of this name, which may want certificates of its clients.
pub fn server(by: &Authority, name: &str, period: Period, asks_clients: bool) -> Arc<ServerConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .expect("versions");
    let builder = if asks_clients {
        let mut roots = RootCertStore::empty();
        roots.add(by.certificate.der().clone()).expect("a root");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
        builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
    } else {
        builder.with_no_client_auth()
    };
    let (certificate, key) = by.sign(name, period);
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let config = builder.with_single_cert(vec![certificate.der().clone()], key);
    Arc::new(config.expect("a server"))
}

/// A client of `localhost` that trusts this authority.
pub fn client(authority: &Authority, change: impl FnOnce(&mut TlsOptions)) -> TlsPeer {
    let mut options = TlsOptions { ca: Some(authority.file()), ..TlsOptions::default() };
    change(&mut options);
    Transport::new(options, false).tls("localhost", Some("http/1.1")).expect("usable options")
}
