//! Real requests of a real disk, seen by the program. They need root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use galen_bpf::{
    Support,
    block_io::{Beginning, Direction, Phase, Usage, Watch},
};
use support::{Cgroup, Disk, Mount, kernel};

const BYTES: u64 = 16 << 20;
/// At most that much of its own does a file system write for such a file, or does for the container that made it read it:
/// some twenty blocks of at most 4 KiB, of bitmaps, inodes and the journal. One request of the file is larger.
const METADATA: u64 = 128 << 10;

fn watch(disk: &Disk) -> Watch {
    Watch::attach(&kernel(), &[disk.number()]).unwrap_or_else(|error| panic!("{error:?}"))
}

fn usage_of(watch: &Watch, pid: u32) -> Option<Usage> {
    // A kernel that does not tell the process leaves the container.
    let pid = (watch.support() == Support::Full).then_some(pid);
    watch.usage().into_iter().find(|usage| usage.user.pid == pid && usage.totals(Direction::Write).requests > 0)
}

#[test]
fn direct_writes_are_counted_to_the_byte_and_charged_to_process_and_cgroup() {
    let (disk, cgroup) = (Disk::create(BYTES), Cgroup::create());
    let watch = watch(&disk);
    let pid = cgroup.run(&format!("exec dd if=/dev/zero of={} bs=1M count=16 oflag=direct", disk.path()));
    let usage = usage_of(&watch, pid).unwrap_or_else(|| panic!("{:?}", watch.usage()));
    let written = usage.totals(Direction::Write);
    assert_eq!(written.bytes, BYTES);
    assert_eq!(usage.user.owner, Some(cgroup.owner()));
    let named = watch.support() == Support::Full;
    assert_eq!(usage.user.comm.text(), if named { "dd" } else { "" });
    assert!(!usage.user.is_kernel_thread && usage.errors == 0);
    assert!(written.device > written.device_max && !written.device_max.is_zero(), "{written:?}");
    let histograms = watch.histograms();
    for phase in Phase::ALL {
        let counted: u64 = histograms.slots(Direction::Write, phase).iter().sum();
        assert!(counted >= written.requests, "{phase:?}: {counted} of {written:?}");
    }
    assert_eq!((watch.lost().users_full, watch.lost().flights_full), (0, 0));
    assert_eq!(watch.flights(), []);
}

#[test]
fn a_kernel_that_does_not_tell_who_makes_a_request_names_the_container_still() {
    let (disk, cgroup) = (Disk::create(BYTES), Cgroup::create());
    let watch = Watch::attach_by(&kernel(), &[disk.number()], Beginning::Issued).unwrap();
    assert!(matches!(watch.support(), Support::Degraded(_)));
    let pid = cgroup.run(&format!("exec dd if=/dev/zero of={} bs=1M count=16 oflag=direct", disk.path()));
    let usage = usage_of(&watch, pid).unwrap_or_else(|| panic!("{:?}", watch.usage()));
    assert_eq!((usage.user.pid, usage.user.owner), (None, Some(cgroup.owner())));
    assert_eq!(usage.totals(Direction::Write).bytes, BYTES);
    // The kernel notes itself when it makes a request.
    assert!(!usage.totals(Direction::Write).queued.is_zero(), "{usage:?}");
}

#[test]
fn disks_that_are_not_watched_are_not_counted() {
    let (watched, other, cgroup) = (Disk::create(BYTES), Disk::create(BYTES), Cgroup::create());
    let watch = watch(&watched);
    cgroup.run(&format!("exec dd if=/dev/zero of={} bs=1M count=4 oflag=direct", other.path()));
    assert_eq!(watch.usage(), []);
}

#[test]
fn what_a_thread_of_the_kernel_writes_back_is_charged_to_the_container_that_dirtied_it() {
    let (mount, cgroup) = (Mount::create(64 << 20), Cgroup::create());
    let watch = watch(&mount.disk);
    cgroup.run(&format!("exec dd if=/dev/zero of={}/file bs=1M count=16", mount.path.path().display()));
    // Not by `fsync`, which writes in the name of the caller. All has been written when it returns.
    support::run("sync", &[]);
    let all = watch.usage();
    // Where version 1 has no memory controller, nothing says whose the pages are.
    let owners = match cgroup.memory_owner() {
        Some(memory) => [Some(cgroup.owner()), Some(memory)],
        None => [None, None],
    };
    let by_kernel = |usage: &&Usage| usage.user.is_kernel_thread || watch.support() != Support::Full;
    let of_owner = all.iter().filter(|usage| owners.contains(&usage.user.owner)).filter(by_kernel);
    let written: u64 = of_owner.map(|usage| usage.totals(Direction::Write).bytes).sum();
    assert!((BYTES..=BYTES + METADATA).contains(&written), "{written} of {all:?}");
}
