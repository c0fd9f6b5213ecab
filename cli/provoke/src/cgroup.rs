//! A cgroup of one's own, in the hierarchies that it needs, removed with its handle.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::error::{Context, Error};

/// Tries to remove a cgroup whose processes have just ended.
const REMOVALS: usize = 200;
const PAUSE: Duration = Duration::from_millis(10);
/// Period in which a quota of CPU time holds, in microseconds.
const PERIOD: u32 = 100_000;
/// The hierarchies of version 1 that account for CPU time and share it out: one, two, or two names of one.
const V1: [&str; 2] = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct"];
const V2: &str = "/sys/fs/cgroup";
/// The hierarchies that a container is in.
const ALL_V1: [&str; 4] =
    ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/blkio"];
const CONTROLLERS: [&str; 3] = ["cpu", "memory", "io"];

pub struct Cgroup {
    /// Path below a hierarchy's root, such as `/galen-test-42`.
    pub path: String,
    pub folders: Vec<PathBuf>,
}

impl Cgroup {
    /// A cgroup for CPU time: of the v1 hierarchies where there are such, else of v2.
    pub fn cpu(path: &str) -> Result<Self, Error> {
        Self::below(&V1, path)
    }

    /// A cgroup in every hierarchy that a container is in: CPU, memory and block IO of version 1, else version 2.
    pub fn everywhere(path: &str) -> Result<Self, Error> {
        Self::below(&ALL_V1, path)
    }

    fn below(v1: &[&'static str], path: &str) -> Result<Self, Error> {
        let there = |root: &&str| Path::new(root).join("cgroup.procs").exists();
        let mut roots: Vec<_> =
            v1.iter().filter(|root| there(root)).filter_map(|root| fs::canonicalize(root).ok()).collect();
        roots.dedup();
        if roots.is_empty() {
            roots.push(V2.into());
        }
        let folders: Vec<_> = roots.into_iter().map(|root| root.join(path.trim_start_matches('/'))).collect();
        let cgroup = Self { path: path.to_owned(), folders };
        for folder in &cgroup.folders {
            fs::create_dir_all(folder).to(|| format!("make the cgroup {}", folder.display()))?;
            // Of version 2: what is below needs the controllers too. One that is not there is not handed down.
            for controller in CONTROLLERS {
                let parent = folder.parent().unwrap_or(folder).join("cgroup.subtree_control");
                let _ = fs::write(parent, format!("+{controller}"));
            }
        }
        Ok(cgroup)
    }

    /// Lets it go before others when the machine is busy.
    pub fn prefer(&self) -> Result<(), Error> {
        self.set(&[("cpu.shares", "262144"), ("cpu.weight", "10000")]).map(drop)
    }

    /// Whether the kernel can.
    pub fn limit_memory(&self, bytes: u64) -> Result<bool, Error> {
        let bytes = bytes.to_string();
        self.set(&[("memory.limit_in_bytes", &bytes), ("memory.max", &bytes)])
    }

    /// Allows it the time of `cpus` CPUs, so that it can use all that it may also on a machine that is busy. Whether
    /// the kernel can.
    pub fn limit_cpus(&self, cpus: f64) -> Result<bool, Error> {
        let (quota, period) = ((cpus * f64::from(PERIOD)) as u64, PERIOD);
        self.set(&[("cpu.cfs_period_us", &period.to_string())])?;
        self.set(&[("cpu.cfs_quota_us", &quota.to_string()), ("cpu.max", &format!("{quota} {period}"))])
    }

    /// Writes what its hierarchies have of these files. Whether there was one.
    fn set(&self, values: &[(&str, &str)]) -> Result<bool, Error> {
        let mut found = false;
        for (file, value) in
            self.folders.iter().flat_map(|folder| values.iter().map(|(file, value)| (folder.join(file), value)))
        {
            if file.exists() {
                fs::write(&file, value).to(|| format!("write `{value}` to {}", file.display()))?;
                found = true;
            }
        }
        Ok(found)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for folder in &self.folders {
            for _ in 0..REMOVALS {
                if fs::remove_dir(folder).is_ok() || !folder.exists() {
                    break;
                }
                std::thread::sleep(PAUSE);
            }
        }
    }
}
