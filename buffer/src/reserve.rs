//! A file that holds some room on the disk, `<dir>/reserve`, given up when the disk is full.
//!
//! Opening a segment to read it takes a little room, because sled writes to a file that it opens, and so does the state.
//! Without that room a full disk could never be drained. It is taken again when a segment is begun or removed.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use rustix::fs::{FallocateFlags, fallocate};

const FILE: &str = "reserve";
/// Twice what opening a segment was seen to take.
const BYTES: u64 = 1024 * 1024;

/// Takes the room if it is not held. Does without it if there is none.
pub(crate) fn hold(dir: &Path) {
    let path = dir.join(FILE);
    if fs::metadata(&path).is_ok_and(|m| m.len() >= BYTES) {
        return;
    }
    let held = File::create(&path).and_then(|file| Ok(fallocate(&file, FallocateFlags::empty(), 0, BYTES)?));
    if let Err(error) = held {
        tracing::debug!(%error, "no room for the buffer's reserve");
        // What is there of it is of no use; if it cannot be removed, it will be written over.
        let _ = fs::remove_file(&path);
    }
}

/// Runs `attempt`; if it finds the disk full, gives up the reserve and runs it once more.
pub(crate) fn retry<T, E>(
    dir: &Path,
    is_full: impl Fn(&E) -> bool,
    mut attempt: impl FnMut() -> Result<T, E>,
) -> Result<T, E> {
    match attempt() {
        Err(error) if is_full(&error) && fs::remove_file(dir.join(FILE)).is_ok() => attempt(),
        other => other,
    }
}

pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
