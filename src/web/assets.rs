//! The assets: the page's files, embedded in the binary, found by exact path and compressed once.
//!
//! Paths are only compared with those in the table, never normalised, joined or opened, so no request can reach other
//! files.

use std::io::Write;
use std::ops::RangeInclusive;
use std::sync::{Arc, OnceLock};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::web::http::Response;

/// The file that is served for the empty path.
const INDEX: &str = "index.html";

/// Sizes in bytes of the files that are compressed. A smaller one shares a packet with its head anyway; a larger one
/// would hold up the loop for several milliseconds.
const GZIP_SIZES: RangeInclusive<usize> = 512..=128 << 10;

/// Builds the table of embedded files from their paths below `www/`.
macro_rules! embedded {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/www/", $path)) as &[u8])),*]
    };
}

/// Every file below `www/`; a test compares this table with the folder.
const EMBEDDED: &[(&str, &[u8])] = embedded![
    "announce.js",
    "app.js",
    "app.webmanifest",
    "call.js",
    "chatlog.js",
    "commands.js",
    "devices/level.js",
    "devices/list.js",
    "devices/local.js",
    "devices/open.js",
    "devices/options.js",
    "devices/plugged.js",
    "devices/talk.js",
    "devices/way-out.js",
    "favicon.svg",
    "index.html",
    "layout.js",
    "links.js",
    "notices.js",
    "order.js",
    "room.js",
    "roster.js",
    "session/call.js",
    "session/connection.js",
    "session/encodings.js",
    "session/gestures.js",
    "session/invitation.js",
    "session/presence.js",
    "session/pulse.js",
    "session/sampler.js",
    "session/session.js",
    "session/signaling.js",
    "session/statistics.js",
    "session/stereo.js",
    "session/twin.js",
    "session/view.js",
    "settings.js",
    "state.js",
    "store.js",
    "style/call.css",
    "style/chat.css",
    "style/float.css",
    "style/lobby.css",
    "style/notices.css",
    "style/parts.css",
    "style/people.css",
    "style/statistics.css",
    "style/tile.css",
    "style/tokens.css",
    "tiles.js",
    "views/bar.js",
    "views/call.js",
    "views/chat.js",
    "views/confirm.js",
    "views/dom.js",
    "views/end.js",
    "views/float/window.js",
    "views/focus.js",
    "views/glide.js",
    "views/help/keys.js",
    "views/icons.js",
    "views/keys.js",
    "views/live.js",
    "views/lobby.js",
    "views/mark.js",
    "views/notice.js",
    "views/people/panel.js",
    "views/people/react.js",
    "views/people/rename.js",
    "views/people/row.js",
    "views/picture.js",
    "views/popover.js",
    "views/preview.js",
    "views/settings/dialog.js",
    "views/settings/meter.js",
    "views/settings/talk.js",
    "views/settings/tone.js",
    "views/stage.js",
    "views/statistics/figures.js",
    "views/statistics/graph.js",
    "views/statistics/panel.js",
    "views/system/media-keys.js",
    "views/system/screen-on.js",
    "views/tile-menu.js",
    "views/tile.js",
    "views/tiles/corner.js",
    "views/tiles/gain.js",
    "views/tiles/self.js",
    "views/tiles/volume.js",
    "words/ar.js",
    "words/de.js",
    "words/en.js",
    "words/es.js",
    "words/fr.js",
    "words/index.js",
    "words/rooms.js",
];

/// The served files.
#[derive(Debug)]
pub struct Assets {
    /// Sorted by path.
    files: Vec<Asset>,
}

/// One file of the page, ready to be served.
#[derive(Debug)]
pub struct Asset {
    /// Relative to the page's folder, separated by '/', without a leading '/'.
    pub path: String,
    /// The media type of the body.
    pub content_type: &'static str,
    plain: Encoded,
    /// Compressed at the first request: neither the start of the server nor a reload of
    /// `--www` waits for all files. `None` if it is hardly smaller.
    gzip: OnceLock<Option<Encoded>>,
}

/// A file in one content coding.
#[derive(Debug)]
struct Encoded {
    /// The value of the `ETag` field, with its quotes; changes with the content and the coding.
    etag: String,
    /// Shared with every response being written.
    body: Arc<[u8]>,
}

impl Assets {
    /// The files embedded in the binary, without the comments of scripts and style sheets: a quarter of what is sent.
    pub fn embedded() -> Assets {
        let files = EMBEDDED.iter().map(|&(path, body)| {
            let has_comments = path.ends_with(".js") || path.ends_with(".css");
            (path.to_owned(), if has_comments { without_comments(body) } else { body.to_vec() })
        });
        Assets::from_files(files.collect())
    }

    /// Takes files from the caller, as path and content; paths are relative to the page's folder.
    pub fn from_files(files: Vec<(String, Vec<u8>)>) -> Assets {
        let mut files: Vec<Asset> = files.into_iter().map(|(path, body)| Asset::new(path, body)).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Assets { files }
    }

    /// Finds the file with exactly this path (no leading '/'); the empty path means `index.html`.
    pub fn find(&self, path: &str) -> Option<&Asset> {
        let path = if path.is_empty() { INDEX } else { path };
        let index = self.files.binary_search_by(|asset| asset.path.as_str().cmp(path)).ok()?;
        Some(&self.files[index])
    }
}

impl Asset {
    fn new(path: String, body: Vec<u8>) -> Asset {
        let content_type = content_type(&path);
        let etag = format!("\"{:x}-{:016x}\"", body.len(), fnv1a(&body));
        let plain = Encoded { etag, body: body.into() };
        Asset { path, content_type, plain, gzip: OnceLock::new() }
    }

    /// The response to a request with this `If-None-Match` field whose `Accept-Encoding` allows gzip or not.
    pub fn response(&self, if_none_match: Option<&str>, accepts_gzip: bool) -> Response {
        let gzip = self.gzip.get_or_init(|| self.plain.gzip()).as_ref();
        let chosen = gzip.filter(|_| accepts_gzip);
        let Encoded { etag, body } = chosen.unwrap_or(&self.plain);
        let mut response = Response::file(if_none_match, self.content_type, etag, body);
        if chosen.is_some() && response.status == 200 {
            response = response.with_header("Content-Encoding", "gzip".to_owned());
        }
        // RFC 9110 section 15.4.5: status 304 has this field as well.
        if gzip.is_some() { response.with_header("Vary", "Accept-Encoding".to_owned()) } else { response }
    }
}

impl Encoded {
    /// The compressed file, unless its size is not in `GZIP_SIZES` or it shrinks by less than a tenth.
    fn gzip(&self) -> Option<Encoded> {
        if !GZIP_SIZES.contains(&self.body.len()) {
            return None;
        }
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&self.body).expect("a vector takes all bytes");
        let body = encoder.finish().expect("a vector takes all bytes");
        let etag = format!("{}-gzip\"", self.etag.trim_end_matches('"'));
        (body.len() <= self.body.len() / 10 * 9).then(|| Encoded { etag, body: body.into() })
    }
}

/// A script or style sheet without the comments that have lines of their own. The lines stay, empty, so that an error
/// names the line of the source. Only for the embedded files, which have no text over several lines.
fn without_comments(text: &[u8]) -> Vec<u8> {
    let text = str::from_utf8(text).expect("a test reads every file as UTF-8");
    let mut is_inside = false;
    let mut kept = String::with_capacity(text.len());
    for line in text.lines() {
        let code = line.trim();
        let is_comment = is_inside || code.starts_with("//") || code.starts_with("/*");
        if is_inside || code.starts_with("/*") {
            is_inside = !code.contains("*/");
        }
        // Code follows a comment, such as a cast of a type.
        let has_code = code.contains("*/") && !code.ends_with("*/");
        if !is_comment || (has_code && !code.starts_with("//")) {
            kept.push_str(line);
        }
        kept.push('\n');
    }
    kept.into_bytes()
}

/// The media type for a file name extension. Scripts need a JavaScript type: with `nosniff`, browsers refuse others.
fn content_type(path: &str) -> &'static str {
    match path.rsplit_once('.').map(|(_, extension)| extension) {
        Some("html") => "text/html; charset=utf-8",
        Some("js" | "mjs") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("json" | "map") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        Some("svg") => "image/svg+xml",
        Some("png") => "image/png",
        Some("jpg" | "jpeg") => "image/jpeg",
        Some("webp") => "image/webp",
        Some("ico") => "image/x-icon",
        Some("woff2") => "font/woff2",
        Some("wasm") => "application/wasm",
        Some("mp3") => "audio/mpeg",
        Some("ogg") => "audio/ogg",
        Some("txt") => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    }
}

/// FNV-1a with 64 bits. Unlike the standard hasher it is stable across runs and builds; it is not for content that an
/// attacker controls.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
#[path = "../../tests/files/mod.rs"]
mod files;

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::path::{Path, PathBuf};

    use super::files::files_below;
    use super::*;

    #[test]
    fn the_table_lists_exactly_the_files_of_the_folder() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
        let relative = |path: PathBuf| path.strip_prefix(&root).unwrap().to_str().unwrap().replace('\\', "/");
        let mut in_folder: Vec<String> = files_below(&root).into_iter().map(relative).collect();
        in_folder.sort();
        let mut in_table: Vec<String> = EMBEDDED.iter().map(|(path, _)| (*path).to_owned()).collect();
        in_table.sort();
        assert_eq!(in_table, in_folder, "the table (left) and www/ (right)");
    }

    #[test]
    fn every_embedded_file_has_a_media_type() {
        for (path, _) in EMBEDDED {
            assert_ne!(content_type(path), "application/octet-stream", "{path}");
        }
    }

    #[test]
    fn comments_are_not_sent_and_lines_keep_their_numbers() {
        let text = "// One\n/** Two\n * three */\nlet a = 1; // kept\n  // Four\n  /** @type {X} */ (b).c();\n/** Five */\n  // a */ b\nd();\n";
        let expected = "\n\n\nlet a = 1; // kept\n\n  /** @type {X} */ (b).c();\n\n\nd();\n";
        assert_eq!(str::from_utf8(&without_comments(text.as_bytes())), Ok(expected));
        for (path, body) in EMBEDDED.iter().filter(|(path, _)| path.ends_with(".js") || path.ends_with(".css")) {
            let text = str::from_utf8(body).expect("UTF-8");
            let sent = without_comments(body);
            let sent = str::from_utf8(&sent).expect("UTF-8");
            assert_eq!(sent.lines().count(), text.lines().count(), "{path}");
            for (number, (line, sent)) in text.lines().zip(sent.lines()).enumerate() {
                let place = format!("{path}:{}", number + 1);
                assert!(line.matches('`').count() % 2 == 0, "{place}: a text over several lines might lose some");
                let code = line.trim();
                let may_go = code.is_empty()
                    || ["//", "/*", "*"].iter().any(|start| code.starts_with(start))
                    || code.ends_with("*/")
                    || path.ends_with(".css");
                assert!(sent == line || (sent.is_empty() && may_go), "{place}: {line}");
            }
        }
    }

    #[test]
    fn files_are_found_by_exact_path_only() {
        let assets = Assets::from_files(vec![
            ("style.css".to_owned(), b"body {}".to_vec()),
            ("index.html".to_owned(), b"<!doctype html>".to_vec()),
            ("ui/tile.js".to_owned(), b"export {}".to_vec()),
        ]);
        let table = [
            ("", Some("text/html; charset=utf-8")),
            ("index.html", Some("text/html; charset=utf-8")),
            ("style.css", Some("text/css; charset=utf-8")),
            ("ui/tile.js", Some("text/javascript; charset=utf-8")),
            ("/index.html", None),
            ("./index.html", None),
            ("ui/../index.html", None),
            ("../src/lib.rs", None),
            ("..\\src\\lib.rs", None),
            ("/etc/passwd", None),
            ("index.htm", None),
            ("index.html/", None),
            ("index.html\0", None),
            ("INDEX.HTML", None),
            ("ui", None),
            ("ui/", None),
        ];
        for (path, expected) in table {
            assert_eq!(assets.find(path).map(|asset| asset.content_type), expected, "{path:?}");
        }
        assert!(Assets::from_files(Vec::new()).find("").is_none());
    }

    #[test]
    fn the_etag_depends_on_the_content() {
        let etag = |body: &[u8]| Asset::new("a.js".to_owned(), body.to_vec()).plain.etag;
        assert_eq!(etag(b"a"), "\"1-af63dc4c8601ec8c\"", "the published FNV-1a of \"a\"");
        assert_eq!(etag(b"same"), etag(b"same"));
        assert_ne!(etag(b"one"), etag(b"two"));
    }

    fn header<'a>(response: &'a Response, name: &str) -> Option<&'a str> {
        response.headers.iter().find(|(key, _)| *key == name).map(|(_, value)| value.as_str())
    }

    #[test]
    fn each_coding_has_its_own_etag() {
        let asset = Asset::new("a.js".to_owned(), b"export {};\n".repeat(100));
        let etag = |accepts_gzip| header(&asset.response(None, accepts_gzip), "ETag").unwrap().to_owned();
        let (plain, gzip) = (etag(false), etag(true));
        assert_ne!(plain, gzip);
        let both = format!("{gzip}, {plain}");
        let table = [
            // If-None-Match, accepts gzip, status, Content-Encoding
            (None, false, 200, None),
            (None, true, 200, Some("gzip")),
            (Some(&plain), false, 304, None),
            (Some(&plain), true, 200, Some("gzip")),
            (Some(&gzip), false, 200, None),
            (Some(&gzip), true, 304, None),
            (Some(&both), false, 304, None),
            (Some(&both), true, 304, None),
        ];
        for (known, accepts_gzip, status, coding) in table {
            let case = format!("{known:?}, accepts gzip: {accepts_gzip}");
            let response = asset.response(known.map(String::as_str), accepts_gzip);
            assert_eq!((response.status, header(&response, "Content-Encoding")), (status, coding), "{case}");
            assert_eq!(header(&response, "Vary"), Some("Accept-Encoding"), "{case}");
            assert_eq!(header(&response, "ETag"), Some(if accepts_gzip { &*gzip } else { &*plain }), "{case}");
        }
    }

    #[test]
    fn a_file_is_compressed_if_that_saves_bytes() {
        let noise = |bytes: usize| {
            let mut random = fastrand::Rng::with_seed(1);
            (0..bytes).map(|_| random.u8(..)).collect::<Vec<u8>>()
        };
        let table: [(&str, bool, Vec<u8>); 7] = [
            ("empty", false, Vec::new()),
            ("just too small", false, vec![b'a'; 511]),
            ("smallest", true, vec![b'a'; 512]),
            ("largest", true, vec![b'a'; 128 << 10]),
            ("just too large", false, vec![b'a'; (128 << 10) + 1]),
            ("incompressible", false, noise(10_000)),
            ("half of it compressible", true, [noise(5_000), vec![b'a'; 5_000]].concat()),
        ];
        for (name, is_compressed, body) in table {
            let asset = Asset::new("a.wasm".to_owned(), body.clone());
            let response = asset.response(None, true);
            assert_eq!(header(&response, "Content-Encoding").is_some(), is_compressed, "{name}");
            assert_eq!(header(&response, "Vary").is_some(), is_compressed, "{name}");
            let sent = if is_compressed { gunzip(&response.body) } else { response.body.to_vec() };
            assert!(sent == body, "{name}");
        }
    }

    fn gunzip(body: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(body).read_to_end(&mut plain).expect("valid gzip");
        plain
    }

    /// A page of this size is there within a second on a slow mobile network (1 Mbit/s).
    #[test]
    fn the_page_is_small() {
        let assets = Assets::embedded();
        let bytes = |path: &str| {
            let asset = assets.find(path).unwrap_or_else(|| panic!("index.html names {path}, which is missing"));
            asset.response(None, true).body.len()
        };
        // A browser loads one of the languages.
        let is_language =
            |path: &str| path.strip_prefix("words/").is_some_and(|name| !["index.js", "rooms.js"].contains(&name));
        let (languages, others): (Vec<&str>, Vec<&str>) =
            EMBEDDED.iter().map(|(path, _)| *path).partition(|path| is_language(path));
        let language = languages.into_iter().map(bytes).max().expect("English");

        let index = str::from_utf8(&assets.find(INDEX).expect("the page").plain.body).expect("text").to_owned();
        let named = index.split("href=\"").chain(index.split("src=\"")).filter_map(|rest| rest.split('"').next());
        let mut first: Vec<&str> = named.filter(|path| path.contains('.') && !path.contains(' ')).collect();
        first.sort_unstable();
        first.dedup();
        assert!(first.len() > 20, "{first:?}");
        let first = bytes(INDEX) + first.into_iter().map(bytes).sum::<usize>() + language;
        let all = others.into_iter().map(bytes).sum::<usize>() + language;
        println!("compressed: {first} bytes for the first view, {all} in total");
        assert!(first <= 60_000, "the first view takes {first} bytes");
        assert!(all <= 110_000, "the page takes {all} bytes");
    }
}
