//! A real OOM kill in a memory cgroup, seen by the program. It needs root.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says when it is skipped")]

use std::{
    fs,
    os::unix::{fs::MetadataExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use galen_bpf::{
    Kernel, Support,
    oom::{Hook, Record, Watch},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

const LIMIT_KB: u64 = 64 << 10;
const DEADLINE: Duration = Duration::from_secs(30);

/// A memory cgroup with a limit, removed at the end.
struct Limited {
    path: PathBuf,
    unified: bool,
}

impl Limited {
    /// `None`, having said so, where there is no memory controller.
    fn create() -> Option<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap();
        let mount = |kind: &str, option: &str| {
            mounts.lines().find_map(|line| {
                let fields: Vec<_> = line.split(' ').collect();
                let fits = fields[2] == kind && (option.is_empty() || fields[3].split(',').any(|has| has == option));
                fits.then(|| PathBuf::from(fields[1]))
            })
        };
        let (root, unified) = match (mount("cgroup", "memory"), mount("cgroup2", "")) {
            (Some(root), _) => (root, false),
            (None, Some(root)) => (root, true),
            (None, None) => {
                galen_scratch::skip("there is no memory controller here");
                return None;
            }
        };
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = root.join(format!("galen-test-{}-{number}", std::process::id()));
        if unified {
            let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
        }
        fs::create_dir(&path).unwrap_or_else(|error| panic!("cannot create {} (root?): {error}", path.display()));
        let limited = Self { path, unified };
        let limit = if unified { "memory.max" } else { "memory.limit_in_bytes" };
        fs::write(limited.path.join(limit), (LIMIT_KB << 10).to_string()).unwrap();
        // Where there is swap, it would only take longer.
        let _ = fs::write(limited.path.join(if unified { "memory.swap.max" } else { "memory.swappiness" }), "0");
        Some(limited)
    }

    fn id(&self) -> u64 {
        fs::metadata(&self.path).unwrap().ino()
    }

    /// A process that allocates until it is killed.
    fn hog(&self) -> Hog {
        let script = format!("echo $$ > {}/cgroup.procs && exec tail /dev/zero", self.path.display());
        Hog(Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Limited {
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(5);
        while fs::remove_dir(&self.path).is_err() && Instant::now() < deadline {
            std::thread::yield_now();
        }
    }
}

struct Hog(Child);

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn kernel() -> Kernel {
    Kernel::open().unwrap_or_else(|error| panic!("{}", error.reason()))
}

fn watch() -> Watch {
    Watch::attach(&kernel()).unwrap_or_else(|error| panic!("{error:?}"))
}

/// tracefs, mounted for a test where it is not.
struct Tracefs {
    mounted: bool,
}

impl Tracefs {
    const PATH: &str = "/sys/kernel/tracing";

    fn mount() -> Self {
        if Path::new(Self::PATH).join("events").exists() {
            return Self { mounted: false };
        }
        rustix::mount::mount("tracefs", Self::PATH, "tracefs", rustix::mount::MountFlags::empty(), None).unwrap();
        Self { mounted: true }
    }
}

impl Drop for Tracefs {
    fn drop(&mut self) {
        if self.mounted {
            let _ = rustix::mount::unmount(Self::PATH, rustix::mount::UnmountFlags::DETACH);
        }
    }
}

/// The kill of one process; others of the machine are passed over.
fn kill_of(watch: &mut Watch, pid: u32) -> Record {
    let deadline = Instant::now() + DEADLINE;
    loop {
        while let Some(record) = watch.next_kill() {
            let record = record.unwrap();
            if record.pid == pid {
                return record;
            }
        }
        let left = deadline.saturating_duration_since(Instant::now());
        assert!(!left.is_zero(), "no record of the kill of {pid}");
        let timeout = Timespec::try_from(left).unwrap();
        poll(&mut [PollFd::new(&*watch, PollFlags::IN)], Some(&timeout)).unwrap();
    }
}

fn boot_nanoseconds() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    u64::try_from(now.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(now.tv_nsec).unwrap()
}

#[test]
fn victim_of_a_memory_cgroup_is_recorded() {
    victim_is_recorded(watch());
}

#[test]
fn classic_tracepoint_records_a_victim_that_was_its_own_trigger() {
    let _tracefs = Tracefs::mount();
    let watch = Watch::attach_by(&kernel(), &[Hook::Classic]).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(watch.hook(), Hook::Classic);
    victim_is_recorded(watch);
}

/// The process is alone in its cgroup, so it is trigger and victim at once, and known whatever the hook hands over.
fn victim_is_recorded(mut watch: Watch) {
    let Some(cgroup) = Limited::create() else { return };
    let before = boot_nanoseconds();
    let mut hog = cgroup.hog();
    let pid = hog.0.id();
    let status = hog.0.wait().unwrap();
    assert_eq!(status.signal(), Some(libc::SIGKILL), "not killed");

    let record = kill_of(&mut watch, pid);
    assert!((before..boot_nanoseconds()).contains(&record.time), "{record:?}");
    assert_eq!(record.unified, cgroup.unified);
    assert_eq!(record.trigger.memcg, cgroup.id());
    assert_eq!(record.trigger.pid, pid);
    assert_eq!(record.trigger.comm.text(), "tail");
    let victim = record.victim.unwrap();
    assert_eq!(victim.comm.text(), "tail");
    assert_eq!((victim.uid, victim.memcg), (rustix::process::getuid().as_raw(), cgroup.id()));
    let memory = victim.memory.unwrap();
    assert!((LIMIT_KB / 2..=LIMIT_KB).contains(&memory.anon_kb), "{memory:?}");
    assert!(memory.page_tables_kb > 0 && memory.virtual_kb > memory.anon_kb, "{memory:?}");
    assert_eq!(watch.lost(), 0);
    assert!(!Path::new(&format!("/proc/{pid}")).exists());
}

#[test]
fn what_the_hook_lacks_is_said() {
    let watch = watch();
    match watch.hook() {
        Hook::Task => assert_eq!(watch.support(), Support::Full),
        Hook::Pid | Hook::Classic => assert!(matches!(watch.support(), Support::Degraded(_))),
    }
}
