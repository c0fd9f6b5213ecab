//! Large events, apart from the index, so that a page of results does not read their attachments.
//!
//! One file beside each index: the events as they were received, one after the other, with nothing between them. The
//! index keeps place, length and CRC-32C of each. The file is synced before the index commits, and the commit keeps
//! its length: what lies beyond, a crash has left behind, and opening cuts it off.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::Arc,
};

/// Where an event lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    offset: u64,
    length: u32,
    crc: u32,
}

impl Place {
    pub(crate) const BYTES: usize = 16;

    pub(crate) fn to_bytes(self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        bytes[..8].copy_from_slice(&self.offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.length.to_le_bytes());
        bytes[12..].copy_from_slice(&self.crc.to_le_bytes());
        bytes
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (offset, rest) = bytes.split_first_chunk()?;
        let (length, rest) = rest.split_first_chunk()?;
        let crc = rest.try_into().ok()?;
        Some(Self {
            offset: u64::from_le_bytes(*offset),
            length: u32::from_le_bytes(*length),
            crc: u32::from_le_bytes(crc),
        })
    }
}

/// The file, for reading.
#[derive(Debug, Clone)]
pub(crate) struct Evidence(Arc<File>);

impl Evidence {
    /// Opens or creates the file.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)?;
        Ok(Self(Arc::new(file)))
    }

    pub(crate) fn bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    /// Reads an event; fails if it is not what was written.
    pub(crate) fn read(&self, place: Place) -> io::Result<Vec<u8>> {
        let end = place.offset.checked_add(place.length.into());
        if end.is_none_or(|end| self.bytes().is_ok_and(|bytes| end > bytes)) {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the event lies beyond the end of its file"));
        }
        let mut bytes = vec![0; place.length as usize];
        self.0.read_exact_at(&mut bytes, place.offset)?;
        if crc32c::crc32c(&bytes) != place.crc {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the event has another checksum"));
        }
        Ok(bytes)
    }

    /// Writes on after `length`, and forgets what lies beyond.
    pub(crate) fn append_after(&self, length: u64) -> io::Result<Appender> {
        if self.bytes()? > length {
            self.0.set_len(length)?;
        }
        Ok(Appender { file: Arc::clone(&self.0), length, synced: length })
    }
}

/// The file, for writing. There is one at a time.
#[derive(Debug)]
pub(crate) struct Appender {
    file: Arc<File>,
    length: u64,
    synced: u64,
}

impl Appender {
    pub(crate) fn append(&mut self, event: &[u8]) -> io::Result<Place> {
        let length = u32::try_from(event.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let place = Place { offset: self.length, length, crc: crc32c::crc32c(event) };
        self.file.write_all_at(event, self.length)?;
        self.length += u64::from(length);
        Ok(place)
    }

    /// Makes what was appended durable, and says how long the file is.
    pub(crate) fn sync(&mut self) -> io::Result<u64> {
        if self.synced < self.length {
            self.file.sync_data()?;
            self.synced = self.length;
        }
        Ok(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_crash_left_behind_is_cut_off_and_damage_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("evidence");
        let file = Evidence::open(&path).unwrap();
        let mut appender = file.append_after(0).unwrap();
        let first = appender.append(b"first").unwrap();
        let durable = appender.sync().unwrap();
        let lost = appender.append(b"never committed").unwrap();

        let file = Evidence::open(&path).unwrap();
        let mut appender = file.append_after(durable).unwrap();
        assert_eq!(file.bytes().unwrap(), durable);
        let second = appender.append(b"second").unwrap();
        assert_eq!(file.read(first).unwrap(), b"first");
        assert_eq!(file.read(second).unwrap(), b"second");
        assert!(file.read(lost).is_err());
        assert_eq!(Place::from_bytes(&second.to_bytes()), Some(second));

        file.0.write_all_at(b"F", 0).unwrap();
        assert!(file.read(first).is_err());
    }
}
