//! The indexes of the store, and the little that is kept beside them.
//!
//! ```text
//! <store>/LOCK                                one process at a time
//!         position.json                       see [`Position`]
//!         clean                               there if the last writer was closed
//!         days/<day>.<generation>.<part>/     see `partition`
//!         aside/<name>.<n>/                   damaged indexes, each with a file `reason`
//! ```
//! A damaged index is put aside and counted; what the log still has of it is indexed anew. Damage is looked for when
//! the store is opened: in the form of every index, and in every byte of those written last if the last stop was not clean.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    error::Error,
    partition::{Name, Partition},
    writer::MAX_SINKS,
};

/// Most damaged indexes that are kept; the oldest goes first.
const MAX_ASIDE: usize = 8;

/// How the store is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its directory. Created if missing.
    pub dir: PathBuf,
    /// Age at which a day is dropped.
    pub retention: Duration,
    /// Bytes on disk at which the oldest part is dropped.
    pub max_bytes: u64,
}

/// What is kept beside the indexes, because no index may say it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Position {
    /// Rises by one when the log was replaced by another one.
    pub(crate) generation: u32,
    /// Least offset to read on from, when the index that said so was dropped.
    pub(crate) floor: u64,
    /// Read all of the log again up to here, because an index was put aside.
    pub(crate) rebuild_to: Option<u64>,
}

/// Cumulative since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) indexed: AtomicU64,
    pub(crate) unreadable: AtomicU64,
    pub(crate) partly: AtomicU64,
    pub(crate) damaged: AtomicU64,
    pub(crate) dropped: AtomicU64,
}

pub(crate) struct Catalog {
    pub(crate) settings: Settings,
    pub(crate) counters: Counters,
    /// Every event below this offset can be found.
    pub(crate) committed: watch::Sender<u64>,
    partitions: RwLock<Vec<Arc<Partition>>>,
    position: Mutex<Position>,
    /// Held while the process lives.
    _lock: File,
}

impl Catalog {
    /// Opens everything. Never fails for a damaged index.
    pub(crate) fn open(settings: Settings) -> Result<Self, Error> {
        let days = settings.dir.join("days");
        fs::create_dir_all(&days).map_err(Error::io("create", &days))?;
        let lock = lock(&settings.dir)?;
        let mut position = read_position(&settings.dir);
        let clean = take_clean(&settings.dir);

        let mut names: Vec<Name> = Vec::new();
        for entry in fs::read_dir(&days).map_err(Error::io("read", &days))? {
            let entry = entry.map_err(Error::io("read", &days))?;
            match entry.file_name().to_str().and_then(Name::parse) {
                Some(name) => names.push(name),
                None => warn!(path = %entry.path().display(), "not an index of the store: left alone"),
            }
        }
        let counters = Counters::default();
        let mut partitions = Vec::new();
        let mut damaged = |name: Name, error: &Error| {
            warn!(index = %name, error = %error, "put an index aside; what the log still has is indexed again");
            counters.damaged.fetch_add(1, Ordering::Relaxed);
            position.rebuild_to.get_or_insert(0);
            put_aside(&settings.dir, name, error)
        };
        for name in names {
            match Partition::open(&days, name) {
                Ok(partition) => partitions.push(Arc::new(partition)),
                Err(error) => damaged(name, &error)?,
            }
        }
        if !clean {
            partitions.sort_by_key(|partition| partition.mark().next);
            let newest = partitions.split_off(partitions.len().saturating_sub(MAX_SINKS));
            for partition in newest {
                match partition.verify() {
                    Ok(()) => partitions.push(partition),
                    Err(error) => damaged(partition.name, &error)?,
                }
            }
        }
        partitions.sort_by_key(|partition| partition.name);
        let catalog = Self {
            settings,
            counters,
            committed: watch::Sender::new(0),
            partitions: RwLock::new(partitions),
            position: Mutex::new(position),
            _lock: lock,
        };
        if let Some(to) = position.rebuild_to {
            let to = to.max(catalog.highest());
            catalog.update(|position| position.rebuild_to = Some(to))?;
        }
        catalog.committed.send_replace(catalog.complete());
        Ok(catalog)
    }

    /// All indexes, oldest first.
    pub(crate) fn snapshot(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().clone()
    }

    /// The indexes that can be relied on, oldest first.
    pub(crate) fn readable(&self) -> Vec<Arc<Partition>> {
        self.partitions.read().iter().filter(|partition| !partition.is_suspect()).cloned().collect()
    }

    /// Takes a damaged index out, and asks for what the log still has of it.
    pub(crate) fn put_aside(&self, partition: &Partition, error: &Error) -> Result<(), Error> {
        let to = self.highest();
        self.update(|position| {
            position.floor = position.floor.max(to);
            position.rebuild_to = Some(position.rebuild_to.unwrap_or(0).max(to));
        })?;
        self.partitions.write().retain(|other| other.name != partition.name);
        warn!(index = %partition.name, %error, "put an index aside; what the log still has is indexed again");
        self.counters.damaged.fetch_add(1, Ordering::Relaxed);
        put_aside(&self.settings.dir, partition.name, error)
    }

    pub(crate) fn position(&self) -> Position {
        *self.position.lock()
    }

    /// Changes the position durably.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Position)) -> Result<(), Error> {
        let mut position = self.position.lock();
        let mut changed = *position;
        change(&mut changed);
        write_position(&self.settings.dir, changed)?;
        *position = changed;
        Ok(())
    }

    /// Every event of this generation below this offset is in its index.
    pub(crate) fn complete(&self) -> u64 {
        let position = self.position();
        let marks = self.current(position.generation).into_iter().map(|mark| mark.complete);
        marks.max().unwrap_or(0).max(position.floor)
    }

    /// No event of this generation at or above this offset is in any index.
    pub(crate) fn highest(&self) -> u64 {
        let position = self.position();
        let marks = self.current(position.generation).into_iter().map(|mark| mark.next);
        marks.max().unwrap_or(0).max(position.floor)
    }

    pub(crate) fn create(&self, name: Name) -> Result<Arc<Partition>, Error> {
        let partition = Arc::new(Partition::open(&self.settings.dir.join("days"), name)?);
        let mut partitions = self.partitions.write();
        partitions.push(Arc::clone(&partition));
        partitions.sort_by_key(|partition| partition.name);
        info!(index = %name, "created an index");
        Ok(partition)
    }

    /// Drops an index whole. Searches that run keep their files until they end.
    pub(crate) fn drop_partition(&self, partition: &Partition) -> Result<(), Error> {
        // What it said about the position must outlive it.
        let complete = self.complete();
        self.update(|position| position.floor = position.floor.max(complete))?;
        self.partitions.write().retain(|other| other.name != partition.name);
        let gone = self.settings.dir.join("days").join(format!("{}.gone", partition.name));
        fs::rename(&partition.dir, &gone).map_err(Error::io("rename", &partition.dir))?;
        fs::remove_dir_all(&gone).map_err(Error::io("remove", &gone))?;
        self.counters.dropped.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Notes that the writer ended as it should.
    pub(crate) fn mark_clean(&self) -> Result<(), Error> {
        let path = self.settings.dir.join("clean");
        File::create(&path).and_then(|file| file.sync_all()).map_err(Error::io("create", path))
    }

    fn current(&self, generation: u32) -> Vec<crate::partition::Mark> {
        let partitions = self.partitions.read();
        partitions.iter().filter(|partition| partition.name.generation == generation).map(|p| p.mark()).collect()
    }
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("LOCK");
    let file = File::create(&path).map_err(Error::io("create", &path))?;
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .map_err(|error| Error::io("lock, another process may use it:", &path)(error.into()))?;
    Ok(file)
}

/// Without a readable position the indexes' own marks hold, which repeats work but loses nothing.
fn read_position(dir: &Path) -> Position {
    let path = dir.join("position.json");
    let read = fs::read(&path).and_then(|bytes| serde_json::from_slice(&bytes).map_err(io::Error::other));
    read.unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            warn!(path = %path.display(), %error, "cannot read the position: going by the indexes alone");
        }
        let days = fs::read_dir(dir.join("days")).into_iter().flatten().flatten();
        let names = days.filter_map(|entry| Name::parse(entry.file_name().to_str()?));
        Position { generation: names.map(|name| name.generation).max().unwrap_or(0), ..Position::default() }
    })
}

fn write_position(dir: &Path, position: Position) -> Result<(), Error> {
    let path = dir.join("position.json");
    let new = dir.join("position.json.new");
    let write = || {
        let mut file = File::create(&new)?;
        serde_json::to_writer(&mut file, &position)?;
        file.flush()?;
        file.sync_all()?;
        fs::rename(&new, &path)?;
        File::open(dir)?.sync_all()
    };
    write().map_err(Error::io("write", &path))
}

/// Whether the last writer ended as it should; the next one has to say so again.
fn take_clean(dir: &Path) -> bool {
    fs::remove_file(dir.join("clean")).is_ok()
}

fn put_aside(dir: &Path, name: Name, reason: &Error) -> Result<(), Error> {
    let aside = dir.join("aside");
    fs::create_dir_all(&aside).map_err(Error::io("create", &aside))?;
    let mut kept: Vec<_> = fs::read_dir(&aside)
        .map_err(Error::io("read", &aside))?
        .flatten()
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    kept.sort();
    for (_, oldest) in kept.iter().take((kept.len() + 1).saturating_sub(MAX_ASIDE)) {
        fs::remove_dir_all(oldest).map_err(Error::io("remove", oldest))?;
    }
    let from = dir.join("days").join(name.to_string());
    let to = (0..u32::MAX).map(|n| aside.join(format!("{name}.{n}"))).find(|path| !path.exists());
    let to = to.unwrap_or_else(|| aside.join(name.to_string()));
    fs::rename(&from, &to).map_err(Error::io("rename", &from))?;
    fs::write(to.join("reason"), format!("{reason}\n")).map_err(Error::io("write", &to))
}
