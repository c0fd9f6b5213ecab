//! What the memory of a cgroup, with everything below it, is used for.
//!
//! From `memory.stat`: version 1 under the names that begin with `total_`, version 2 without. The kernel keeps shared
//! memory on the lists of anonymous pages, and counts it among the files as well; here it is apart.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use serde::Serialize;

use super::{Version, ancestry, directory, memory::limit};

/// The file is larger on machines with many nodes; what is needed stands in its first kilobytes.
const READ: usize = 8192;

/// In bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MemoryUse {
    /// Of processes: heaps, stacks.
    pub anon_bytes: u64,
    /// Page cache of files.
    pub file_bytes: u64,
    /// Shared memory and tmpfs.
    pub shmem_bytes: u64,
}

impl MemoryUse {
    /// What cannot be given back without swap.
    pub fn unreclaimable_bytes(&self) -> u64 {
        self.anon_bytes + self.shmem_bytes
    }
}

/// The open file that says how much a cgroup uses in all.
#[derive(Debug)]
pub struct MemoryCurrent(File);

impl MemoryCurrent {
    pub fn open(directory: &Path, version: Version) -> io::Result<Self> {
        let name = match version {
            Version::V1 => "memory.usage_in_bytes",
            Version::V2 => "memory.current",
        };
        Ok(Self(File::open(directory.join(name))?))
    }

    /// Bytes in use: one small read.
    pub fn read(&self) -> io::Result<u64> {
        let mut buffer = [0; 32];
        let length = self.0.read_at(&mut buffer, 0)?;
        let text = std::str::from_utf8(&buffer[..length]).map_err(io::Error::other)?;
        text.trim().parse().map_err(io::Error::other)
    }
}

/// The open files of one cgroup.
#[derive(Debug)]
pub struct MemoryMeter {
    pub current: MemoryCurrent,
    stat: File,
    version: Version,
}

impl MemoryMeter {
    pub fn open(directory: &Path, version: Version) -> io::Result<Self> {
        let current = MemoryCurrent::open(directory, version)?;
        Ok(Self { current, stat: File::open(directory.join("memory.stat"))?, version })
    }

    /// What is used for what: dearer, because the kernel sums it up.
    pub fn read(&self) -> io::Result<MemoryUse> {
        let mut buffer = [0; READ];
        let length = self.stat.read_at(&mut buffer, 0)?;
        parse(&String::from_utf8_lossy(&buffer[..length]), self.version)
            .ok_or_else(|| io::Error::other("memory.stat lacks a value that it must have"))
    }
}

/// The least limit of the cgroup `path` and its ancestors, in bytes; `None` if there is none.
pub fn memory_limit(root: &Path, path: &str, version: Version) -> Option<u64> {
    ancestry(path).filter_map(|path| limit(&directory(root, path), version)).min()
}

fn parse(text: &str, version: Version) -> Option<MemoryUse> {
    let value = |key: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?;
        line.trim().parse::<u64>().ok()
    };
    let (anon, file, shmem) = match version {
        Version::V1 => (value("total_rss")?, value("total_cache")?, value("total_shmem").unwrap_or(0)),
        Version::V2 => (value("anon")?, value("file")?, value("shmem")?),
    };
    Some(MemoryUse { anon_bytes: anon, file_bytes: file.saturating_sub(shmem), shmem_bytes: shmem })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_tell_shared_memory_apart_from_files() {
        let expected = MemoryUse { anon_bytes: 10, file_bytes: 20, shmem_bytes: 5 };
        let v1 = "cache 1\nrss 1\ntotal_cache 25\ntotal_rss 10\ntotal_shmem 5\n";
        assert_eq!(parse(v1, Version::V1), Some(expected));
        assert_eq!(parse("anon 10\nfile 25\nkernel 3\nshmem 5\n", Version::V2), Some(expected));
        assert_eq!(parse("anon 10\n", Version::V2), None);
    }

    #[test]
    fn the_least_limit_on_the_way_up_holds() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("a/b")).unwrap();
        for (path, max) in [("memory.max", "max"), ("a/memory.max", "100"), ("a/b/memory.max", "200")] {
            std::fs::write(root.path().join(path), max).unwrap();
        }
        assert_eq!(memory_limit(root.path(), "/a/b", Version::V2), Some(100));
        assert_eq!(memory_limit(root.path(), "/", Version::V2), None);
    }
}
