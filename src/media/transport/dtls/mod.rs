//! DTLS endpoints with one configuration for all peers: building dimpl's configuration takes more than a millisecond,
//! an endpoint with a shared one 15 microseconds. Servers also request certificates with RSA keys
//! ([`client_certificate`]).
//!
//! The keying material that a handshake exports for SRTP goes to str0m and to the peer that drives the handshake. str0m
//! has no accessor for it and creates DTLS endpoints through a `&'static` provider, so the material is passed in a
//! thread-local cell, which is emptied before the peer's call returns.

pub mod client_certificate;
mod fragments;

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dimpl::{CertificateError, SecurityError};
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
};
use str0m::crypto::{CryptoError, CryptoProvider, from_feature_flags};

use self::fragments::{Fragments, clear_length};
use crate::media::transport::opening::Noting;
use crate::media::transport::srtp::Exported;

/// Maximum size of a peer's certificate in bytes: that of str0m's buffer, which dimpl does not have enlarged. A
/// certificate with an RSA key of 4,096 bits takes 1,300.
const CERTIFICATE_MAX: usize = 2_000;

/// Alert from a DTLS server whose key fits none of our cipher suites (RFC 5246 section 7.2.2).
const HANDSHAKE_FAILURE: u8 = 40;

/// How long a handshake may continue after a datagram that caused a fatal error. Nothing in a handshake is authentic
/// before its end, so the datagram may be forged. A shorter time lets a forged one end handshakes on slow paths, a
/// longer one delays the error report to the client.
const GRACE: Duration = Duration::from_secs(5);

static SHARED: SharedDtls = SharedDtls { servers: OnceLock::new(), clients: OnceLock::new() };

thread_local! {
    static EXPORTED: Cell<Option<Exported>> = const { Cell::new(None) };
}

/// Takes the keying material of a handshake that has finished since the last call.
pub fn take_exported() -> Option<Exported> {
    EXPORTED.take()
}

/// Returns str0m's cryptography with the DTLS of this module and the SRTP ciphers of `media::transport::opening`.
pub fn crypto_provider() -> CryptoProvider {
    CryptoProvider { dtls_provider: &SHARED, srtp_provider: &Noting, ..from_feature_flags() }
}

/// A provider of DTLS endpoints that share one configuration per role.
struct SharedDtls {
    servers: OnceLock<Arc<dimpl::Config>>,
    clients: OnceLock<Arc<dimpl::Config>>,
}

impl SharedDtls {
    fn server_config(&self, mtu: Option<usize>) -> Result<Arc<dimpl::Config>, CryptoError> {
        let provider = client_certificate::crypto_provider();
        shared(&self.servers, || dimpl::Config::builder().with_crypto_provider(provider), mtu)
    }

    fn client_config(&self, mtu: Option<usize>) -> Result<Arc<dimpl::Config>, CryptoError> {
        shared(&self.clients, dimpl::Config::builder, mtu)
    }
}

fn shared(
    config: &OnceLock<Arc<dimpl::Config>>,
    builder: impl FnOnce() -> dimpl::ConfigBuilder,
    mtu: Option<usize>,
) -> Result<Arc<dimpl::Config>, CryptoError> {
    if let Some(config) = config.get() {
        return Ok(Arc::clone(config));
    }
    // ICE has verified that the peer can receive at its address, so a cookie would only add a round trip.
    let mut builder = builder().use_server_cookie(false);
    if let Some(mtu) = mtu {
        builder = builder.mtu(mtu);
    }
    let built = builder.build().map_err(|error| CryptoError::Other(error.to_string()))?;
    Ok(Arc::clone(config.get_or_init(|| Arc::new(built))))
}

impl fmt::Debug for SharedDtls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SharedDtls")
    }
}

impl DtlsProvider for SharedDtls {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        dimpl::certificate::generate_self_signed_certificate().ok()
    }

    // Always DTLS 1.2, where the server chooses the cipher: AES-GCM. With 1.3, str0m takes the browser's first choice,
    // AES-CM, which costs 60 % more CPU time per packet.
    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        _: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let (server, client) = (self.server_config(mtu)?, self.client_config(mtu)?);
        let origin = Origin { server, client, certificate: cert.clone() };
        Ok(Box::new(Endpoint {
            dtls: origin.endpoint(false, now),
            origin: Some(origin),
            fragments: Fragments::default(),
            now,
            failure: None,
            is_connected: false,
        }))
    }
}

/// One DTLS endpoint. It is the server unless the peer chooses that role.
struct Endpoint {
    dtls: dimpl::Dtls,
    /// Parameters to recreate the endpoint; `None` once it has sent a datagram.
    origin: Option<Origin>,
    fragments: Fragments,
    now: Instant,
    /// Error of a handshake that does not finish, and when to report it; the time is `None` until the next timeout.
    failure: Option<(DtlsImplError, Option<Instant>)>,
    is_connected: bool,
}

impl Endpoint {
    fn handle_handshake(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        let is_client = self.dtls.is_active();
        let no_certificate = if is_client {
            CertificateError::NoServerCertificateReceived
        } else {
            CertificateError::NoClientCertificateReceived
        };
        match client_certificate::length_in_datagram(packet) {
            Some(0) => return Err(DtlsImplError::CertificateError(no_certificate)),
            Some(length) if length > CERTIFICATE_MAX => {
                return Err(DtlsImplError::CryptoError(dimpl::CryptoError::UnsupportedPublicKeyAlgorithm));
            }
            _ => {}
        }
        let handled = self.dtls.handle_packet(packet);
        // dimpl has rejected a ClientHello, which may be forged, and would accept no other: start again.
        if let (Some(origin), Err(error)) = (self.origin.as_ref().filter(|_| !is_client), &handled)
            && !matches!(error, DtlsImplError::SecurityError(SecurityError::FatalAlert { .. }))
        {
            self.dtls = origin.endpoint(false, self.now);
            self.dtls.handle_timeout(self.now)?;
            self.fragments = Fragments::default();
        }
        handled.map_err(|error| match error {
            DtlsImplError::SecurityError(SecurityError::FatalAlert { description: HANDSHAKE_FAILURE }) if is_client => {
                DtlsImplError::CertificateError(no_certificate)
            }
            error => error,
        })
    }

    /// Returns when the handshake fails. It is the current time if the time of the failure is not yet set, so that
    /// `handle_timeout` sets it.
    fn fails_at(&self) -> Option<Instant> {
        let (_, at) = self.failure.as_ref().filter(|_| !self.is_connected)?;
        Some(at.unwrap_or(self.now))
    }
}

/// The parameters from which an endpoint is created.
struct Origin {
    server: Arc<dimpl::Config>,
    client: Arc<dimpl::Config>,
    certificate: DtlsCert,
}

impl Origin {
    fn endpoint(&self, is_client: bool, now: Instant) -> dimpl::Dtls {
        let config = if is_client { &self.client } else { &self.server };
        let mut dtls = dimpl::Dtls::new_12(Arc::clone(config), self.certificate.clone(), now);
        dtls.set_active(is_client);
        dtls
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoint")
    }
}

impl DtlsInstance for Endpoint {
    fn set_active(&mut self, active: bool) {
        match &self.origin {
            Some(origin) if active != self.dtls.is_active() => self.dtls = origin.endpoint(active, self.now),
            _ => self.dtls.set_active(active),
        }
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        let Some(fragments) = self.fragments.with(packet, !self.dtls.is_active()) else {
            return Ok(());
        };
        if self.is_connected {
            return self.dtls.handle_packet(packet);
        }
        // If a datagram has a ChangeCipherSpec and an encrypted record that is not authentic, dimpl rejects both and
        // accepts no later ones. So it gets the unencrypted and the encrypted records separately.
        let (clear, sealed) = packet.split_at(clear_length(packet));
        self.fragments = fragments;
        for part in [clear, sealed] {
            if part.is_empty() && !packet.is_empty() {
                continue;
            }
            match self.handle_handshake(part) {
                // A full queue is never emptied, so the handshake can no longer finish.
                Err(DtlsImplError::ReceiveQueueFull) if self.origin.is_none() => {
                    return Err(DtlsImplError::ReceiveQueueFull);
                }
                Err(error) => _ = self.failure.get_or_insert((error, None)),
                Ok(()) => {}
            }
        }
        Ok(())
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        // dimpl's output begins at the start of the buffer. It is borrowed again below, because `widen_datagram` makes
        // a server's flight longer than what dimpl returned.
        let (output, len): (fn(&'a [u8]) -> DtlsOutput<'a>, _) = match self.dtls.poll_output(buf) {
            DtlsOutput::Packet(packet) => {
                self.origin = None;
                let len = packet.len();
                match client_certificate::widen_datagram(packet) {
                    Some(wide) if wide.len() > buf.len() => {
                        return DtlsOutput::BufferTooSmall { needed: wide.len() };
                    }
                    Some(wide) => {
                        buf[..wide.len()].copy_from_slice(&wide);
                        (DtlsOutput::Packet, wide.len())
                    }
                    None => (DtlsOutput::Packet, len),
                }
            }
            DtlsOutput::PeerCert(certificate) => (DtlsOutput::PeerCert, certificate.len()),
            DtlsOutput::ApplicationData(data) => (DtlsOutput::ApplicationData, data.len()),
            DtlsOutput::KeyingMaterial(material, profile) => {
                let is_client = self.dtls.is_active();
                EXPORTED.set(Some(Exported { profile, material: material.to_vec(), is_client }));
                return DtlsOutput::KeyingMaterial(material, profile);
            }
            DtlsOutput::BufferTooSmall { needed } => return DtlsOutput::BufferTooSmall { needed },
            DtlsOutput::Timeout(at) => return DtlsOutput::Timeout(self.fails_at().map_or(at, |own| own.min(at))),
            DtlsOutput::Connected => {
                self.is_connected = true;
                return DtlsOutput::Connected;
            }
            DtlsOutput::CloseNotify => return DtlsOutput::CloseNotify,
            _ => unreachable!("dimpl has no other output"),
        };
        output(&buf[..len])
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.now = now;
        if let Some((error, at)) = self.failure.as_mut().filter(|_| !self.is_connected)
            && now >= *at.get_or_insert(now + GRACE)
        {
            return Err(error.clone());
        }
        self.dtls.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.dtls.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.dtls.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.dtls.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.dtls.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.dtls.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.dtls.close()
    }
}

#[cfg(test)]
mod tests;
