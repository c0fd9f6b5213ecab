//! Which block devices are disks, and what lies below them, from sysfs.
//!
//! A partition is a part of its disk and not looked at on its own. A device that is made of others (device mapper, a
//! loop device on a file) is a disk like any other: it may be slow where those below it are not.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

const BLOCK: &str = "/sys/block";
const BY_NUMBER: &str = "/sys/dev/block";
/// Stacks of devices are not deeper than this.
const MAX_DEPTH: usize = 8;

/// A block device that is whole.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Disk {
    pub name: String,
    pub major: u32,
    pub minor: u32,
}

impl Disk {
    /// `None` for a partition and for a software RAID, whose disks are told themselves.
    pub(super) fn new(name: &str, major: i32, minor: i32) -> Option<Self> {
        if name.starts_with("md") || !directory(name).exists() {
            return None;
        }
        Some(Self { name: name.into(), major: u32::try_from(major).ok()?, minor: u32::try_from(minor).ok()? })
    }

    fn named(name: &str) -> Option<Self> {
        let number = packed(&fs::read_to_string(directory(name).join("dev")).ok()?)?;
        Some(Self { name: name.into(), major: number >> 20, minor: number & 0xf_ffff })
    }

    /// The disk on which a file system of this device number lies; `None` if it has no disk.
    pub(super) fn under(device: u64) -> Option<Self> {
        let number = format!("{}:{}", rustix::fs::major(device), rustix::fs::minor(device));
        let device = fs::canonicalize(Path::new(BY_NUMBER).join(number)).ok()?;
        let whole = if device.join("partition").exists() { device.parent()? } else { &device };
        Self::named(&whole.file_name()?.to_str()?.replace('!', "/"))
    }

    pub(super) fn is_nvme(&self) -> bool {
        self.name.starts_with("nvme")
    }

    /// As the kernel packs it.
    pub(super) fn number(&self) -> u32 {
        self.major << 20 | self.minor
    }

    /// The disks that it is made of: those of a device mapper, that of a loop device's file.
    pub(super) fn below(&self) -> Vec<Self> {
        let backing = fs::read_to_string(directory(&self.name).join("loop/backing_file")).ok();
        let of_file = backing.and_then(|file| Self::under(fs::metadata(file.trim_end()).ok()?.dev()));
        self.parts().into_iter().chain(of_file).collect()
    }

    /// The devices whose requests are the requests of this one: itself, or, as a device mapper hands its own on before
    /// they become requests, those it is made of.
    pub(super) fn with_requests(&self) -> Vec<Self> {
        let mut found = vec![self.clone()];
        for _ in 0..MAX_DEPTH {
            found = found
                .into_iter()
                .flat_map(|disk| match disk.parts() {
                    parts if parts.is_empty() => vec![disk],
                    parts => parts,
                })
                .collect();
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Their numbers.
    pub(super) fn partitions(&self) -> Vec<u32> {
        let entries = fs::read_dir(directory(&self.name)).into_iter().flatten().flatten().map(|entry| entry.path());
        let number = |partition: PathBuf| packed(&fs::read_to_string(partition.join("dev")).ok()?);
        entries.filter(|entry| entry.join("partition").exists()).filter_map(number).collect()
    }

    fn parts(&self) -> Vec<Self> {
        let entries = fs::read_dir(directory(&self.name).join("slaves")).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        let disk = |name: String| {
            let number = packed(&fs::read_to_string(Path::new("/sys/class/block").join(name).join("dev")).ok()?)?;
            Self::under(rustix::fs::makedev(number >> 20, number & 0xf_ffff))
        };
        names.filter_map(disk).collect()
    }
}

/// A number as sysfs writes it, as the kernel packs it.
pub(super) fn packed(number: &str) -> Option<u32> {
    let (major, minor) = number.trim().split_once(':')?;
    Some(major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()?)
}

/// sysfs writes `/` as `!`.
fn directory(name: &str) -> PathBuf {
    Path::new(BLOCK).join(name.replace('/', "!"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_of_a_file_system_is_whole_and_has_the_number_of_the_kernels_list() {
        // Where the tests are built is not on a disk everywhere.
        let device = fs::metadata(env!("CARGO_MANIFEST_DIR")).unwrap().dev();
        let Some(disk) = Disk::under(device) else { return };
        let listed = procfs::diskstats().unwrap();
        let listed = listed.iter().find(|listed| listed.name == disk.name).unwrap();
        assert_eq!(Disk::new(&listed.name, listed.major, listed.minor), Some(disk.clone()));
        assert!(!disk.with_requests().is_empty());
    }

    #[test]
    fn what_is_not_whole_is_no_disk() {
        assert_eq!(Disk::new("md0", 9, 0), None);
        assert_eq!(Disk::new("no-such-disk1", 8, 1), None);
    }
}
