//! Ports that nobody else takes while a test runs.
//!
//! Servers are told their port, so it cannot be one that the system gives at that moment. Ports are taken in blocks from
//! below the range of those; a lock on a file keeps two tests from the same block, also of different processes.

use std::{
    fs::File,
    net::{Ipv4Addr, TcpListener},
};

use rustix::fs::{FlockOperation, flock};

use crate::PORTS;

/// Blocks lie in this range, below those that Linux gives of its own accord.
const FIRST: u16 = 20_000;
const BLOCKS: u16 = 1_000;

/// Ports from `first` on, until it is dropped.
#[derive(Debug)]
pub(crate) struct Block {
    pub(crate) first: u16,
    _lock: File,
}

impl Block {
    pub(crate) fn take() -> Self {
        let directory = std::env::temp_dir().join("galen-test-ports");
        std::fs::create_dir_all(&directory).unwrap();
        let start = (std::process::id() as u16).wrapping_mul(7) % BLOCKS;
        (0..BLOCKS)
            .find_map(|number| {
                let number = (start + number) % BLOCKS;
                let first = FIRST + number * PORTS;
                let lock = File::create(directory.join(first.to_string())).unwrap();
                flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()?;
                let free = (first..first + PORTS).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok());
                free.then_some(Self { first, _lock: lock })
            })
            .expect("a free block of ports")
    }
}
