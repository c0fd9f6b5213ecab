//! `/proc/meminfo`, kept open: a tracer may read it every tick.

use std::{fs::File, io, os::unix::fs::FileExt, path::Path};

use serde::Serialize;

use crate::cgroup::MemoryUse;

const READ: usize = 4096;

/// What of it is told, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Memory {
    pub total_bytes: u64,
    pub free_bytes: u64,
    pub available_bytes: u64,
    pub active_anon_bytes: u64,
    pub inactive_anon_bytes: u64,
    pub swap_total_bytes: u64,
    pub swap_free_bytes: u64,
    /// What it is used for: anonymous pages, page cache of files, shared memory and tmpfs.
    #[serde(flatten)]
    pub used: MemoryUse,
}

impl Memory {
    /// What cannot be given back without swap: anonymous and shared memory.
    pub fn unreclaimable_bytes(&self) -> u64 {
        self.active_anon_bytes + self.inactive_anon_bytes
    }

    /// `None` if a value that every kernel has is missing.
    fn parse(text: &str) -> Option<Self> {
        let value = |key: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
            line.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)
        };
        Some(Self {
            total_bytes: value("MemTotal")?,
            free_bytes: value("MemFree")?,
            available_bytes: value("MemAvailable")?,
            active_anon_bytes: value("Active(anon)")?,
            inactive_anon_bytes: value("Inactive(anon)")?,
            swap_total_bytes: value("SwapTotal").unwrap_or(0),
            swap_free_bytes: value("SwapFree").unwrap_or(0),
            used: MemoryUse {
                anon_bytes: value("AnonPages")?,
                file_bytes: (value("Cached")? + value("Buffers")?).saturating_sub(value("Shmem")?),
                shmem_bytes: value("Shmem")?,
            },
        })
    }
}

/// The open file.
#[derive(Debug)]
pub struct Meminfo(File);

impl Meminfo {
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self(File::open(path)?))
    }

    pub fn read(&self) -> io::Result<Memory> {
        let mut buffer = [0; READ];
        let length = self.0.read_at(&mut buffer, 0)?;
        let text = String::from_utf8_lossy(&buffer[..length]);
        Memory::parse(&text).ok_or_else(|| io::Error::other("meminfo lacks a value that it must have"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_memory() {
        let memory = Meminfo::open("/proc/meminfo").unwrap().read().unwrap();
        assert!(memory.total_bytes > memory.free_bytes && memory.unreclaimable_bytes() > 0);
    }

    #[test]
    fn text_without_a_value_is_refused() {
        let text = "MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable: 2 kB\nBuffers: 1 kB\nCached: 9 kB\nActive(anon): 3 kB\n\
            Inactive(anon): 4 kB\nAnonPages: 5 kB\nShmem: 2 kB\n";
        assert_eq!(Memory::parse(text).unwrap().unreclaimable_bytes(), 7 * 1024);
        assert_eq!(Memory::parse(text).unwrap().used.file_bytes, 8 * 1024);
        assert_eq!(Memory::parse(&text.replace("Active(anon): 3 kB\n", "")), None);
        assert_eq!(Memory::parse(&text.replace("MemTotal: 100 kB", "MemTotal: x kB")), None);
    }
}
