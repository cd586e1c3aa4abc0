//! A temporary folder, empty at first and removed on drop.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::poll;

pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new(what: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{what}-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        // A killed run with the same process ID may have left this folder.
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("the build folder is writable");
        Self(folder)
    }

    /// Copies all files below `from` into the folder `to` of this one.
    pub fn copies(&self, from: &Path, to: &str) {
        let to = self.0.join(to);
        fs::create_dir_all(&to).expect("the build folder is writable");
        for entry in fs::read_dir(from).expect("the folder is there") {
            let entry = entry.expect("it is read");
            let name = to.join(entry.file_name());
            if entry.path().is_dir() {
                self.copies(&entry.path(), name.to_str().expect("the path is UTF-8"));
            } else {
                fs::copy(entry.path(), name).expect("it is copied");
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // A helper process of an ended browser may still write a file.
        let _ = poll(|| match fs::remove_dir_all(&self.0) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error.to_string()),
            _ => Ok(()),
        });
    }
}
