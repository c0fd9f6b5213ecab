//! Opening: from the state file and the names of the directories to the index, when the buffer starts, and again and
//! again until it succeeds once. Until then the index holds one epoch that is in memory alone and gives no numbers; it
//! stays as an old one for as long as its counters are not settled.
//!
//! No segment is opened, with one exception: after an unclean end, the newest one of the epoch that was being written, to
//! find where it ends. A buffer that cannot be understood is taken for what can be read of it, never refused.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    mem,
    path::Path,
    sync::{Arc, PoisonError},
    time::SystemTime,
};

use rustix::fs::{FlockOperation, flock};

use crate::{
    Durable, Error, LossReasonCode,
    epoch::{Epoch, SegmentEntry},
    error,
    index::Index,
    mark::EndMark,
    quarantine,
    segment::{Segment, footprint, is_transient},
    shared::Shared,
    state::{EpochState, Loaded, State},
};

/// Most epochs that are kept; the protocol carries no more.
const MAX_EPOCHS: usize = 64;

/// Puts what the directory holds into the index. Returns the lock on it. After an error the index is as it was, and the
/// next attempt may succeed.
pub(crate) fn recover(shared: &Shared) -> Result<File, Error> {
    let dir = shared.settings.dir.clone();
    fs::create_dir_all(&dir).map_err(error::io("create the buffer's directory", &dir))?;
    let lock = lock(&dir)?;
    let mut state = match State::load(&dir)? {
        Loaded::State(state) => state,
        Loaded::Missing => State::default(),
        Loaded::Damaged(why) => {
            tracing::error!(dir = %dir.display(), why, "the state of the buffer is damaged: going by the segments alone");
            State::set_aside(&dir).map_err(error::io("set aside the state in", &dir))?;
            State::default()
        }
    };
    let mut on_disk = segments(&dir)?;
    let clean = state.clean;
    let last = state.epochs.last().map(|e| e.id);
    let mut epochs: Vec<Epoch> = Vec::new();
    let mut unknown = Vec::new();
    for saved in state.epochs.drain(..) {
        let (_, segments) = on_disk.remove(&saved.id).unwrap_or_default();
        epochs.push(Epoch::load(saved, segments));
    }
    for (id, (begun, segments)) in on_disk {
        unknown.push((begun, without_state(id, segments)));
    }
    unknown.sort_by_key(|(begun, _)| *begun);
    epochs.splice(0..0, unknown.into_iter().map(|(_, epoch)| epoch));

    let resumes = clean && epochs.last().is_some_and(|e| Some(e.id) == last && !e.sealed);
    let mut unreadable = Vec::new();
    let mut reading = None;
    let count = epochs.len();
    for (at, epoch) in epochs.iter_mut().enumerate() {
        if resumes && at + 1 == count {
            epoch.is_torn = false;
            epoch.end_known = true;
        } else if !epoch.end_known {
            match find_end(epoch, &dir) {
                Ok(opened) => reading = opened,
                Err(damage) => unreadable.push(damage),
            }
        }
    }
    if !resumes {
        epochs.iter_mut().for_each(|e| e.sealed = true);
        epochs.push(Epoch::begin());
    }
    let quarantined = quarantine::prune(&dir, shared.quarantine_cap());
    let dropped = fill(shared, epochs, quarantined);
    *shared.reading.lock().unwrap_or_else(PoisonError::into_inner) = reading;
    dropped.iter().for_each(|epoch| remove_epoch(&dir, epoch));
    for (epoch, first, segment, why) in unreadable {
        shared.quarantine(epoch, first, &segment, &why);
    }
    let mut index = shared.index();
    let over = index.over();
    index.forget(&over);
    drop(index);
    if !resumes {
        shared.queue.changed();
    }
    Ok(lock)
}

/// Returns the epochs that there is no place for.
fn fill(shared: &Shared, epochs: Vec<Epoch>, quarantined: u64) -> Vec<Epoch> {
    let mut index = shared.noted();
    let mut in_memory = mem::replace(&mut index.epochs, epochs);
    in_memory.retain(|e| !e.is_done());
    in_memory.iter_mut().for_each(|e| e.sealed = true);
    let before_current = index.epochs.len() - 1;
    index.epochs.splice(before_current..before_current, in_memory);
    index.quarantine_bytes = quarantined;
    let dropped = bound_epochs(&mut index);
    let current = index.current();
    shared.durable.send_replace(Durable { epoch: current.id, next_seq: current.next_seq });
    dropped
}

fn lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join("lock");
    let opened = File::options().create(true).write(true).truncate(false).open(&path);
    let file = opened.map_err(error::io("open", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Locked { dir: dir.to_owned() }),
        Err(errno) => Err(error::io("lock", path)(errno.into())),
    }
}

type OnDisk = BTreeMap<u64, (Option<SystemTime>, VecDeque<SegmentEntry>)>;

/// Segments by epoch, with the time when the epoch's directory was last changed.
fn segments(dir: &Path) -> Result<OnDisk, Error> {
    let mut found = OnDisk::new();
    for entry in fs::read_dir(dir).map_err(error::io("list", dir))? {
        let entry = entry.map_err(error::io("list", dir))?;
        let name = entry.file_name();
        let Some(id) = name.to_str().filter(|n| n.len() == 16).and_then(|n| u64::from_str_radix(n, 16).ok()) else {
            continue;
        };
        let path = entry.path();
        let mut list = Vec::new();
        for segment in fs::read_dir(&path).map_err(error::io("list", &path))? {
            let segment = segment.map_err(error::io("list", &path))?;
            let Some(first) = segment.file_name().to_str().and_then(|n| n.parse().ok()) else {
                continue;
            };
            let dir = segment.path();
            list.push(SegmentEntry { first, bytes: footprint(&dir), dir, damaged: 0 });
        }
        list.sort_unstable_by_key(|s| s.first);
        let changed = entry.metadata().and_then(|m| m.modified()).ok();
        found.insert(id, (changed, list.into()));
    }
    Ok(found)
}

fn without_state(id: u64, segments: VecDeque<SegmentEntry>) -> Epoch {
    let first = segments.front().map_or(1, |s| s.first);
    let saved = EpochState {
        id,
        first_unacked: first,
        next_seq: segments.back().map_or(first, |s| s.first),
        uncompared: None,
        sealed: false,
        losses: Default::default(),
        counters: Vec::new(),
        observed: None,
    };
    Epoch::load(saved, segments)
}

type Damage = (u64, u64, std::path::PathBuf, String);

/// Finds the end of an epoch that was being written. Gives back the segment that had to be opened for it if there is
/// something to read in it, or what is wrong with it.
fn find_end(epoch: &mut Epoch, buffer: &Path) -> Result<Option<Arc<Segment>>, Damage> {
    epoch.end_known = true;
    let Some(newest) = epoch.segments.back().cloned() else {
        return Ok(None);
    };
    let mark = EndMark::read(&newest.dir).unwrap_or_default();
    epoch.next_seq = epoch.next_seq.max(newest.first).max(mark.durable);
    let opened = Segment::open_to_read(&newest.dir, buffer).and_then(|segment| Ok((segment.last_whole()?, segment)));
    match opened {
        Ok((last, segment)) => {
            epoch.next_seq = epoch.next_seq.max(last.map_or(0, |last| last + 1));
            let to_read = epoch.segments.len() == 1 && epoch.first_unacked < epoch.next_seq;
            epoch.lose_what_was_taken(mark.taken);
            Ok(to_read.then(|| Arc::new(segment)))
        }
        Err(error) if is_transient(&error) => {
            tracing::warn!(segment = %newest.dir.display(), %error, "failed to look for the end of the buffer for now");
            epoch.end_known = false;
            Ok(None)
        }
        Err(error) => Err((epoch.id, newest.first, newest.dir, error.to_string())),
    }
}

/// Folds the oldest epochs over the bound into the counters of the current one. Returns them.
pub(crate) fn bound_epochs(index: &mut Index) -> Vec<Epoch> {
    let mut dropped = Vec::new();
    while index.epochs.len() > MAX_EPOCHS {
        let oldest = index.epochs.remove(0);
        let lost = oldest.unacked();
        tracing::warn!(
            epoch = format_args!("{:016x}", oldest.id),
            lost,
            "the buffer holds too many epochs: the oldest is dropped"
        );
        *index.lost.entry(LossReasonCode::BUFFER_FULL).or_default() += lost;
        let current = index.current();
        let counted = current.counters.observations();
        current.counters.inherit(&oldest.counters);
        for loss in oldest.losses.to_vec() {
            current.counters.add(loss.reason, "", loss.last + 1 - loss.first);
        }
        if lost > 0 {
            current.counters.add(LossReasonCode::BUFFER_FULL, "", lost);
        }
        current.observed += current.counters.observations() - counted;
        dropped.push(oldest);
    }
    dropped
}

pub(crate) fn remove_epoch(dir: &Path, dropped: &Epoch) {
    let path = dir.join(format!("{:016x}", dropped.id));
    if let Err(error) = fs::remove_dir_all(&path)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(path = %path.display(), %error, "failed to remove a dropped epoch");
    }
}
