//! One segment: a sled database in a directory of its own, named by the number of its first event.
//!
//! It is written by one thread, in one go: a segment that was closed is opened again only to be read. An event counts as
//! durable after [`Segment::commit`], which is sled's flush (which on Linux syncs no metadata and no device cache) and an
//! `fdatasync` on a descriptor of our own. After an error of any write the segment is done for: the pages that failed to
//! reach the disk may be gone, so the same sync is never asked twice.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use bytes::Bytes;

use crate::{
    contain::contained,
    record::{self, Assembly},
    reserve,
};

/// sled's page cache. The writer touches only the newest leaf and a reader goes through once, so it is small.
const CACHE_BYTES: u64 = 1024 * 1024;
/// sled holds its lock on the file until its last background task is done, shortly after a handle was dropped.
const LOCK_ATTEMPTS: u32 = 100;
const LOCK_WAIT: Duration = Duration::from_millis(10);
/// sled's file grows by this, and is padded to a multiple of it when it is opened again.
pub(crate) const GROWTH_BYTES: u64 = 512 * 1024;
/// What the other files of a segment take at most, those included that sled writes when it opens one again.
const OTHER_FILES_BYTES: u64 = 64 * 1024;

#[derive(Debug)]
pub(crate) struct Segment {
    dir: PathBuf,
    /// `None` only while it is dropped.
    db: Option<sled::Db>,
    file: File,
}

/// What a read found, in order.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) events: Vec<(u64, Bytes)>,
    pub(crate) bytes: usize,
    /// Numbers `.0..=.1` that should be here and are not, or are not what was written. The read ends before them.
    pub(crate) bad: Option<(u64, u64)>,
}

impl Segment {
    /// Creates the directory and syncs its entry. What a failed attempt left there is removed first.
    pub(crate) fn create(dir: &Path) -> Result<Self, sled::Error> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        fs::create_dir_all(dir)?;
        let segment = Self::open(dir)?;
        contained(|| {
            segment.db().flush()?;
            segment.file.sync_all()?;
            File::open(dir.join("conf"))?.sync_all()?;
            dir.ancestors().take(3).try_for_each(sync_dir)?;
            Ok(())
        })?;
        Ok(segment)
    }

    fn open(dir: &Path) -> Result<Self, sled::Error> {
        // sled would create an empty database in place of one that is missing.
        if !dir.is_dir() {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        }
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let mut attempt = 0;
        let db = loop {
            match contained(|| config.open()) {
                Err(error) if is_locked(&error) && attempt < LOCK_ATTEMPTS => {
                    attempt += 1;
                    thread::sleep(LOCK_WAIT);
                }
                other => break other?,
            }
        };
        let file = File::options().read(true).write(true).open(dir.join("db"))?;
        Ok(Self { dir: dir.to_owned(), db: Some(db), file })
    }

    /// Opens a segment that is only read, with the help of the reserve of the buffer in `buffer`.
    pub(crate) fn open_to_read(dir: &Path, buffer: &Path) -> Result<Self, sled::Error> {
        let is_full = |error: &sled::Error| matches!(error, sled::Error::Io(source) if reserve::is_full(source));
        reserve::retry(buffer, is_full, || Self::open(dir))
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Size on disk, of the file that grows.
    pub(crate) fn bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.blocks() * 512)
    }

    /// As [`footprint`], of this one.
    pub(crate) fn footprint(&self) -> u64 {
        self.file.metadata().map_or(0, |m| padded(m.len())) + OTHER_FILES_BYTES
    }

    /// Writes events numbered from `first` and returns once all of them are on the disk.
    pub(crate) fn commit<'a>(
        &self,
        first: u64,
        events: impl Iterator<Item = &'a Bytes>,
        scratch: &mut Vec<u8>,
    ) -> Result<(), sled::Error> {
        contained(|| {
            for (seq, event) in (first..).zip(events) {
                for (chunk, value) in (0..).zip(record::encode(event, scratch)) {
                    self.db().insert(record::key(seq, chunk), value)?;
                }
            }
            self.db().flush()?;
            rustix::fs::fdatasync(&self.file).map_err(io::Error::from)?;
            Ok(())
        })
    }

    /// The number of the newest event that is whole. A torn one behind it was never reported as durable.
    pub(crate) fn last_whole(&self) -> Result<Option<u64>, sled::Error> {
        contained(|| {
            let Some((key, _)) = self.db().last()? else {
                return Ok(None);
            };
            let Some((last, _)) = record::parse_key(&key) else {
                return Err(sled::Error::ReportableBug("a key of a wrong length".into()));
            };
            if self.read_one(last)?.is_some() {
                return Ok(Some(last));
            }
            let Some((key, _)) = self.db().get_lt(record::key(last, 0))? else {
                return Ok(None);
            };
            Ok(record::parse_key(&key).map(|(seq, _)| seq))
        })
    }

    /// Events from `from` up to (not including) `end`, at least one if there is one, until a bound is reached.
    /// An error is one of the moment; what is damaged is in [`Found::bad`].
    pub(crate) fn read(&self, from: u64, end: u64, max_events: usize, max_bytes: usize) -> Result<Found, sled::Error> {
        contained(|| {
            let mut found = Found::default();
            let mut seq = from;
            let mut pairs = self.db().range(record::key(from, 0)..record::key(end, 0));
            while seq < end && found.events.len() < max_events && found.bytes < max_bytes {
                match next_event(&mut pairs, seq) {
                    Ok(Ok(event)) => {
                        found.bytes += event.len();
                        if found.bytes > max_bytes && !found.events.is_empty() {
                            break;
                        }
                        found.events.push((seq, event));
                        seq += 1;
                    }
                    Ok(Err(Damage)) => {
                        found.bad = Some((seq, self.end_of_damage(seq, end)? - 1));
                        break;
                    }
                    Err(error) if is_transient(&error) => return Err(error),
                    Err(_) => {
                        found.bad = Some((seq, self.end_of_damage(seq, end)? - 1));
                        break;
                    }
                }
            }
            Ok(found)
        })
    }

    /// First number after `seq` that can be read, or `end`.
    fn end_of_damage(&self, seq: u64, end: u64) -> Result<u64, sled::Error> {
        for at in seq + 1..end {
            match self.read_one(at) {
                Ok(Some(_)) => return Ok(at),
                Err(error) if is_transient(&error) => return Err(error),
                _ => {}
            }
        }
        Ok(end)
    }

    fn read_one(&self, seq: u64) -> Result<Option<Bytes>, sled::Error> {
        let Some(head) = self.db().get(record::key(seq, 0))? else {
            return Ok(None);
        };
        let Some(mut assembly) = Assembly::begin(&head) else {
            return Ok(None);
        };
        let mut chunk = 0;
        while !assembly.is_complete() {
            chunk += 1;
            let Some(value) = self.db().get(record::key(seq, chunk))? else {
                return Ok(None);
            };
            assembly.add(&value);
        }
        Ok(assembly.finish())
    }

    #[expect(clippy::expect_used, reason = "the option is there for drop only, which is the last to use it")]
    fn db(&self) -> &sled::Db {
        self.db.as_ref().expect("open until it is dropped")
    }
}

impl Drop for Segment {
    fn drop(&mut self) {
        let db = self.db.take();
        // sled unwraps the result of a sync when it is dropped.
        let dropped = contained(|| {
            drop(db);
            Ok(())
        });
        if let Err(error) = dropped {
            tracing::warn!(segment = %self.dir.display(), %error, "closing a segment failed");
        }
    }
}

/// The event is missing, or not what was written.
struct Damage;

fn next_event(pairs: &mut sled::Iter, seq: u64) -> Result<Result<Bytes, Damage>, sled::Error> {
    let Some(head) = chunk_of(pairs, seq, 0)? else {
        return Ok(Err(Damage));
    };
    let Some(mut assembly) = Assembly::begin(&head) else {
        return Ok(Err(Damage));
    };
    let mut chunk = 0;
    while !assembly.is_complete() {
        chunk += 1;
        let Some(value) = chunk_of(pairs, seq, chunk)? else {
            return Ok(Err(Damage));
        };
        assembly.add(&value);
    }
    Ok(assembly.finish().ok_or(Damage))
}

fn chunk_of(pairs: &mut sled::Iter, seq: u64, chunk: u16) -> Result<Option<sled::IVec>, sled::Error> {
    let Some((key, value)) = pairs.next().transpose()? else {
        return Ok(None);
    };
    Ok((record::parse_key(&key) == Some((seq, chunk))).then_some(value))
}

/// Whether the same call may succeed later with the same bytes on the disk.
pub(crate) fn is_transient(error: &sled::Error) -> bool {
    use io::ErrorKind as Kind;
    let sled::Error::Io(source) = error else {
        return false;
    };
    let of_the_moment = matches!(
        source.kind(),
        Kind::StorageFull
            | Kind::QuotaExceeded
            | Kind::OutOfMemory
            | Kind::Interrupted
            | Kind::ResourceBusy
            | Kind::WouldBlock
            | Kind::ReadOnlyFilesystem
            | Kind::PermissionDenied
    );
    let errno = source.raw_os_error().map(rustix::io::Errno::from_raw_os_error);
    let no_descriptors = matches!(errno, Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE));
    of_the_moment || no_descriptors || is_locked(error)
}

fn is_locked(error: &sled::Error) -> bool {
    matches!(error, sled::Error::Io(source) if source.to_string().contains("could not acquire lock"))
}

pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Bytes that a segment takes on disk at most, however often it is still opened to be read: opening adds to it, and what
/// is under the cap must not be over it for having been read.
pub(crate) fn footprint(dir: &Path) -> u64 {
    let Ok(db) = fs::metadata(dir.join("db")) else {
        return disk_usage(dir);
    };
    let others = disk_usage(dir).saturating_sub(db.blocks() * 512);
    padded(db.len()) + others.max(OTHER_FILES_BYTES)
}

fn padded(len: u64) -> u64 {
    len.next_multiple_of(GROWTH_BYTES)
}

/// Bytes that a directory and all that is in it take on disk.
pub(crate) fn disk_usage(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(meta) if meta.is_dir() => disk_usage(&entry.path()),
            Ok(meta) => meta.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
