//! A consumer of the embedded log, whose place is kept in a file, and which hands out the newest first after a gap.
//!
//! A consumer that fell far behind does not make new events wait for old ones: it jumps to the end of the log, and makes
//! up for the stretch between in turns with what is new. Each stretch is a lane. In a [`Place`] the number of the lane
//! stands where a partition does, so that each goes on by itself.
//!
//! | Line of the file | What |
//! |---|---|
//! | `FIRST END` | events from `FIRST` up to `END` had no effect yet; the oldest first |
//! | `FIRST` | the last line: none from here on had |
//!
//! The file is replaced as a whole, and seldom: what it does not tell yet is handed out again after a restart. Without
//! one that can be read, everything is.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::spawn_blocking;

use crate::{BoxFuture, Consumer, Delivery, Error, Log, Place, Reader, segment};

/// The file is written no more often.
const WRITE_EVERY: Duration = Duration::from_secs(2);
/// Events that are new enough to be read in their turn.
const NEAR: u64 = 50_000;
/// Lanes at a time. One that would be more waits until another has come to its end.
const MAX_LANES: usize = 8;

/// Follows a log from where its file says.
pub struct Cursor {
    log: Arc<dyn Log>,
    path: PathBuf,
    near: u64,
    /// The oldest first; the last one follows the end of the log.
    lanes: Vec<Lane>,
    /// Number of the next lane.
    number: i32,
    /// Whether the oldest lane is next.
    olds_turn: bool,
    written: Vec<Stretch>,
    written_at: Option<Instant>,
}

struct Lane {
    number: i32,
    reader: Box<dyn Reader>,
    /// Where the reader is.
    next: u64,
    committed: u64,
    /// None for the last one.
    end: Option<u64>,
}

/// Events without effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stretch {
    first: u64,
    end: Option<u64>,
}

impl Cursor {
    /// Goes on where the file at `path` says, or from the oldest event. Blocks for a moment.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn open(log: Arc<dyn Log>, path: impl Into<PathBuf>) -> Result<Self, Error> {
        let path = path.into();
        let written = read(&path)?;
        let mut cursor = Self {
            log,
            path,
            near: NEAR,
            lanes: Vec::new(),
            number: 0,
            olds_turn: false,
            written: written.clone(),
            written_at: None,
        };
        for stretch in written {
            cursor.open_lane(stretch);
        }
        Ok(cursor)
    }

    /// How far a file knows its log: the log must not give an offset below it again.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn reach(path: &Path) -> Result<u64, Error> {
        Ok(read(path)?.last().map_or(0, |stretch| stretch.first))
    }

    /// Sets how far behind the end of the log the newest lane may fall before another one begins there.
    #[must_use]
    pub fn with_near(mut self, events: u64) -> Self {
        self.near = events;
        self
    }

    fn open_lane(&mut self, Stretch { first, end }: Stretch) {
        let lane = Lane { number: self.number, reader: self.log.reader(first), next: first, committed: first, end };
        self.number = self.number.wrapping_add(1).max(0);
        self.lanes.push(lane);
    }

    /// Leaves what the newest lane has not read to a lane of its own, if that is much.
    fn jump(&mut self) {
        let head = self.log.bounds().next;
        if self.lanes.len() < MAX_LANES
            && let Some(newest) = self.lanes.last_mut()
            && head.saturating_sub(newest.next) > self.near
        {
            tracing::info!(first = newest.next, end = head, "far behind the log: new events come first");
            newest.end = Some(head);
            self.open_lane(Stretch { first: head, end: None });
        }
    }

    /// The lane whose turn it is: the newest and the oldest by turns, as long as both have something.
    fn turn(&self) -> usize {
        let newest = self.lanes.len() - 1;
        let newest_waits = self.lanes[newest].next >= self.log.bounds().next;
        let oldest = self.lanes.iter().position(Lane::is_unread);
        match oldest {
            Some(oldest) if self.olds_turn || newest_waits => oldest,
            _ => newest,
        }
    }

    async fn read(&mut self, max_events: usize) -> Result<Delivery, Error> {
        self.jump();
        let turn = self.turn();
        let lane = &mut self.lanes[turn];
        let chunk = lane.reader.next(max_events).await?;
        // Only now: who drops the future before takes nobody's turn.
        self.olds_turn = lane.end.is_none();
        let end = lane.end.unwrap_or(u64::MAX);
        lane.next = chunk.next.min(end);
        let mut records = Vec::with_capacity(chunk.entries.len());
        for mut entry in chunk.entries {
            // What lies behind the end belongs to the next lane.
            let inside = end.saturating_sub(entry.offset);
            if inside > 0 || (entry.record.events.is_empty() && entry.offset <= end) {
                entry.record.events.truncate(usize::try_from(inside).unwrap_or(usize::MAX));
                records.push(entry.record);
            }
        }
        let mut skipped = chunk.skipped;
        skipped.iter_mut().for_each(|skipped| skipped.next = skipped.next.min(end));
        skipped.retain(|skipped| skipped.first < skipped.next);
        Ok(Delivery { records, skipped, place: Place(vec![(lane.number, lane.next)]) })
    }

    async fn note(&mut self) -> Result<(), Error> {
        let stretches = self.stretches();
        if self.written_at.is_some_and(|at| at.elapsed() < WRITE_EVERY) || self.written == stretches {
            return Ok(());
        }
        let (path, writing) = (self.path.clone(), stretches.clone());
        spawn_blocking(move || write(&path, &writing)).await.map_err(Error::Interrupted)??;
        self.written = stretches;
        self.written_at = Some(Instant::now());
        Ok(())
    }

    fn stretches(&self) -> Vec<Stretch> {
        self.lanes.iter().map(|lane| Stretch { first: lane.committed, end: lane.end }).collect()
    }
}

impl Lane {
    /// Whether it has an end and is not there yet.
    fn is_unread(&self) -> bool {
        self.end.is_some_and(|end| self.next < end)
    }

    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.committed >= end)
    }
}

impl Consumer for Cursor {
    fn next(&mut self, max_events: usize) -> BoxFuture<'_, Result<Delivery, Error>> {
        Box::pin(self.read(max_events))
    }

    fn commit(&mut self, place: &Place) -> BoxFuture<'_, Result<(), Error>> {
        for (number, upto) in &place.0 {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.number == *number) {
                lane.committed = lane.committed.max(*upto);
            }
        }
        self.lanes.retain(|lane| !lane.is_done());
        Box::pin(self.note())
    }

    fn lag(&self) -> u64 {
        let head = self.log.bounds().next;
        self.stretches().iter().map(|stretch| stretch.end.unwrap_or(head).saturating_sub(stretch.first)).sum()
    }
}

impl Drop for Cursor {
    fn drop(&mut self) {
        let stretches = self.stretches();
        if self.written != stretches
            && let Err(error) = write(&self.path, &stretches)
        {
            tracing::warn!(%error, "the place in the log was not kept: some of it is read again");
        }
    }
}

/// What a file says; everything, if there is none.
fn read(path: &Path) -> Result<Vec<Stretch>, Error> {
    let everything = vec![Stretch { first: 0, end: None }];
    match fs::read_to_string(path) {
        Ok(text) => Ok(parse(&text).unwrap_or_else(|| {
            tracing::warn!(path = %path.display(), "the place in the log cannot be read: all of it is read again");
            everything
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(everything),
        Err(error) => Err(Error::disk("read", path)(error)),
    }
}

fn parse(text: &str) -> Option<Vec<Stretch>> {
    let mut stretches = Vec::new();
    for line in text.lines() {
        let (first, end) = match line.split_once(' ') {
            Some((first, end)) => (first, Some(end.parse().ok()?)),
            None => (line, None),
        };
        stretches.push(Stretch { first: first.parse().ok()?, end });
    }
    let (last, before) = stretches.split_last()?;
    let is_whole = last.end.is_none() && before.iter().all(|stretch| stretch.end > Some(stretch.first));
    (is_whole && stretches.len() <= MAX_LANES).then_some(stretches)
}

fn write(path: &Path, stretches: &[Stretch]) -> Result<(), Error> {
    let line = |stretch: &Stretch| match stretch.end {
        Some(end) => format!("{} {end}\n", stretch.first),
        None => format!("{}\n", stretch.first),
    };
    let text: String = stretches.iter().map(line).collect();
    let beside = path.with_extension("tmp");
    File::create(&beside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| fs::rename(&beside, path))
        .map_err(Error::disk("write", path))?;
    segment::sync_dir(path.parent().unwrap_or(Path::new(".")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_survives_a_round_trip_and_damage_is_no_place() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cursor");
        assert_eq!(Cursor::reach(&path).unwrap(), 0);
        let stretches = [Stretch { first: 5, end: Some(90) }, Stretch { first: 120, end: None }];
        write(&path, &stretches).unwrap();
        assert_eq!(read(&path).unwrap(), stretches);
        assert_eq!(Cursor::reach(&path).unwrap(), 120);
        for text in ["", "x\n", "5 90\n", "5 5\n7\n", "7\n5 90\n"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }
}
