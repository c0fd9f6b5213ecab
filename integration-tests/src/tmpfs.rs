//! A small file system of a test's own, which can be filled.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn mount(at: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(at)?;
        let options = std::ffi::CString::new(format!("size={bytes}"))?;
        mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(options.as_c_str()))
            .context("failed to mount a tmpfs")?;
        Ok(Self(at.to_owned()))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = unmount(&self.0, UnmountFlags::DETACH);
    }
}
