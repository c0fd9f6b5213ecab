//! A cgroup for the burst: limited to half a CPU, as a container might be, so that the demo leaves the machine its own
//! work, and with a large share, so that the burst reaches that limit on a busy machine too.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;

use super::Error;

/// Where version 1 has the controllers that account for CPU time and share it out: two mounts, or two names of one.
const V1: [&str; 2] = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct"];
/// Where version 2 is mounted, beside version 1 or alone.
const V2: [&str; 2] = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
/// Setting and value, of version 1 and 2. What a system does not have is left out.
const LIMITS: [(&str, &str); 5] = [
    ("cpu.cfs_period_us", "100000"),
    ("cpu.cfs_quota_us", "50000"),
    ("cpu.shares", "10240"),
    ("cpu.max", "50000 100000"),
    ("cpu.weight", "1000"),
];
/// A cgroup can be removed once its last process is gone for good, which takes the kernel a moment.
const REMOVAL_TRIES: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(20);

/// Removed when dropped, at the latest.
pub(super) struct Cgroup {
    dirs: Vec<PathBuf>,
    /// Below the root of each hierarchy, as events name it.
    pub(super) path: String,
    /// What it may use, in words.
    pub(super) capacity: &'static str,
    /// Threads that it takes to use all of that.
    pub(super) threads: usize,
}

impl Cgroup {
    pub(super) fn create(name: &str) -> Result<Self, Error> {
        let mut cgroup = Self { dirs: Vec::new(), path: format!("/{name}"), capacity: "half a CPU", threads: 1 };
        for root in roots()? {
            let dir = root.join(name);
            let failed = |source| Error::Machine { what: format!("make the cgroup {}", dir.display()), source };
            fs::create_dir(&dir).map_err(failed)?;
            cgroup.dirs.push(dir);
        }
        let mut limited = false;
        for (dir, (setting, value)) in cgroup.dirs.iter().flat_map(|dir| LIMITS.map(|limit| (dir, limit))) {
            // Files of a cgroup cannot be made, so what a hierarchy does not have fails.
            let written = fs::write(dir.join(setting), value).is_ok();
            limited |= written && matches!(setting, "cpu.cfs_quota_us" | "cpu.max");
        }
        if !limited {
            cgroup.capacity = "all CPUs";
            cgroup.threads = std::thread::available_parallelism().map_or(1, usize::from);
        }
        Ok(cgroup)
    }

    /// The files by which a process joins.
    pub(super) fn procs(&self) -> impl Iterator<Item = PathBuf> {
        self.dirs.iter().map(|dir| dir.join("cgroup.procs"))
    }

    pub(super) async fn remove(self) {
        for dir in &self.dirs {
            for _ in 0..REMOVAL_TRIES {
                match fs::remove_dir(dir) {
                    Err(error) if error.kind() == io::ErrorKind::ResourceBusy => sleep(REMOVAL_PAUSE).await,
                    _ => break,
                }
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for dir in &self.dirs {
            // Gone already, or nobody is left to tell.
            let _ = fs::remove_dir(dir);
        }
    }
}

/// The hierarchies in which the cgroup must be, to be seen and limited: all of version 1, else that of version 2.
fn roots() -> Result<Vec<PathBuf>, Error> {
    let there = |paths: [&str; 2]| {
        let there = paths.iter().filter(|path| Path::new(path).join("cgroup.procs").exists());
        there.filter_map(|path| fs::canonicalize(path).ok()).collect::<Vec<_>>()
    };
    let mut roots = there(V1);
    roots.dedup();
    if roots.is_empty() {
        roots = there(V2);
        roots.truncate(1);
    }
    if roots.is_empty() {
        let what = "find a cgroup hierarchy for CPU time below /sys/fs/cgroup".into();
        return Err(Error::Machine { what, source: io::ErrorKind::NotFound.into() });
    }
    Ok(roots)
}
