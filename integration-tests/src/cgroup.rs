//! A cgroup of a test's own, in the hierarchies that account for CPU and limit it, removed with its handle.

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

pub struct Cgroup {
    /// Path below a hierarchy's root, such as `/galen-test-42`.
    pub path: String,
    pub folders: Vec<PathBuf>,
}

impl Cgroup {
    /// A cgroup for CPU time: of the v1 hierarchies where there are such, else of v2.
    pub fn cpu(path: &str) -> Result<Self> {
        let v1: Vec<_> = V1.into_iter().filter(|root| Path::new(root).is_dir()).collect();
        let roots = if v1.is_empty() { vec![V2] } else { v1 };
        let folders: Vec<_> =
            roots.into_iter().map(|root| Path::new(root).join(path.trim_start_matches('/'))).collect();
        for folder in &folders {
            fs::create_dir_all(folder).with_context(|| format!("failed to make the cgroup {}", folder.display()))?;
        }
        Ok(Self { path: path.to_owned(), folders })
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
