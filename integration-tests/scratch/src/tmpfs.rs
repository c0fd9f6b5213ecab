//! A small file system in memory, which can be filled.

use std::{
    ffi::CString,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_remount, unmount};
use tempfile::TempDir;

/// For a file that is closed a little later than its owner is dropped.
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Debug)]
pub struct Tmpfs(TempDir);

impl Tmpfs {
    pub fn mount(bytes: u64) -> Option<Self> {
        Self::with(&format!("size={bytes}"))
    }

    /// With options as `mount -o` takes them.
    pub fn with(options: &str) -> Option<Self> {
        if !crate::has_root("mounting a tmpfs") {
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let options = CString::new(options).unwrap();
        mount("tmpfs", dir.path(), "tmpfs", MountFlags::empty(), Some(options.as_c_str())).unwrap();
        Some(Self(dir))
    }

    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Waits until nothing is open to be written, which the kernel wants for it.
    pub fn read_only(&self, yes: bool) {
        let flags = if yes { MountFlags::RDONLY } else { MountFlags::empty() };
        let deadline = Instant::now() + PATIENCE;
        while let Err(error) = mount_remount(self.path(), flags, c"") {
            assert!(Instant::now() < deadline, "failed to mount it anew: {error}");
            thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = unmount(self.0.path(), UnmountFlags::DETACH);
    }
}
