//! The certificate and the settings that all TLS connections share.

use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{ServerConfig, SupportedCipherSuite};

/// Certificate, key and settings, shared by all TLS connections.
#[derive(Clone)]
pub struct TlsAcceptor {
    pub(super) config: Arc<ServerConfig>,
    certified: Arc<CertifiedKey>,
    fingerprint: String,
    /// For `--tls auto`: expiry, and the names and addresses covered.
    pub(super) own: Option<(SystemTime, Vec<String>)>,
}

/// Certificates and the names that they cover. The one for a connection is chosen by the name that the client requests
/// (RFC 6066 section 3). The first is the default, also for clients that send an address or no name.
#[derive(Debug)]
struct ByName(Vec<(Vec<String>, Arc<CertifiedKey>)>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello) -> Option<Arc<CertifiedKey>> {
        let requested = hello.server_name().unwrap_or_default();
        let covers = |(names, _): &&(Vec<String>, _)| names.iter().any(|name| name.eq_ignore_ascii_case(requested));
        let chosen = self.0.iter().find(covers).or(self.0.first());
        chosen.map(|(_, certified)| Arc::clone(certified))
    }
}

/// Why there is no [`TlsAcceptor`]: one line that names the setting and the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsError(pub(super) String);

impl TlsAcceptor {
    /// Returns the SHA-256 of the certificate in the form that browsers show, `AA:BB:..`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Returns true if the certificate covers this address. One from files is assumed to cover all.
    pub fn covers(&self, addr: IpAddr) -> bool {
        self.own.as_ref().is_none_or(|(_, names)| names.contains(&addr.to_string()))
    }

    /// Returns an acceptor that serves this certificate and `others`. A client that asks for a name that this one does
    /// not cover gets the newest of the others that does.
    pub fn with_others(&self, others: &[TlsAcceptor]) -> TlsAcceptor {
        let all = std::iter::once(self).chain(others.iter().rev());
        let names = |acceptor: &TlsAcceptor| acceptor.own.as_ref().map(|(_, names)| names.clone()).unwrap_or_default();
        let all = all.map(|acceptor| (names(acceptor), Arc::clone(&acceptor.certified))).collect();
        let mut config = ServerConfig::clone(&self.config);
        config.cert_resolver = Arc::new(ByName(all));
        TlsAcceptor { config: Arc::new(config), ..self.clone() }
    }

    /// Loads a certificate chain and its key from PEM files.
    ///
    /// # Errors
    /// Returns one line for the user, which names the setting to change.
    pub fn from_files(cert: &Path, key: &Path) -> Result<TlsAcceptor, TlsError> {
        let (cert_setting, key_setting) = ("--tls-cert (TLS_CERT)", "--tls-key (TLS_KEY)");
        let chain =
            parse_chain(&read(cert_setting, cert)?).map_err(|error| TlsError::file(cert_setting, cert, error))?;
        let key_der = parse_key(&read(key_setting, key)?).map_err(|error| TlsError::file(key_setting, key, error))?;
        TlsAcceptor::new(chain, key_der).map_err(|error| {
            TlsError(format!("{cert_setting} {} with {key_setting} {}: {error}", cert.display(), key.display()))
        })
    }

    pub(super) fn new(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<TlsAcceptor, rustls::Error> {
        let fingerprint = fingerprint(chain.first().map_or(&[][..], |leaf| leaf));
        let provider = aws_lc_rs::default_provider();
        let certified = Arc::new(CertifiedKey::from_der(chain, key, &provider)?);
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName(vec![(Vec::new(), Arc::clone(&certified))])));
        // WebSocket upgrades need HTTP/1.1 (RFC 6455 section 4.1). A client that offers only h2 gets an alert.
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(TlsAcceptor { config: Arc::new(config), certified, fingerprint, own: None })
    }
}

impl TlsError {
    /// Returns the error for addresses that `--tls auto` cannot list.
    pub fn no_addresses(error: io::Error) -> TlsError {
        TlsError(format!("--tls auto (TLS): cannot list this machine's addresses: {error}"))
    }

    pub(super) fn file(setting: &str, path: &Path, error: impl fmt::Display) -> TlsError {
        TlsError(format!("{setting} {}: {error}", path.display()))
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for TlsError {}

fn read(setting: &str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| TlsError::file(setting, path, error))
}

pub(super) fn parse_chain(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
    match chain {
        Ok(chain) if chain.is_empty() => Err("no PEM certificate found".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(error.to_string()),
    }
}

pub(super) fn parse_key(pem: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    PrivateKeyDer::from_pem_slice(pem).map_err(|error| match error {
        rustls::pki_types::pem::Error::NoItemsFound => {
            "no PEM private key found (encrypted keys are not supported)".to_owned()
        }
        error => error.to_string(),
    })
}

fn fingerprint(der: &[u8]) -> String {
    // rustls's own SHA-256, part of every TLS 1.3 cipher suite.
    let SupportedCipherSuite::Tls13(suite) = aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256 else {
        unreachable!("TLS13_AES_128_GCM_SHA256 is a TLS 1.3 suite");
    };
    let hash = suite.common.hash_provider.hash(der);
    let bytes: Vec<String> = hash.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    bytes.join(":")
}
