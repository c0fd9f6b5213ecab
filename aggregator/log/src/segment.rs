//! Segment files: their names, their header, how one is begun.
//!
//! `<id>.log`, the id as 12 decimal digits, rising by one. The file begins with
//!
//! | Bytes | What |
//! |---|---|
//! | 8 | `galenlog` |
//! | 4 | version of the format: 1 |
//! | 8 | id |
//! | 8 | offset of the first event |
//! | 4 | CRC-32C of the 28 bytes before |
//!
//! and holds frames from there on. Integers are little-endian. Nothing is ever appended to a file that was closed: each
//! opening of the log begins a new one.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    time::SystemTime,
};

use bytes::{Buf, BufMut};

use crate::Error;

pub(crate) const HEADER: u64 = 32;
const MAGIC: &[u8; 8] = b"galenlog";
const VERSION: u32 = 1;
const EXTENSION: &str = "log";

/// A segment that is on disk.
#[derive(Debug, Clone)]
pub(crate) struct Segment {
    pub(crate) id: u64,
    /// Offset of its first event.
    pub(crate) base: u64,
    /// Bytes that readers may read.
    pub(crate) bytes: u64,
    /// When it was last written to.
    pub(crate) written: SystemTime,
}

pub(crate) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:012}.{EXTENSION}"))
}

/// Ids of the files in `dir` with the extension, ascending.
pub(crate) fn ids(dir: &Path, extension: &str) -> Result<Vec<u64>, Error> {
    let mut ids = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::disk("list", dir))? {
        let path = entry.map_err(Error::disk("list", dir))?.path();
        if path.extension().is_some_and(|found| found == extension)
            && let Some(id) = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok())
        {
            ids.push(id);
        }
    }
    ids.sort_unstable();
    Ok(ids)
}

/// Ids of the segments in `dir`, ascending.
pub(crate) fn list(dir: &Path) -> Result<Vec<u64>, Error> {
    ids(dir, EXTENSION)
}

/// Begins a segment. Its name is durable, too, when this returns.
pub(crate) fn create(dir: &Path, id: u64, base: u64) -> Result<File, Error> {
    let path = path(dir, id);
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).open(&path).map_err(Error::disk("create", &path))?;
    let mut header = Vec::with_capacity(HEADER as usize);
    header.put_slice(MAGIC);
    header.put_u32_le(VERSION);
    header.put_u64_le(id);
    header.put_u64_le(base);
    header.put_u32_le(crc32c::crc32c(&header));
    file.write_all(&header).and_then(|()| file.sync_all()).map_err(Error::disk("write", &path))?;
    sync_dir(dir)?;
    Ok(file)
}

/// The offset that the header of a segment states; `None` if the header is damaged.
pub(crate) fn read_base(path: &Path) -> io::Result<Option<u64>> {
    let mut header = [0; HEADER as usize];
    match File::open(path)?.read_exact(&mut header) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let sum = crc32c::crc32c(&header[..28]);
    let mut fields = &header[8..];
    let (version, _id, base) = (fields.get_u32_le(), fields.get_u64_le(), fields.get_u64_le());
    Ok((header[..8] == *MAGIC && fields.get_u32_le() == sum && version == VERSION).then_some(base))
}

/// Makes names in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> Result<(), Error> {
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(Error::disk("sync", dir))
}
