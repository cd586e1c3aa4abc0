//! The assets: the page's files, embedded in the binary and found by exact path.
//!
//! Paths are only compared with those in the table, never normalised, joined or opened, so no request can reach other
//! files.

use std::sync::Arc;

/// The file that is served for the empty path.
const INDEX: &str = "index.html";

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
    "call.js",
    "chatlog.js",
    "commands.js",
    "devices/level.js",
    "devices/list.js",
    "devices/local.js",
    "devices/open.js",
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
    "session/session.js",
    "session/signaling.js",
    "session/view.js",
    "settings.js",
    "state.js",
    "store.js",
    "style/call.css",
    "style/chat.css",
    "style/lobby.css",
    "style/notices.css",
    "style/parts.css",
    "style/people.css",
    "style/tile.css",
    "style/tokens.css",
    "tiles.js",
    "views/bar.js",
    "views/call.js",
    "views/chat.js",
    "views/confirm.js",
    "views/dom.js",
    "views/end.js",
    "views/focus.js",
    "views/glide.js",
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
    "views/stage.js",
    "views/tile-menu.js",
    "views/tile.js",
    "words/de.js",
    "words/en.js",
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
    /// The value of the `ETag` field, with its quotes; changes with the content.
    pub etag: String,
    /// Shared with every response being written.
    pub body: Arc<[u8]>,
}

impl Assets {
    /// The files embedded in the binary.
    pub fn embedded() -> Assets {
        Assets::from_files(EMBEDDED.iter().map(|&(path, body)| (path.to_owned(), body.to_vec())).collect())
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
        Asset { path, content_type, etag, body: body.into() }
    }
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
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Collects the paths of all files below a folder, relative to `root`. A missing folder counts as empty.
    fn files_below(folder: &Path, root: &Path, found: &mut Vec<String>) {
        let Ok(entries) = fs::read_dir(folder) else {
            return;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() {
                files_below(&path, root, found);
            } else {
                let relative = path.strip_prefix(root).unwrap();
                found.push(relative.to_str().unwrap().replace('\\', "/"));
            }
        }
    }

    #[test]
    fn the_table_lists_exactly_the_files_of_the_folder() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
        let mut in_folder = Vec::new();
        files_below(&root, &root, &mut in_folder);
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
        let etag = |body: &[u8]| Asset::new("a.js".to_owned(), body.to_vec()).etag;
        assert_eq!(etag(b"a"), "\"1-af63dc4c8601ec8c\"", "the published FNV-1a of \"a\"");
        assert_eq!(etag(b"same"), etag(b"same"));
        assert_ne!(etag(b"one"), etag(b"two"));
    }
}
