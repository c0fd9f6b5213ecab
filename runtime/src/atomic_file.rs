//! Files that are replaced as a whole: a reader sees the old content or the new, and after a crash either is complete.
//!
//! The content goes to a temporary file beside the target, is flushed to disk, renamed over it, and the directory is
//! flushed, so that the rename is durable when `write` returns. On failure the target is untouched.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// Replaces the content of `path`. Its directory must exist.
pub fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let name = path.file_name().ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "the path names no file"))?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    let mut temporary = name.to_owned();
    temporary.push(format!(".{}-{:08x}.tmp", std::process::id(), fastrand::u32(..)));
    let temporary = Temporary(dir.join(temporary));
    let mut file = File::options().write(true).create_new(true).open(&temporary.0)?;
    file.write_all(content)?;
    file.sync_all()?;
    fs::rename(&temporary.0, path)?;
    File::open(dir)?.sync_all()
}

/// Removed when it goes out of scope, if it is still there under this name.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // What cannot be removed is a leftover with a name of its own, in nobody's way.
        let _ = fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_replaced_and_nothing_else_is_left() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("state.json");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failure_leaves_the_directory_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        write(&path, b"content").unwrap_err();
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_missing_directory_is_an_error() {
        assert_eq!(write(Path::new("/nonexistent/file"), b"").unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
