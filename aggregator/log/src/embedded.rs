//! The log on this machine's disk: what its writer and its readers share.
//!
//! One process holds the directory (a lock file says so), one [`crate::embedded::Writer`] appends, any number of
//! readers follow. Disk: segments (`segment`), snapshots (`snapshot`), and `damaged/`, where files in which damage was
//! found are kept for people, as further names of the same file, [`KEPT_ASIDE`] of them at most.

use std::{
    collections::HashMap,
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    Bounds, Error, Limits, Log, Reader, Watermarks,
    reader::SegmentReader,
    recovery,
    segment::{self, Segment},
};

pub use crate::writer::Writer;

/// Damaged files that are kept.
const KEPT_ASIDE: usize = 16;
const ASIDE: &str = "damaged";
const LOCK: &str = "lock";

/// Where and how much.
#[derive(Debug, Clone)]
pub struct Settings {
    pub dir: PathBuf,
    /// Size at which a segment is closed.
    pub segment_bytes: u64,
    /// Size on disk beyond which the oldest segments are deleted. At least four segments.
    pub retention_bytes: u64,
    /// Age beyond which a segment is deleted.
    pub retention_age: Duration,
    /// The next event gets this offset at least: the highest cursor of any reader, so that no offset that a reader
    /// saw is given again should the end of the log be damaged.
    pub floor: u64,
    pub limits: Limits,
}

impl Settings {
    /// Segments of 64 MiB, 8 GiB of them, for a week.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            segment_bytes: 64 << 20,
            retention_bytes: 8 << 30,
            retention_age: Duration::from_secs(7 * 24 * 3600),
            floor: 0,
            limits: Limits::default(),
        }
    }

    fn check(&self) -> Result<(), Error> {
        if self.segment_bytes == 0 {
            return Err(Error::Setting { name: "segment_bytes", must: "be more than zero" });
        }
        if self.retention_bytes / 4 < self.segment_bytes {
            return Err(Error::Setting { name: "retention_bytes", must: "be at least four times segment_bytes" });
        }
        Ok(())
    }
}

/// What happened to the files since the log was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Writes cut short that were cleaned up. Nothing acknowledged was in them.
    pub torn_tails: u64,
    /// Places in segments that could not be read.
    pub damaged: u64,
    /// Snapshots that could not be read.
    pub damaged_snapshots: u64,
    /// Segments that retention deleted.
    pub segments_deleted: u64,
    /// Times that the log was closed by a disk error.
    pub disk_errors: u64,
    pub segments: u64,
}

/// What is durable: readers may go this far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Durable {
    /// Of the segment that grows.
    pub(crate) segment: u64,
    pub(crate) bytes: u64,
    pub(crate) next: u64,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) dir: PathBuf,
    /// Ascending; the last is the one that grows, whose size is in `durable`.
    pub(crate) segments: Mutex<Vec<Segment>>,
    pub(crate) durable: watch::Sender<Durable>,
    pub(crate) stats: Mutex<Stats>,
    /// How far damage was reported, for each segment.
    damage: Mutex<HashMap<u64, u64>>,
    /// Held as long as anyone uses the log.
    _lock: File,
}

/// A handle for readers.
#[derive(Debug, Clone)]
pub struct EmbeddedLog {
    shared: Arc<Shared>,
}

impl EmbeddedLog {
    /// Opens the log, repairs its end, and rebuilds the watermarks. Blocks; reads the newest snapshot and the records
    /// behind it.
    ///
    /// # Errors
    /// Wrong settings, a directory in use, or a disk that refuses. Damaged contents are no error.
    pub fn open(settings: Settings) -> Result<(Self, Writer, Watermarks), Error> {
        settings.check()?;
        fs::create_dir_all(&settings.dir).map_err(Error::disk("create", &settings.dir))?;
        let lock = lock(&settings.dir)?;
        let recovered = recovery::recover(&settings.dir, settings.limits)?;
        let next = recovered.next.max(settings.floor);
        let shared = Arc::new(Shared {
            dir: settings.dir.clone(),
            segments: Mutex::new(recovered.segments),
            durable: watch::Sender::new(Durable { segment: recovered.id, bytes: segment::HEADER, next }),
            stats: Mutex::new(recovered.stats),
            damage: Mutex::default(),
            _lock: lock,
        });
        for &(id, at) in &recovered.damage {
            shared.report_damage(id, at);
        }
        let writer = Writer::begin(settings, Arc::clone(&shared), recovered.id, next, recovered.oldest_snapshot)?;
        Ok((Self { shared }, writer, recovered.watermarks))
    }

    pub fn stats(&self) -> Stats {
        let segments = self.shared.segments.lock().len() as u64;
        Stats { segments, ..*self.shared.stats.lock() }
    }
}

impl Log for EmbeddedLog {
    fn bounds(&self) -> Bounds {
        let segments = self.shared.segments.lock();
        let durable = *self.shared.durable.borrow();
        let closed: u64 =
            segments.iter().filter(|segment| segment.id != durable.segment).map(|segment| segment.bytes).sum();
        Bounds {
            first: segments.first().map_or(durable.next, |segment| segment.base),
            next: durable.next,
            bytes: closed + durable.bytes,
        }
    }

    fn reader(&self, from: u64) -> Box<dyn Reader> {
        Box::new(SegmentReader::new(Arc::clone(&self.shared), from))
    }
}

impl Shared {
    /// Counts damage once for each place, and keeps the file.
    pub(crate) fn report_damage(&self, id: u64, at: u64) {
        let seen = {
            let mut damage = self.damage.lock();
            let seen = damage.get(&id).copied();
            if seen.is_some_and(|seen| seen >= at) {
                return;
            }
            damage.insert(id, at);
            seen
        };
        self.stats.lock().damaged += 1;
        let path = segment::path(&self.dir, id);
        tracing::error!(path = %path.display(), position = at, "log segment is damaged: what is there is skipped");
        if seen.is_none()
            && let Err(error) = self.put_aside(id)
        {
            tracing::warn!(%error, path = %path.display(), "failed to keep the damaged segment aside");
        }
    }

    pub(crate) fn forget_damage(&self, id: u64) {
        self.damage.lock().remove(&id);
    }

    fn put_aside(&self, id: u64) -> Result<(), Error> {
        let aside = self.dir.join(ASIDE);
        fs::create_dir_all(&aside).map_err(Error::disk("create", &aside))?;
        let kept = segment::list(&aside)?;
        if kept.contains(&id) || kept.len() >= KEPT_ASIDE {
            return Ok(());
        }
        let target = segment::path(&aside, id);
        fs::hard_link(segment::path(&self.dir, id), &target).map_err(Error::disk("link", target))
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK);
    let file =
        File::options().write(true).create(true).truncate(false).open(&path).map_err(Error::disk("open", &path))?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::InUse { path: dir.to_owned() }),
        Err(errno) => Err(Error::disk("lock", path)(errno.into())),
    }
}
