//! The file systems that lie on a disk, by the device numbers that files have, and where their files are seen.
//!
//! A file system may have a number of its own instead of its disk's (btrfs, overlay): the disk is then that of its source
//! or of its upper directory.

use std::{
    collections::{HashMap, HashSet},
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use procfs::process::{MountInfo, Process};
use rustix::fs::{major, makedev, minor};

use super::disk::{Disk, packed};

/// What a device number stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Volume {
    /// Mounted here, from this directory on.
    Mount { point: PathBuf, root: String },
    /// A container's: its files are told as the container sees them.
    Container,
    /// The disk itself or a part of it.
    Raw,
}

/// The volumes of one disk.
#[derive(Debug)]
pub(super) struct Volumes {
    /// The devices whose requests are the disk's.
    disks: HashSet<Disk>,
    on_disk: HashMap<u32, Volume>,
    elsewhere: HashSet<u32>,
}

impl Volumes {
    /// The disk and its partitions; file systems come with [`refresh`](Self::refresh).
    pub(super) fn of(disk: &Disk) -> Self {
        let disks: HashSet<_> = disk.with_requests().into_iter().chain([disk.clone()]).collect();
        let raw = disks.iter().flat_map(|disk| disk.partitions().into_iter().chain([disk.number()]));
        Self { on_disk: raw.map(|number| (number, Volume::Raw)).collect(), disks, elsewhere: HashSet::new() }
    }

    /// Every number that was not there before.
    pub(super) fn refresh(&mut self) -> procfs::ProcResult<Vec<u32>> {
        let mut fresh = Vec::new();
        for mount in Process::myself()?.mountinfo()?.0 {
            let Some(number) = packed(&mount.majmin) else { continue };
            if self.elsewhere.contains(&number) {
                continue;
            }
            let known = self.on_disk.get(&number);
            // The mount of the whole file system says more than one of a part of it.
            if known.is_some_and(|volume| !matches!(volume, Volume::Raw) && mount.root != "/") {
                continue;
            }
            let is_new = known.is_none();
            if is_new && !disk_of(&mount, number).is_some_and(|disk| self.holds(&disk)) {
                self.elsewhere.insert(number);
                continue;
            }
            let volume = match mount.fs_type.as_str() {
                "overlay" => Volume::Container,
                _ => Volume::Mount { point: mount.mount_point, root: mount.root },
            };
            self.on_disk.insert(number, volume);
            if is_new {
                fresh.push(number);
            }
        }
        Ok(fresh)
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = u32> {
        self.on_disk.keys().copied()
    }

    /// Where a file is seen, from its path below the root of its file system.
    pub(super) fn seen_at(&self, file: galen_bpf::Inode, path: &str) -> String {
        if file.is_disk {
            return format!("/dev{path}");
        }
        match self.on_disk.get(&file.device) {
            Some(Volume::Mount { point, root }) => {
                let below = if root == "/" { Some(path) } else { path.strip_prefix(root.as_str()) };
                let joined = below.map(|below| point.join(below.trim_start_matches('/')));
                joined.map_or_else(|| path.to_owned(), |joined| joined.to_string_lossy().into_owned())
            }
            Some(Volume::Container | Volume::Raw) | None => path.to_owned(),
        }
    }

    fn holds(&self, disk: &Disk) -> bool {
        self.disks.contains(disk) || disk.with_requests().iter().any(|below| self.disks.contains(below))
    }
}

fn disk_of(mount: &MountInfo, number: u32) -> Option<Disk> {
    if number >> 20 != 0 {
        return Disk::under(makedev(number >> 20, number & 0xf_ffff));
    }
    let option = |name: &str| mount.super_options.get(name)?.as_deref();
    let layer = option("upperdir").or_else(|| option("lowerdir")?.split(':').next());
    if let Some(layer) = layer {
        return Disk::under(fs::metadata(layer).ok()?.dev());
    }
    let source = fs::metadata(Path::new(mount.mount_source.as_deref()?)).ok()?;
    // What is not a device file has a number of 0.
    (major(source.rdev()) != 0 || minor(source.rdev()) != 0).then(|| Disk::under(source.rdev()))?
}

#[cfg(test)]
mod tests {
    use galen_bpf::Inode;

    use super::*;

    fn volumes(on_disk: HashMap<u32, Volume>) -> Volumes {
        Volumes { disks: HashSet::new(), on_disk, elsewhere: HashSet::new() }
    }

    #[test]
    fn a_file_is_told_where_it_is_seen() {
        let volumes = volumes(HashMap::from([
            (1, Volume::Mount { point: "/data".into(), root: "/".into() }),
            (2, Volume::Mount { point: "/srv".into(), root: "/part".into() }),
            (3, Volume::Container),
        ]));
        let seen = |device, path| volumes.seen_at(Inode { number: 7, device, is_disk: false }, path);
        assert_eq!(seen(1, "/a/b"), "/data/a/b");
        assert_eq!(seen(2, "/part/a"), "/srv/a");
        assert_eq!(seen(2, "/other/a"), "/other/a");
        assert_eq!(seen(3, "/etc/hosts"), "/etc/hosts");
        assert_eq!(volumes.seen_at(Inode { number: 7, device: 1, is_disk: true }, "/sda"), "/dev/sda");
    }

    #[test]
    fn the_file_system_of_a_disk_is_found_by_its_mounts() {
        // Where the tests are built is not on a disk everywhere.
        let device = fs::metadata(env!("CARGO_MANIFEST_DIR")).unwrap().dev();
        let Some(disk) = Disk::under(device) else { return };
        let mut volumes = Volumes::of(&disk);
        volumes.refresh().unwrap();
        let number = major(device) << 20 | minor(device);
        assert!(volumes.numbers().any(|known| known == number), "{number} {volumes:?}");
        assert_eq!(volumes.refresh().unwrap(), [] as [u32; 0]);
    }
}
