//! The memory counters of a cgroup, as version 1 and version 2 name them, under the names of version 2.

use std::path::Path;

use serde::Serialize;

use super::Version;

/// Version 1 writes "no limit" as the largest number of pages, in bytes.
const UNLIMITED_V1: u64 = 1 << 60;

/// What the memory controller says of a cgroup. A counter that the kernel or the version does not have is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct MemoryCounters {
    /// Bytes in use.
    pub current_bytes: Option<u64>,
    /// The most bytes that were ever in use.
    pub peak_bytes: Option<u64>,
    /// The limit in bytes; `None` if there is none.
    pub max_bytes: Option<u64>,
    /// How often the limit was hit.
    pub limit_hits: Option<u64>,
    /// Tasks of the cgroup that the OOM killer has killed.
    pub oom_kills: Option<u64>,
}

impl MemoryCounters {
    /// `None` if the cgroup is gone.
    pub fn read(cgroup: &Path, version: Version) -> Option<Self> {
        if !cgroup.is_dir() {
            return None;
        }
        let number = |file: &str| text(cgroup, file)?.trim().parse::<u64>().ok();
        let keyed = |file: &str, key: &str| {
            let text = text(cgroup, file)?;
            text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
        };
        Some(match version {
            Version::V1 => Self {
                current_bytes: number("memory.usage_in_bytes"),
                peak_bytes: number("memory.max_usage_in_bytes"),
                max_bytes: limit(cgroup, version),
                limit_hits: number("memory.failcnt"),
                oom_kills: keyed("memory.oom_control", "oom_kill"),
            },
            Version::V2 => Self {
                current_bytes: number("memory.current"),
                peak_bytes: number("memory.peak"),
                max_bytes: limit(cgroup, version),
                limit_hits: keyed("memory.events", "max"),
                oom_kills: keyed("memory.events", "oom_kill"),
            },
        })
    }
}

/// The limit of a cgroup itself, in bytes; `None` if there is none.
pub(super) fn limit(cgroup: &Path, version: Version) -> Option<u64> {
    let number = |file: &str| text(cgroup, file)?.trim().parse::<u64>().ok();
    match version {
        Version::V1 => number("memory.limit_in_bytes").filter(|limit| *limit < UNLIMITED_V1),
        Version::V2 => number("memory.max"),
    }
}

fn text(cgroup: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(cgroup.join(file)).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn both_versions_give_the_same_names() {
        let root = tempfile::tempdir().unwrap();
        let files = [
            ("memory.usage_in_bytes", "10\n"),
            ("memory.max_usage_in_bytes", "20\n"),
            ("memory.limit_in_bytes", "30\n"),
            ("memory.failcnt", "4\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("memory.current", "10\n"),
            ("memory.peak", "20\n"),
            ("memory.max", "30\n"),
            ("memory.events", "low 0\nhigh 0\nmax 4\noom 2\noom_kill 1\n"),
        ];
        for (name, text) in files {
            fs::write(root.path().join(name), text).unwrap();
        }
        let expected = MemoryCounters {
            current_bytes: Some(10),
            peak_bytes: Some(20),
            max_bytes: Some(30),
            limit_hits: Some(4),
            oom_kills: Some(1),
        };
        assert_eq!(MemoryCounters::read(root.path(), Version::V1), Some(expected.clone()));
        assert_eq!(MemoryCounters::read(root.path(), Version::V2), Some(expected));
    }

    #[test]
    fn no_limit_is_none_and_a_cgroup_that_is_gone_has_no_counters() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        fs::write(root.path().join("memory.max"), "max\n").unwrap();
        for version in [Version::V1, Version::V2] {
            assert_eq!(MemoryCounters::read(root.path(), version).unwrap().max_bytes, None);
        }
        assert_eq!(MemoryCounters::read(&root.path().join("gone"), Version::V2), None);
    }
}
