//! A disk that is full, or that fails: nothing is acknowledged that is not durable, and the log goes on when it works again.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::fs;

use galen_log::{Append, Class, Error, Log};
use galen_scratch::{FailingDisk, Tmpfs};
use support::{open, read_all, settings};

#[tokio::test]
async fn a_full_disk_refuses_the_group_and_the_log_goes_on_when_there_is_room() {
    let Some(disk) = Tmpfs::mount(1 << 20) else { return };
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

#[tokio::test]
async fn a_disk_that_fails_refuses_the_group_and_the_log_goes_on_when_it_works() {
    let Some(mut disk) = FailingDisk::mount() else { return };
    let mut opened = open(settings(&disk.path().join("log")));
    opened.append(1, 10);
    disk.fail();
    let records = opened.admit(11, 10);
    let error = opened.writer.append(&records).unwrap_err();
    let io = rustix::io::Errno::IO.raw_os_error();
    assert!(matches!(&error, Error::Disk { source, .. } if source.raw_os_error() == Some(io)), "{error}");
    assert_eq!(error.class(), Class::Retryable);
    assert!(matches!(opened.writer.append(&records), Err(Error::Poisoned)), "a sync that failed is not repeated");
    assert_eq!(opened.log.bounds().next, 10);

    disk.heal();
    opened.watermarks = opened.writer.reopen().unwrap();
    opened.hello();
    assert_eq!(opened.upto(), 10, "what was refused is not settled");
    opened.append(11, 10);
    let (events, skipped) = read_all(&opened.log, 0).await;
    assert_eq!((events.len(), skipped.len()), (20, 0));
}
