//! Opening files as a process sees them, in its mount namespace.
//!
//! Paths come from programs that may be hostile: they are resolved below the root of the process, so that a link in a
//! container leads to nothing of the host, and what is no regular file is not opened for reading.

use std::{fs::File, os::unix::fs::MetadataExt};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2};

/// `None` when there is no such regular file, or the process is gone.
pub(crate) fn open(pid: u32, path: &str) -> Option<File> {
    let root = openat(CWD, format!("/proc/{pid}/root"), OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // Without NONBLOCK the opening of a pipe would wait for its other end.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = File::from(openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT).ok()?);
    file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some(file)
}

/// As [`open`], if it is the file with this inode number.
pub(crate) fn open_same(pid: u32, path: &str, inode: u64) -> Option<File> {
    let file = open(pid, path)?;
    (file.metadata().ok()?.ino() == inode).then_some(file)
}
