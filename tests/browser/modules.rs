//! The tests of the page's pure modules in Chromium; `tests/page` runs the same ones under Node.

use std::path::Path;

use crate::chromium::Chromium;
use crate::program::Program;
use crate::scratch::Scratch;
use crate::turn::side_by_side;

#[test]
fn pure_modules_pass_their_tests_in_chromium() {
    let _turn = side_by_side();
    let Some(mut chromium) = Chromium::start() else { return };
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Scratch::new("modules");
    folder.copies(&here.join("www"), "www");
    folder.copies(&here.join("tests/page"), "tests/page");
    let server = Program::start(&["--www", folder.path().to_str().expect("the build folder's path is UTF-8")]);
    let mut page = chromium.open(&format!("{}www/favicon.svg", server.url));
    let count: u32 = page.eval(&format!("import('{}tests/page/all.mjs').then(({{ run }}) => run())", server.url));
    assert!(count > 40, "{count} tests ran");
    page.is_sound();
}
