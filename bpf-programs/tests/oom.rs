//! A real OOM kill in a memory cgroup, seen by the program. It needs root.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says when it is skipped")]

mod support;

use std::{
    os::unix::process::ExitStatusExt,
    path::Path,
    time::{Duration, Instant},
};

use galen_bpf::{
    Support,
    oom::{Hook, Record, Watch},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use support::{Cgroup, Process, kernel};

const LIMIT_KB: u64 = 64 << 10;
const DEADLINE: Duration = Duration::from_secs(30);

/// A memory cgroup with a limit.
struct Limited(Cgroup);

impl Limited {
    /// `None`, having said so, where there is no memory controller.
    fn create() -> Option<Self> {
        let cgroup = Cgroup::with("memory")?;
        cgroup.set(
            if cgroup.is_unified() { "memory.max" } else { "memory.limit_in_bytes" },
            &(LIMIT_KB << 10).to_string(),
        );
        // Where there is swap, it would only take longer.
        cgroup.set(if cgroup.is_unified() { "memory.swap.max" } else { "memory.swappiness" }, "0");
        Some(Self(cgroup))
    }

    fn id(&self) -> u64 {
        self.0.id()
    }

    /// A process that allocates until it is killed.
    fn hog(&self) -> Process {
        self.0.start("exec tail /dev/zero")
    }
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
    assert_eq!(record.unified, cgroup.0.is_unified());
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
