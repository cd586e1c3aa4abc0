//! The page's source: its architecture, its words, and the tests of its pure modules under Node.
//!
//! `tests/browser` runs the same tests of the pure modules in Chromium. Without Node they are skipped here; with
//! `AQ_REQUIRE_NODE=1` they fail.

#[path = "../files/mod.rs"]
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use files::files_below;

/// Most lines of a module, and of a style sheet. A language is one table.
const MAX_LINES: usize = 300;

/// Most files in a folder.
const MAX_FILES: usize = 20;

/// The modules that may use the DOM: views, and the two that connect them with the rest.
const WITH_DOM: &[&str] = &["views/", "app.js", "call.js"];

/// What only a module with DOM may name.
const DOM: &[&str] = &["document.", "querySelector", "HTMLElement", "createElement", "window.", "localStorage."];

/// What may not be in any module, with the reason.
const NOWHERE: &[(&str, &str)] = &[
    ("innerHTML", "text must never become markup"),
    ("outerHTML", "text must never become markup"),
    ("insertAdjacentHTML", "text must never become markup"),
    ("eval(", "text must never become script"),
    ("new Function", "text must never become script"),
    ("https://", "a page requests nothing from elsewhere"),
    ("@ts-ignore", "a type is fixed, or cast where that is true"),
    ("console.log", "the console is for what failed"),
];

struct File {
    /// Relative to `www`.
    name: String,
    text: String,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("www")
}

fn files() -> Vec<File> {
    let root = root();
    let file = |path: &PathBuf| File {
        name: path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/"),
        text: fs::read_to_string(path).unwrap(),
    };
    let found: Vec<File> = files_below(&root).iter().map(file).collect();
    assert!(found.len() > 30, "the page's files are found");
    found
}

fn modules() -> Vec<File> {
    files().into_iter().filter(|file| file.name.ends_with(".js")).collect()
}

impl File {
    fn is_language(&self) -> bool {
        self.name.starts_with("words/") && !["words/index.js", "words/rooms.js"].contains(&self.name.as_str())
    }

    /// Numbers and text of the lines of code, without comments.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(number, line)| (number + 1, line.trim()));
        lines.filter(|(_, line)| !["//", "/*", "*"].iter().any(|start| line.starts_with(start)))
    }

    /// The modules that it imports at once, relative to `www`.
    fn imports(&self) -> Vec<String> {
        let from = self.code().filter_map(|(_, line)| {
            let import = line.starts_with("import ") || line.starts_with("export ") || line.starts_with("} from ");
            import.then(|| line.split("from '").nth(1)?.split('\'').next()).flatten()
        });
        from.map(|path| joined(&self.name, path)).collect()
    }
}

/// The path that a module means by a relative one.
fn joined(module: &str, path: &str) -> String {
    let mut parts: Vec<&str> = module.split('/').collect();
    parts.pop();
    for part in path.split('/') {
        match part {
            "." => {}
            ".." => _ = parts.pop(),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

#[test]
fn modules_are_short_and_say_what_they_are() {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for file in files() {
        let is_text = file.name.ends_with(".js") || file.name.ends_with(".css");
        let lines = file.text.lines().count();
        assert!(!is_text || file.is_language() || lines <= MAX_LINES, "{} has {lines} lines", file.name);
        if file.name.ends_with(".js") {
            assert!(file.text.starts_with("// "), "{} starts with a comment that says what it is", file.name);
        }
        let folder = file.name.rsplit_once('/').map_or("", |(folder, _)| folder);
        *counts.entry(folder.to_owned()).or_default() += 1;
    }
    for (folder, count) in counts {
        assert!(count <= MAX_FILES, "www/{folder} has {count} files, at most {MAX_FILES}");
    }
}

#[test]
fn only_views_use_the_dom_and_nothing_makes_markup_of_text() {
    for file in modules() {
        let may = WITH_DOM.iter().any(|place| file.name.starts_with(place)) || file.name == "words/index.js";
        for (number, line) in file.code() {
            let place = format!("{}:{number}", file.name);
            for word in DOM {
                assert!(may || !line.contains(word), "{place} uses the DOM: {word}");
            }
            for (word, reason) in NOWHERE {
                assert!(!line.contains(word), "{place} has {word}: {reason}");
            }
        }
        // What is below views does not know them.
        if !may {
            for import in file.imports() {
                assert!(!import.starts_with("views/"), "{} imports {import}", file.name);
            }
        }
    }
}

/// A module that is loaded later than those that import it delays the first paint by a round trip.
#[test]
fn what_the_first_paint_needs_is_preloaded() {
    let modules: BTreeMap<String, File> = modules().into_iter().map(|file| (file.name.clone(), file)).collect();
    let mut needed = BTreeSet::new();
    let mut left = vec!["app.js".to_owned()];
    while let Some(name) = left.pop() {
        let module = modules.get(&name).unwrap_or_else(|| panic!("{name} is imported and is not there"));
        if needed.insert(name) {
            left.extend(module.imports());
        }
    }
    let index = fs::read_to_string(root().join("index.html")).unwrap();
    let named = |attribute: &str, before: &str| -> BTreeSet<String> {
        let lines = index.lines().filter(|line| line.contains(before));
        lines.filter_map(|line| line.split(attribute).nth(1)?.split('"').next()).map(str::to_owned).collect()
    };
    let preloaded = named("href=\"", "rel=\"modulepreload\"");
    let scripts = named("src=\"", "<script ");
    let all: BTreeSet<String> = preloaded.union(&scripts).cloned().collect();
    assert_eq!(all, needed, "what index.html loads (left) and what app.js imports (right)");
    assert!(needed.contains("store.js") && needed.contains("views/lobby.js"), "imports are found: {needed:?}");
    let later = ["call.js", "session/session.js", "views/tile.js", "views/chat.js", "words/en.js"];
    assert!(later.iter().all(|module| !needed.contains(*module)), "the call, panels and languages come later");
}

/// The keys of a language.
fn keys(language: &File) -> BTreeSet<String> {
    let lines = language.text.lines().filter_map(|line| line.strip_prefix("  '")?.split_once("': "));
    lines.map(|(key, _)| key.to_owned()).collect()
}

/// The texts of a line between single quotes or backticks, as they are written.
fn texts(line: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = line;
    while let Some(start) = rest.find(['\'', '`']) {
        let quote = rest.as_bytes()[start];
        let inside = &rest[start + 1..];
        let Some(end) = inside.find(char::from(quote)) else { break };
        found.push(&inside[..end]);
        rest = &inside[end + 1..];
    }
    found
}

#[test]
fn every_word_is_in_the_languages_and_used() {
    let all = modules();
    let english = all.iter().find(|file| file.name == "words/en.js").expect("English is there");
    let keys = keys(english);
    assert!(keys.len() > 100, "keys are found: {}", keys.len());
    let is_key = |text: &str| {
        text.contains('.') && text.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-".contains(c))
    };
    let subjects: BTreeSet<&str> = keys.iter().filter_map(|key| key.split('.').next()).collect();
    let mut used = BTreeSet::new();
    let mut starts: BTreeSet<String> = BTreeSet::new();
    for file in all.iter().filter(|file| !file.is_language()) {
        for (number, line) in file.code() {
            for text in texts(line) {
                // A key that is put together begins with a text that ends in a dot or a dash.
                let start = text.split("${").next().unwrap();
                let known = start.split('.').next().is_some_and(|subject| subjects.contains(subject));
                if known && start.contains('.') && start.ends_with(['.', '-']) && is_key(start) {
                    starts.insert(start.to_owned());
                } else if known && is_key(text) && !text.ends_with(".js") {
                    let place = format!("{}:{number}", file.name);
                    assert!(keys.contains(text), "{place}: the key {text} is in no language");
                    used.insert(text.to_owned());
                }
            }
        }
    }
    let is_used = |key: &String| used.contains(key) || starts.iter().any(|start| key.starts_with(start.as_str()));
    let unused: Vec<&String> = keys.iter().filter(|key| !is_used(key)).collect();
    assert!(unused.is_empty(), "nothing uses {unused:?}");
}

#[test]
fn sentences_are_only_in_the_languages() {
    for file in modules().iter().filter(|file| !file.is_language() && file.name != "words/rooms.js") {
        for (number, line) in file.code() {
            if line.starts_with("import ") || line.contains("new Error(") || line.contains("console.") {
                continue;
            }
            for text in texts(line) {
                let words = text.split_whitespace().collect::<Vec<_>>();
                let is_sentence = text.starts_with(|c: char| c.is_ascii_uppercase())
                    && words.len() > 1
                    && words.iter().all(|word| word.chars().all(|c| c.is_alphabetic() || ".,:;!?’'…".contains(c)));
                let is_name = text == "AQ Server";
                assert!(!is_sentence || is_name, "{}:{number}: {text:?} belongs into www/words", file.name);
            }
        }
    }
    let index = fs::read_to_string(root().join("index.html")).unwrap();
    let body = index.split("<body").nth(1).expect("a body");
    let texts: String = body.split('>').skip(1).filter_map(|part| part.split('<').next()).collect();
    assert_eq!(texts.trim(), "This page needs JavaScript.", "the words of index.html");
}

#[test]
fn pure_modules_pass_their_tests_under_node() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page/all.mjs");
    let Ok(output) = Command::new("node").arg("--test").arg(all).output() else {
        assert!(std::env::var_os("AQ_REQUIRE_NODE").is_none_or(|value| value != "1"), "no node on PATH");
        // Not `eprintln!`: the harness captures its output for a test that passes.
        let _ = writeln!(std::io::stderr(), "skipped: no node on PATH");
        return;
    };
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{text}\n{}", String::from_utf8_lossy(&output.stderr));
    let passed = text.lines().find_map(|line| line.strip_prefix("# pass ")?.parse::<u32>().ok());
    assert!(passed.is_some_and(|passed| passed > 40), "{passed:?} tests ran");
}
