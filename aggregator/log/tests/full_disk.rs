//! A disk that is full: nothing is acknowledged that is not durable, and the log goes on when there is room again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{fs, path::Path};

use galen_log::{Append, Class, Error, Log};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use support::{open, read_all, settings};
use tempfile::TempDir;

/// A file system of one MiB.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let size = c"size=1m";
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(size)).expect("mount a tmpfs: needs root");
        Self(dir)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_refuses_the_group_and_the_log_goes_on_when_there_is_room() {
    let disk = SmallDisk::new();
    let dir = disk.path().join("log");
    let filler = disk.path().join("filler");
    let mut opened = open(settings(&dir));
    opened.append(1, 10);
    fs::write(&filler, vec![1; 800 << 10]).unwrap();

    let mut next = 11;
    let error = loop {
        let records = opened.admit(next, 10);
        match opened.writer.append(&records) {
            Ok(_) => next += 10,
            Err(error) => break error,
        }
    };
    assert!(
        matches!(&error, Error::Disk { source, .. } if source.kind() == std::io::ErrorKind::StorageFull),
        "{error}"
    );
    assert_eq!(error.class(), Class::Retryable);
    assert!(matches!(opened.writer.append(&[]), Err(Error::Poisoned)));
    let durable = opened.log.bounds().next;
    assert_eq!(durable, next - 1);
    let (events, _) = read_all(&opened.log, 0).await;
    assert_eq!(events.len() as u64, durable);

    fs::remove_file(&filler).unwrap();
    opened.watermarks = opened.writer.reopen().unwrap();
    opened.hello();
    assert_eq!(opened.upto(), durable, "what was refused is not settled");
    opened.append(next, 10);
    let (events, skipped) = read_all(&opened.log, 0).await;
    assert_eq!((events.len() as u64, skipped.len()), (durable + 10, 0));
    assert!(events.iter().all(|(offset, (seq, _))| *seq == offset + 1));
    assert_eq!(opened.log.stats().disk_errors, 1);
}
