//! The end mark of a segment: `<segment>/end`, the number after the newest event that was synced, and the number after
//! the newest that had been taken in by then.
//!
//! Twenty bytes, the two numbers (u64 little-endian each) and their crc32c (u32 little-endian), overwritten before and
//! after each commit and never synced itself. It is a hint for two cases: when the database cannot be read, or ends
//! early, it says how much was there to be declared lost; and when the process was killed, what it had taken in and not
//! written. A mark that is missing or stale makes these ranges shorter, never wrong.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

const FILE: &str = "end";

#[derive(Debug)]
pub(crate) struct EndMark(File);

/// What a mark says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) durable: u64,
    pub(crate) taken: u64,
}

impl EndMark {
    pub(crate) fn create(segment: &Path) -> io::Result<Self> {
        File::options().create(true).write(true).truncate(true).open(segment.join(FILE)).map(Self)
    }

    pub(crate) fn set(&self, end: End) -> io::Result<()> {
        let mut bytes = [0; 20];
        bytes[..8].copy_from_slice(&end.durable.to_le_bytes());
        bytes[8..16].copy_from_slice(&end.taken.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..16]);
        bytes[16..].copy_from_slice(&crc.to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }

    pub(crate) fn read(segment: &Path) -> Option<End> {
        let bytes = fs::read(segment.join(FILE)).ok()?;
        // An earlier version wrote the first number alone.
        let (numbers, crc) = bytes.split_at_checked(bytes.len().checked_sub(4)?)?;
        if crc != crc32c::crc32c(numbers).to_le_bytes() {
            return None;
        }
        let (durable, taken) = numbers.split_first_chunk::<8>()?;
        let taken = taken.first_chunk::<8>().unwrap_or(durable);
        Some(End { durable: u64::from_le_bytes(*durable), taken: u64::from_le_bytes(*taken) })
    }
}
