//! A disk of one's own: a loop device, as slow as it is told to be, with a filesystem or without.
//!
//! A shell makes it, holds it and undoes it: when the handle goes, but also when this process is killed.

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use crate::error::{Context, Error};

const SCRIPT: &str = include_str!("disk.sh");
/// Version 1 accounts what the kernel's threads write to the root.
const V1_ROOT: &str = "/sys/fs/cgroup/blkio";

#[derive(Debug, Clone, Copy, Default)]
pub struct Shape {
    pub bytes: u64,
    /// For each cgroup by itself; 0: no limit.
    pub bytes_a_second: u64,
    /// Whether an ext4 is on it.
    pub filesystem: bool,
    /// Whether that is frozen.
    pub frozen: bool,
}

pub struct Disk {
    /// Such as `/dev/loop7`.
    pub device: PathBuf,
    /// Where its filesystem is, if it has one.
    pub folder: PathBuf,
    keeper: Child,
}

impl Disk {
    /// In `dir`, slow for what is in the folders of `cgroups`.
    pub fn make(dir: &Path, shape: Shape, cgroups: &[PathBuf]) -> Result<Self, Error> {
        let (file, folder, log) = (dir.join("disk"), dir.join("files"), dir.join("disk.log"));
        let made = || format!("make a disk in {}", dir.display());
        fs::create_dir_all(&folder).to(made)?;
        File::create(&file).and_then(|file| file.set_len(shape.bytes)).to(made)?;
        let mut keeper = Command::new("sh")
            .args(["-c", SCRIPT, "disk"])
            .arg(&file)
            .arg(shape.bytes_a_second.to_string())
            .arg(if shape.filesystem { folder.as_path() } else { Path::new("") })
            .arg(if shape.frozen { "yes" } else { "no" })
            .args(cgroups)
            .arg(V1_ROOT)
            // Ctrl-C is for who has the disk, and then lets go of it.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log).to(made)?)
            .spawn()
            .to(|| "run sh".into())?;
        let mut device = String::new();
        let said = keeper.stdout.take().map_or(Ok(0), |out| BufReader::new(out.take(4096)).read_line(&mut device));
        let disk = Self { device: device.trim().into(), folder, keeper };
        match said {
            Ok(1..) => Ok(disk),
            Ok(0) => Err(io::Error::other(fs::read_to_string(log).unwrap_or_default().trim().to_owned())).to(made),
            Err(error) => Err(error).to(made),
        }
    }

    /// As events call it.
    pub fn name(&self) -> &str {
        self.device.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
