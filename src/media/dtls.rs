//! DTLS with one set-up for all peers: building dimpl's configuration costs more than a millisecond, a peer with
//! a shared one 15 microseconds.
//!
//! What a handshake exports for SRTP goes to str0m and, beside it, to the peer that drives it. str0m gives no way
//! to it and makes its DTLS through a `&'static` provider, so it is left in a place of this thread, and taken out
//! again before the peer's call returns.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
};
use str0m::crypto::{CryptoError, CryptoProvider, from_feature_flags};

use crate::media::opening::Noting;
use crate::media::srtp::Exported;

static SHARED: SharedDtls = SharedDtls { config: OnceLock::new() };

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

/// Makes DTLS endpoints that share one configuration.
struct SharedDtls {
    config: OnceLock<Arc<dimpl::Config>>,
}

impl SharedDtls {
    fn config(&self, mtu: Option<usize>) -> Result<Arc<dimpl::Config>, CryptoError> {
        if let Some(config) = self.config.get() {
            return Ok(Arc::clone(config));
        }
        // ICE has verified that the peer can receive at its address, so cookies would cost a round trip for nothing.
        let mut builder = dimpl::Config::builder().use_server_cookie(false);
        if let Some(mtu) = mtu {
            builder = builder.mtu(mtu);
        }
        let config = builder.build().map_err(|error| CryptoError::Other(error.to_string()))?;
        Ok(Arc::clone(self.config.get_or_init(|| Arc::new(config))))
    }
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
        let dtls = dimpl::Dtls::new_12(self.config(mtu)?, cert.clone(), now);
        Ok(Box::new(Endpoint(dtls)))
    }
}

/// One DTLS endpoint.
struct Endpoint(dimpl::Dtls);

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Endpoint")
    }
}

impl DtlsInstance for Endpoint {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let output = self.0.poll_output(buf);
        if let DtlsOutput::KeyingMaterial(material, profile) = &output {
            let is_client = self.0.is_active();
            EXPORTED.set(Some(Exported { profile: *profile, material: material.to_vec(), is_client }));
        }
        output
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), DtlsImplError> {
        self.0.handle_timeout(now)
    }

    fn send_application_data(&mut self, data: &[u8]) -> Result<usize, DtlsImplError> {
        self.0.send_application_data(data)
    }

    fn is_active(&self) -> bool {
        self.0.is_active()
    }

    fn protocol_version(&self) -> Option<ProtocolVersion> {
        self.0.protocol_version()
    }

    fn is_closing(&self) -> bool {
        self.0.is_closing()
    }

    fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    fn close(&mut self) -> Result<(), DtlsImplError> {
        self.0.close()
    }
}

#[cfg(test)]
mod tests {
    use str0m::crypto::dtls::SrtpProfile;

    use super::*;
    use crate::media::fault::{PeerError, Site, guarded};

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
