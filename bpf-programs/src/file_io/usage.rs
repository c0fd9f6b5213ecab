//! What the maps hold.

use std::time::Duration;

use crate::{Comm, Inode, Owner, bytes::Words, layout};

pub(super) const KEY_WORDS: usize = layout::FILE_IO__KEY__SIZE / 8;
pub(super) const USAGE_WORDS: usize = layout::FILE_IO__USAGE__SIZE / 8;
pub(super) const CALL_WORDS: usize = layout::FILE_IO__CALL__SIZE / 8;

/// What a system call does with a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(usize)]
pub enum Kind {
    Read = 0,
    Write = 1,
    /// `fsync` and its kin.
    Sync = 2,
}

impl Kind {
    pub const ALL: [Self; layout::FILE_IO_KINDS] = [Self::Read, Self::Write, Self::Sync];
}

/// Calls of one kind that ended well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    pub bytes: u64,
    pub calls: u64,
    /// Sum, and the longest.
    pub time: Duration,
    pub time_max: Duration,
}

/// One process and one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub file: Inode,
    pub pid: u32,
    /// Whom the process is charged to; `None` for the machine itself.
    pub owner: Option<Owner>,
    /// Name of the process.
    pub comm: Comm,
    by_kind: [Totals; layout::FILE_IO_KINDS],
}

/// A call that is not over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Call {
    pub file: Inode,
    pub kind: Kind,
    pub pid: u32,
    pub tid: u32,
    pub age: Duration,
}

impl Usage {
    #[must_use]
    pub fn totals(&self, kind: Kind) -> &Totals {
        &self.by_kind[kind as usize]
    }

    pub(super) fn new(key: &[u64; KEY_WORDS], value: &[u64; USAGE_WORDS]) -> Option<Self> {
        let (key, value) = (Words(key), Words(value));
        let totals = |kind: usize| {
            let word = |offset: usize| value.u64(offset + kind * 8);
            Totals {
                bytes: word(layout::FILE_IO__USAGE__BYTES),
                calls: word(layout::FILE_IO__USAGE__CALLS),
                time: Duration::from_nanos(word(layout::FILE_IO__USAGE__TIME)),
                time_max: Duration::from_nanos(word(layout::FILE_IO__USAGE__TIME_MAX)),
            }
        };
        let hierarchy = value.u64(layout::FILE_IO__USAGE__HIERARCHY);
        Some(Self {
            file: Inode::new(key.from(layout::FILE_IO__KEY__FILE))?,
            pid: key.u32(layout::FILE_IO__KEY__TGID),
            owner: Owner::new(hierarchy, value.u64(layout::FILE_IO__USAGE__CGROUP)),
            comm: value.comm(layout::FILE_IO__USAGE__COMM),
            by_kind: std::array::from_fn(totals),
        })
    }
}

impl Call {
    /// One for each file that the call is about. `now` by the kernel's monotonic clock.
    pub(super) fn new(tid: u32, value: &[u64; CALL_WORDS], now: Duration) -> impl Iterator<Item = Self> + use<'_> {
        let value = Words(value);
        let age = now.saturating_sub(Duration::from_nanos(value.u64(layout::FILE_IO__CALL__BEGUN)));
        Kind::ALL.into_iter().filter_map(move |kind| {
            let at = layout::FILE_IO__CALL__FILES + kind as usize * layout::FILE_IO__INODE_ID__SIZE;
            let pid = value.u32(layout::FILE_IO__CALL__TGID);
            Some(Self { file: Inode::new(value.from(at))?, kind, pid, tid, age })
        })
    }
}
