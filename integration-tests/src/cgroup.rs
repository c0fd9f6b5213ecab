//! A cgroup of a test's own, in the hierarchies that it needs, removed with its handle.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result};

/// Tries to remove a cgroup whose processes have just ended.
const REMOVALS: usize = 200;
const PAUSE: Duration = Duration::from_millis(10);
/// Period in which a quota of CPU time holds, in microseconds.
const PERIOD: u32 = 100_000;
/// The v1 hierarchies of the controllers `cpu` and `cpuacct`: one, two, or two names of one.
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
    pub fn cpu(path: &str) -> Result<Self> {
        Self::below(&V1, path)
    }

    /// A cgroup in every hierarchy that a container is in: CPU, memory and block IO of version 1, else version 2.
    pub fn everywhere(path: &str) -> Result<Self> {
        Self::below(&ALL_V1, path)
    }

    fn below(v1: &[&'static str], path: &str) -> Result<Self> {
        let v1: Vec<_> = v1.iter().copied().filter(|root| Path::new(root).is_dir()).collect();
        let roots = if v1.is_empty() { vec![V2] } else { v1 };
        let folders: Vec<_> =
            roots.into_iter().map(|root| Path::new(root).join(path.trim_start_matches('/'))).collect();
        for folder in &folders {
            fs::create_dir_all(folder).with_context(|| format!("failed to make the cgroup {}", folder.display()))?;
            // Of version 2: what is below needs the controllers too. One that is not there is not handed down.
            for controller in CONTROLLERS {
                let parent = folder.parent().unwrap_or(folder).join("cgroup.subtree_control");
                let _ = fs::write(parent, format!("+{controller}"));
            }
        }
        Ok(Self { path: path.to_owned(), folders })
    }

    /// Lets it go before others when the machine is busy.
    pub fn prefer(&self) -> Result<()> {
        for (file, most) in self
            .folders
            .iter()
            .flat_map(|f| [("cpu.shares", "262144"), ("cpu.weight", "10000")].map(|(n, m)| (f.join(n), m)))
        {
            if file.exists() {
                fs::write(file, most)?;
            }
        }
        Ok(())
    }

    pub fn limit_memory(&self, bytes: u64) -> Result<()> {
        for file in
            self.folders.iter().flat_map(|folder| ["memory.limit_in_bytes", "memory.max"].map(|f| folder.join(f)))
        {
            if file.exists() {
                fs::write(file, bytes.to_string())?;
            }
        }
        Ok(())
    }

    /// Allows it the time of `cpus` CPUs, so that it can use all that it may also on a machine that is busy.
    pub fn limit_cpus(&self, cpus: f64) -> Result<()> {
        let quota = (cpus * f64::from(PERIOD)) as u64;
        for folder in &self.folders {
            if folder.join("cpu.cfs_quota_us").exists() {
                fs::write(folder.join("cpu.cfs_period_us"), PERIOD.to_string())?;
                fs::write(folder.join("cpu.cfs_quota_us"), quota.to_string())?;
            } else if folder.join("cpu.max").exists() {
                fs::write(folder.join("cpu.max"), format!("{quota} {PERIOD}"))?;
            }
        }
        Ok(())
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
