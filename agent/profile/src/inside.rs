//! Opening files of a process: as it sees them, in its mount namespace, or by what it has mapped.
//!
//! Paths come from programs that may be hostile: they are resolved below the root of the process, so that a link in a
//! container leads to nothing of the host. What is no regular file is not opened at all: a pipe would wait for its other
//! end, and a device may act on being opened.

use std::{
    fs::File,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};

use crate::maps::Mapping;

const WHERE: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// `None` when there is no such regular file, or the process is gone.
pub(crate) fn open(pid: u32, path: &str) -> Option<File> {
    let root = openat(CWD, format!("/proc/{pid}/root"), WHERE, Mode::empty()).ok()?;
    regular(&openat2(root, path, WHERE, Mode::empty(), ResolveFlags::IN_ROOT).ok()?)
}

/// As [`open`], if it is the file with this inode number.
pub(crate) fn open_same(pid: u32, path: &str, inode: u64) -> Option<File> {
    let file = open(pid, path)?;
    (file.metadata().ok()?.ino() == inode).then_some(file)
}

/// The file of a mapping, also when it has no name any more.
pub(crate) fn open_mapped(pid: u32, mapping: &Mapping) -> Option<File> {
    let path = format!("/proc/{pid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
    regular(&openat(CWD, path, WHERE, Mode::empty()).ok()?)
}

fn regular(place: &OwnedFd) -> Option<File> {
    let kind = FileType::from_raw_mode(fstat(place).ok()?.st_mode);
    if kind != FileType::RegularFile {
        return None;
    }
    File::open(format!("/proc/self/fd/{}", place.as_raw_fd())).ok()
}
