//! The table as it is kept in a file, with the offset that it was made up to.
//!
//! | Bytes | What |
//! |---|---|
//! | 8 | `galeninc` |
//! | 8 | offset of the first event that is not in it |
//! | 4 | CRC-32C of the offset and the payload |
//! | … | payload: an encoded [`Stored`] |
//!
//! Integers are little-endian. The file is written beside, synced and renamed, so a crash leaves the one before. Limits
//! are not in it: what is too much for new ones is pushed out with the next event.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

use prost::Message;

use crate::{
    Error,
    stored::{self, Stored, restore},
    table::{Limits, Table},
};

const MAGIC: &[u8; 8] = b"galeninc";
const HEADER: usize = 20;

/// Replaces the file at `path`.
pub(crate) fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    let beside = path.with_extension("tmp");
    File::create(&beside)
        .and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path))
        .map_err(Error::disk("write", path))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::disk("sync", dir))
}

/// The file's bytes, if there is one.
pub(crate) fn read(path: &Path) -> Result<Option<Vec<u8>>, Error> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::disk("read", path)(error)),
    }
}

pub(crate) fn encode(table: &Table, next: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + table.bytes());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&next.to_le_bytes());
    bytes.extend_from_slice(&[0; 4]);
    stored::encode(table, &mut bytes);
    let sum = sum(&bytes);
    bytes[16..HEADER].copy_from_slice(&sum.to_le_bytes());
    bytes
}

/// The table and where it goes on; `None` if the bytes are damaged.
pub(crate) fn decode(bytes: &[u8], limits: Limits) -> Option<(Table, u64)> {
    if bytes.len() < HEADER || bytes[..8] != *MAGIC || bytes[16..HEADER] != sum(bytes).to_le_bytes() {
        return None;
    }
    let next = u64::from_le_bytes(bytes[8..16].try_into().ok()?);
    Some((restore(Stored::decode(&bytes[HEADER..]).ok()?, limits)?, next))
}

fn sum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[8..16]), &bytes[HEADER..])
}
