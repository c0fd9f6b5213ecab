//! A cgroup of a test's own, in the hierarchy that accounts for CPU, removed with its handle.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Tries to remove a cgroup whose processes have just ended.
const REMOVALS: usize = 200;

pub struct Cgroup {
    /// Path below the hierarchy's root, such as `/galen-test-42`.
    pub path: String,
    folder: PathBuf,
}

impl Cgroup {
    /// A cgroup for CPU time: of the v1 hierarchy where there is one, else of v2.
    pub fn cpu(path: &str) -> Result<Self> {
        Self::below(cpu_root(), path)
    }

    pub fn below(root: &Path, path: &str) -> Result<Self> {
        let folder = root.join(path.trim_start_matches('/'));
        fs::create_dir_all(&folder).with_context(|| format!("failed to make the cgroup {}", folder.display()))?;
        Ok(Self { path: path.to_owned(), folder })
    }

    pub fn add(&self, pid: u32) -> Result<()> {
        fs::write(self.folder.join("cgroup.procs"), pid.to_string()).with_context(|| format!("cgroup {}", self.path))
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..REMOVALS {
            if fs::remove_dir(&self.folder).is_ok() {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}

pub fn cpu_root() -> &'static Path {
    let v1 = Path::new("/sys/fs/cgroup/cpu");
    if v1.is_dir() { v1 } else { Path::new("/sys/fs/cgroup") }
}
