//! Daemons of container runtimes that are started for a test, and images made here.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::support::signal;

/// Runs `$@` with the directory `$0` for its root: the same tree, but a mount of its own.
const OWN_ROOT: &str = r#"mount --make-rprivate / 2>/dev/null
mount --rbind / "$0" && mount --make-rprivate "$0" && exec chroot "$0" "$@""#;

/// A daemon with a directory of its own, ended when dropped, and with it its mounts.
pub(crate) struct Daemon {
    process: Child,
    dir: TempDir,
}

impl Daemon {
    pub(crate) fn start(dir: TempDir, program: &str, arguments: &[&str]) -> Self {
        // Runtimes take `/` for a mount point, which it is not where the tests run in a changed root.
        let root = dir.path().join("daemon-root");
        fs::create_dir(&root).unwrap();
        let process = Command::new("unshare")
            .args(["--mount", "--propagation=unchanged", "sh", "-c", OWN_ROOT])
            .arg(root)
            .arg(program)
            .args(arguments)
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        Self { process, dir }
    }

    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        signal(self.process.id(), Signal::TERM);
        let _ = self.process.wait();
    }
}

/// Whether all of them are; says it if not.
pub(crate) fn installed(programs: &[&str]) -> bool {
    let is = |program: &&&str| Command::new("which").arg(program).output().is_ok_and(|found| found.status.success());
    match programs.iter().find(|program| !is(program)) {
        None => true,
        Some(missing) => {
            galen_scratch::skip(&format!("this test needs the program {missing}"));
            false
        }
    }
}

/// What it wrote, if it did not fail.
pub(crate) fn run(command: &mut Command) -> Option<String> {
    let output = command.output().unwrap();
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

/// The root of an image that holds `sh` and `sleep`, as a tar archive.
pub(crate) fn busybox_root(dir: &Path) -> PathBuf {
    let root = dir.join("root-of-image");
    fs::create_dir_all(root.join("bin")).unwrap();
    fs::copy("/bin/busybox", root.join("bin/busybox")).unwrap();
    for link in ["sh", "sleep"] {
        std::os::unix::fs::symlink("busybox", root.join("bin").join(link)).unwrap();
    }
    let archive = dir.join("layer.tar");
    assert!(tar(&root, &archive, &["."]));
    archive
}

/// The same as an image that sleeps, in the format of `docker save`.
pub(crate) fn busybox_image(dir: &Path, name: &str) -> PathBuf {
    let layer = busybox_root(dir);
    let digest = run(Command::new("sha256sum").arg(&layer)).unwrap();
    let digest = digest.split(' ').next().unwrap();
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    let config = serde_json::json!({
        "architecture": architecture, "os": "linux", "config": { "Entrypoint": ["/bin/sleep", "1000000"] },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{digest}")] },
    });
    let manifest = serde_json::json!([{ "Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"] }]);
    fs::write(dir.join("config.json"), config.to_string()).unwrap();
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    let archive = dir.join("image.tar");
    assert!(tar(dir, &archive, &["manifest.json", "config.json", "layer.tar"]));
    archive
}

fn tar(from: &Path, archive: &Path, files: &[&str]) -> bool {
    Command::new("tar").arg("-C").arg(from).arg("-cf").arg(archive).args(files).status().unwrap().success()
}

/// Removes a cgroup with all below it from every hierarchy, once nothing runs in it.
pub(crate) fn remove_cgroups(name: &str) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    let roots = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ');
        let (point, kind) = (fields.nth(1)?, fields.next()?);
        kind.starts_with("cgroup").then(|| Path::new(point).join(name))
    });
    for root in roots {
        let until = Instant::now() + Duration::from_secs(10);
        while root.exists() && Instant::now() < until {
            remove_empty(&root);
        }
    }
}

fn remove_empty(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_empty(&entry.path());
        }
    }
    let _ = fs::remove_dir(directory);
}
