//! A disk that can fail: an ext4 on a loop device which is made shorter than its file system, so that the kernel answers
//! each access beyond its end with EIO, writes and syncs as well as reads of what is not in the page cache.
//!
//! What failed to be written is lost, as on any disk. What was there before comes back with [`FailingDisk::heal`].

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::Command,
};

use rustix::{
    fs::syncfs,
    mount::{UnmountFlags, unmount},
};
use tempfile::TempDir;

const BYTES: u64 = 32 << 20;
/// Stays there when the disk fails: the file system's own tables, without which it could not even be unmounted.
const TABLES: u64 = 512 << 10;

/// Place of the flushes in a device's `stat`: `Documentation/block/stat.rst` of Linux.
const FLUSHES: usize = 15;

#[derive(Debug)]
pub struct FailingDisk {
    dir: TempDir,
    device: PathBuf,
    /// What the part that fails holds, while it does.
    hidden: Option<Vec<u8>>,
}

impl FailingDisk {
    /// In order, at first.
    pub fn mount() -> Option<Self> {
        if !crate::has_root("mounting a loop device") {
            return None;
        }
        if !Path::new("/dev/loop-control").exists() {
            crate::skip("there are no loop devices here");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let (image, mounted) = (dir.path().join("image"), dir.path().join("mounted"));
        File::create(&image).unwrap().set_len(BYTES).unwrap();
        fs::create_dir(&mounted).unwrap();
        // Without a journal: after an error in that, the file system would be read-only for good.
        let features = ["-O", "^has_journal,^resize_inode,^flex_bg", "-E", "lazy_itable_init=0,nodiscard"];
        run(Command::new("mkfs.ext4").args(["-q", "-b", "4096", "-N", "512"]).args(features).arg(&image));
        run(Command::new("mount").args(["-o", "loop,errors=continue"]).args([&image, &mounted]));
        let device =
            run(Command::new("losetup").args(["--noheadings", "--output", "NAME", "--associated"]).arg(&image));
        // Takes what is left of the part that does not fail.
        let mut filler = File::create(mounted.join("filler")).unwrap();
        filler.write_all(&vec![1; TABLES as usize]).unwrap();
        filler.sync_all().unwrap();
        Some(Self { dir, device: device.trim().into(), hidden: None })
    }

    /// Where it is mounted.
    pub fn path(&self) -> PathBuf {
        self.dir.path().join("mounted")
    }

    pub fn fail(&mut self) {
        syncfs(File::open(self.path()).unwrap()).unwrap();
        let mut image = self.image();
        let mut hidden = Vec::new();
        image.seek(SeekFrom::Start(TABLES)).unwrap();
        image.read_to_end(&mut hidden).unwrap();
        self.resize(&image, TABLES);
        self.hidden = Some(hidden);
    }

    pub fn heal(&mut self) {
        let image = self.image();
        image.write_all_at(&self.hidden.take().unwrap(), TABLES).unwrap();
        self.resize(&image, BYTES);
    }

    /// How often the disk was asked to put what it holds in its cache where a loss of power does not reach it.
    pub fn flushes(&self) -> u64 {
        let device = self.device.file_name().unwrap();
        let stat = fs::read_to_string(Path::new("/sys/block").join(device).join("stat")).unwrap();
        stat.split_whitespace().nth(FLUSHES).unwrap().parse().unwrap()
    }

    /// So that the next read is one of the disk.
    pub fn forget_cached(&self) {
        fs::write("/proc/sys/vm/drop_caches", "1").unwrap();
    }

    fn image(&self) -> File {
        File::options().read(true).write(true).open(self.dir.path().join("image")).unwrap()
    }

    fn resize(&self, image: &File, bytes: u64) {
        image.set_len(bytes).unwrap();
        run(Command::new("losetup").arg("--set-capacity").arg(&self.device));
    }
}

impl Drop for FailingDisk {
    fn drop(&mut self) {
        // The loop device goes with its last user.
        let _ = unmount(&*self.path(), UnmountFlags::DETACH);
    }
}

fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn synced(path: &Path) -> Result<(), Option<i32>> {
        let written = File::create(path).and_then(|mut file| {
            file.write_all(&[7; 64 << 10])?;
            file.sync_all()
        });
        written.map_err(|error| error.raw_os_error())
    }

    #[test]
    fn a_sync_flushes_the_disk_and_a_write_does_not() {
        let Some(disk) = FailingDisk::mount() else { return };
        let mut file = File::create(disk.path().join("file")).unwrap();
        let before = disk.flushes();
        file.write_all(&[7; 64 << 10]).unwrap();
        assert_eq!(disk.flushes(), before);
        file.sync_data().unwrap();
        assert_eq!(disk.flushes(), before + 1);
    }

    #[test]
    fn a_disk_that_fails_gives_io_errors_until_it_is_healed() {
        let Some(mut disk) = FailingDisk::mount() else { return };
        let [before, during, after] = ["before", "during", "after"].map(|name| disk.path().join(name));
        synced(&before).unwrap();
        disk.fail();
        assert_eq!(synced(&during), Err(Some(rustix::io::Errno::IO.raw_os_error())));
        disk.heal();
        synced(&after).unwrap();
        assert_eq!(fs::read(before).unwrap(), [7; 64 << 10]);
    }
}
