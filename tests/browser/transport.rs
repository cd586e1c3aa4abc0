//! The media transport: RSA certificates.

use crate::chromium::Chromium;
use crate::program::Program;
use crate::turn::side_by_side;

/// Makes a browser use a DTLS certificate with an RSA key of `bits` bits, once `window.certificate` exists.
fn with_rsa(bits: u32) -> String {
    format!(
        "
        const Given = window.RTCPeerConnection;
        window.RTCPeerConnection = class extends Given {{
            constructor(settings) {{
                super({{ ...settings, certificates: [window.certificate] }});
            }}
        }};
        Given.generateCertificate({{
            name: 'RSASSA-PKCS1-v1_5',
            hash: 'SHA-256',
            modulusLength: {bits},
            publicExponent: new Uint8Array([1, 0, 1]),
        }}).then((certificate) => window.certificate = certificate);"
    )
}

#[test]
fn a_browser_with_an_rsa_certificate_can_join_a_call() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    let mut bob = chromium.open_with(&server.url, &with_rsa(2048));
    bob.until("there is a certificate", "window.certificate !== undefined");
    bob.joins("garden", "Bob");
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    // The certificate that it sent contains the object identifier of an RSA key (RFC 8017 appendix A.1).
    let rsa = "(async () => [...(await aq.pc.getStats()).values()].filter(({ type }) => type === 'certificate')
        .some(({ base64Certificate }) => atob(base64Certificate).includes('\\x2a\\x86\\x48\\x86\\xf7\\x0d\\x01\\x01\\x01')))()";
    bob.until("its certificate has an RSA key", rsa);
}
