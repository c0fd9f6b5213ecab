//! The end mark of a segment: `<segment>/end`, the number after the newest event that was synced.
//!
//! Twelve bytes, the number (u64 little-endian) and its crc32c (u32 little-endian), overwritten after each commit and
//! never synced itself. It is a hint for one case: when the database cannot be read, or ends early, it says how much was
//! there to be declared lost. A mark that is missing or stale makes that range shorter, never wrong.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

const FILE: &str = "end";

#[derive(Debug)]
pub(crate) struct EndMark(File);

impl EndMark {
    pub(crate) fn create(segment: &Path) -> io::Result<Self> {
        File::options().create(true).write(true).truncate(true).open(segment.join(FILE)).map(Self)
    }

    pub(crate) fn set(&self, next_seq: u64) -> io::Result<()> {
        let number = next_seq.to_le_bytes();
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&number);
        bytes[8..].copy_from_slice(&crc32c::crc32c(&number).to_le_bytes());
        self.0.write_all_at(&bytes, 0)
    }

    pub(crate) fn read(segment: &Path) -> Option<u64> {
        let bytes = fs::read(segment.join(FILE)).ok()?;
        let (number, crc) = bytes.split_first_chunk::<8>()?;
        (crc == crc32c::crc32c(number).to_le_bytes()).then(|| u64::from_le_bytes(*number))
    }
}
