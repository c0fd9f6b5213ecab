//! What the maps and the ring hold.

use std::time::Duration;

use crate::{
    Comm, Owner,
    bytes::{BadRecord, Fields, Words},
    layout,
};

pub(super) const KEY_WORDS: usize = layout::IO_STALL__KEY__SIZE / 8;
pub(super) const WAITER_WORDS: usize = layout::IO_STALL__WAITER__SIZE / 8;
pub(super) const STALL_WORDS: usize = layout::IO_STALL__IO_STALL__SIZE / 8;

/// The waits of one process at one place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiter {
    pub pid: u32,
    /// Name of the process.
    pub comm: Comm,
    /// Whom the process is charged to; `None` for the machine itself.
    pub owner: Option<Owner>,
    /// Where they waited; `None` if that is not known.
    pub stack: Option<u32>,
    pub waits: u64,
    /// Sum, and the longest.
    pub time: Duration,
    pub time_max: Duration,
}

/// One wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stall {
    pub pid: u32,
    pub tid: u32,
    /// Names of the process and of the thread.
    pub comm: Comm,
    pub thread: Comm,
    pub owner: Option<Owner>,
    pub stack: Option<u32>,
    /// Since boot, sleep included.
    pub begun: Duration,
    /// `None` while it lasts.
    pub took: Option<Duration>,
}

impl Waiter {
    pub(super) fn new(key: &[u64; KEY_WORDS], value: &[u64; WAITER_WORDS]) -> Self {
        let (key, value) = (Words(key), Words(value));
        let hierarchy = value.u64(layout::IO_STALL__WAITER__HIERARCHY);
        Self {
            pid: key.u32(layout::IO_STALL__KEY__TGID),
            comm: value.comm(layout::IO_STALL__WAITER__COMM),
            owner: Owner::new(hierarchy, value.u64(layout::IO_STALL__WAITER__CGROUP)),
            stack: stack(key.u32(layout::IO_STALL__KEY__STACK)),
            waits: value.u64(layout::IO_STALL__WAITER__WAITS),
            time: Duration::from_nanos(value.u64(layout::IO_STALL__WAITER__TIME)),
            time_max: Duration::from_nanos(value.u64(layout::IO_STALL__WAITER__TIME_MAX)),
        }
    }
}

impl Stall {
    /// # Errors
    /// The record is too short.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadRecord> {
        let fields = Fields::new("io_stall", bytes, layout::IO_STALL__IO_STALL__SIZE)?;
        let words: [u64; STALL_WORDS] = std::array::from_fn(|index| fields.u64(index * 8));
        Ok(Self::new(&words))
    }

    pub(super) fn new(value: &[u64; STALL_WORDS]) -> Self {
        let value = Words(value);
        let key = value.from(layout::IO_STALL__IO_STALL__KEY);
        let hierarchy = value.u64(layout::IO_STALL__IO_STALL__HIERARCHY);
        let took = value.u64(layout::IO_STALL__IO_STALL__TOOK);
        Self {
            pid: key.u32(layout::IO_STALL__KEY__TGID),
            tid: value.u32(layout::IO_STALL__IO_STALL__TID),
            comm: value.comm(layout::IO_STALL__IO_STALL__COMM),
            thread: value.comm(layout::IO_STALL__IO_STALL__THREAD),
            owner: Owner::new(hierarchy, value.u64(layout::IO_STALL__IO_STALL__CGROUP)),
            stack: stack(key.u32(layout::IO_STALL__KEY__STACK)),
            begun: Duration::from_nanos(value.u64(layout::IO_STALL__IO_STALL__BEGUN)),
            took: (took != 0).then(|| Duration::from_nanos(took)),
        }
    }
}

/// The kernel writes a negative number if it has none.
fn stack(number: u32) -> Option<u32> {
    (number.cast_signed() >= 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_that_is_cut_anywhere_is_refused() {
        let bytes = [0; layout::IO_STALL__IO_STALL__SIZE];
        assert!(Stall::parse(&bytes).is_ok());
        for length in 0..bytes.len() {
            assert!(Stall::parse(&bytes[..length]).is_err(), "{length}");
        }
    }
}
