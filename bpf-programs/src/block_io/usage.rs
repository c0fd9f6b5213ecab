//! What the maps hold. Keys and values are whole words, so that their length is that of their type.

use std::time::Duration;

use crate::{Comm, Owner, bytes::Words, layout};

pub(super) const USER_WORDS: usize = layout::BLOCK_IO__USER__SIZE / 8;
pub(super) const USAGE_WORDS: usize = layout::BLOCK_IO__USAGE__SIZE / 8;
pub(super) const FLIGHT_WORDS: usize = layout::BLOCK_IO__FLIGHT__SIZE / 8;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Direction {
    Read = 0,
    Write = 1,
    /// A discard, a flush, a command.
    Other = 2,
}

impl Direction {
    pub const ALL: [Self; layout::BLOCK_IO_DIRECTIONS] = [Self::Read, Self::Write, Self::Other];
}

/// A part of the life of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Phase {
    /// From its making until the driver has it.
    Queued = 0,
    /// From there to its end.
    Device = 1,
    Total = 2,
}

impl Phase {
    pub const ALL: [Self; layout::BLOCK_IO_PHASES] = [Self::Queued, Self::Device, Self::Total];
}

/// Who made requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct User {
    /// `None` where the kernel does not tell who makes a request.
    pub pid: Option<u32>,
    /// Whom they are charged to; `None` for the machine itself.
    pub owner: Option<Owner>,
    /// Name of the process; empty where it is not known.
    pub comm: Comm,
    /// A thread of the kernel, which works for others.
    pub is_kernel_thread: bool,
}

/// Requests of one direction that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub bytes: u64,
    pub requests: u64,
    /// Sums and the largest.
    pub queued: Duration,
    pub queued_max: Duration,
    pub device: Duration,
    pub device_max: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub user: User,
    by_direction: [Totals; layout::BLOCK_IO_DIRECTIONS],
    /// Requests that failed.
    pub errors: u64,
}

/// A request that the device has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flight {
    pub user: User,
    pub bytes: u64,
    /// Since the driver had it.
    pub age: Duration,
}

impl Usage {
    #[must_use]
    pub fn totals(&self, direction: Direction) -> &Totals {
        &self.by_direction[direction as usize]
    }

    pub(super) fn new(key: &[u64; USER_WORDS], value: &[u64; USAGE_WORDS]) -> Self {
        let value = Words(value);
        let totals = |direction: usize| {
            let word = |offset: usize| value.u64(offset + direction * 8);
            let time = |offset: usize| Duration::from_nanos(word(offset));
            Totals {
                bytes: word(layout::BLOCK_IO__USAGE__BYTES),
                requests: word(layout::BLOCK_IO__USAGE__REQUESTS),
                queued: time(layout::BLOCK_IO__USAGE__QUEUED),
                queued_max: time(layout::BLOCK_IO__USAGE__QUEUED_MAX),
                device: time(layout::BLOCK_IO__USAGE__DEVICE),
                device_max: time(layout::BLOCK_IO__USAGE__DEVICE_MAX),
            }
        };
        let (flags, comm) = (layout::BLOCK_IO__USAGE__FLAGS, layout::BLOCK_IO__USAGE__COMM);
        Self {
            user: user(Words(key), value.u64(flags), value.comm(comm)),
            by_direction: std::array::from_fn(totals),
            errors: value.u64(layout::BLOCK_IO__USAGE__ERRORS),
        }
    }
}

impl Flight {
    /// `None` if the driver does not have it. `now` by the kernel's monotonic clock.
    pub(super) fn new(value: &[u64; FLIGHT_WORDS], now: Duration) -> Option<Self> {
        let value = Words(value);
        let issued = value.u64(layout::BLOCK_IO__FLIGHT__ISSUED);
        if issued == 0 {
            return None;
        }
        let (flags, comm) = (layout::BLOCK_IO__FLIGHT__FLAGS, layout::BLOCK_IO__FLIGHT__COMM);
        Some(Self {
            user: user(value.from(layout::BLOCK_IO__FLIGHT__USER), value.u64(flags), value.comm(comm)),
            bytes: value.u64(layout::BLOCK_IO__FLIGHT__BYTES),
            age: now.saturating_sub(Duration::from_nanos(issued)),
        })
    }
}

fn user(key: Words<'_>, flags: u64, comm: Comm) -> User {
    let pid = key.u32(layout::BLOCK_IO__USER__TGID);
    let hierarchy = key.u32(layout::BLOCK_IO__USER__HIERARCHY);
    User {
        pid: (pid != 0).then_some(pid),
        owner: Owner::new(hierarchy.into(), key.u64(layout::BLOCK_IO__USER__CGROUP)),
        comm,
        is_kernel_thread: flags & layout::BLOCK_IO_KERNEL_THREAD as u64 != 0,
    }
}
