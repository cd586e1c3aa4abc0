//! Links in chat messages, and which messages are shown as one's own.

use serde_json::json;

use crate::chromium::Chromium;
use crate::page::KEEP_SOCKET;
use crate::program::Program;
use crate::turn::side_by_side;

/// A chat message, and the addresses that become links in it.
const LINKS: [(&str, &[&str]); 16] = [
    ("https://example.org/a_(b)", &["https://example.org/a_(b)"]),
    ("see https://example.org/a_(b).", &["https://example.org/a_(b)"]),
    ("(see https://example.org/a_(b))", &["https://example.org/a_(b)"]),
    ("(https://example.org/a)", &["https://example.org/a"]),
    ("[https://example.org/a[0]]", &["https://example.org/a[0]"]),
    ("https://example.org/a_(b_(c)), then", &["https://example.org/a_(b_(c))"]),
    ("HTTPS://example.org/A", &["https://example.org/A"]),
    ("Http://example.org", &["http://example.org/"]),
    ("“https://example.org/a”", &["https://example.org/a"]),
    ("https://example.org/a!? https://example.org/b…", &["https://example.org/a", "https://example.org/b"]),
    ("https://example.org/?q=1&r=(2)#x).", &["https://example.org/?q=1&r=(2)#x"]),
    ("https://example.org/a:)", &["https://example.org/a"]),
    ("（https://example.org/a）", &["https://example.org/a"]),
    ("<https://example.org/a>", &["https://example.org/a"]),
    ("javascript:alert(1) ftp://example.org xhttps://example.org", &[]),
    ("https:// https://)", &[]),
];

#[test]
fn addresses_become_links_and_own_messages_stay_own() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open_with(&server.link("garden", "Ann"), KEEP_SOCKET);
    let mut bob = chromium.open(&server.link("garden", "Bob"));
    bob.is_joined();
    ann.is_joined();

    for (text, wanted) in LINKS {
        let found: (String, Vec<String>) = bob.eval(&format!(
            "import(new URL('views/chat.js', document.baseURI)).then(({{ linked }}) => {{
                const box = document.createElement('p');
                box.append(...linked({}));
                return [box.textContent, [...box.querySelectorAll('a')].map(({{ href }}) => href)];
            }})",
            json!(text)
        ));
        assert_eq!((found.0.as_str(), found.1.iter().map(String::as_str).collect::<Vec<_>>()), (text, wanted.to_vec()));
    }

    let is_own = |name: &str, text: &str| {
        format!(
            "probe.chat().filter(({{ who, text, own }}) => own && who === {name:?} && text === {text:?}).length === 1 && probe.chat().length"
        )
    };
    ann.says("before");
    bob.finds_line("Ann", "before");
    bob.says("between");
    ann.finds_line("Bob", "between");
    // The participant resumes on another connection; earlier messages are already shown.
    ann.eval::<()>("void (window.lost = socket, socket.close())");
    ann.until("it is back", "window.socket !== window.lost && document.body.dataset.state === 'joined'");
    bob.says("after");
    ann.finds_line("Bob", "after");
    ann.until("nothing is shown twice", "probe.chat().length === 3");
    ann.until("its own message is its own, once", &is_own("You", "before"));
    for stay in 2..=3 {
        ann.eval::<()>("void (window.isOld = true, location.reload())");
        ann.until("it is loaded again", "!window.isOld && document.readyState === 'complete'");
        ann.is_joined();
        ann.until(&format!("stay {stay}: its own message is its own, once"), &is_own("You", "before"));
        ann.until(
            "and the other's is not",
            "probe.chat().some(({ who, text, own }) => !own && who === 'Bob' && text === 'between')",
        );
    }
    // Leave and join without a reload.
    ann.leaves();
    ann.press("#btn-rejoin");
    ann.is_joined();
    ann.until("its own message is its own", &is_own("You", "before"));
    ann.until("and that is all", "probe.chat().length === 3");
    // Another tab is another participant.
    let mut eve = chromium.open(&server.link("garden", "Eve"));
    eve.finds_line("Ann", "before");
    for page in [&mut ann, &mut bob, &mut eve] {
        page.is_sound();
    }
}
