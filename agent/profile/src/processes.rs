//! What the processes that were sampled have mapped, and the files behind it.
//!
//! Mappings are read when a process is first seen, and again when an address is in none of them: at most once a drain
//! where the CPU itself was there, at most once a second where a caller was, which may as well be nonsense.
//! A file that an address falls into is opened at once, through the process, so that it can be read after the process,
//! its container or the file's name is gone. Both tables are bounded: full of processes, it forgets them all and reads
//! anew; out of file handles, frames of further files keep path and offset instead of a name.

use std::{
    collections::HashMap,
    fs::File,
    hash::{Hash, Hasher},
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    inside,
    maps::{self, Mapping, What},
    perf_map::PerfMap,
};

/// Processes whose mappings are kept.
const MAX_PROCESSES: usize = 1024;
/// Files that are held open: well below the usual limit of 1024 descriptors.
const MAX_OPEN_FILES: usize = 256;
/// Names of code made at run time, of all processes together; what is beyond has no names.
const MAX_MADE_CODE_BYTES: u64 = 16 << 20;

const SECOND: Duration = Duration::from_secs(1);

/// A file that holds code. Two are equal when they are the same file of one series of captures.
#[derive(Debug)]
pub(crate) struct CodeFile {
    id: u32,
    /// As its process saw it.
    pub(crate) path: String,
    /// `None` when it could not be opened in time.
    pub(crate) handle: Option<File>,
}

impl PartialEq for CodeFile {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl Eq for CodeFile {}

impl Hash for CodeFile {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.id.hash(state);
    }
}

/// Where code is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Place {
    Kernel(u64),
    File {
        file: Arc<CodeFile>,
        /// From the begin of the file.
        offset: u64,
    },
    /// `[vdso]` and the like, or a function that a runtime made and named.
    Named(Arc<str>),
    /// Code made at run time.
    Anonymous,
    /// In none of the mappings of the process.
    Unknown,
    /// The process ended before its mappings were read.
    Gone,
}

#[derive(Debug, Default)]
pub(crate) struct Processes {
    known: HashMap<Image, Process>,
    files: HashMap<FileKey, Arc<CodeFile>>,
    open_files: usize,
    made_code_bytes: u64,
    drain: u64,
    /// The last drain of the second before this one.
    patient_drain: u64,
    second: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Image {
    tgid: u32,
    address_space: u64,
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct FileKey {
    device: u64,
    inode: u64,
}

#[derive(Debug, Default)]
struct Process {
    mappings: Vec<Mapping>,
    /// The drain in which they were last read.
    read: u64,
    made_code: PerfMap,
    /// The drain in which that was last looked at.
    made_code_read: u64,
}

impl Processes {
    /// A new drain of the ring begins: what was not found before may be looked for once more.
    pub(crate) fn next_drain(&mut self) {
        if self.second.is_none_or(|begin| begin.elapsed() >= SECOND) {
            self.second = Some(Instant::now());
            self.patient_drain = self.drain;
        }
        self.drain += 1;
    }

    /// `depth` is 0 where the CPU was, and counts the callers from there.
    pub(crate) fn find(&mut self, tgid: u32, address_space: u64, address: u64, depth: usize) -> Place {
        if self.known.len() >= MAX_PROCESSES {
            self.known.clear();
            self.made_code_bytes = 0;
        }
        let process = self.known.entry(Image { tgid, address_space }).or_default();
        let mut mapping = maps::find(&process.mappings, address);
        let stale = if depth == 0 { process.read < self.drain } else { process.read <= self.patient_drain };
        if mapping.is_none() && stale {
            process.read = self.drain;
            // What is known of a process that has ended meanwhile stays.
            if let Ok(mappings) = maps::read(tgid)
                && !mappings.is_empty()
            {
                process.mappings = mappings;
            }
            mapping = maps::find(&process.mappings, address);
        }
        let Some(mapping) = mapping else {
            return if process.mappings.is_empty() { Place::Gone } else { Place::Unknown };
        };
        match &mapping.what {
            What::Anonymous => {
                let may_read = process.made_code_read < self.drain && self.made_code_bytes < MAX_MADE_CODE_BYTES;
                if may_read && process.made_code.name(address).is_none() {
                    process.made_code_read = self.drain;
                    self.made_code_bytes += process.made_code.refresh(tgid);
                }
                process.made_code.name(address).map_or(Place::Anonymous, |name| Place::Named(name.into()))
            }
            What::Special(name) => Place::Named(name.as_str().into()),
            What::File { device, inode, path } => {
                let next = u32::try_from(self.files.len()).unwrap_or(u32::MAX);
                let may_open = self.open_files < MAX_OPEN_FILES;
                let file = self.files.entry(FileKey { device: *device, inode: *inode }).or_insert_with(|| {
                    let handle = if may_open { open(tgid, mapping, *inode, path) } else { None };
                    self.open_files += usize::from(handle.is_some());
                    Arc::new(CodeFile { id: next, path: path.clone(), handle })
                });
                Place::File { file: Arc::clone(file), offset: address - mapping.start + mapping.offset }
            }
        }
    }
}

/// By the mapping itself, which needs `CAP_SYS_ADMIN` and works for deleted files too; else by name, if that is still
/// the same file.
fn open(tgid: u32, mapping: &Mapping, inode: u64, path: &str) -> Option<File> {
    File::open(format!("/proc/{tgid}/map_files/{:x}-{:x}", mapping.start, mapping.end))
        .ok()
        .or_else(|| inside::open_same(tgid, path, inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_code_is_found_with_its_file() {
        let mut processes = Processes::default();
        processes.next_drain();
        let here = own_code_is_found_with_its_file as *const () as u64;
        let Place::File { file, offset } = processes.find(std::process::id(), 1, here, 0) else {
            panic!("not in a file")
        };
        assert_eq!(file.path, std::env::current_exe().unwrap().to_str().unwrap());
        assert!(file.handle.is_some());
        assert!(offset > 0);
        assert_eq!(processes.find(std::process::id(), 1, 1, 0), Place::Unknown);
    }

    #[test]
    fn a_process_that_never_was_is_gone() {
        let mut processes = Processes::default();
        processes.next_drain();
        assert_eq!(processes.find(u32::MAX, 1, 0x1000, 0), Place::Gone);
    }
}
