//! A cgroup for the burst: limited to one CPU, as a container might be, and with a large share of it, so that the burst
//! shows on a busy machine too.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::time::sleep;

use super::Error;

/// Where the hierarchy that accounts for CPU time is mounted, version 1 first; one of these on every usual system.
const ROOTS: [&str; 4] =
    ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/unified", "/sys/fs/cgroup"];
/// Setting and value, of version 1 and 2. What a system does not have is left out.
const LIMITS: [(&str, &str); 5] = [
    ("cpu.cfs_period_us", "100000"),
    ("cpu.cfs_quota_us", "100000"),
    ("cpu.shares", "10240"),
    ("cpu.max", "100000 100000"),
    ("cpu.weight", "1000"),
];
/// A cgroup can be removed once its last process is gone for good, which takes the kernel a moment.
const REMOVAL_TRIES: u32 = 50;
const REMOVAL_PAUSE: Duration = Duration::from_millis(20);

/// Removed when dropped, at the latest.
pub(super) struct Cgroup {
    dir: PathBuf,
    /// Below the hierarchy's root, as events name it.
    pub(super) path: String,
    /// Threads that it takes to use all that the cgroup may use.
    pub(super) threads: usize,
}

impl Cgroup {
    pub(super) fn create(name: &str) -> Result<Self, Error> {
        let root = ROOTS.iter().map(Path::new).find(|root| root.join("cgroup.procs").exists());
        let root = root.ok_or_else(|| Error::Machine {
            what: "find a cgroup hierarchy below /sys/fs/cgroup".into(),
            source: io::ErrorKind::NotFound.into(),
        })?;
        let dir = root.join(name);
        fs::create_dir(&dir)
            .map_err(|source| Error::Machine { what: format!("make the cgroup {}", dir.display()), source })?;
        let mut cgroup = Self { dir, path: format!("/{name}"), threads: 1 };
        let mut limited = false;
        for (setting, value) in LIMITS {
            let written = fs::write(cgroup.dir.join(setting), value).is_ok();
            limited |= written && matches!(setting, "cpu.cfs_quota_us" | "cpu.max");
        }
        if !limited {
            cgroup.threads = std::thread::available_parallelism().map_or(1, usize::from);
        }
        Ok(cgroup)
    }

    /// The file by which a process joins.
    pub(super) fn procs(&self) -> PathBuf {
        self.dir.join("cgroup.procs")
    }

    pub(super) async fn remove(self) {
        for _ in 0..REMOVAL_TRIES {
            match fs::remove_dir(&self.dir) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy => sleep(REMOVAL_PAUSE).await,
                _ => return,
            }
        }
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Gone already, or nobody is left to tell.
        let _ = fs::remove_dir(&self.dir);
    }
}
