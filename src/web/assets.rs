//! The assets: the files of the page, embedded in the binary and found by exact path.
//!
//! A path that is not in the table does not exist: nothing is normalised, joined or opened, so no path can leave it.

use std::sync::Arc;

/// The path that the empty path stands for.
const INDEX: &str = "index.html";

/// Builds the table of embedded files from their paths below `www/`.
macro_rules! embedded {
    ($($path:literal),* $(,)?) => {
        &[$(($path, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/www/", $path)) as &[u8])),*]
    };
}

/// Every file of `www/`; a test holds the two equal.
const EMBEDDED: &[(&str, &[u8])] = embedded![
    "app.js",
    "call.js",
    "chat.js",
    "devices.js",
    "encodings.js",
    "favicon.svg",
    "focus.js",
    "icons.js",
    "index.html",
    "local.js",
    "pulse.js",
    "signaling.js",
    "style.css",
    "tiles.js",
    "view.js",
];

/// The files that are served, by path.
#[derive(Debug)]
pub struct Assets {
    /// Sorted by path.
    files: Vec<Asset>,
}

/// One file of the page, ready to be served.
#[derive(Debug)]
pub struct Asset {
    /// Relative, '/'-separated, without a leading '/'.
    pub path: String,
    /// The media type of the body.
    pub content_type: &'static str,
    /// Quoted, as the header wants it; changes when the content does.
    pub etag: String,
    /// Shared with every response that is on its way.
    pub body: Arc<[u8]>,
}

impl Assets {
    /// The files in the binary.
    pub fn embedded() -> Assets {
        Assets::from_files(EMBEDDED.iter().map(|&(path, body)| (path.to_owned(), body.to_vec())).collect())
    }

    /// Files that the caller read, with paths relative to their folder.
    pub fn from_files(files: Vec<(String, Vec<u8>)>) -> Assets {
        let mut files: Vec<Asset> = files.into_iter().map(|(path, body)| Asset::new(path, body)).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        Assets { files }
    }

    /// Finds the file of exactly this path (no leading '/'); the empty path is `index.html`.
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

/// The media type by extension. Modules need a JavaScript type, and `nosniff` makes a browser take it literally.
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

/// FNV-1a, 64 bits: stable across runs and builds, unlike the standard hasher. Not for content that an attacker writes.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    /// Paths of all files below a folder, relative to `root`. A folder that does not exist has none.
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
    fn the_table_is_the_folder() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("www");
        let mut in_folder = Vec::new();
        files_below(&root, &root, &mut in_folder);
        in_folder.sort();
        let mut in_table: Vec<String> = EMBEDDED.iter().map(|(path, _)| (*path).to_owned()).collect();
        in_table.sort();
        assert_eq!(in_table, in_folder, "the table (left) and www/ (right)");
    }

    #[test]
    fn every_embedded_file_has_a_type() {
        for (path, _) in EMBEDDED {
            assert_ne!(content_type(path), "application/octet-stream", "{path}");
        }
    }

    #[test]
    fn found_by_exact_path_only() {
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
    fn etag_follows_the_content() {
        let etag = |body: &[u8]| Asset::new("a.js".to_owned(), body.to_vec()).etag;
        assert_eq!(etag(b"a"), "\"1-af63dc4c8601ec8c\"", "the published FNV-1a of \"a\"");
        assert_eq!(etag(b"same"), etag(b"same"));
        assert_ne!(etag(b"one"), etag(b"two"));
    }
}
