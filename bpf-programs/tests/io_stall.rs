//! A real wait for a real disk, seen by the program. It needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use galen_bpf::io_stall::{Stall, Watch};
use support::{Cgroup, Disk, kernel, wait_for};

#[test]
fn a_long_wait_is_told_with_its_task_and_its_place_in_the_kernel() {
    let long_wait = Duration::from_millis(100);
    let (disk, cgroup) = (Disk::create(8 << 20), Cgroup::create());
    cgroup.slow_down(disk.number(), 1 << 20);
    let mut watch = Watch::attach(&kernel(), long_wait).unwrap_or_else(|error| panic!("{error:?}"));
    let pid = cgroup.run(&format!("exec dd if=/dev/zero of={} bs=512k count=4 oflag=direct", disk.path()));
    let mut told: Vec<Stall> = Vec::new();
    let stall = wait_for("a stall", || {
        told.extend(std::iter::from_fn(|| watch.next_stall()).map(Result::unwrap));
        told.iter().copied().find(|stall| stall.pid == pid)
    });
    assert!(stall.took.unwrap() >= long_wait && !stall.begun.is_zero(), "{stall:?}");
    assert_eq!((stall.owner, stall.comm.text(), stall.tid), (Some(cgroup.owner()), "dd".into(), pid));
    assert!(watch.stack(stall.stack.unwrap()).len() > 2);

    let waiters = watch.waiters();
    let of_process: Vec<_> = waiters.iter().filter(|waiter| waiter.pid == pid).collect();
    let longest = of_process.iter().map(|waiter| waiter.time_max).max().unwrap();
    assert!(longest >= stall.took.unwrap(), "{of_process:?}");
    assert!(of_process.iter().any(|waiter| waiter.stack == stall.stack && waiter.comm.text() == "dd"));
    assert!(watch.waiting().iter().all(|stall| stall.pid != pid));
    let lost = watch.lost();
    assert_eq!((lost.table_full, lost.ring_full), (0, 0));
}
