//! Problems of the media transport while signaling works: blocked UDP, and RSA certificates.

use std::time::{Duration, Instant};

use crate::chromium::Chromium;
use crate::program::Program;
use crate::turn::side_by_side;

/// Makes a browser behave as without UDP until `blocked` is false: without a relay it has no candidates.
const NO_UDP: &str = "
    window.blocked = true;
    const Given = window.RTCPeerConnection;
    window.RTCPeerConnection = class extends Given {
        constructor(settings) {
            super({ ...settings, iceTransportPolicy: window.blocked ? 'relay' : 'all' });
        }
    };";

const EXPLAINED: &str = "probe.says().includes('this network blocks them')";

#[test]
fn with_blocked_udp_the_page_explains_it_can_chat_and_connects_later() {
    let mut turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open(&server.link("garden", "Ann"));
    ann.is_joined();
    let mut bob = chromium.open_with(&server.link("garden", "Bob"), NO_UDP);
    bob.is_joined();
    let joined = Instant::now();
    bob.until("it is explained", EXPLAINED);
    assert!(joined.elapsed() < Duration::from_secs(7), "explained after {:?}", joined.elapsed());
    bob.says("I hear nothing.");
    ann.finds_line("Bob", "I hear nothing.");
    ann.has_tiles_of(&["Bob"]);
    // The page tries again after pauses.
    turn.rests();
    let marked =
        "document.querySelector('.tile[data-name=\"Bob\"] .note')?.textContent.includes('No sound or picture')";
    ann.until_within(Duration::from_secs(30), "it is marked", marked);
    assert!(bob.eval::<bool>(EXPLAINED), "the explanation stays");
    bob.eval::<bool>("(window.first = aq.pc, window.blocked = false, true)");
    let renewed = "aq.pc !== window.first && aq.pc.connectionState === 'connected'";
    bob.until_within(Duration::from_secs(60), "a fresh transport connects", renewed);
    turn.resumes();
    bob.until("the words are gone", "!probe.says()");
    ann.sees_and_hears("Bob");
    bob.sees_and_hears("Ann");
    ann.says("There you are.");
    bob.finds_line("Ann", "There you are.");
    let gone = "document.querySelector('.tile[data-name=\"Bob\"] .note').hidden";
    ann.until("the mark is gone", gone);
}

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
