//! Tests of the architecture: the levels of modules, which modules may do I/O, and which may name `Rtc`. See
//! `src/lib.rs`.

#[path = "files/mod.rs"]
mod files;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use files::files_below;

/// The level of each module, by its longest matching prefix.
const LEVELS: &[(&str, u32)] = &[
    ("config", 0),
    ("clock", 0),
    ("drop_reason", 0),
    ("histogram", 0),
    ("id", 0),
    ("limits::bucket", 0),
    ("network", 0),
    ("text", 0),
    ("track", 0),
    ("stats", 1),
    ("limits", 1),
    ("web", 1),
    ("media", 1),
    ("web::conn", 2),
    ("media::peer", 2),
    ("metrics", 2),
    ("room", 2),
    ("room::speakers", 1),
    ("timers", 3),
    ("server", 4),
    ("io", 5),
    ("io::reactor", 6),
    ("main", 7),
    ("lib", 8),
];

/// Most lines of a file, with its tests.
const MAX_LINES: usize = 500;

/// Files that are longer, with their most lines and the reason.
const LONG_FILES: &[(&str, usize, &str)] = &[];

/// Most files in a folder.
const MAX_FILES: usize = 14;

/// Code that reads a clock or uses the operating system.
const IO: &[&str] = &[
    "Instant::now",
    "SystemTime::now",
    "std::fs",
    "std::net::UdpSocket",
    "std::net::TcpStream",
    "std::net::TcpListener",
    "mio::",
    "libc::",
    "std::env",
    "std::thread",
    "thread::sleep",
    "println!",
    "eprintln!",
    "process::exit",
];

/// Types of shared ownership and callbacks.
const SHARING: &[&str] = &["Rc<", "RefCell", "Mutex", "RwLock", "dyn FnMut", "Box<dyn Fn", "thread_local"];

struct Module {
    name: String,
    path: PathBuf,
    /// Numbers and text of the lines of code, without tests and comments.
    lines: Vec<(usize, String)>,
    /// Number of lines, with tests and comments.
    length: usize,
}

/// The modules of `src`, without those that are only compiled for tests.
fn modules() -> Vec<Module> {
    let files = files();
    let tests: BTreeSet<PathBuf> = files.iter().flat_map(|module| test_files(&module.path)).collect();
    // A module of tests can have modules of its own, in the folder of its name.
    let is_test = |path: &Path| tests.iter().any(|test| path == test || path.starts_with(test.with_extension("")));
    files.into_iter().filter(|module| !is_test(&module.path)).collect()
}

/// All files of `src`.
fn files() -> Vec<Module> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = files_below(&root);
    found.retain(|path| path.extension().is_some_and(|ext| ext == "rs"));
    assert!(found.len() > 20, "the source files are found");
    found.iter().map(|path| module(&root, path)).collect()
}

/// The files that a file declares as modules of tests. They may read the clock, and import anything.
fn test_files(path: &Path) -> Vec<PathBuf> {
    let text = fs::read_to_string(path).unwrap();
    let folder = if path.ends_with("mod.rs") { path.parent().unwrap().to_owned() } else { path.with_extension("") };
    let declared = text.split("#[cfg(test)]\nmod ").skip(1).filter_map(|rest| rest.split_once(';'));
    declared.map(|(name, _)| folder.join(name).with_extension("rs")).collect()
}

fn module(root: &Path, path: &Path) -> Module {
    let name = path.strip_prefix(root).unwrap().with_extension("");
    let parts: Vec<_> = name.iter().map(|part| part.to_str().unwrap()).filter(|part| *part != "mod").collect();
    let text = fs::read_to_string(path).unwrap();
    let mut lines: Vec<(usize, String)> = Vec::new();
    let mut is_open = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim() == "#[cfg(test)]" {
            break;
        }
        let code = line.split("//").next().unwrap();
        match lines.last_mut().filter(|_| is_open) {
            // An import over several lines counts as one line.
            Some((_, import)) => import.push_str(code.trim()),
            None => lines.push((number + 1, code.to_owned())),
        }
        is_open = (is_open || code.trim_start().starts_with("use ")) && !code.contains(';');
    }
    Module { name: parts.join("::"), path: path.to_owned(), lines, length: text.lines().count() }
}

fn level(name: &str) -> u32 {
    let matches = |prefix: &str| name == prefix || name.starts_with(&format!("{prefix}::"));
    LEVELS
        .iter()
        .filter(|(prefix, _)| matches(prefix))
        .max_by_key(|(prefix, _)| prefix.len())
        .unwrap_or_else(|| panic!("the module {name} has no level: give it one here and in src/lib.rs"))
        .1
}

/// The modules that a module names in `crate::a::b`, `self::b` and `super::b` paths, with line numbers.
fn imports(module: &Module, known: &BTreeSet<String>) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (number, line) in &module.lines {
        let line = line.replace("aq_server::", "crate::").replace("pub(in crate::", "pub(in ");
        for (start, base) in [("crate::", ""), ("super::", parent(&module.name))] {
            for rest in line.split(start).skip(1) {
                // `crate::io::{a, b}` names several modules.
                let (head, group) = rest.split_once('{').map_or((rest, ""), |(head, group)| (head, group));
                let candidates: Vec<String> = if group.is_empty() || head.contains([' ', ';']) {
                    vec![rest.to_owned()]
                } else {
                    group.split(['{', '}', ',']).map(|item| format!("{head}{}", item.trim())).collect()
                };
                for candidate in candidates {
                    let path: String =
                        candidate.chars().take_while(|c| c.is_alphanumeric() || *c == '_' || *c == ':').collect();
                    let parts: Vec<&str> = base.split("::").chain(path.split("::")).filter(|p| !p.is_empty()).collect();
                    let longest = (1..=parts.len())
                        .rev()
                        .map(|length| parts[..length].join("::"))
                        .find(|name| known.contains(name));
                    found.extend(longest.map(|name| (*number, name)));
                }
            }
        }
        // A module names its children with `self` or without a prefix.
        if let Some(path) = line.trim().trim_start_matches("pub ").strip_prefix("use ") {
            let path = path.trim_start_matches("self::");
            let child = format!("{}::{}", module.name, path.split("::").next().unwrap_or_default());
            found.extend(known.contains(&child).then_some((*number, child)));
        }
    }
    found
}

fn parent(name: &str) -> &str {
    name.rsplit_once("::").map_or("", |(parent, _)| parent)
}

#[test]
fn imports_go_down_and_web_and_media_do_not_import_each_other() {
    let modules = modules();
    let known: BTreeSet<String> = modules.iter().map(|module| module.name.clone()).collect();
    let mut seen = 0;
    for module in modules.iter().filter(|module| module.name != "lib") {
        let own = level(&module.name);
        for (number, import) in imports(module, &known) {
            seen += 1;
            let place = format!("{}:{number} imports {import}", module.path.display());
            let plane = |name: &str| name.split("::").next().map(str::to_owned);
            let same_plane = plane(&module.name) == plane(&import);
            assert!(level(&import) < own || same_plane, "{place}: a module imports only lower levels");
            for (a, b) in [("web", "media"), ("media", "web")] {
                let crosses = plane(&module.name).as_deref() == Some(a) && plane(&import).as_deref() == Some(b);
                assert!(!crosses, "{place}: web and media do not import each other");
            }
        }
    }
    assert!(seen > 50, "imports are found: {seen}");
}

/// Modules that import each other in a circle hide which of them is the lower one. The files of the server may name
/// `server`, because they extend its type.
#[test]
fn no_modules_import_each_other() {
    let modules = modules();
    let known: BTreeSet<String> = modules.iter().map(|module| module.name.clone()).collect();
    let mut edges: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for module in modules.iter().filter(|module| module.name != "lib") {
        let is_own = |import: &str| module.name == import || import == "server" && module.name.starts_with("server::");
        let imports = imports(module, &known).into_iter().map(|(_, import)| import);
        edges.insert(&module.name, imports.filter(|import| !is_own(import)).collect());
    }
    assert!(edges.values().map(BTreeSet::len).sum::<usize>() > 300, "imports are found");
    let circles = circles(&edges);
    assert!(circles.is_empty(), "modules import each other: {circles:#?}");
}

/// The groups of modules each of which reaches all others of its group.
fn circles<'a>(edges: &'a BTreeMap<&'a str, BTreeSet<String>>) -> Vec<Vec<&'a str>> {
    let reached = |from: &'a str| {
        let mut reached: BTreeSet<&str> = BTreeSet::new();
        let mut left = vec![from];
        while let Some(next) = left.pop() {
            let imports = edges.get(next).into_iter().flatten().map(String::as_str);
            left.extend(imports.filter(|import| reached.insert(import)));
        }
        reached
    };
    let reach: BTreeMap<&str, BTreeSet<&str>> = edges.keys().map(|name| (*name, reached(name))).collect();
    let mut circles = Vec::new();
    for (name, reached) in &reach {
        let circle: Vec<&str> = reached.iter().copied().filter(|other| reach[other].contains(name)).collect();
        if circle.len() > 1 && circle.first() == Some(name) {
            circles.push(circle);
        }
    }
    circles
}

#[test]
fn files_and_folders_are_short() {
    let modules = files();
    for module in &modules {
        let exception = LONG_FILES.iter().find(|(name, ..)| *name == module.name);
        let most = exception.map_or(MAX_LINES, |(_, lines, _)| *lines);
        assert!(module.length <= most, "{} has {} lines, at most {most}", module.path.display(), module.length);
    }
    for (name, _, reason) in LONG_FILES {
        let module = modules.iter().find(|module| module.name == *name).unwrap_or_else(|| panic!("{name} is gone"));
        assert!(module.length > MAX_LINES, "{name} is no longer too long: remove it from the list");
        assert!(reason.len() > 20, "{name}: state the reason");
    }
    let mut files: BTreeMap<&Path, usize> = BTreeMap::new();
    for module in &modules {
        *files.entry(module.path.parent().unwrap()).or_default() += 1;
    }
    for (folder, count) in files {
        assert!(count <= MAX_FILES, "{} has {count} files, at most {MAX_FILES}", folder.display());
    }
}

/// The map in `src/lib.rs` names all modules at the top and all folders, and nothing else.
#[test]
fn the_map_is_complete() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let text = fs::read_to_string(root.join("lib.rs")).unwrap();
    let map = text.split("//! # Module map").nth(1).and_then(|rest| rest.split("//! # ").next()).expect("a map");
    let rows = map.lines().filter_map(|row| row.strip_prefix("//! |")?.split('|').nth(1));
    let names: BTreeSet<&str> = rows.flat_map(|row| row.split('`').skip(1).step_by(2)).collect();
    let modules = modules();
    for module in &modules {
        let is_top = !module.name.contains("::") && module.name != "lib" && module.name != "main";
        let is_folder = modules.iter().any(|other| parent(&other.name) == module.name);
        if is_top || is_folder {
            assert!(names.contains(&*module.name), "the map in src/lib.rs does not name {}", module.name);
        }
    }
    for name in names {
        assert!(modules.iter().any(|module| module.name == name), "the map in src/lib.rs names {name}, which is gone");
    }
}

/// A field more is a sign that some fields belong together, with their methods.
#[test]
fn the_server_has_few_fields() {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/server/mod.rs")).unwrap();
    let fields = text.split("\npub struct Server {\n").nth(1).and_then(|rest| rest.split("\n}\n").next());
    let is_field = |line: &&str| !line.trim().is_empty() && !line.trim().starts_with("//");
    let count = fields.expect("the struct is found").lines().filter(is_field).count();
    assert!((10..20).contains(&count), "Server has {count} fields");
}

#[test]
fn only_io_and_main_touch_the_system() {
    for module in modules() {
        if module.name == "io" || module.name.starts_with("io::") || module.name == "main" {
            continue;
        }
        for (number, line) in &module.lines {
            for forbidden in IO {
                assert!(!line.contains(forbidden), "{}:{number}: {forbidden}", module.path.display());
            }
        }
    }
}

#[test]
fn only_the_peer_names_the_rtc() {
    let mut named = 0;
    for module in modules() {
        for (number, line) in &module.lines {
            let words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
            for _ in words.filter(|word| *word == "Rtc") {
                named += 1;
                assert_eq!(module.name, "media::peer", "{}:{number} names Rtc", module.path.display());
            }
        }
    }
    assert!(named > 0);
}

#[test]
fn nothing_is_shared_or_called_back() {
    for module in modules() {
        for (number, line) in &module.lines {
            for forbidden in SHARING {
                // `Arc<` is allowed: it only shares immutable bytes.
                let line = line.replace("Arc<", "");
                // str0m has no other way to pass on the keys of a handshake: see the docs of these modules. In
                // `media::fault` only a test uses it.
                let is_handover = ["media::transport::dtls", "media::fault", "media::transport::opening"]
                    .contains(&&*module.name)
                    && *forbidden == "thread_local";
                assert!(is_handover || !line.contains(forbidden), "{}:{number}: {forbidden}", module.path.display());
            }
        }
    }
}

/// The iteration order of hash maps is random, so they are only used for lookups.
#[test]
fn no_hash_map_is_iterated() {
    let walks =
        [".iter()", ".iter_mut()", ".values()", ".values_mut()", ".keys()", ".drain(", ".into_iter()", ".retain("];
    let modules = modules();
    let mut maps = Vec::new();
    for module in &modules {
        for (_, line) in &module.lines {
            if let Some((name, kind)) = line.trim().trim_start_matches("pub ").split_once(": ")
                && kind.contains("HashMap<")
                && !name.contains(' ')
            {
                maps.push((module.name.clone(), name.to_owned()));
            }
        }
    }
    assert!(maps.len() >= 4, "the maps are found: {maps:?}");
    for module in &modules {
        for (number, line) in &module.lines {
            for (owner, map) in &maps {
                let own = module.name == *owner || module.name.starts_with(&format!("{owner}::"));
                let walked = walks.iter().any(|walk| line.contains(&format!("self.{map}{walk}")))
                    || line.contains(&format!("in &self.{map} "))
                    || line.contains(&format!("in &mut self.{map} "));
                assert!(!(own && walked), "{}:{number} iterates the hash map {map}", module.path.display());
            }
        }
    }
}

#[test]
fn unsafe_code_is_in_one_module() {
    for module in modules() {
        for (number, line) in &module.lines {
            let is_unsafe =
                line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("allow(unsafe_code");
            assert!(!is_unsafe || module.name == "io::udp::socket", "{}:{number}", module.path.display());
        }
    }
}

#[test]
fn every_module_starts_with_documentation() {
    for module in modules().iter().filter(|module| module.name != "main") {
        let text = fs::read_to_string(&module.path).unwrap();
        assert!(text.starts_with("//! "), "{} starts with a `//!` comment", module.path.display());
    }
}

/// The documents quote files that other tests run.
#[test]
fn the_documents_quote_what_is_tested() {
    let read = |path: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap();
    let (readme, hosting) = (read("README.md"), read("docs/hosting.md"));
    let location = read("tests/process/nginx-location.conf");
    assert!(readme.contains(location.trim()), "README.md has the tested location block");
    assert!(hosting.contains(location.trim()), "docs/hosting.md has the tested location block");
    assert!(hosting.contains(&read("tests/process/invite.py")), "docs/hosting.md has the tested token program");
    assert!(readme.lines().count() <= 160, "README.md has at most 160 lines");
}

/// Each relative link in the documents leads to a file, and each anchor to a heading.
#[test]
fn links_in_the_documents_are_valid() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let documents = fs::read_dir(root.join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let documents: Vec<_> = documents.chain([root.join("README.md")]).collect();
    let mut links = 0;
    for path in &documents {
        let text = fs::read_to_string(path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if link.starts_with("https://") {
                continue;
            }
            links += 1;
            let (file, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{}: {link}", path.display());
            if !anchor.is_empty() {
                let text = fs::read_to_string(&target).unwrap();
                let headings = text.lines().filter(|line| line.starts_with('#'));
                let mut anchors = headings.map(|line| line.trim_matches(['#', ' ']).to_lowercase().replace(' ', "-"));
                assert!(anchors.any(|heading| heading == anchor), "{}: {link}", path.display());
            }
        }
    }
    assert!(links > 15, "only {links} links were found");
}

/// The error codes in the protocol documentation.
fn documented_codes() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/web/signal.rs")).unwrap();
    let section = text.split("//! # Error codes").nth(1).expect("the section exists");
    let rows = section.lines().skip(1).take_while(|line| line.starts_with("//!"));
    let rows = rows.filter(|line| line.starts_with("//! | `"));
    let codes = rows.flat_map(|row| row.split(" | ").nth(1).expect("a first column").split('`').skip(1).step_by(2));
    codes.map(str::to_owned).collect()
}

/// Returns the first string literal in the arguments of a call. `arguments` starts after the opening parenthesis.
fn first_text(arguments: &str) -> Option<&str> {
    let mut depth = 1;
    for (at, letter) in arguments.char_indices() {
        match letter {
            '"' => return arguments[at + 1..].split('"').next(),
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    None
}

/// The error codes that the code sends, each with a file that sends it.
fn sent_codes() -> BTreeMap<String, PathBuf> {
    let calls = ["refuse(", "strike(", "dismiss(", "renew(", "turn_away(", "ServerMessage::error(", "Refusal::new("];
    let mut sent = BTreeMap::new();
    for module in modules().iter().filter(|module| module.name.starts_with("server") || module.name.starts_with("web"))
    {
        let code: Vec<&str> = module.lines.iter().map(|(_, line)| line.as_str()).collect();
        let code = code.join("\n");
        let named = calls.iter().flat_map(|call| code.split(call).skip(1)).filter_map(first_text);
        let fields = ["code: \"", "code = \""].into_iter().flat_map(|field| code.split(field).skip(1));
        let fields = fields.filter_map(|rest| rest.split('"').next());
        sent.extend(named.chain(fields).map(|text| (text.to_owned(), module.path.clone())));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/media/fault.rs");
    let text = fs::read_to_string(&path).unwrap();
    let of_peer =
        text.split("pub fn code(&self)").nth(1).and_then(|rest| rest.split("\n    }\n").next()).expect("code");
    sent.extend(of_peer.split('"').skip(1).step_by(2).map(|text| (text.to_owned(), path.clone())));
    sent
}

#[test]
fn documented_error_codes_are_those_that_are_sent() {
    let (documented, sent) = (documented_codes(), sent_codes());
    assert!(documented.len() > 30 && sent.len() > 30, "codes are found: {documented:?}, {sent:?}");
    for (code, path) in &sent {
        let is_code = !code.is_empty() && code.chars().all(|c| c.is_ascii_lowercase() || c == '-');
        assert!(is_code, "{}: {code:?} is not an error code", path.display());
        assert!(documented.contains(code), "{}: `{code}` is not in the table of src/web/signal.rs", path.display());
    }
    for code in &documented {
        assert!(sent.contains_key(code), "`{code}` is documented but never sent");
    }
    let page = ["words/en", "session/session", "session/signaling"].map(|name| format!("www/{name}.js"));
    let page = page.map(|path| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap());
    for code in &documented {
        assert!(page[0].contains(&format!("  'error.{code}': ")), "www/words/en.js has no words for `{code}`");
    }
    for code in page[1..].iter().flat_map(|text| text.split("code === '").skip(1)) {
        let code = code.split('\'').next().expect("a quote ends the code");
        assert!(documented.contains(code) || code.is_empty(), "the page expects `{code}`, which is not documented");
    }
}
