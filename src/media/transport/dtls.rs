//! DTLS endpoints with one configuration for all peers: building dimpl's configuration takes more than a millisecond,
//! an endpoint with a shared one 15 microseconds. Servers also request certificates with RSA keys
//! ([`client_certificate`]).
//!
//! The keying material that a handshake exports for SRTP goes to str0m and to the peer that drives the handshake. str0m
//! has no accessor for it and creates DTLS endpoints through a `&'static` provider, so the material is passed in a
//! thread-local cell, which is emptied before the peer's call returns.

use std::cell::Cell;
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use dimpl::{CertificateError, SecurityError};
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
};
use str0m::crypto::{CryptoError, CryptoProvider, from_feature_flags};

use crate::media::transport::client_certificate;
use crate::media::transport::opening::Noting;
use crate::media::transport::srtp::Exported;

/// Maximum size of a peer's certificate in bytes: that of str0m's buffer, which dimpl does not have enlarged. A
/// certificate with an RSA key of 4,096 bits takes 1,300.
const CERTIFICATE_MAX: usize = 2_000;

/// Alert from a DTLS server whose key fits none of our cipher suites (RFC 5246 section 7.2.2).
const HANDSHAKE_FAILURE: u8 = 40;

/// How long a handshake may continue after a datagram that is a fatal error. Nothing in a handshake is authentic before
/// its end, so the datagram may be forged. A shorter time lets a forged one end handshakes on slow paths, a longer one
/// delays the error report to the client.
const GRACE: Duration = Duration::from_secs(5);

/// Content types of records (RFC 5246 section 6.2.1), and the size of their header in DTLS (RFC 6347 section 4.1).
const CHANGE_CIPHER_SPEC: u8 = 20;
const ALERT: u8 = 21;
const HANDSHAKE: u8 = 22;
const RECORD_HEADER: usize = 13;

/// Size of a handshake message header: type, length, message_seq, fragment offset and length (RFC 6347 section 4.2.2).
const MESSAGE_HEADER: usize = 12;

/// Types of a client's unencrypted messages, by message_seq: ClientHello, Certificate, ClientKeyExchange and
/// CertificateVerify. The server requests a certificate, and no cookie.
const OF_CLIENT: [u8; 4] = [1, 11, 16, 15];

/// Types of a server's unencrypted messages: ServerHello, HelloVerifyRequest, NewSessionTicket, Certificate,
/// ServerKeyExchange, CertificateRequest, ServerHelloDone and CertificateStatus.
const OF_SERVER: [u8; 8] = [2, 3, 4, 11, 12, 13, 14, 22];

/// Types of the last unencrypted messages: CertificateVerify of a client, ServerHelloDone of a server.
const LAST: [u8; 2] = [15, 14];

/// Maximum number of fragments of one message: more than the largest certificate needs on a path with an MTU of 256
/// bytes. More lets a client use more memory.
const MAX_PARTS: usize = 16;

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

/// The fragments received of each handshake message, by message_seq. dimpl keeps unencrypted fragments and ignores
/// repeated ones, so a single forged fragment would keep the handshake from finishing.
///
/// Therefore dimpl gets only fragments that begin where an earlier one ends, and a ChangeCipherSpec only after all
/// messages. A peer retransmits what was dropped because it arrived out of order. A forged fragment that begins at such
/// an offset, or a forged complete message, still replaces the peer's if it arrives first: only the end of a handshake
/// authenticates its messages.
#[derive(Clone, Debug, Default)]
struct Heard([Message; OF_SERVER.len()]);

#[derive(Clone, Debug, Default)]
struct Message {
    /// Offsets at which fragments may begin, besides 0.
    ends: Vec<u32>,
    is_whole: bool,
    /// Whether the only unencrypted record after it is a ChangeCipherSpec.
    is_last: bool,
}

impl Heard {
    /// Returns the state after `datagram`, or `None` if dimpl must not get the datagram because a peer that follows the
    /// protocol would not send it. That includes unencrypted application data, which dimpl takes for authentic.
    fn with(&self, datagram: &[u8], from_client: bool) -> Option<Self> {
        let mut heard = self.clone();
        let mut rest = datagram;
        while let Some((header, after)) = rest.split_at_checked(RECORD_HEADER) {
            let length = u16::from_be_bytes([header[11], header[12]]);
            let fragment;
            (fragment, rest) = after.split_at_checked(length.into())?;
            let is_expected = match header[0] {
                _ if is_sealed(header) => true,
                CHANGE_CIPHER_SPEC => fragment == [1] && heard.has_all(),
                ALERT => true,
                HANDSHAKE => heard.insert(fragment, from_client),
                _ => false,
            };
            if !is_expected {
                return None;
            }
        }
        // dimpl discards a datagram that ends within a record.
        rest.is_empty().then_some(heard)
    }

    /// Records the fragments of an unencrypted record. Returns false if it has anything but expected fragments.
    fn insert(&mut self, mut record: &[u8], from_client: bool) -> bool {
        loop {
            let Some((header, after)) = record.split_at_checked(MESSAGE_HEADER) else {
                return false;
            };
            let (kind, number) = (header[0], usize::from(u16::from_be_bytes([header[4], header[5]])));
            let is_expected = match from_client {
                true => OF_CLIENT.get(number) == Some(&kind),
                false => OF_SERVER.contains(&kind),
            };
            let [length, offset, part] =
                [1, 6, 9].map(|at| u32::from_be_bytes([0, header[at], header[at + 1], header[at + 2]]));
            let Some(after) = after.get(part as usize..).filter(|_| is_expected) else {
                return false;
            };
            if !self.0.get_mut(number).is_some_and(|message| message.insert(kind, length, offset, part)) {
                return false;
            }
            if after.is_empty() {
                return true;
            }
            record = after;
        }
    }

    /// Returns true if all unencrypted messages of the peer have arrived.
    fn has_all(&self) -> bool {
        self.0.iter().take_while(|message| message.is_whole).any(|message| message.is_last)
    }
}

impl Message {
    fn insert(&mut self, kind: u8, length: u32, offset: u32, part: u32) -> bool {
        let end = offset + part;
        let begins = offset == 0 || self.ends.contains(&offset);
        if !begins || end > length || (part == 0 && length > 0) {
            return false;
        }
        if end == length {
            self.is_whole = true;
            self.is_last = LAST.contains(&kind);
        } else if !self.ends.contains(&end) {
            self.ends.push(end);
        }
        self.ends.len() <= MAX_PARTS
    }
}

/// Returns true if a record is encrypted: only epoch 0 has no keys.
fn is_sealed(header: &[u8]) -> bool {
    header[3..5] != [0, 0]
}

/// Returns the length in bytes of the unencrypted records at the start of a datagram of complete records.
fn clear_length(datagram: &[u8]) -> usize {
    let mut clear = 0;
    while let Some(header) = datagram[clear..].first_chunk::<RECORD_HEADER>().filter(|header| !is_sealed(&header[..])) {
        clear += RECORD_HEADER + usize::from(u16::from_be_bytes([header[11], header[12]]));
    }
    clear
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
            heard: Heard::default(),
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
    heard: Heard,
    now: Instant,
    /// Error of a handshake that does not finish, and when to report it; the time is `None` until the next timeout.
    failure: Option<(DtlsImplError, Option<Instant>)>,
    is_connected: bool,
}

impl Endpoint {
    fn handle_handshake(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        let is_client = self.dtls.is_active();
        let no_certificate = match is_client {
            true => CertificateError::NoServerCertificateReceived,
            false => CertificateError::NoClientCertificateReceived,
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
            self.heard = Heard::default();
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
        let Some(heard) = self.heard.with(packet, !self.dtls.is_active()) else {
            return Ok(());
        };
        if self.is_connected {
            return self.dtls.handle_packet(packet);
        }
        // Given a ChangeCipherSpec and an encrypted record that is not authentic in one datagram, dimpl rejects both and
        // accepts no later ones. So it gets the unencrypted and the encrypted records one after the other.
        let (clear, sealed) = packet.split_at(clear_length(packet));
        self.heard = heard;
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
        // dimpl's output begins at the start of the buffer. It is borrowed again below, because `widen_datagram` makes a
        // server's flight longer than what dimpl returned.
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
mod tests {
    use str0m::RtcError;
    use str0m::crypto::dtls::SrtpProfile;

    use super::*;
    use crate::media::fault::{PeerError, Site, guarded};

    fn endpoint(is_client: bool, now: Instant) -> Box<dyn DtlsInstance> {
        let certificate = SHARED.generate_certificate().expect("the crypto library makes P-256 keys");
        let mut endpoint = SHARED.new_dtls(&certificate, now, DtlsVersion::Dtls12, Some(1_150)).expect("an endpoint");
        endpoint.set_active(is_client);
        endpoint.handle_timeout(now).expect("nothing is late");
        endpoint
    }

    /// Polls an endpoint until it has no more output. Returns its datagrams and the keying material it exported.
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

    /// The server requests RSA certificates too, and its first flight fits one datagram.
    #[test]
    fn our_client_and_our_server_agree_on_keys() {
        let now = Instant::now();
        let (mut client, mut server) = (endpoint(true, now), endpoint(false, now));
        client.handle_packet(&[]).expect("the handshake starts");
        let mut exported = (None, None);
        for round in 0..3 {
            let (datagrams, keys) = drain(&mut *client);
            exported.0 = exported.0.or(keys);
            for datagram in datagrams {
                server.handle_packet(&datagram).expect("the server accepts the datagram");
            }
            let (datagrams, keys) = drain(&mut *server);
            exported.1 = exported.1.or(keys);
            if round == 0 {
                assert_eq!(datagrams.len(), 1);
                let asks_for_two = datagrams[0].windows(3).any(|bytes| bytes == [2, 64, 1]);
                assert!(datagrams[0].len() < 800 && asks_for_two, "{:02x?}", datagrams[0]);
            }
            for datagram in datagrams {
                client.handle_packet(&datagram).expect("the client accepts the datagram");
            }
        }
        let (client, server) = (exported.0.expect("the client has keys"), exported.1.expect("the server has keys"));
        assert_eq!((client.is_client, server.is_client), (true, false));
        assert_eq!(client.material, server.material);
    }

    fn record(kind: u8, epoch: u8, fragment: &[u8]) -> Vec<u8> {
        [&[kind, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 99, 0, fragment.len() as u8], fragment].concat()
    }

    /// The first fragment of a Certificate message with a certificate of 2,001 bytes.
    fn long_certificate() -> Vec<u8> {
        record(HANDSHAKE, 0, &[11, 0, 7, 215, 0, 1, 0, 0, 0, 0, 0, 6, 0, 7, 212, 0, 7, 209])
    }

    /// A Certificate message without a certificate.
    fn no_certificate() -> Vec<u8> {
        record(HANDSHAKE, 0, &[11, 0, 0, 3, 0, 1, 0, 0, 0, 0, 0, 3, 0, 0, 0])
    }

    fn alert() -> Vec<u8> {
        record(ALERT, 0, &[2, HANDSHAKE_FAILURE])
    }

    /// Fragment size of the peer's messages in bytes.
    const PART: u8 = 40;

    /// A fragment of one byte of a message of 300 bytes.
    fn part(kind: u8, number: u8, offset: u8) -> Vec<u8> {
        record(HANDSHAKE, 0, &[kind, 0, 1, 44, 0, number, 0, 0, offset, 0, 0, 1, 7])
    }

    /// A ClientHello, modified by `change`.
    fn hello(change: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let mut client = endpoint(true, Instant::now());
        client.handle_packet(&[]).expect("the handshake starts");
        let (mut datagrams, _) = drain(&mut *client);
        change(&mut datagrams[0][RECORD_HEADER + MESSAGE_HEADER..]);
        datagrams.remove(0)
    }

    /// Offset of an extension in a ClientHello.
    fn position(hello: &[u8], extension: [u8; 3]) -> usize {
        hello.windows(3).rposition(|bytes| bytes == extension).expect("the extension exists")
    }

    /// Copies of a datagram with different sequence numbers in its first record.
    fn numbered(datagram: &[u8]) -> Vec<Vec<u8>> {
        let number = |number| [&datagram[..10], &[number], &datagram[11..]].concat();
        (0..40).map(number).collect()
    }

    /// Datagrams that an attacker without keys can send, by case.
    fn forged() -> Vec<(&'static str, Vec<Vec<u8>>)> {
        let change = |body: &[u8]| record(CHANGE_CIPHER_SPEC, 0, body);
        let parts = (1..100).filter(|offset| offset % PART != 0).map(|offset| part(11, 1, offset)).collect();
        let many = vec![
            ("parts of a message", parts),
            ("many changes of ciphers", numbered(&change(&[1]))),
            ("changes of ciphers and more", numbered(&[change(&[1]), record(HANDSHAKE, 1, &[9; 60])].concat())),
            ("changes of nothing", numbered(&change(&[2]))),
            ("changes of too much", numbered(&change(&[1, 1]))),
        ];
        single().into_iter().map(|(case, forged)| (case, vec![forged])).chain(many).collect()
    }

    fn single() -> Vec<(&'static str, Vec<u8>)> {
        let message = |kind, number| record(HANDSHAKE, 0, &[kind, 0, 0, 1, 0, number, 0, 0, 0, 0, 0, 1, 7]);
        let empty_part = record(HANDSHAKE, 0, &[11, 0, 1, 44, 0, 1, 0, 0, 0, 0, 0, 0]);
        vec![
            ("a hello without extended master secret", hello(|hello| hello[position(hello, [0, 23, 0])] = 77)),
            (
                "a hello of no group",
                hello(|hello| {
                    let at = position(hello, [0, 10, 0]);
                    let end = at + 4 + usize::from(hello[at + 3]);
                    hello[at + 6..end].fill(77);
                }),
            ),
            ("a hello of another version", hello(|hello| hello[1] = 0xff)),
            // Version, random, session ID and cookie are followed by the cipher suites and their length.
            (
                "a hello of no cipher",
                hello(|hello| {
                    let end = 38 + usize::from(hello[37]);
                    hello[38..end].fill(0);
                }),
            ),
            ("a part of a certificate", part(11, 1, 5)),
            ("a part of a key", part(16, 2, 5)),
            ("a part of a signature", part(15, 3, 5)),
            ("an empty part", empty_part),
            ("a fatal alert", alert()),
            ("a warning", record(ALERT, 0, &[1, 0])),
            ("a long certificate", long_certificate()),
            ("no certificate", no_certificate()),
            ("application data", record(23, 0, &[7; 20])),
            ("a message of another number", message(11, 77)),
            ("a message of another kind", message(20, 1)),
            ("a broken message", message(16, 2)),
            ("no message", record(HANDSHAKE, 0, &[])),
            ("part of a header", record(HANDSHAKE, 0, &[11, 0, 0])),
            ("beyond the message", record(HANDSHAKE, 0, &[11, 0, 0, 1, 0, 1, 0, 0, 9, 0, 0, 1, 7])),
            ("a change of ciphers", record(CHANGE_CIPHER_SPEC, 0, &[1])),
            ("sealed", record(HANDSHAKE, 1, &[9; 60])),
            ("sealed and short", record(HANDSHAKE, 1, &[9; 3])),
            ("sealed data", record(23, 1, &[9; 60])),
            ("a sealed alert", record(ALERT, 1, &[9; 26])),
            ("of no epoch", record(HANDSHAKE, 9, &[9; 60])),
            ("of no kind", record(77, 0, &[9; 60])),
            ("cut", vec![22, 0xfe, 0xfd]),
        ]
    }

    /// Runs a handshake in which `forged` datagrams arrive before datagram number `before` to the server. Returns whether
    /// both sides are connected, and the number of datagrams that the client sent to the server.
    fn shake_hands(forged: &[Vec<u8>], before: usize, cut: impl Fn(&[u8]) -> Vec<Vec<u8>>) -> (bool, usize) {
        let now = Instant::now();
        let (mut client, mut server) = (endpoint(true, now), endpoint(false, now));
        client.handle_packet(&[]).expect("the handshake starts");
        let (mut exported, mut passed) = ((None, None), 0);
        for _ in 0..3 {
            let (datagrams, keys) = drain(&mut *client);
            exported.0 = exported.0.or(keys);
            let mut replies = Vec::new();
            let mut give = |datagram: &[u8]| {
                server.handle_packet(datagram).expect("a datagram that may be forged is no error");
                let (datagrams, keys) = drain(&mut *server);
                exported.1 = exported.1.take().or(keys);
                replies.extend(datagrams);
                server.handle_timeout(now).expect("nothing is late");
            };
            for datagram in datagrams.iter().flat_map(|datagram| records(datagram)).flat_map(&cut) {
                if passed == before {
                    forged.iter().for_each(|forged| give(forged));
                }
                passed += 1;
                give(&datagram);
            }
            for datagram in replies {
                client.handle_packet(&datagram).expect("the client accepts the datagram");
            }
        }
        for _ in 0..100 {
            for forged in forged {
                server.handle_packet(forged).expect("a datagram that may be forged is no error");
            }
        }
        let late = server.handle_timeout(now + 2 * GRACE);
        (late.is_ok() && exported.0.is_some() && exported.1.is_some(), passed)
    }

    /// Splits a datagram into its records.
    fn records(mut datagram: &[u8]) -> Vec<&[u8]> {
        let mut records = Vec::new();
        while !datagram.is_empty() {
            let length = RECORD_HEADER + usize::from(u16::from_be_bytes([datagram[11], datagram[12]]));
            records.push(&datagram[..length]);
            datagram = &datagram[length..];
        }
        records
    }

    /// Splits the message of a record into fragments of `size` bytes, each in a record of its own.
    fn parts(record: &[u8], size: usize) -> Vec<Vec<u8>> {
        if record[0] != HANDSHAKE || record[3..5] != [0, 0] {
            return vec![record.to_vec()];
        }
        let (header, message) = record.split_at(RECORD_HEADER);
        let (message, body) = message.split_at(MESSAGE_HEADER);
        let part = |(index, part): (usize, &[u8])| {
            let [offset, part_length] = [index * size, part.len()].map(|of| (of as u32).to_be_bytes());
            let length = ((MESSAGE_HEADER + part.len()) as u16).to_be_bytes();
            [&header[..11], &length, &message[..6], &offset[1..], &part_length[1..], part].concat()
        };
        body.chunks(size).enumerate().map(part).collect()
    }

    #[test]
    fn a_forged_datagram_ends_no_handshake_wherever_it_arrives() {
        for size in [usize::MAX, PART.into()] {
            let cut = |record: &[u8]| parts(record, size);
            let (is_connected, most) = shake_hands(&[], 0, cut);
            assert!(is_connected && most >= 5, "{most}");
            for (case, forged) in forged() {
                for before in 0..most {
                    assert!(
                        shake_hands(&forged, before, cut).0,
                        "{case} before datagram {before}, in fragments of {size} bytes"
                    );
                }
            }
        }
    }

    /// Fragments that arrive out of order are dropped and retransmitted.
    #[test]
    fn fragments_may_arrive_in_any_order_and_repeatedly() {
        let cut = |record: &[u8]| {
            let parts = parts(record, 100);
            parts.iter().rev().chain(&parts).chain(&parts[..1]).chain(&parts).cloned().collect()
        };
        let (is_connected, most) = shake_hands(&[], 0, cut);
        assert!(is_connected && most > 20, "{most}");
    }

    /// The cases: a certificate that is too long, no certificate, and a server whose key fits no ECDSA cipher suite.
    #[test]
    fn an_unusable_certificate_is_an_error_if_the_handshake_does_not_finish() {
        let now = Instant::now();
        for (is_client, datagram) in [(false, long_certificate()), (false, no_certificate()), (true, alert())] {
            let mut endpoint = endpoint(is_client, now);
            endpoint.handle_packet(&datagram).expect("a datagram that may be forged is no error");
            drain(&mut *endpoint);
            endpoint.handle_timeout(now).expect("a datagram that may be forged is no error yet");
            let DtlsOutput::Timeout(at) = endpoint.poll_output(&mut [0; 2_000]) else { panic!("no more output") };
            assert!(at <= now + GRACE);
            let error = endpoint.handle_timeout(now + GRACE).expect_err("the certificate is unusable");
            let error = PeerError::of_engine(RtcError::Dtls(CryptoError::Other(error.to_string()).into()));
            assert_eq!(error.code(), "unsupported-certificate");
        }
    }

    #[test]
    fn keys_of_a_peer_that_ends_do_not_reach_the_next_peer() {
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
        let continuing = guarded(Site::Drain, || {
            export();
            Ok(())
        });
        assert!(continuing.is_ok() && take_exported().is_some());
    }
}
