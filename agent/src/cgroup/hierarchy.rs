//! Where the hierarchies are mounted, from `/proc/self/mountinfo`.
//!
//! Controllers of version 1 may share a mount (`cpu,cpuacct`) or have one each; a hybrid system has version 1
//! controllers and a version 2 tree without them, usually at `/sys/fs/cgroup/unified`. A mount that is missing is
//! `None`: whoever needs it says so in its support.

use std::{
    io,
    path::{Path, PathBuf},
};

use procfs::FromBufRead;

/// The kind of a hierarchy, which decides the names and formats of its files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    V1,
    V2,
}

/// Mount points of the hierarchies that tracers read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hierarchies {
    /// Version 1 controllers.
    pub cpu: Option<PathBuf>,
    pub cpuacct: Option<PathBuf>,
    pub cpuset: Option<PathBuf>,
    pub memory: Option<PathBuf>,
    pub blkio: Option<PathBuf>,
    /// The version 2 tree, alone or beside version 1.
    pub unified: Option<PathBuf>,
}

impl Hierarchies {
    /// Where cgroups are, of any controller that is used.
    pub fn roots(&self) -> impl Iterator<Item = &Path> {
        let Self { cpu, cpuacct, cpuset: _, memory, blkio, unified } = self;
        [cpu, cpuacct, memory, blkio, unified].into_iter().flatten().map(PathBuf::as_path)
    }

    /// Those of this process's mount namespace.
    pub fn detect() -> io::Result<Self> {
        Self::parse(&std::fs::read("/proc/self/mountinfo")?)
    }

    /// Those in the text of a `mountinfo` file. Of several mounts of a hierarchy the first counts.
    pub fn parse(mountinfo: &[u8]) -> io::Result<Self> {
        let mounts = procfs::process::MountInfos::from_buf_read(mountinfo).map_err(io::Error::other)?;
        let mut found = Self::default();
        for mount in mounts.0 {
            let point = || mount.mount_point.clone();
            match mount.fs_type.as_str() {
                "cgroup2" => {
                    found.unified.get_or_insert_with(point);
                }
                "cgroup" => {
                    let controllers = [
                        ("cpu", &mut found.cpu),
                        ("cpuacct", &mut found.cpuacct),
                        ("cpuset", &mut found.cpuset),
                        ("memory", &mut found.memory),
                        ("blkio", &mut found.blkio),
                    ];
                    for (name, slot) in controllers {
                        if mount.super_options.contains_key(name) {
                            slot.get_or_insert_with(point);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(found)
    }

    /// The trees whose cgroups have CPU usage counters: version 1 first, because a cgroup that is in both has its
    /// limits there.
    pub fn cpu_usage(&self) -> impl Iterator<Item = (Version, &Path)> {
        let v1 = self.cpuacct.as_deref().map(|root| (Version::V1, root));
        let v2 = self.unified.as_deref().map(|root| (Version::V2, root));
        v1.into_iter().chain(v2)
    }

    /// The tree whose cgroups account memory: that of version 1 if it is mounted, as the controller is in one only.
    pub fn memory_tree(&self) -> Option<(Version, &Path)> {
        let v1 = self.memory.as_deref().map(|root| (Version::V1, root));
        v1.or(self.unified.as_deref().map(|root| (Version::V2, root)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn separate_and_joined_mounts_of_version_1_are_found() {
        let text = b"25 20 0:22 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:9 - cgroup cgroup rw,cpu,cpuacct\n\
            26 20 0:23 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n\
            27 20 0:24 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw,nsdelegate\n";
        let found = Hierarchies::parse(text).unwrap();
        let joined = Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct"));
        assert_eq!((&found.cpu, &found.cpuacct), (&joined, &joined));
        assert_eq!(found.memory.as_deref(), Some(Path::new("/sys/fs/cgroup/memory")));
        assert_eq!(found.cpuset, None);
        assert_eq!(found.cpu_usage().map(|(version, _)| version).collect::<Vec<_>>(), [Version::V1, Version::V2]);
    }

    #[test]
    fn a_pure_version_2_system_has_one_tree_for_all() {
        let found = Hierarchies::parse(b"30 20 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n").unwrap();
        assert_eq!(found.memory_tree(), Some((Version::V2, Path::new("/sys/fs/cgroup"))));
        assert_eq!(found.cpu_usage().count(), 1);
    }

    #[test]
    fn a_system_without_cgroups_has_none() {
        assert_eq!(Hierarchies::parse(b"").unwrap(), Hierarchies::default());
    }

    #[test]
    fn this_machine_has_cpu_usage_somewhere() {
        assert!(Hierarchies::detect().unwrap().cpu_usage().next().is_some());
    }
}
