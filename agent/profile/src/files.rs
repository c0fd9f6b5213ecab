//! Files that hold code, by inode and by build id, each held open so that it can be read after the process, its container
//! or the file's name is gone.
//!
//! Bounded: out of handles, frames of further files keep path and offset instead of a name. Files of one build id are
//! one file, however many containers have a copy.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    hash::{Hash, Hasher},
    sync::Arc,
};

use galen_bpf::cpu_profile::BuildId;

use crate::{
    elf, inside,
    maps::{Mapping, What},
};

/// Files that are held open: well below the usual limit of 1024 descriptors.
const MAX_OPEN: usize = 512;
/// Build ids whose file was never seen.
const MAX_UNSEEN: usize = 1024;

/// A file that holds code. Two are equal when they are the same file.
#[derive(Debug)]
pub(crate) struct CodeFile {
    id: u32,
    /// As its process saw it; empty when only the build id is known.
    pub(crate) path: String,
    /// All zeros when the file has none, or it could not be read.
    pub(crate) build_id: BuildId,
    /// `None` when it could not be opened in time.
    pub(crate) handle: Option<File>,
}

impl CodeFile {
    /// Whether only a build id is known of it.
    pub(crate) fn is_unseen(&self) -> bool {
        self.path.is_empty()
    }
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

#[derive(Debug, PartialEq, Eq, Hash)]
struct Key {
    device: u64,
    inode: u64,
}

impl Key {
    fn of(mapping: &Mapping) -> Option<Self> {
        match &mapping.what {
            What::File { device, inode, .. } => Some(Self { device: *device, inode: *inode }),
            _ => None,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct Files {
    by_inode: HashMap<Key, Arc<CodeFile>>,
    by_build_id: HashMap<BuildId, Arc<CodeFile>>,
    open: usize,
    next: u32,
}

impl Files {
    /// The file of a mapping; `None` for memory that has none. It is opened when it is new.
    pub(crate) fn of_mapping(&mut self, tgid: u32, mapping: &Mapping) -> Option<Arc<CodeFile>> {
        let What::File { device, inode, path } = &mapping.what else { return None };
        let key = Key { device: *device, inode: *inode };
        if let Some(file) = self.by_inode.get(&key) {
            return Some(Arc::clone(file));
        }
        let file = self.meet(tgid, mapping, *inode, path);
        self.by_inode.insert(key, Arc::clone(&file));
        Some(file)
    }

    /// The file with this build id, if it was seen.
    pub(crate) fn seen(&self, build_id: &BuildId) -> Option<Arc<CodeFile>> {
        self.by_build_id.get(build_id).filter(|file| !file.is_unseen()).map(Arc::clone)
    }

    /// Stands for a file that was not seen; `None` when there are too many.
    pub(crate) fn unseen(&mut self, build_id: BuildId) -> Option<Arc<CodeFile>> {
        if let Some(file) = self.by_build_id.get(&build_id) {
            return Some(Arc::clone(file));
        }
        if self.by_build_id.len() >= MAX_OPEN + MAX_UNSEEN {
            return None;
        }
        let file = Arc::new(CodeFile { id: self.number(), path: String::new(), build_id, handle: None });
        self.by_build_id.insert(build_id, Arc::clone(&file));
        Some(file)
    }

    /// Lets go of all files but those of these mappings. A profile that has one keeps it open for itself.
    pub(crate) fn keep<'a>(&mut self, mappings: impl Iterator<Item = &'a Mapping>) {
        let used: HashSet<Key> = mappings.filter_map(Key::of).collect();
        self.by_inode.retain(|key, _| used.contains(key));
        self.by_build_id.retain(|_, file| Arc::strong_count(file) > 1);
        let without_id = self.by_inode.values().filter(|file| file.build_id == BuildId::default());
        self.open = without_id.chain(self.by_build_id.values()).filter(|file| file.handle.is_some()).count();
    }

    fn meet(&mut self, tgid: u32, mapping: &Mapping, inode: u64, path: &str) -> Arc<CodeFile> {
        let handle = if self.open < MAX_OPEN { open(tgid, mapping, inode, path) } else { None };
        let build_id = handle.as_ref().and_then(|file| elf::build_id(file).ok()?).unwrap_or_default();
        let has_id = build_id != BuildId::default();
        if has_id && let Some(same) = self.seen(&build_id) {
            return same;
        }
        self.open += usize::from(handle.is_some());
        let file = Arc::new(CodeFile { id: self.number(), path: path.to_owned(), build_id, handle });
        if has_id {
            self.by_build_id.insert(build_id, Arc::clone(&file));
        }
        file
    }

    fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }
}

/// By the mapping itself, which needs `CAP_SYS_ADMIN` and works for deleted files too; else by name, if that is still
/// the same file.
fn open(tgid: u32, mapping: &Mapping, inode: u64, path: &str) -> Option<File> {
    inside::open_mapped(tgid, mapping).or_else(|| inside::open_same(tgid, path, inode))
}
