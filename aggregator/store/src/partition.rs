//! The index of one day on disk.
//!
//! `<store>/days/<day>.<generation>.<part>/` holds the engine's files in `index/` and large events in `evidence`. The
//! payload of the engine's commit is a [`Mark`]: documents and position become durable in one step. A generation begins
//! when the log was replaced by another one, whose offsets say nothing about what the older generations hold. A part
//! that has grown large is followed by the next one, so that retention by size has something to drop.

use std::{
    fs, io, mem,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tantivy::{
    Index, IndexReader, IndexSettings, ReloadPolicy, Searcher,
    directory::MmapDirectory,
    indexer::{IndexWriter, IndexWriterOptions, LogMergePolicy, UserOperation},
};
use tracing::warn;

use crate::{
    day::Day,
    document::Document,
    error::{Class, Error},
    evidence::{Appender, Evidence},
    schema::{FIELDS, VERSION, tokenizers},
};

/// Memory that collects documents before they become a segment, in bytes. There are three such at most.
const HEAP: usize = 21 << 20;

/// What a commit says beside its documents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Mark {
    /// Version of the on-disk form.
    pub(crate) version: u32,
    /// Offset at which the part begins.
    pub(crate) from: u64,
    /// Every event of the day with an offset from `from` up to here is in this part, or in another that says so too.
    pub(crate) next: u64,
    /// Every event below this offset is in the index that it belongs to, whichever that is.
    pub(crate) complete: u64,
    /// Length of the evidence file, in bytes.
    pub(crate) evidence: u64,
}

impl Mark {
    const EMPTY: Self = Self { version: VERSION, from: u64::MAX, next: 0, complete: 0, evidence: 0 };
}

/// Name of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Name {
    pub(crate) day: Day,
    pub(crate) generation: u32,
    pub(crate) part: u32,
}

impl Name {
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (day, rest) = text.split_once('.')?;
        let (generation, part) = rest.split_once('.')?;
        Some(Self { day: Day::parse(day)?, generation: generation.parse().ok()?, part: part.parse().ok()? })
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.day, self.generation, self.part)
    }
}

/// An index, for reading.
pub(crate) struct Partition {
    pub(crate) name: Name,
    pub(crate) dir: PathBuf,
    pub(crate) evidence: Evidence,
    index: Index,
    reader: IndexReader,
    mark: Mutex<Mark>,
    /// It failed a search: left out of the next ones until it was read in full.
    suspect: AtomicBool,
}

impl Partition {
    /// Opens the index, or creates it if there is none. Damage of any kind is [`Error::Damaged`].
    pub(crate) fn open(days: &Path, name: Name) -> Result<Self, Error> {
        let damaged = |what: String| Error::Damaged { index: name.to_string(), what };
        // The engine may panic on bytes that it did not write.
        match catch_unwind(AssertUnwindSafe(|| Self::try_open(days, name))) {
            Ok(Err(Error::Index { source, .. })) => Err(damaged(source.to_string())),
            Ok(result) => result,
            Err(_) => Err(damaged("the engine panicked on it".into())),
        }
    }

    fn try_open(days: &Path, name: Name) -> Result<Self, Error> {
        let dir = days.join(name.to_string());
        let files = dir.join("index");
        fs::create_dir_all(&files).map_err(Error::io("create", &files))?;
        let damaged = |what: String| Error::Damaged { index: name.to_string(), what };
        let failed = |action| Error::index(action, name);

        let meta = files.join("meta.json");
        if !meta.exists() && has_segments(&files).map_err(Error::io("read", &files))? {
            return Err(damaged("its meta.json is missing".into()));
        }
        let directory = MmapDirectory::open(&files).map_err(|error| failed("open")(error.into()))?;
        let settings = IndexSettings { docstore_compress_dedicated_thread: false, ..IndexSettings::default() };
        let mut index = if meta.exists() {
            Index::open(directory).map_err(failed("open"))?
        } else {
            Index::create(directory, FIELDS.schema.clone(), settings).map_err(failed("create"))?
        };
        index.set_tokenizers(tokenizers());
        index.set_fast_field_tokenizers(tokenizers());

        let mark = match index.load_metas().map_err(failed("open"))?.payload {
            None => Mark::EMPTY,
            Some(payload) => serde_json::from_str(&payload).map_err(|error| damaged(format!("its mark: {error}")))?,
        };
        if mark.version != VERSION || index.schema() != FIELDS.schema {
            return Err(damaged(format!("its form is of version {}, not {VERSION}", mark.version)));
        }
        let evidence = dir.join("evidence");
        let evidence = Evidence::open(&evidence).map_err(Error::io("open", evidence))?;
        if evidence.bytes().map_err(Error::io("read", &dir))? < mark.evidence {
            return Err(damaged("its evidence file is too short".into()));
        }
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .doc_store_cache_num_blocks(8)
            .try_into()
            .map_err(failed("open"))?;
        Ok(Self { name, dir, evidence, index, reader, mark: Mutex::new(mark), suspect: AtomicBool::new(false) })
    }

    /// Reads all of it, and fails if a file is not what was written.
    pub(crate) fn verify(&self) -> Result<(), Error> {
        let damaged = |what: String| Error::Damaged { index: self.name.to_string(), what };
        let files = catch_unwind(AssertUnwindSafe(|| self.index.validate_checksum()))
            .map_err(|_| damaged("the engine panicked on it".into()))?
            .map_err(|error| damaged(error.to_string()))?;
        match files.into_iter().min() {
            None => Ok(()),
            Some(file) => Err(damaged(format!("`{}` has another checksum", file.display()))),
        }
    }

    pub(crate) fn searcher(&self) -> Searcher {
        self.reader.searcher()
    }

    /// Reads from it. If that fails, or the engine panics on what it reads, the index becomes suspect.
    pub(crate) fn read<T>(&self, read: impl FnOnce(&Self) -> Result<T, Error>) -> Result<T, Error> {
        let panicked =
            |_| Err(Error::Damaged { index: self.name.to_string(), what: "the engine panicked on it".into() });
        let result = catch_unwind(AssertUnwindSafe(|| read(self))).unwrap_or_else(panicked);
        if let Err(error) = &result
            && error.class() == Class::Internal
        {
            warn!(index = %self.name, %error, "an index failed a search: it is left out until it was read in full");
            self.suspect.store(true, Ordering::Relaxed);
        }
        result
    }

    pub(crate) fn is_suspect(&self) -> bool {
        self.suspect.load(Ordering::Relaxed)
    }

    pub(crate) fn clear(&self) {
        self.suspect.store(false, Ordering::Relaxed);
    }

    pub(crate) fn mark(&self) -> Mark {
        *self.mark.lock()
    }

    /// Bytes on disk.
    pub(crate) fn bytes(&self) -> u64 {
        let files = fs::read_dir(self.dir.join("index")).into_iter().flatten().flatten();
        let index: u64 = files.filter_map(|file| file.metadata().ok()).map(|meta| meta.len()).sum();
        index + self.evidence.bytes().unwrap_or(0)
    }
}

/// An index, for writing. There is one for an index at a time; what was not committed when it is dropped is gone.
pub(crate) struct Sink {
    pub(crate) partition: std::sync::Arc<Partition>,
    writer: IndexWriter<Document>,
    /// Documents that wait for a flush.
    documents: Vec<UserOperation<Document>>,
    evidence: Appender,
    /// Where the part begins, if it is new.
    from: u64,
    /// Documents that wait for a commit.
    pub(crate) pending: u64,
}

impl Sink {
    /// Opens the only writer of `partition`, whose next document has an offset of `from` or more.
    pub(crate) fn open(partition: std::sync::Arc<Partition>, from: u64) -> Result<Self, Error> {
        let name = partition.name;
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .memory_budget_per_thread(HEAP)
            .num_merge_threads(1)
            .build();
        let writer = partition.index.writer_with_options(options).map_err(Error::index("open", name))?;
        // Small commits are the rule: merge the small ones among themselves before they meet a large one.
        let mut policy = LogMergePolicy::default();
        policy.set_min_layer_size(500);
        writer.set_merge_policy(Box::new(policy));
        let evidence = partition
            .evidence
            .append_after(partition.mark().evidence)
            .map_err(Error::io("cut", partition.dir.join("evidence")))?;
        Ok(Self { partition, writer, documents: Vec::new(), evidence, from, pending: 0 })
    }

    /// Adds a document; `raw` is kept apart if given. It waits for a flush.
    pub(crate) fn add(&mut self, mut document: Document, raw: Option<&[u8]>) -> Result<(), Error> {
        if let Some(raw) = raw {
            let place = self.evidence.append(raw).map_err(Error::io("write", self.partition.dir.join("evidence")))?;
            document.place = Some(place.to_bytes());
        }
        self.documents.push(UserOperation::Add(document));
        self.pending += 1;
        Ok(())
    }

    /// Hands over what was added to the engine, all at once: each time wakes a thread.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        if !self.documents.is_empty() {
            let documents = mem::take(&mut self.documents);
            self.writer.run(documents).map_err(Error::index("write", self.partition.name))?;
        }
        Ok(())
    }

    /// Makes all that was added durable, together with the position, and shows it to searches.
    pub(crate) fn commit(&mut self, next: u64, complete: u64) -> Result<(), Error> {
        self.flush()?;
        let from = self.partition.mark().from.min(self.from);
        let failed = || Error::index("commit", self.partition.name);
        let evidence = self.evidence.sync().map_err(Error::io("sync", self.partition.dir.join("evidence")))?;
        let mark = Mark { version: VERSION, from, next, complete, evidence };
        let payload = serde_json::to_string(&mark)
            .map_err(|error| Error::io("encode", &self.partition.dir)(io::Error::other(error)))?;
        let mut commit = self.writer.prepare_commit().map_err(failed())?;
        commit.set_payload(&payload);
        commit.commit().map_err(failed())?;
        *self.partition.mark.lock() = mark;
        self.pending = 0;
        self.partition.reader.reload().map_err(failed())
    }
}

fn has_segments(dir: &Path) -> io::Result<bool> {
    for file in fs::read_dir(dir)? {
        if file?.path().extension().is_some_and(|extension| extension == "store" || extension == "idx") {
            return Ok(true);
        }
    }
    Ok(false)
}
