//! Disks and cgroups that clean up after themselves.
#![allow(dead_code, reason = "each test program uses its part")]

pub(crate) mod blocked;

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use galen_bpf::{Hierarchy, Kernel, Owner};

static NEXT: AtomicU32 = AtomicU32::new(0);

pub(crate) fn kernel() -> Kernel {
    Kernel::open().unwrap_or_else(|error| panic!("{}", error.reason()))
}

/// What a command says; it has to succeed.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    let output = output.unwrap_or_else(|error| panic!("cannot run {program}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// The number of a device as the kernel packs it.
pub(crate) fn packed(device: u64) -> u32 {
    rustix::fs::major(device) << 20 | rustix::fs::minor(device)
}

/// A loop device on a file of its own.
pub(crate) struct Disk {
    pub(crate) device: PathBuf,
    file: tempfile::NamedTempFile,
}

impl Disk {
    pub(crate) fn create(bytes: u64) -> Self {
        let file = tempfile::NamedTempFile::new_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        file.as_file().set_len(bytes).unwrap();
        let path = file.path().to_str().unwrap();
        let device = run("losetup", &["--find", "--show", "--direct-io=on", path]).into();
        Self { device, file }
    }

    /// As the kernel packs it.
    pub(crate) fn number(&self) -> u32 {
        packed(fs::metadata(&self.device).unwrap().rdev())
    }

    pub(crate) fn path(&self) -> &str {
        self.device.to_str().unwrap()
    }

    pub(crate) fn file(&self) -> &Path {
        self.file.path()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("losetup").arg("--detach").arg(&self.device).status();
    }
}

/// A file system on a disk, mounted.
pub(crate) struct Mount {
    pub(crate) path: tempfile::TempDir,
    pub(crate) disk: Disk,
}

impl Mount {
    pub(crate) fn create(bytes: u64) -> Self {
        let disk = Disk::create(bytes);
        run("mkfs.ext4", &["-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", disk.path()]);
        let path = tempfile::tempdir().unwrap();
        run("mount", &[disk.path(), path.path().to_str().unwrap()]);
        Self { path, disk }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path.path()).status();
    }
}

/// A cgroup of some controllers, removed at the end.
pub(crate) struct Cgroup {
    /// One for each hierarchy.
    directories: Vec<PathBuf>,
    unified: bool,
}

impl Cgroup {
    /// In the hierarchy that accounts block IO, and in that of memory.
    pub(crate) fn create() -> Self {
        Self::of(&["blkio", "memory"], "+io +memory").unwrap()
    }

    /// In the hierarchy of one controller; `None`, having said so, where there is none.
    pub(crate) fn with(controller: &str) -> Option<Self> {
        let made = Self::of(&[controller], &format!("+{controller}"));
        if made.is_none() {
            galen_scratch::skip(&format!("there is no {controller} controller here"));
        }
        made
    }

    /// Those of version 1 that there are, if the first is; else in version 2, with what is `handed_down`.
    fn of(controllers: &[&str], handed_down: &str) -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = |kind: &str, option: &str| {
            mounts.lines().find_map(|line| {
                let fields: Vec<_> = line.split(' ').collect();
                let fits = fields[2] == kind && (option.is_empty() || fields[3].split(',').any(|has| has == option));
                fits.then(|| PathBuf::from(fields[1]))
            })
        };
        let unified = mount("cgroup", controllers.first()?).is_none();
        let roots = match unified {
            true => vec![mount("cgroup2", "")?],
            false => controllers.iter().filter_map(|name| mount("cgroup", name)).collect(),
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("galen-test-{}-{number}", std::process::id());
        let directories: Vec<_> = roots.into_iter().map(|root| root.join(&name)).collect();
        for directory in &directories {
            if unified {
                let _ = fs::write(directory.with_file_name("cgroup.subtree_control"), handed_down);
            }
            fs::create_dir(directory).unwrap_or_else(|error| panic!("{} (root?): {error}", directory.display()));
        }
        Some(Self { directories, unified })
    }

    pub(crate) fn is_unified(&self) -> bool {
        self.unified
    }

    /// In the hierarchy of its first controller.
    pub(crate) fn directory(&self) -> &Path {
        &self.directories[0]
    }

    pub(crate) fn id(&self) -> u64 {
        fs::metadata(self.directory()).unwrap().ino()
    }

    pub(crate) fn owner(&self) -> Owner {
        Owner { hierarchy: self.hierarchy_or(Hierarchy::Blkio), cgroup: self.id() }
    }

    /// The same in the hierarchy of memory; `None` where version 1 has no such hierarchy.
    pub(crate) fn memory_owner(&self) -> Option<Owner> {
        let directory = if self.unified { self.directory() } else { self.directories.get(1)? };
        let cgroup = fs::metadata(directory).unwrap().ino();
        Some(Owner { hierarchy: self.hierarchy_or(Hierarchy::Memory), cgroup })
    }

    fn hierarchy_or(&self, of_version_1: Hierarchy) -> Hierarchy {
        if self.unified { Hierarchy::Unified } else { of_version_1 }
    }

    /// Below the root of its hierarchy.
    pub(crate) fn path(&self) -> String {
        format!("/{}", self.directories[0].file_name().unwrap().to_str().unwrap())
    }

    /// Where there is such a file.
    pub(crate) fn set(&self, file: &str, value: &str) {
        for directory in self.directories.iter().filter(|directory| directory.join(file).exists()) {
            fs::write(directory.join(file), value).unwrap();
        }
    }

    /// Has the kernel hold up what it reads from and writes to a disk.
    pub(crate) fn slow_down(&self, disk: u32, bytes_per_second: u64) {
        let disk = format!("{}:{}", disk >> 20, disk & 0xf_ffff);
        for kind in ["read", "write"] {
            self.set(&format!("blkio.throttle.{kind}_bps_device"), &format!("{disk} {bytes_per_second}"));
        }
        self.set("io.max", &format!("{disk} rbps={bytes_per_second} wbps={bytes_per_second}"));
    }

    pub(crate) fn start(&self, script: &str) -> Process {
        let join: String = self
            .directories
            .iter()
            .map(|directory| format!("echo $$ > {}/cgroup.procs; ", directory.display()))
            .collect();
        let mut command = Command::new("sh");
        command.args(["-c", &format!("{join} {script}")]).stdin(Stdio::null()).stdout(Stdio::null());
        Process(command.stderr(Stdio::null()).spawn().unwrap())
    }

    /// The id of the process, which has succeeded. `script` ends with an `exec`.
    pub(crate) fn run(&self, script: &str) -> u32 {
        let mut process = self.start(script);
        let status = process.0.wait().unwrap();
        assert!(status.success(), "{script}: {status}");
        process.0.id()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        for directory in &self.directories {
            while fs::remove_dir(directory).is_err() && Instant::now() < deadline {
                std::thread::yield_now();
            }
        }
    }
}

pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Waits until `done` gives something.
pub(crate) fn wait_for<T>(what: &str, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = done() {
            return found;
        }
        assert!(Instant::now() < deadline, "not in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
