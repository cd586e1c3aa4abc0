//! The folder of `--www`: served from memory, and reloaded when a file changes, for development of the page.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::web::assets::Assets;

/// Maximum number of files, and their bytes in total. A larger folder is a mistake.
const MAX_FILES: usize = 1_000;
const MAX_BYTES: u64 = 64 << 20;

/// The folder, and the state of its files when they were last read.
pub struct Www {
    root: PathBuf,
    seen: Vec<(PathBuf, SystemTime, u64)>,
}

impl Www {
    /// Reads the folder for the first time.
    ///
    /// # Errors
    /// Fails if the folder cannot be read or exceeds the limits.
    pub fn open(root: &Path) -> io::Result<(Self, Assets)> {
        let root = root.to_owned();
        let mut www = Self { root, seen: Vec::new() };
        let assets = www.reload()?.unwrap_or_else(|| Assets::from_files(Vec::new()));
        Ok((www, assets))
    }

    /// Reads the folder again and returns its files if one of them changed.
    ///
    /// # Errors
    /// Fails as `open` does.
    pub fn reload(&mut self) -> io::Result<Option<Assets>> {
        let mut found = Vec::new();
        let mut folders = vec![self.root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder)? {
                let entry = entry?;
                // `file_type` does not follow symbolic links, so nothing outside of the folder is served.
                let kind = entry.file_type()?;
                if kind.is_dir() {
                    folders.push(entry.path());
                } else if kind.is_file() {
                    let meta = entry.metadata()?;
                    found.push((entry.path(), meta.modified()?, meta.len()));
                }
            }
            let bytes: u64 = found.iter().map(|(_, _, bytes)| bytes).sum();
            if found.len() > MAX_FILES || bytes > MAX_BYTES {
                let reason = "more than 1,000 files or 64 MiB: too large to be a page";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
            }
        }
        found.sort();
        if found == self.seen {
            return Ok(None);
        }
        let mut files = Vec::new();
        for (path, _, _) in &found {
            let name = path.strip_prefix(&self.root).unwrap_or(path);
            let name = name.components().map(|part| part.as_os_str().to_string_lossy());
            files.push((name.collect::<Vec<_>>().join("/"), fs::read(path)?));
        }
        self.seen = found;
        Ok(Some(Assets::from_files(files)))
    }
}
