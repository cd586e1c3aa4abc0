//! The certificates of browsers, and DTLS with an RSA key. dimpl does not support RSA: it treats the key as ECDSA, and
//! this module replaces the signature algorithm in the CertificateVerify message by RSA, both on the wire and in the
//! transcript.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use data_encoding::BASE64;
use dimpl::crypto::aws_lc_rs::default_provider;
use dimpl::crypto::{
    Buf, CryptoProvider as Primitives, HashAlgorithm, HashContext, HashProvider, KeyProvider, SignatureAlgorithm,
    SigningKey,
};
use dimpl::{Config, CryptoOperation, Dtls};
use str0m::crypto::dtls::{
    DtlsCert, DtlsImplError, DtlsInstance, DtlsOutput, DtlsProvider, DtlsVersion, ProtocolVersion,
};
use str0m::crypto::{CryptoError, CryptoProvider, from_feature_flags};

/// Content type and message type (RFC 5246 sections 6.2.1 and 7.4), and the lengths of their headers (RFC 6347).
const HANDSHAKE: u8 = 22;
const CERTIFICATE_VERIFY: u8 = 15;
const RECORD_HEADER: usize = 13;
const MESSAGE_HEADER: usize = 12;

/// `rsa` (RFC 5246 section 7.4.1.4.1).
const RSA: u8 = 1;

static HONEST: Clients = Clients { keys: &Keys { forges: false }, config: OnceLock::new() };
static FORGING: Clients = Clients { keys: &Keys { forges: true }, config: OnceLock::new() };

const CERTIFICATE: &str = "MIIC/zCCAeegAwIBAgIUSeDFZI2S6JC+gVdPn24XIc6ODw4wDQYJKoZIhvcNAQELBQAwDjEMMAoGA1UEAwwDc2ltMCAXDTI2MTEzMDA5NTM\
     0M1oYDzIxMjYxMTA2MDk1MzQzWjAOMQwwCgYDVQQDDANzaW0wggEiMA0GCSqGSIb3DQEBAQUAA4IBDwAwggEKAoIBAQCiDCQ5WDpUBkP9BY\
     1LBtPy9ZuyXBWnXh82fFuJcfjhIDrJmZtcs2WueIEfwc4G+LkTcP06bL42AHaHXrLTeN0yqzX7IGmg8RhYi0bV7N+0Vaw0YBGpcBgZjVAru\
     M54FpEWv7VOWVH2LN3nXG2aWTK9Oo2h4ex/DLnVpJ01nq6vgUHcoevze0GujZPncJ95gCYYSW9x1TV21Atj6IiuevRiG/8EO66x6SAcPh5s\
     sAHyZh97I2rAvo62fFN55yaGzxmBSCTUb9otEHqDmJ0/WVP/MwpMEN+Xf2KQZdXCdohAfZua9ROdoq3zGxgBcQTHHwufupsR1AXbqDL01Ia\
     IlpQnAgMBAAGjUzBRMB0GA1UdDgQWBBRbg+9k+DMIIWv7Q/pkOVwACvwmiDAfBgNVHSMEGDAWgBRbg+9k+DMIIWv7Q/pkOVwACvwmiDAPBg\
     NVHRMBAf8EBTADAQH/MA0GCSqGSIb3DQEBCwUAA4IBAQCNVhXQ/6BOA4/2RX+scIuffx3UAaCvDiyGziFyU0KQwxvH2IEFsp3XCatNu4YPi\
     pXu5B4Mxwu8UwOw0RKJxqnhnzTki+/zAoPOhMMDRR8zE/DHcdt9UVUc3eHztH8D6W1cFHsH8dTGTdyJ0oyfV1yO3Iwq95y2Zn0fVTTBfFMM\
     pbJDUSNp5qlRLWwHAkoHDqs92aB2W+KYidyUB/7iFfRE8mFhjSQ1w6eH8de2dHCghAy3N3EvE5QiBnz7oXXuqAmFmUkCocz/qC2XTsmke0u\
     zprBuFBgrdpNDJxBzvFSQGHstuUB2rCb9BiGl6keINxZU5tU70hlr7VkuXK8qG/vm";

const KEY: &str = "MIIEvAIBADANBgkqhkiG9w0BAQEFAASCBKYwggSiAgEAAoIBAQCiDCQ5WDpUBkP9BY1LBtPy9ZuyXBWnXh82fFuJcfjhIDrJmZtcs2WueIE\
     fwc4G+LkTcP06bL42AHaHXrLTeN0yqzX7IGmg8RhYi0bV7N+0Vaw0YBGpcBgZjVAruM54FpEWv7VOWVH2LN3nXG2aWTK9Oo2h4ex/DLnVpJ\
     01nq6vgUHcoevze0GujZPncJ95gCYYSW9x1TV21Atj6IiuevRiG/8EO66x6SAcPh5ssAHyZh97I2rAvo62fFN55yaGzxmBSCTUb9otEHqDm\
     J0/WVP/MwpMEN+Xf2KQZdXCdohAfZua9ROdoq3zGxgBcQTHHwufupsR1AXbqDL01IaIlpQnAgMBAAECggEANgZ5PzsYezH5kc47jJNyr1JO\
     PdkwiPO60UYFmJ3MXXYK03KoVvAiitf3KLjK8Q0UWxR1AHkHs2ZVHg2m7hUiHgXxwc9NGBC5Tq/khmbqMCvN9UpAKS7Lgh1YaLM89tGDPsP\
     cdQoXZs0PkFaC3g41+dufI6T4XWVHQaCXnyxPzgfwtHOo54eafrZuMgKiqn6tz8xnOHISa4MtNm2nhBWd56BmhPiW1qGGG+5iSV273bBVmb\
     p7+7iE/l/lBA7LHaVtD/IvKtaMemFKrfnX8Avbe4zXM8ATj0/Un5zyj4VG1sJNLtvLhQ3cAzBPDdLtfqQ4uNx6Yh7TGSLX1RNuJ5yO/QKBg\
     QDOWiVv+poev/1PFgUH365oJDCmA3V6++LrUSyne9XX+xOZhzhdFL2sABnKwuX5M/DFDhbJ4UtUBikqJ17LRxJX4mo3+J6JACFl2PXU1jc0\
     81iWI6NWNaX6uGbUEKxsJlXswb4bP8By+oJYC6wPUgklA/HSwrmtAGD7Bij74ahsmwKBgQDJCSJQzmsvnf7tMOBwXdgiuL6KR+k6q233zWK\
     qOJzr1ayUCKAtBsu1kJSphli0FNMI+9Zm4qqQV/XPtY0X/zPILu4muezS4lBqPCebryXRR22TN6N1UaoGWezzDhmXJIpBNZaGkOSaJ837If\
     ta2G1mvsd5I6xYEm8zkyA5Q0dhZQKBgHxeMpAh/v+ngPlIcTHEq64SmcuE7Cp6Y9Kl8v7ikQkCR1bR+7OGC6b9zI27F7YxityJWEzGX4s9x\
     1OjtOtZY4HacWBYlNxHWtmygL+NeGqOfAbJZelQnj/VIgyQHAt2s3TldDmiG9BwkVyVdFcrf11y2i3HtPbC8rB4jvz4jXUfAoGAftwwt2VK\
     5kWBdRP+zWmq1l5WftRaLRe40ULeHCSVgYzY1qGK0l8TdYPDDCcnGpx5f5XL+ijXETcwet5KJvZ4Kr7SscVp2LnPnPpQ1EF2T9YPI3Ncxs+\
     9xzw/9jDTnTkFtZinYEtWtqCfrvYGs5EXmFqTbbJBM2KOobEaCIiYJrECgYBWEzb4w8dmeQLyhs8lZ+sC0xVhHI2dwXvUV3oaDd4RppwP+h\
     M80ZlI/WZ8yUVK6ZRJ14PJ5wdORqJSGlxqNCmG9mgwAx9FghuChjNSD8DqgMYOAlzKrSijtByxM0so0O70X+6qzUkpAiw0R36AucNda6wm8\
     b/oRFUWI02yv64qLA==";

/// A certificate with a 1,024-bit key, which is not `KEY`.
const SHORT: &str = "MIIB+jCCAWOgAwIBAgIUaX3etZ3SnqDcln7FG9VyRIYAtAAwDQYJKoZIhvcNAQELBQAwDjEMMAoGA1UEAwwDc2ltMCAXDTI2MTEzMDA5NTM\
     0NFoYDzIxMjYxMTA2MDk1MzQ0WjAOMQwwCgYDVQQDDANzaW0wgZ8wDQYJKoZIhvcNAQEBBQADgY0AMIGJAoGBAMizL06g8NWjnSHcCmNbzS\
     byU1ILrZsEnDtqVwo43MNYE5Pmy93Qkt2rJtxMqxJLgVwiJCOscYgLrxQJtIiBMnAiIDk8itQZ9CkHJ7LfnGV4Zu/HUTkHN2z9QbvPZYS0O\
     t8foCvHFKPTNIbfiW32tNNw7H5eQ+eqhfENuOX8BRtHAgMBAAGjUzBRMB0GA1UdDgQWBBQmAihBPqSZpR87jDqatRRonIG/2zAfBgNVHSME\
     GDAWgBQmAihBPqSZpR87jDqatRRonIG/2zAPBgNVHRMBAf8EBTADAQH/MA0GCSqGSIb3DQEBCwUAA4GBAHYjYVAiEXaJNAswPvXE93FLFOk\
     uvCCkBbPcnOzDqTvLRX2JzXgaeMFEwjVOlv5uhc4sWfYVfAf6KkD9cRbkx5H8S9bHKRue0Ob0JleW4j2p2PFwFIy+uQakAxxf1cTdi5bSl0\
     bZl7WUmBLzj0qIRkjqJjj71coHD0iy+VxHNxnG";

/// The certificate that a browser authenticates with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// An ECDSA key, the default of browsers.
    Ecdsa,
    /// An RSA key of 2,048 bits.
    Rsa,
    /// The same with a wrong signature.
    ForgedRsa,
    /// An RSA key of 1,024 bits.
    ShortRsa,
}

impl Identity {
    /// The certificate and the crypto provider of an RSA identity.
    pub fn rsa(self) -> Option<(DtlsCert, Arc<CryptoProvider>)> {
        let (certificate, clients) = match self {
            Self::Ecdsa => return None,
            Self::Rsa => (CERTIFICATE, &HONEST),
            Self::ForgedRsa => (CERTIFICATE, &FORGING),
            Self::ShortRsa => (SHORT, &HONEST),
        };
        let decode = |text: &str| BASE64.decode(text.as_bytes()).expect("the constants are valid Base64");
        let certificate = DtlsCert { certificate: decode(certificate), private_key: decode(KEY) };
        Some((certificate, Arc::new(CryptoProvider { dtls_provider: clients, ..from_feature_flags() })))
    }
}

#[derive(Debug)]
struct Clients {
    keys: &'static Keys,
    config: OnceLock<Arc<Config>>,
}

impl DtlsProvider for Clients {
    fn generate_certificate(&self) -> Option<DtlsCert> {
        None
    }

    fn new_dtls(
        &self,
        certificate: &DtlsCert,
        now: Instant,
        _: DtlsVersion,
        _: Option<usize>,
    ) -> Result<Box<dyn DtlsInstance>, CryptoError> {
        let config = self.config.get_or_init(|| {
            let primitives = Primitives { key_provider: self.keys, hash_provider: &Hashes, ..default_provider() };
            Arc::new(Config::builder().with_crypto_provider(primitives).build().expect("dimpl accepts the provider"))
        });
        Ok(Box::new(Client(Dtls::new_12(Arc::clone(config), certificate.clone(), now))))
    }
}

#[derive(Debug)]
struct Client(Dtls);

impl DtlsInstance for Client {
    fn set_active(&mut self, active: bool) {
        self.0.set_active(active);
    }

    fn handle_packet(&mut self, packet: &[u8]) -> Result<(), DtlsImplError> {
        self.0.handle_packet(packet)
    }

    fn poll_output<'a>(&mut self, buf: &'a mut [u8]) -> DtlsOutput<'a> {
        let len = match self.0.poll_output(buf) {
            DtlsOutput::Packet(packet) => packet.len(),
            DtlsOutput::PeerCert(certificate) => {
                let len = certificate.len();
                return DtlsOutput::PeerCert(&buf[..len]);
            }
            DtlsOutput::KeyingMaterial(material, profile) => return DtlsOutput::KeyingMaterial(material, profile),
            DtlsOutput::Timeout(at) => return DtlsOutput::Timeout(at),
            DtlsOutput::Connected => return DtlsOutput::Connected,
            DtlsOutput::CloseNotify => return DtlsOutput::CloseNotify,
            other => panic!("{other:?}"),
        };
        sign_with_rsa_in_datagram(&mut buf[..len]);
        DtlsOutput::Packet(&buf[..len])
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

fn sign_with_rsa_in_datagram(mut datagram: &mut [u8]) {
    while datagram.len() > RECORD_HEADER {
        let (header, rest) = datagram.split_at_mut(RECORD_HEADER);
        let (fragment, rest) = rest.split_at_mut(u16::from_be_bytes([header[11], header[12]]).into());
        if header[0] == HANDSHAKE && header[3..5] == [0, 0] {
            sign_with_rsa(fragment);
        }
        datagram = rest;
    }
}

/// Writes RSA into each CertificateVerify that is a whole message or the first fragment of one.
fn sign_with_rsa(mut messages: &mut [u8]) {
    while messages.len() > MESSAGE_HEADER {
        let (header, rest) = messages.split_at_mut(MESSAGE_HEADER);
        let length = u32::from_be_bytes([0, header[9], header[10], header[11]]) as usize;
        let (body, rest) = rest.split_at_mut(length);
        if header[0] == CERTIFICATE_VERIFY && header[6..9] == [0, 0, 0] {
            body[1] = RSA;
        }
        messages = rest;
    }
}

#[derive(Debug)]
struct Hashes;

impl HashProvider for Hashes {
    fn create_hash(&self, algorithm: HashAlgorithm) -> Box<dyn HashContext> {
        Box::new(Hash(default_provider().hash_provider.create_hash(algorithm)))
    }
}

#[derive(Debug)]
struct Hash(Box<dyn HashContext>);

impl HashContext for Hash {
    fn update(&mut self, transcript: &[u8]) {
        let mut transcript = transcript.to_vec();
        sign_with_rsa(&mut transcript);
        self.0.update(&transcript);
    }

    fn clone_and_finalize(&self, out: &mut Buf) {
        self.0.clone_and_finalize(out);
    }
}

#[derive(Debug)]
struct Keys {
    forges: bool,
}

impl KeyProvider for Keys {
    fn load_private_key(&self, key: &[u8]) -> Result<Box<dyn SigningKey>, dimpl::CryptoError> {
        let pair = RsaKeyPair::from_pkcs8(key).map_err(|_| dimpl::CryptoError::InvalidPrivateKey)?;
        Ok(Box::new(Key { pair, forges: self.forges }))
    }
}

#[derive(Debug)]
struct Key {
    pair: RsaKeyPair,
    forges: bool,
}

impl SigningKey for Key {
    fn sign(&mut self, data: &[u8], _: HashAlgorithm, out: &mut Buf) -> Result<(), dimpl::CryptoError> {
        let mut signature = vec![0; self.pair.public_modulus_len()];
        self.pair
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature)
            .map_err(|_| dimpl::CryptoError::OperationFailed(CryptoOperation::Sign))?;
        signature[100] ^= u8::from(self.forges);
        out.clear();
        out.extend_from_slice(&signature);
        Ok(())
    }

    // The algorithm that matches the server's cipher suites.
    fn algorithm(&self) -> SignatureAlgorithm {
        SignatureAlgorithm::ECDSA
    }

    fn hash_algorithm(&self) -> HashAlgorithm {
        HashAlgorithm::SHA256
    }

    fn supported_hash_algorithms(&self) -> &[HashAlgorithm] {
        &[HashAlgorithm::SHA256]
    }
}
