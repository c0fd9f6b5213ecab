//! Files as the programs name them (`include/inode_name.h`).

use crate::{
    bytes::{BadRecord, Fields, Words},
    layout,
};

/// A file, or a disk that is used as one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Inode {
    pub number: u64,
    /// Of the file system, as the kernel packs it (`major << 20 | minor`), or of the disk.
    pub device: u32,
    /// A disk: the number is that of its device file.
    pub is_disk: bool,
}

/// The path of a file, below the root of its file system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InodeName {
    pub inode: Inode,
    /// Begins with `/`; with `/…/` if it is longer than is told.
    pub path: String,
}

impl Inode {
    pub(crate) const WORDS: usize = layout::FILE_IO__INODE_ID__SIZE / 8;

    /// `None` if the program wrote no file there.
    pub(crate) fn new(words: Words<'_>) -> Option<Self> {
        let device = words.u32(layout::FILE_IO__INODE_ID__DEVICE);
        (device != 0).then(|| Self {
            number: words.u64(layout::FILE_IO__INODE_ID__INODE),
            device,
            is_disk: words.u32(layout::FILE_IO__INODE_ID__RAW) != 0,
        })
    }
}

impl InodeName {
    /// # Errors
    /// The record is shorter than its header says.
    pub fn parse(record: &[u8]) -> Result<Self, BadRecord> {
        const NAME: &str = "inode_name";
        let header = layout::FILE_IO__INODE_NAME__PARTS;
        let fields = Fields::new(NAME, record, header)?;
        let length = fields.u32(layout::FILE_IO__INODE_NAME__BYTES) as usize;
        if length > layout::FILE_IO__INODE_NAME__SIZE - header || record.len() < header + length {
            return Err(BadRecord::Short { name: NAME, found: record.len(), wanted: header.saturating_add(length) });
        }
        let at = layout::FILE_IO__INODE_NAME__INODE;
        let words: [u64; Inode::WORDS] = std::array::from_fn(|index| fields.u64(at + index * 8));
        let inode = Inode::new(Words(&words)).ok_or(BadRecord::Short { name: NAME, found: 0, wanted: 1 })?;
        let parts = fields.bytes(header, length).split(|byte| *byte == 0).filter(|part| !part.is_empty());
        let mut parts: Vec<_> = parts.map(String::from_utf8_lossy).collect();
        if fields.u32(layout::FILE_IO__INODE_NAME__FLAGS) as usize & layout::INODE_NAME_CUT != 0 {
            parts.push("…".into());
        }
        parts.reverse();
        Ok(Self { inode, path: format!("/{}", parts.join("/")) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(parts: &[u8], flags: u32) -> Vec<u8> {
        let mut bytes = vec![0; layout::FILE_IO__INODE_NAME__PARTS];
        let mut put = |at: usize, value: u32| bytes[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        put(layout::FILE_IO__INODE_NAME__INODE + layout::FILE_IO__INODE_ID__DEVICE, 7 << 20);
        put(layout::FILE_IO__INODE_NAME__BYTES, parts.len() as u32);
        put(layout::FILE_IO__INODE_NAME__FLAGS, flags);
        bytes.extend(parts);
        bytes
    }

    #[test]
    fn a_path_is_put_together_from_its_parts() {
        let path = |parts, flags| InodeName::parse(&record(parts, flags)).unwrap().path;
        assert_eq!(path(b"log\0app\0var\0", 0), "/var/app/log");
        assert_eq!(path(b"log\0app\0", layout::INODE_NAME_CUT as u32), "/…/app/log");
        assert_eq!(path(b"", 0), "/");
    }

    #[test]
    fn a_record_that_is_cut_anywhere_is_refused() {
        let bytes = record(b"log\0app\0var\0", 0);
        for length in 0..bytes.len() {
            assert!(InodeName::parse(&bytes[..length]).is_err(), "{length}");
        }
    }
}
