//! DTLS with one set-up for all peers: building dimpl's configuration costs more than a millisecond, a peer with
//! a shared one 15 microseconds. Servers ask for certificates with RSA keys too ([`client_certificate`]).
//!
//! What a handshake exports for SRTP goes to str0m and, beside it, to the peer that drives it. str0m gives no way
//! to it and makes its DTLS through a `&'static` provider, so it is left in a place of this thread, and taken out
//! again before the peer's call returns.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use dimpl::{CertificateError, SecurityError};
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
};
use str0m::crypto::{CryptoError, CryptoProvider, from_feature_flags};

use crate::media::client_certificate;
use crate::media::opening::Noting;
use crate::media::srtp::Exported;

/// Bytes of a peer's certificate: str0m's buffer, for which dimpl does not ask. An RSA key of 4,096 bits takes 1,300.
const CERTIFICATE_MAX: usize = 2_000;

/// The alert of a DTLS server whose key goes with no cipher suite of ours (RFC 5246 section 7.2.2).
const HANDSHAKE_FAILURE: u8 = 40;

static SHARED: SharedDtls = SharedDtls { servers: OnceLock::new(), clients: OnceLock::new() };

thread_local! {
    static EXPORTED: Cell<Option<Exported>> = const { Cell::new(None) };
}

/// What the handshake exported that has finished since this was last called.
pub fn take_exported() -> Option<Exported> {
    EXPORTED.take()
}

/// str0m's cryptography, with its DTLS replaced by ours, and ciphers that tell what they open.
pub fn crypto_provider() -> CryptoProvider {
    CryptoProvider { dtls_provider: &SHARED, srtp_provider: &Noting, ..from_feature_flags() }
}

/// Makes DTLS endpoints that share one configuration for each role.
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
    // ICE has verified that the peer can receive at its address, so cookies would cost a round trip for nothing.
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

    // DTLS 1.2 whatever is asked: there the server chooses the cipher, which is AES-GCM; in 1.3 str0m takes the
    // browser's first choice, AES-CM, which costs 60 % more for each packet.
    fn new_dtls(
        &self,
        cert: &DtlsCert,
        now: Instant,
        _: DtlsVersion,
        mtu: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let dtls = dimpl::Dtls::new_12(self.server_config(mtu)?, cert.clone(), now);
        let client = Client { config: self.client_config(mtu)?, certificate: cert.clone(), now };
        Ok(Box::new(Endpoint { dtls, client: Some(client), is_connected: false }))
    }
}

/// One DTLS endpoint: a server, unless the peer chooses to be that.
struct Endpoint {
    dtls: dimpl::Dtls,
    /// What it becomes if the peer is the server, until its role is known.
    client: Option<Client>,
    is_connected: bool,
}

/// A DTLS client that is not made yet.
struct Client {
    config: Arc<dimpl::Config>,
    certificate: DtlsCert,
    now: Instant,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoint")
    }
}

impl DtlsInstance for Endpoint {
    fn set_active(&mut self, active: bool) {
        if let Some(Client { config, certificate, now }) = self.client.take().filter(|_| active) {
            self.dtls = dimpl::Dtls::new_12(config, certificate, now);
        }
        self.dtls.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        if self.is_connected {
            return self.dtls.handle_packet(packet);
        }
        if client_certificate::length_in_datagram(packet).is_some_and(|length| length > CERTIFICATE_MAX) {
            return Err(DtlsImplError::CryptoError(dimpl::CryptoError::UnsupportedPublicKeyAlgorithm));
        }
        self.dtls.handle_packet(packet).map_err(|error| match error {
            DtlsImplError::SecurityError(SecurityError::FatalAlert { description: HANDSHAKE_FAILURE })
                if self.dtls.is_active() =>
            {
                DtlsImplError::CertificateError(CertificateError::NoServerCertificateReceived)
            }
            error => error,
        })
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        // dimpl's output begins where the buffer does, and is borrowed anew: the flight of a server grows there.
        let (output, len): (fn(&'a [u8]) -> DtlsOutput<'a>, _) = match self.dtls.poll_output(buf) {
            DtlsOutput::Packet(packet) => {
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
            DtlsOutput::Timeout(at) => return DtlsOutput::Timeout(at),
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
mod tests {
    use str0m::RtcError;
    use str0m::crypto::dtls::SrtpProfile;

    use super::*;
    use crate::media::fault::{PeerError, Site, guarded};

    fn endpoint(is_client: bool, now: Instant) -> Box<dyn DtlsInstance> {
        let certificate = SHARED.generate_certificate().expect("the crypto library makes P-256 keys");
        let mut endpoint = SHARED.new_dtls(&certificate, now, DtlsVersion::Dtls12, Some(1_150)).expect("it is made");
        endpoint.set_active(is_client);
        endpoint.handle_timeout(now).expect("nothing is late");
        endpoint
    }

    /// Takes all out of an endpoint: its datagrams, and what it exported.
    fn drain(endpoint: &mut dyn DtlsInstance) -> (Vec<Vec<u8>>, Option<Exported>) {
        let (mut datagrams, mut buf) = (Vec::new(), [0; 2000]);
        loop {
            match endpoint.poll_output(&mut buf) {
                DtlsOutput::Packet(packet) => datagrams.push(packet.to_vec()),
                DtlsOutput::Timeout(_) => return (datagrams, take_exported()),
                _ => {}
            }
        }
    }

    /// The server asks for RSA too. Neither role stands in the other's way, and all that the server asks and says
    /// first is in one datagram.
    #[test]
    fn a_client_and_a_server_of_ours_agree_on_keys() {
        let now = Instant::now();
        let (mut client, mut server) = (endpoint(true, now), endpoint(false, now));
        client.handle_packet(&[]).expect("it begins");
        let mut exported = (None, None);
        for round in 0..3 {
            let (datagrams, keys) = drain(&mut *client);
            exported.0 = exported.0.or(keys);
            for datagram in datagrams {
                server.handle_packet(&datagram).expect("the server takes it");
            }
            let (datagrams, keys) = drain(&mut *server);
            exported.1 = exported.1.or(keys);
            if round == 0 {
                assert_eq!(datagrams.len(), 1);
                let asks_for_two = datagrams[0].windows(3).any(|bytes| bytes == [2, 64, 1]);
                assert!(datagrams[0].len() < 800 && asks_for_two, "{:02x?}", datagrams[0]);
            }
            for datagram in datagrams {
                client.handle_packet(&datagram).expect("the client takes it");
            }
        }
        let (client, server) = (exported.0.expect("the client has keys"), exported.1.expect("the server has keys"));
        assert_eq!((client.is_client, server.is_client), (true, false));
        assert_eq!(client.material, server.material);
    }

    /// A certificate of 2,001 bytes, of which the first part comes; and a server whose key is none for ECDSA suites.
    #[test]
    fn a_certificate_that_can_not_be_used_is_an_error_until_the_handshake_is_over() {
        let now = Instant::now();
        let long = [&[22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 1, 0, 18][..], &[11, 0, 7, 215, 0, 1, 0, 0, 0, 0, 0, 6]];
        let long = [&long.concat()[..], &[0, 7, 212, 0, 7, 209]].concat();
        let alert = [21, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 2, HANDSHAKE_FAILURE];
        for (is_client, datagram) in [(false, &long[..]), (true, &alert[..])] {
            let mut endpoint = endpoint(is_client, now);
            let error = endpoint.handle_packet(datagram).expect_err("it can't be used");
            let error = PeerError::of_engine(RtcError::Dtls(CryptoError::Other(error.to_string()).into()));
            assert_eq!(error.code(), "unsupported-certificate");
        }
        let dtls = dimpl::Dtls::new_12(
            SHARED.server_config(None).expect("it is built"),
            SHARED.generate_certificate().expect("the crypto library makes P-256 keys"),
            now,
        );
        let mut connected = Endpoint { dtls, client: None, is_connected: true };
        connected.handle_timeout(now).expect("nothing is late");
        assert!(connected.handle_packet(&long).is_ok(), "anybody may send it");
    }

    #[test]
    fn a_peer_that_ends_leaves_its_keys_to_nobody() {
        let export = || {
            let exported = Exported { profile: SrtpProfile::AEAD_AES_128_GCM, material: vec![1; 56], is_client: false };
            EXPORTED.set(Some(exported));
        };
        for site in [Site::Datagram, Site::Timeout, Site::Drain] {
            let ended = guarded(site, || {
                export();
                Err::<(), _>(PeerError::Closed)
            });
            assert!(ended.is_err() && take_exported().is_none(), "{site:?}");
        }
        let going_on = guarded(Site::Drain, || {
            export();
            Ok(())
        });
        assert!(going_on.is_ok() && take_exported().is_some());
    }
}
