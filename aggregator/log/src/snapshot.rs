//! Snapshots of the watermarks: `<id>.watermarks` is the state before the first frame of the segment with that id.
//!
//! | Bytes | What |
//! |---|---|
//! | 8 | `galenmrk` |
//! | 8 | offset of the next event |
//! | 4 | CRC-32C of the offset and the payload |
//! | … | payload: an encoded `Watermarks` |
//!
//! Integers are little-endian. A snapshot is written beside, synced and renamed, so a crash leaves the one before. The
//! newest two are kept, and segments are deleted only behind the older one: should the newest be damaged, the other
//! leads to the same state.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
};

use bytes::{Buf, BufMut};
use galen_proto::v1::Watermarks as Stored;
use prost::Message;

use crate::{Error, segment};

const EXTENSION: &str = "watermarks";
const MAGIC: &[u8; 8] = b"galenmrk";
const HEADER: usize = 20;
/// Snapshots that stay.
const KEPT: usize = 2;

/// A snapshot that was read.
#[derive(Debug)]
pub(crate) struct Snapshot {
    pub(crate) id: u64,
    pub(crate) next: u64,
    pub(crate) state: Stored,
}

/// Stores `state` as it is before segment `id`, and deletes the snapshots that are not needed any more. Returns the id
/// of the oldest segment that is still needed.
pub(crate) fn write(dir: &Path, id: u64, next: u64, state: &Stored) -> Result<u64, Error> {
    let path = path(dir, id);
    let beside = path.with_extension("tmp");
    let mut bytes = Vec::with_capacity(HEADER + state.encoded_len());
    bytes.put_slice(MAGIC);
    bytes.put_u64_le(next);
    bytes.put_u32_le(0);
    state.encode_raw(&mut bytes);
    let sum = sum(&bytes);
    bytes[16..HEADER].copy_from_slice(&sum.to_le_bytes());
    File::create(&beside)
        .and_then(|mut file| file.write_all(&bytes).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, &path))
        .map_err(Error::disk("write", &path))?;
    segment::sync_dir(dir)?;
    let ids = segment::ids(dir, EXTENSION)?;
    for &id in &ids[..ids.len().saturating_sub(KEPT)] {
        let path = self::path(dir, id);
        fs::remove_file(&path).map_err(Error::disk("delete", path))?;
    }
    oldest_kept(dir)
}

/// Segments from this id on are needed by a snapshot.
pub(crate) fn oldest_kept(dir: &Path) -> Result<u64, Error> {
    let ids = segment::ids(dir, EXTENSION)?;
    Ok(ids.len().checked_sub(KEPT).map_or(0, |place| ids[place]))
}

/// The newest snapshot that is intact, and how many damaged ones were passed over.
pub(crate) fn newest(dir: &Path) -> Result<(Option<Snapshot>, u64), Error> {
    let mut damaged = 0;
    for id in segment::ids(dir, EXTENSION)?.into_iter().rev() {
        let path = path(dir, id);
        let bytes = fs::read(&path).map_err(Error::disk("read", &path))?;
        if let Some((next, state)) = parse(&bytes) {
            return Ok((Some(Snapshot { id, next, state }), damaged));
        }
        tracing::error!(path = %path.display(), "snapshot of the watermarks is damaged: using the one before");
        damaged += 1;
    }
    Ok((None, damaged))
}

fn parse(bytes: &[u8]) -> Option<(u64, Stored)> {
    if bytes.len() < HEADER || bytes[..8] != *MAGIC {
        return None;
    }
    let mut header = &bytes[8..HEADER];
    let (next, stated) = (header.get_u64_le(), header.get_u32_le());
    (stated == sum(bytes)).then_some(())?;
    Some((next, Stored::decode(&bytes[HEADER..]).ok()?))
}

fn sum(bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&bytes[8..16]), &bytes[HEADER..])
}

fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(format!("{id:012}.{EXTENSION}"))
}
