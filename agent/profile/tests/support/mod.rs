//! Real cgroups and real load for the tests. All of it goes away with its guard, also when a test fails.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use galen_profile::{Cancel, Kernel, Profile, Request, Sampler, Scope, Settings, Target};

pub(crate) const SECONDS: Duration = Duration::from_secs(2);

/// A cgroup that is removed at the end.
pub(crate) struct Cgroup {
    pub(crate) path: PathBuf,
}

impl Cgroup {
    pub(crate) fn below(parent: &Path) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("galen-test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = parent.join(name);
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot create {} (root?): {error}", path.display()));
        Self { path }
    }

    pub(crate) fn target(&self) -> Target {
        Target::from_path(&self.path).unwrap()
    }

    fn adopt(&self, pid: u32) {
        fs::write(self.path.join("cgroup.procs"), pid.to_string()).unwrap();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        // Processes that were killed leave a moment later.
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.path).is_err() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

/// Where a hierarchy is mounted here.
fn mount_of(is: impl Fn(&str, &str) -> bool) -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().find_map(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        is(fields[2], fields[3]).then(|| PathBuf::from(fields[1]))
    })
}

fn mount_of_v1() -> Option<PathBuf> {
    mount_of(|kind, options| kind == "cgroup" && options.split(',').any(|option| option == "cpu"))
}

fn mount_of_v2() -> Option<PathBuf> {
    mount_of(|kind, _| kind == "cgroup2")
}

/// `None`, having said so, when it is not mounted here; so is [`v2`].
pub(crate) fn v1() -> Option<PathBuf> {
    mount_of_v1().or_else(|| skip("the cpu hierarchy of cgroup v1"))
}

pub(crate) fn v2() -> Option<PathBuf> {
    mount_of_v2().or_else(|| skip("cgroup v2"))
}

fn skip(what: &str) -> Option<PathBuf> {
    galen_scratch::skip(&format!("{what} is not mounted here"));
    None
}

/// Either version, for what is not about versions.
pub(crate) fn any() -> PathBuf {
    mount_of_v1().or_else(mount_of_v2).expect("no cgroups here")
}

/// A process of `tests/workload.c` in a cgroup.
pub(crate) struct Load {
    child: Child,
}

impl Load {
    pub(crate) fn start(mode: &str, cgroup: &Cgroup) -> Self {
        Self::with(&[mode.as_ref()], cgroup)
    }

    pub(crate) fn with(arguments: &[&OsStr], cgroup: &Cgroup) -> Self {
        let child = Command::new(workload()).args(arguments).stdin(Stdio::null()).spawn().unwrap();
        let load = Self { child };
        cgroup.adopt(load.child.id());
        load
    }

    /// CPU time so far, in seconds.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        let text = fs::read_to_string(format!("/proc/{}/schedstat", self.child.id())).unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The compiled workload.
pub(crate) fn workload() -> &'static Path {
    static BUILT: std::sync::LazyLock<PathBuf> = std::sync::LazyLock::new(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workload.c");
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let program = folder.join("workload");
        // Another run of the tests may be at it.
        let unfinished = folder.join(format!("workload-{}", std::process::id()));
        let built = Command::new("cc")
            .args(["-O0", "-fno-omit-frame-pointer", "-o"])
            .arg(&unfinished)
            .arg(source)
            .arg("-ldl")
            .status();
        assert!(built.is_ok_and(|status| status.success()), "cannot compile tests/workload.c with cc");
        fs::rename(unfinished, &program).unwrap();
        program
    });
    &BUILT
}

pub(crate) fn sampler(settings: &Settings) -> Sampler {
    let kernel = Kernel::open().unwrap_or_else(|error| panic!("{}", error.reason()));
    Sampler::load(&kernel, settings).unwrap()
}

pub(crate) fn capture(sampler: &Sampler, targets: &[Target]) -> Profile {
    let request = Request { scope: Scope::Cgroups(targets.to_vec()), duration: SECONDS };
    sampler.capture(&request, &Cancel::new().unwrap()).unwrap()
}
