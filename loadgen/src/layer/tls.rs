//! TLS as a layer: rustls driven by bytes, and what the options say about trust and identity.
//!
//! Each connection shakes hands in full, as separate users do, unless resumption was asked for;
//! tickets then belong to one worker and one target, and are never shared further.

use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientSessionMemoryCache, Resumption};
use rustls::crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, HandshakeKind, RootCertStore,
    SignatureScheme,
};

use super::Failure;
use super::trouble::failure;

/// Targets whose tickets a store keeps; each store belongs to one target.
const TICKET_STORE_TARGETS: usize = 1;

/// What was typed about TLS.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// Certificates that a target's must lead to; the system's without them.
    pub ca: Option<PathBuf>,
    /// The client's certificate chain and its key.
    pub identity: Option<(PathBuf, PathBuf)>,
    /// The name that the target is asked for and has to prove.
    pub server_name: Option<String>,
    /// Protocols to offer instead of the usual one.
    pub alpn: Vec<String>,
    /// Whether any certificate will do.
    pub insecure: bool,
    /// Whether connections may resume what an earlier one agreed upon.
    pub resume: bool,
}

/// TLS options that cannot be used: one line with the cause and what to do.
#[derive(Debug, thiserror::Error)]
pub enum BadTls {
    /// A file that cannot be read, or holds something else.
    #[error("{option} {path}: {cause}")]
    File {
        /// The option that names it.
        option: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// The host trusts nobody.
    #[error("this host has no root certificates ({0}): give --ca FILE, or install ca-certificates")]
    NoRoots(String),
    /// Not a name that a certificate can prove.
    #[error("'{0}' is no name that a certificate can prove: give one by --server-name")]
    Name(String),
    /// Key and certificate that do not go together.
    #[error("--cert and --key cannot be used: {0}")]
    Identity(rustls::Error),
    /// Versions and ciphers.
    #[error("TLS cannot be set up: {0}")]
    Other(rustls::Error),
}

/// All about TLS that is the same for every target; read from files when the first one needs it.
#[derive(Debug, Default)]
pub struct Transport {
    /// What was typed.
    pub options: TlsOptions,
    /// Whether WebSocket messages end in a newline.
    pub ws_newline: bool,
    config: OnceLock<Arc<ClientConfig>>,
}

impl Transport {
    /// Reads nothing yet.
    pub fn new(options: TlsOptions, ws_newline: bool) -> Self {
        Self { options, ws_newline, config: OnceLock::new() }
    }

    /// The TLS of a target whose host part is this; `usual` is the protocol that it is offered.
    ///
    /// # Errors
    /// [`BadTls`].
    pub fn tls(&self, host: &str, usual: Option<&str>) -> Result<TlsPeer, BadTls> {
        let name = self.options.server_name.as_deref().unwrap_or(host);
        let server =
            ServerName::try_from(name.to_owned()).map_err(|_| BadTls::Name(name.to_owned()))?;
        let config = match self.config.get() {
            Some(config) => config.clone(),
            None => {
                let built = Arc::new(build(&self.options)?);
                self.config.get_or_init(|| built).clone()
            }
        };
        let mut alpn: Vec<Vec<u8>> =
            self.options.alpn.iter().map(|name| name.clone().into_bytes()).collect();
        if alpn.is_empty() {
            alpn.extend(usual.map(|name| name.as_bytes().to_vec()));
        }
        let resume = self.options.resume;
        Ok(TlsPeer { config, server, alpn, resume })
    }
}

fn build(options: &TlsOptions) -> Result<ClientConfig, BadTls> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(BadTls::Other)?;
    let builder = match (options.insecure, &options.ca) {
        (true, _) => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider)))
        }
        (false, Some(file)) => builder.with_root_certificates(roots_of(file)?),
        (false, None) => builder.with_root_certificates(roots_of_system()?),
    };
    let mut config = match &options.identity {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => {
            let chain = certificates("--cert", cert)?;
            let secret = PrivateKeyDer::from_pem_file(key).map_err(|e| BadTls::File {
                option: "--key",
                path: key.clone(),
                cause: format!("no private key in PEM form ({e})"),
            })?;
            builder.with_client_auth_cert(chain, secret).map_err(BadTls::Identity)?
        }
    };
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn certificates(option: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, BadTls> {
    let bad = |cause: String| BadTls::File { option, path: path.to_owned(), cause };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
    let all: Vec<_> = read.map_err(|e| bad(format!("no certificates in PEM form ({e})")))?;
    if all.is_empty() { Err(bad("it holds no certificate in PEM form".into())) } else { Ok(all) }
}

fn roots_of(file: &Path) -> Result<RootCertStore, BadTls> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates("--ca", file)? {
        roots.add(certificate).map_err(|e| BadTls::File {
            option: "--ca",
            path: file.to_owned(),
            cause: format!("a certificate in it cannot be used ({e})"),
        })?;
    }
    Ok(roots)
}

fn roots_of_system() -> Result<RootCertStore, BadTls> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    let (usable, _) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let cause = found.errors.first().map_or("none were found".into(), ToString::to_string);
        return Err(BadTls::NoRoots(cause));
    }
    Ok(roots)
}

/// The TLS of one target.
#[derive(Clone, Debug)]
pub struct TlsPeer {
    config: Arc<ClientConfig>,
    server: ServerName<'static>,
    alpn: Vec<Vec<u8>>,
    resume: bool,
}

impl TlsPeer {
    /// The same for the connections of one worker, which keep tickets to themselves.
    pub fn for_worker(&self) -> Self {
        let mut peer = self.clone();
        if self.resume {
            let mut config = ClientConfig::clone(&self.config);
            let store = ClientSessionMemoryCache::new(TICKET_STORE_TARGETS);
            config.resumption = Resumption::store(Arc::new(store));
            peer.config = Arc::new(config);
        }
        peer
    }
}

/// What a handshake came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secured {
    /// Whether it went on from an earlier one.
    pub resumed: bool,
}

/// The TLS of one connection.
#[derive(Debug)]
pub(super) struct Tls {
    conn: ClientConnection,
}

impl Tls {
    pub(super) fn begin(peer: &TlsPeer) -> Result<Self, Failure> {
        let (config, server) = (peer.config.clone(), peer.server.clone());
        let mut conn = ClientConnection::new_with_alpn(config, server, peer.alpn.clone())
            .map_err(|e| failure(&e))?;
        // One message is sealed at a time; its length is bounded by the plan.
        conn.set_buffer_limit(None);
        Ok(Self { conn })
    }

    pub(super) fn is_handshaking(&self) -> bool {
        self.conn.is_handshaking()
    }

    pub(super) fn secured(&self) -> Secured {
        Secured { resumed: self.conn.handshake_kind() == Some(HandshakeKind::Resumed) }
    }

    /// Version, cipher and protocol that were agreed upon, for people.
    pub(super) fn terms(&self) -> Option<String> {
        let version = self.conn.protocol_version()?;
        let suite = self.conn.negotiated_cipher_suite()?.suite();
        let alpn = self.conn.alpn_protocol().map(String::from_utf8_lossy);
        let alpn = alpn.map_or(String::new(), |name| format!(", ALPN {name}"));
        Some(format!("{version:?} {suite:?}{alpn}"))
    }

    /// Takes bytes and appends what was in them to `plain`; whether the peer has ended its side.
    pub(super) fn feed(&mut self, input: &mut &[u8], plain: &mut Vec<u8>) -> Result<bool, Failure> {
        while !input.is_empty() {
            // The plain bytes are taken out after every read, so that there is always room.
            let read = self.conn.read_tls(input);
            let read = read.map_err(|e| failure(&rustls::Error::General(e.to_string())))?;
            let state = self.conn.process_new_packets();
            let mut reader = self.conn.reader();
            while let Ok(bytes) = reader.fill_buf()
                && !bytes.is_empty()
            {
                plain.extend_from_slice(bytes);
                let len = bytes.len();
                reader.consume(len);
            }
            if state.map_err(|e| failure(&e))?.peer_has_closed() || read == 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) fn seal(&mut self, plain: &[u8]) {
        // Without a limit, the writer takes everything and cannot fail.
        let sealed = self.conn.writer().write_all(plain);
        debug_assert!(sealed.is_ok(), "{sealed:?}");
    }

    pub(super) fn close(&mut self) {
        self.conn.send_close_notify();
    }

    pub(super) fn has_output(&self) -> bool {
        self.conn.wants_write()
    }

    pub(super) fn take_output(&mut self, mut into: &mut [u8]) -> usize {
        let mut taken = 0;
        while !into.is_empty() && self.conn.wants_write() {
            match self.conn.write_tls(&mut into) {
                Ok(len) if len > 0 => taken += len,
                Ok(_) | Err(_) => break,
            }
        }
        taken
    }
}

/// Believes any certificate (`--insecure`); signatures are still checked, so that the peer at least
/// holds the key of the certificate that it shows.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
