//! Opens what an earlier process left: repairs the end of the last segment, and rebuilds the watermarks.
//!
//! Only the last segment can end in a write that was cut short, because every opening begins a new one. What is cut
//! short is cut off. Anything else that cannot be read stays where it is and is skipped: the offsets of the frames
//! around it, and the base of the next segment, say what is missing.

use std::{
    fs::{self, File},
    path::Path,
    time::SystemTime,
};

use galen_proto::v1::LogRecord;
use prost::Message;

use crate::{
    Error, Limits, Watermarks,
    embedded::Stats,
    frame,
    scan::{Found, Scanner},
    segment::{self, Segment},
    snapshot,
};

/// What was found.
pub(crate) struct Recovered {
    /// Closed segments, ascending.
    pub(crate) segments: Vec<Segment>,
    /// For the segment that is begun now.
    pub(crate) id: u64,
    pub(crate) next: u64,
    pub(crate) watermarks: Watermarks,
    /// Segments from this id on are needed to rebuild the watermarks from the older snapshot.
    pub(crate) oldest_snapshot: u64,
    /// Segment and position of damage.
    pub(crate) damage: Vec<(u64, u64)>,
    pub(crate) stats: Stats,
}

pub(crate) fn recover(dir: &Path, limits: Limits) -> Result<Recovered, Error> {
    let mut stats = Stats::default();
    let (snapshot, damaged) = snapshot::newest(dir)?;
    stats.damaged_snapshots = damaged;
    let (from, mut next, mut watermarks) = match snapshot {
        Some(found) => (found.id, found.next, Watermarks::restore(found.state, limits)),
        None => (0, 0, Watermarks::new(limits)),
    };

    let mut segments: Vec<Segment> = Vec::new();
    let mut damage = Vec::new();
    let ids = segment::list(dir)?;
    let id = ids.last().map_or(1, |last| last + 1).max(from);
    for (place, &id) in ids.iter().enumerate() {
        let path = segment::path(dir, id);
        let metadata = fs::metadata(&path).map_err(Error::disk("open", &path))?;
        let is_last = place + 1 == ids.len();
        let mut bytes = metadata.len();
        let stated = segment::read_base(&path).map_err(Error::disk("read", &path))?;
        if stated.is_none() && bytes > segment::HEADER {
            damage.push((id, 0));
        }
        let mut base = stated;
        if id >= from || is_last || stated.is_none() {
            let replayed = replay(&path, bytes, |header, record| {
                base.get_or_insert(header.base);
                next = next.max(header.next());
                if let Some(record) = record.filter(|_| id >= from) {
                    watermarks.apply(record);
                }
            })?;
            damage.extend(replayed.damage.iter().map(|&at| (id, at)));
            if is_last && replayed.end < bytes {
                match replayed.tail {
                    Tail::Torn => {
                        stats.torn_tails += 1;
                        tracing::warn!(path = %path.display(), from = replayed.end, to = bytes, "cut off a write that was interrupted");
                        bytes = replayed.end;
                        truncate(&path, bytes)?;
                    }
                    Tail::Damaged => damage.push((id, replayed.end)),
                }
            } else if replayed.end < bytes {
                damage.push((id, replayed.end));
            }
        }
        if is_last {
            // Frames may be here that were written and never synced: they count from now on, so they must be durable.
            File::open(&path).and_then(|file| file.sync_all()).map_err(Error::disk("sync", &path))?;
        }
        if bytes <= segment::HEADER {
            fs::remove_file(&path).map_err(Error::disk("delete", &path))?;
            continue;
        }
        let base = base.unwrap_or_else(|| segments.last().map_or(0, |before| before.base));
        let written = metadata.modified().unwrap_or_else(|_| SystemTime::now());
        segments.push(Segment { id, base, bytes, written });
        next = next.max(base);
    }
    let oldest_snapshot = snapshot::oldest_kept(dir)?;
    Ok(Recovered { segments, id, next, watermarks, oldest_snapshot, damage, stats })
}

/// How a segment ends behind its last frame.
enum Tail {
    /// With the beginning of a frame, or with zeros.
    Torn,
    Damaged,
}

struct Replayed {
    /// Behind the last frame.
    end: u64,
    tail: Tail,
    damage: Vec<u64>,
}

/// Hands every intact header to `apply`, with its record if that is intact, too.
fn replay(
    path: &Path,
    bytes: u64,
    mut apply: impl FnMut(frame::Header, Option<&LogRecord>),
) -> Result<Replayed, Error> {
    let file = File::open(path).map_err(Error::disk("open", path))?;
    let mut scanner = Scanner::new(file, segment::HEADER);
    let mut damage = Vec::new();
    loop {
        let at = scanner.position();
        match scanner.next(bytes).map_err(Error::disk("read", path))? {
            Found::Frame { header, payload } => match LogRecord::decode(payload) {
                Ok(record) => apply(header, Some(&record)),
                Err(_) => {
                    apply(header, None);
                    damage.push(at);
                }
            },
            Found::Damage { at, header } => {
                if let Some(header) = header {
                    apply(header, None);
                }
                damage.push(at);
            }
            Found::End { at } => {
                let tail = if is_torn(path, at, bytes)? { Tail::Torn } else { Tail::Damaged };
                return Ok(Replayed { end: at.min(bytes), tail, damage });
            }
        }
    }
}

/// Whether `at .. bytes` is what an interrupted write leaves: less than a frame, or space that was never written.
fn is_torn(path: &Path, at: u64, bytes: u64) -> Result<bool, Error> {
    use std::os::unix::fs::FileExt;

    let file = File::open(path).map_err(Error::disk("open", path))?;
    let rest = bytes.saturating_sub(at);
    let mut header = vec![0; frame::HEADER.min(rest as usize)];
    file.read_exact_at(&mut header, at).map_err(Error::disk("read", path))?;
    if let Some(header) = frame::Header::parse(&header) {
        return Ok(rest < (frame::HEADER + header.payload) as u64);
    }
    if (rest as usize) < frame::HEADER {
        let stated = header.len().min(frame::MAGIC.len());
        return Ok(header[..stated] == frame::MAGIC[..stated]);
    }
    let mut block = vec![0; 64 << 10];
    let mut from = at;
    while from < bytes {
        let want = block.len().min((bytes - from) as usize);
        file.read_exact_at(&mut block[..want], from).map_err(Error::disk("read", path))?;
        if block[..want].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        from += want as u64;
    }
    Ok(true)
}

fn truncate(path: &Path, bytes: u64) -> Result<(), Error> {
    File::options()
        .write(true)
        .open(path)
        .and_then(|file| file.set_len(bytes).and_then(|()| file.sync_all()))
        .map_err(Error::disk("truncate", path))
}
