//! Tasks that really wait, as the iterator tells them and as procfs does. It needs root.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::{
    collections::BTreeMap,
    fs,
    time::{Duration, Instant},
};

use galen_bpf::tasks::{State, Tasks};
use support::{Cgroup, blocked::sleeping, blocked::threads_in_state, blocked::waiting, kernel, wait_for};

const THREADS: usize = 9;

fn tasks() -> Tasks {
    Tasks::load(&kernel()).unwrap_or_else(|error| panic!("{}", error.reason()))
}

#[test]
fn threads_that_wait_are_told_with_what_procfs_knows_of_them() {
    let (cgroup, started) = (Cgroup::create(), Instant::now());
    let process = cgroup.start(&waiting(THREADS));
    let pid = process.0.id();
    wait_for("threads that wait", || (threads_in_state(pid, 'D') == THREADS).then_some(()));
    let mut tasks = tasks();
    let long = Duration::from_millis(200);
    let told = wait_for("all have been waiting for a while", || {
        let look = tasks.blocked().unwrap();
        assert!(look.uninterruptible().unwrap() as usize >= THREADS);
        let mut told = BTreeMap::new();
        look.each(|task| {
            assert_eq!(task.state, State::Uninterruptible);
            if task.pid == pid {
                assert_eq!((task.comm.text().as_ref(), task.iowait, task.stack_error), ("blocked", false, 0));
                told.insert(task.tid, (task.waiting.unwrap(), task.stack().len()));
            }
        })
        .unwrap();
        told.values().all(|(waited, _)| *waited > long).then_some(told)
    });
    let threads: Vec<u32> = fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(told.len(), THREADS);
    for tid in threads {
        let (waited, frames) = told[&tid];
        let stack = fs::read_to_string(format!("/proc/{pid}/task/{tid}/stack")).unwrap();
        assert_eq!(frames, stack.lines().count(), "{stack}");
        // The clock that it is reckoned by may be a tick behind.
        assert!(waited < started.elapsed() + Duration::from_millis(20), "{waited:?}");
    }
}

#[test]
fn threads_that_sleep_are_not_told_but_counted_by_state() {
    let cgroup = Cgroup::create();
    let process = cgroup.start(&sleeping(THREADS));
    let pid = process.0.id();
    wait_for("threads that sleep", || (threads_in_state(pid, 'S') == THREADS).then_some(()));
    let mut tasks = tasks();
    tasks.blocked().unwrap().each(|task| assert_ne!(task.pid, pid)).unwrap();
    let mut sleeping = 0;
    let mut own = None;
    tasks
        .everyone()
        .unwrap()
        .each(|task| {
            sleeping += usize::from(task.pid == pid && task.state == State::Sleeping);
            if task.tid == rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned() {
                own = Some(task.state);
            }
        })
        .unwrap();
    assert_eq!((sleeping, own), (THREADS, Some(State::Running)));
}

#[test]
fn a_look_that_is_not_gone_on_with_can_be_begun_again() {
    let mut tasks = tasks();
    for _ in 0..100 {
        assert!(tasks.blocked().unwrap().uninterruptible().is_some());
    }
}
