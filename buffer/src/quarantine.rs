//! Segments that could not be read: `<dir>/quarantine/<unix seconds>-<epoch>-<first>/`, each with a `reason.txt`, for
//! people to look at. Bounded in number and in bytes, the newest stay; nothing ever reads them again.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use crate::segment::disk_usage;

pub(crate) const DIR: &str = "quarantine";
const KEEP: usize = 4;

/// Moves a segment away. Returns the bytes that the quarantine holds then.
pub(crate) fn put_aside(
    buffer: &Path,
    epoch: u64,
    first: u64,
    segment: &Path,
    reason: &str,
    max_bytes: u64,
) -> io::Result<u64> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let target = buffer.join(DIR).join(format!("{seconds:012}-{epoch:016x}-{first:020}"));
    fs::create_dir_all(buffer.join(DIR))?;
    fs::rename(segment, &target)?;
    let written = fs::write(target.join("reason.txt"), format!("{reason}\n"));
    let bytes = prune(buffer, max_bytes);
    written.map(|()| bytes)
}

/// Removes the oldest ones over the bounds. Returns the bytes that are left.
pub(crate) fn prune(buffer: &Path, max_bytes: u64) -> u64 {
    let mut newest_first = entries(&buffer.join(DIR));
    newest_first.sort_unstable_by(|a, b| b.cmp(a));
    let mut bytes = 0;
    for (kept, path) in newest_first.iter().enumerate() {
        let more = disk_usage(path);
        if kept < KEEP && bytes + more <= max_bytes {
            bytes += more;
        } else if let Err(error) = fs::remove_dir_all(path) {
            tracing::warn!(path = %path.display(), %error, "failed to remove an old quarantined segment");
            bytes += more;
        }
    }
    bytes
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else {
        return Vec::new();
    };
    entries.filter_map(Result::ok).map(|e| e.path()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_newest_stay() {
        let dir = tempfile::tempdir().unwrap();
        for first in 1..=7_u64 {
            let segment = dir.path().join("segment");
            fs::create_dir(&segment).unwrap();
            fs::write(segment.join("db"), vec![1; 8192]).unwrap();
            put_aside(dir.path(), 9, first, &segment, "torn", 1 << 20).unwrap();
        }
        let mut left = entries(&dir.path().join(DIR));
        left.sort();
        assert_eq!(left.len(), KEEP);
        assert!(left[KEEP - 1].to_string_lossy().ends_with("-00000000000000000007"));
        assert_eq!(fs::read_to_string(left[0].join("reason.txt")).unwrap(), "torn\n");
        assert!(prune(dir.path(), 20_000) <= 20_000);
    }
}
