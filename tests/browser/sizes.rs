//! The page in windows of four sizes, with up to 49 people, in two languages: nothing overlaps, is cut or too small.
//!
//! With `AQ_SCREENSHOTS=FOLDER`, a picture of each state is written there, in light and in dark.

use std::env;
use std::path::PathBuf;

use crate::chromium::Chromium;
use crate::page::{KEEP_SOCKET, Page};
use crate::program::Program;
use crate::turn::side_by_side;

const LOOKS: &str = include_str!("looks.js");

const SIZES: [(u32, u32); 4] = [(360, 740), (740, 360), (1280, 800), (1920, 1080)];
const COUNTS: [usize; 6] = [1, 2, 4, 9, 25, 49];

/// People of the server's messages, so that not each of them needs a browser.
const CROWD: &str = "void (() => {
    const names = { de: ['Änne Grünwald-Überschär', 'Jürgen Müller', 'Ößgür Şahin', 'Bo'], ar: ['فاطمة الزهراء بنت عبد الرحمن', 'محمد', 'Li Wei', 'ليلى'] };
    const tell = (message) => socket.onmessage({ data: JSON.stringify(message) });
    const here = [];
    window.crowd = (count, language) => {
        while (here.length > count - 1) tell({ event: 'left', id: here.pop() });
        while (here.length < count - 1) {
            const id = `crowd-${here.length}`;
            here.push(id);
            tell({ event: 'joined', id, name: names[language][here.length % 4] });
            if (here.length % 3 === 1) tell({ event: 'hand', id, raised: true });
        }
    };
    window.languages = async (language) => {
        const { setLanguage } = await import(new URL('words/index.js', document.baseURI));
        await setLanguage(language);
        await new Promise(requestAnimationFrame);
        return document.querySelector('.tile.self .name').textContent === { de: 'Sie', ar: 'أنت' }[language];
    };
})()";

struct Check {
    folder: Option<PathBuf>,
    language: &'static str,
    count: usize,
}

impl Check {
    /// Checks a state in the window's size, and takes its pictures.
    fn looks(&self, ann: &mut Page, size: (u32, u32), state: &str, faces: bool) {
        let Self { folder, language, count } = self;
        let place = format!("{}x{}-{count}-{state}-{language}", size.0, size.1);
        let found: Vec<String> = ann.eval(&format!("looks.faults({faces})"));
        assert!(found.is_empty(), "{place}: {found:#?}");
        let Some(folder) = folder else { return };
        for dark in [false, true] {
            ann.prefers_dark(dark);
            ann.takes_picture(&folder.join(format!("{place}-{}.png", if dark { "dark" } else { "light" })));
        }
    }
}

/// Opens each panel, menu and dialog by its key or button and checks it.
fn panels_and_dialogs(ann: &mut Page, check: &Check, size: (u32, u32)) {
    for (key, panel) in [("c", "#chat"), ("p", "#people"), ("s", "#statistics .graph")] {
        ann.eval::<()>("void document.activeElement.blur()");
        ann.keys(key);
        ann.until(panel, &format!("document.querySelector('{panel}')?.checkVisibility()"));
        check.looks(ann, size, &format!("panel-{key}"), false);
    }
    ann.eval::<()>("void document.activeElement.blur()");
    ann.keys("s");
    ann.until("no panel is open", "document.querySelector('#panel').hidden");
    for (key, dialog) in [("?", "#keys"), ("n", "#rename"), (",", "#settings"), ("e", "#react-menu")] {
        ann.keys(key);
        ann.until(dialog, &format!("document.querySelector('{dialog}')?.checkVisibility()"));
        check.looks(ann, size, &dialog[1..], false);
        ann.keys("Escape");
        ann.until("it is closed", &format!("!document.querySelector('{dialog}')"));
    }
    for (button, menu) in [("#btn-more", "#more-menu"), (".tile:not(.away, .self) > .tile-button", "#tile-menu")] {
        ann.eval::<()>(&format!("void document.querySelector('{button}').click()"));
        ann.until(menu, &format!("document.querySelector('{menu}')?.checkVisibility()"));
        check.looks(ann, size, &menu[1..], false);
        ann.keys("Escape");
        ann.until("it is closed", &format!("!document.querySelector('{menu}')"));
    }
    let notices = "looks.notices('Etwas ist geschehen, das man wissen sollte, bevor es weitergeht.')";
    ann.eval::<()>(notices);
    check.looks(ann, size, "notices", false);
    ann.eval::<()>("looks.dismisses()");
}

#[test]
fn every_state_fits_every_window() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start_at_full_rate() else { return };
    let server = Program::start(&[]);
    let mut ann = chromium.open_with(&server.link("garden", "Ann"), KEEP_SOCKET);
    ann.is_joined();
    ann.prefers_dark(false);
    ann.eval::<()>(&format!("void (() => {{ {LOOKS} }})()"));
    ann.eval::<()>(CROWD);
    let folder = env::var_os("AQ_SCREENSHOTS").map(PathBuf::from);
    for language in ["de", "ar"] {
        assert!(ann.eval::<bool>(&format!("languages('{language}')")), "tiles are written in {language}");
        for count in COUNTS {
            ann.eval::<()>(&format!("void crowd({count}, '{language}')"));
            let check = Check { folder: folder.clone(), language, count };
            for size in SIZES {
                ann.resizes(size.0, size.1);
                check.looks(&mut ann, size, "call", [2, 4, 9].contains(&count));
                if count == 49 && size == (740, 360) {
                    // The tip of the arrow to the page before is above its ends.
                    let is_up = "((path) => { const matrix = path.getScreenCTM(); const y = (at) => path.getPointAtLength(at * path.getTotalLength()).matrixTransform(matrix).y; return y(0.5) < y(0); })(document.querySelector('.pager.upright .icon-previous path'))";
                    assert!(ann.eval::<bool>(is_up), "{language}: the upper arrow points up");
                }
                if count == 9 {
                    panels_and_dialogs(&mut ann, &check, size);
                }
            }
        }
        ann.eval::<()>(&format!("void crowd(1, '{language}')"));
    }
    ann.leaves();
    for size in SIZES {
        ann.resizes(size.0, size.1);
        Check { folder: folder.clone(), language: "last", count: 1 }.looks(&mut ann, size, "end", false);
    }
    ann.is_sound();
}
