//! What to sample: the whole machine, or cgroups with all below them.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path, path::PathBuf};

use galen_bpf::cpu_profile::Hierarchy;

const MOUNTS: &str = "/proc/self/mountinfo";

#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    #[error("cannot look at cgroup `{}`", path.display())]
    Unreadable {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is not a cgroup of version 2, nor of the cpu or cpuacct hierarchy of version 1", path.display())]
    NotACgroup { path: PathBuf },
}

/// A cgroup by its id (the inode number of its directory) in its hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    pub cgroup: u64,
    pub hierarchy: Hierarchy,
}

/// Whose CPU time a profile is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// Every task but the one that asks.
    Host,
    /// These cgroups, each with all below it. At least one.
    Cgroups(Vec<Target>),
}

impl From<Target> for Scope {
    fn from(target: Target) -> Self {
        Self::Cgroups(vec![target])
    }
}

impl Target {
    /// The cgroup of a directory, such as `/sys/fs/cgroup/cpu/docker/…` or `/sys/fs/cgroup/system.slice/…`.
    ///
    /// # Errors
    /// The directory cannot be read, or is not in a hierarchy that CPU time can be told by.
    pub fn from_path(path: impl AsRef<Path>) -> Result<Self, TargetError> {
        let path = path.as_ref();
        let unreadable = |source| TargetError::Unreadable { path: path.to_owned(), source };
        let metadata = fs::metadata(path).map_err(unreadable)?;
        let mounts = fs::read_to_string(MOUNTS).map_err(unreadable)?;
        let hierarchy =
            hierarchy(&mounts, metadata.dev()).ok_or_else(|| TargetError::NotACgroup { path: path.to_owned() })?;
        Ok(Self { cgroup: metadata.ino(), hierarchy })
    }
}

/// Which hierarchy the mount of device `dev` is.
fn hierarchy(mounts: &str, dev: u64) -> Option<Hierarchy> {
    let dev = format!("{}:{}", rustix::fs::major(dev), rustix::fs::minor(dev));
    let mount = mounts.lines().find(|line| line.split(' ').nth(2) == Some(&dev))?;
    let mut fields = mount.split_once(" - ")?.1.split(' ');
    match fields.next()? {
        "cgroup2" => Some(Hierarchy::Unified),
        "cgroup" => {
            let options = fields.nth(1)?;
            let has = |controller| options.split(',').any(|option| option == controller);
            if has("cpu") {
                Some(Hierarchy::Cpu)
            } else if has("cpuacct") {
                Some(Hierarchy::Cpuacct)
            } else {
                None
            }
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
30 25 0:26 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
31 25 0:27 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct
32 25 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
33 25 0:29 / /sys/fs/cgroup/cpuacct rw - cgroup cgroup rw,cpuacct
34 25 8:1 / / rw - ext4 /dev/sda1 rw";

    #[test]
    fn hierarchies_are_told_by_their_controllers() {
        let of = |minor| hierarchy(TEXT, rustix::fs::makedev(0, minor));
        assert_eq!(of(26), Some(Hierarchy::Unified));
        assert_eq!(of(27), Some(Hierarchy::Cpu));
        assert_eq!(of(28), None);
        assert_eq!(of(29), Some(Hierarchy::Cpuacct));
        assert_eq!(hierarchy(TEXT, rustix::fs::makedev(8, 1)), None);
    }
}
