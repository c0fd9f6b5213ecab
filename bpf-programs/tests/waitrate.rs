//! Real waiting in real cgroups on one CPU, counted by the programs, against what the kernel itself tells. It needs root.
#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test fails by panicking and says when it is skipped")]

mod support;

use std::{
    fs,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use galen_bpf::waitrate::{Cell, Hook, Pair, Watch};
use support::{Cgroup, Process, kernel};

const DEADLINE: Duration = Duration::from_secs(60);
/// Of counting, unless a test says otherwise.
const ENOUGH: Duration = Duration::from_secs(2);
/// Of which the kernel lets the limited use this much in each of its periods.
const QUOTA_PERCENT: u64 = 20;

/// A cgroup of the `cpu` controller whose tasks have precedence over what else the machine does.
struct Group(Cgroup);

impl Group {
    fn create() -> Option<Self> {
        let cgroup = Cgroup::with("cpu")?;
        let (weight, most) = if cgroup.is_unified() { ("cpu.weight", "10000") } else { ("cpu.shares", "262144") };
        cgroup.set(weight, most);
        Some(Self(cgroup))
    }

    fn id(&self) -> u64 {
        self.0.id()
    }

    /// Processes that spin on the first CPU.
    fn spin(&self, processes: usize) -> Vec<Process> {
        let spin = "exec taskset -c 0 sh -c 'while :; do :; done'";
        let spinning: Vec<_> = (0..processes).map(|_| self.0.start(spin)).collect();
        let members = || self.read("cgroup.procs").lines().count();
        until("the processes are in the cgroup", || members() >= processes);
        spinning
    }

    fn limit(&self, percent: Option<u64>) {
        let period = 100_000;
        let quota = percent.map(|percent| (period * percent / 100).to_string());
        match self.0.is_unified() {
            true => self.0.set("cpu.max", &quota.unwrap_or("max".into())),
            false => self.0.set("cpu.cfs_quota_us", &quota.unwrap_or("-1".into())),
        }
    }

    /// What the kernel says that it was kept from running by its quota.
    fn throttled(&self) -> Duration {
        let text = self.read("cpu.stat");
        let value = |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.trim().parse().ok());
        match self.0.is_unified() {
            true => Duration::from_micros(value("throttled_usec ").unwrap()),
            false => Duration::from_nanos(value("throttled_time ").unwrap()),
        }
    }

    fn read(&self, file: &str) -> String {
        fs::read_to_string(self.0.directory().join(file)).unwrap()
    }
}

/// The groups, of which each test would have the first CPU for itself, so that they take turns.
fn groups<const N: usize>() -> Option<([Group; N], MutexGuard<'static, ()>)> {
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let groups: Option<Vec<_>> = (0..N).map(|_| Group::create()).collect();
    Some((groups?.try_into().ok()?, turn))
}

fn watch(hook: Hook) -> Watch {
    let watch = Watch::load_by(&kernel(), &[hook]).unwrap_or_else(|error| panic!("{error:?}"));
    assert_eq!(watch.hook(), hook);
    watch
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn cell(watch: &Watch, group: &Group) -> Cell {
    watch.read().unwrap().cells.get(&group.id()).copied().unwrap_or_default()
}

/// The counters of a group once its tasks have been counted for long enough, and for how long that was.
fn counted(watch: &mut Watch, group: &Group) -> (Cell, Duration) {
    watch.attach().unwrap();
    let begin = Instant::now();
    let total = |cell: Cell| cell.run + cell.waited();
    until("the group was counted", || total(cell(watch, group)) > ENOUGH && begin.elapsed() > ENOUGH);
    (cell(watch, group), begin.elapsed())
}

fn percent(part: Duration, whole: Duration) -> f64 {
    100.0 * part.as_secs_f64() / whole.as_secs_f64()
}

fn external_waiting_is_told_with_who_held_the_cpu(hook: Hook) {
    let Some(([a, b], _turn)) = groups() else { return };
    let mut watch = watch(hook);
    let _spinning = (a.spin(1), b.spin(1));
    let (cell, elapsed) = counted(&mut watch, &a);
    // A task that always wants the CPU runs or waits at each moment; the last slice is not told yet.
    assert!((90.0..=101.0).contains(&percent(cell.run + cell.waited(), elapsed)), "{cell:?} in {elapsed:?}");
    assert!((30.0..=70.0).contains(&percent(cell.external, elapsed)), "{cell:?} in {elapsed:?}");
    assert!(percent(cell.internal + cell.throttled + cell.latency + cell.beyond, elapsed) < 1.0, "{cell:?}");
    let counters = watch.read().unwrap();
    let by_b = counters.pairs[&Pair { victim: a.id(), holder: b.id() }];
    let mut by: Vec<_> = counters.pairs.iter().filter(|(pair, _)| pair.victim == a.id()).collect();
    by.sort_by_key(|(_, time)| std::cmp::Reverse(**time));
    assert_eq!(by[0].0.holder, b.id(), "{by:?}");
    assert!(percent(by_b, cell.external) > 60.0, "{by:?} of {cell:?}");
    assert_eq!(counters.lost, Default::default());
}

#[test]
fn external_waiting_is_told_with_who_held_the_cpu_by_btf_tracepoints() {
    external_waiting_is_told_with_who_held_the_cpu(Hook::Btf);
}

#[test]
fn external_waiting_is_told_with_who_held_the_cpu_by_raw_tracepoints() {
    external_waiting_is_told_with_who_held_the_cpu(Hook::Raw);
}

#[test]
fn tasks_of_one_group_wait_for_each_other_internally() {
    let Some(([a], _turn)) = groups() else { return };
    let mut watch = watch(Hook::Btf);
    let _spinning = a.spin(2);
    let (cell, elapsed) = counted(&mut watch, &a);
    assert!((90.0..=101.0).contains(&percent(cell.run + cell.waited(), elapsed * 2)), "{cell:?} in {elapsed:?}");
    assert!(percent(cell.internal, cell.run + cell.waited()) > 35.0, "{cell:?}");
    assert!(percent(cell.external + cell.throttled, cell.run + cell.waited()) < 15.0, "{cell:?}");
}

#[test]
fn a_group_with_two_tasks_against_one_waits_internally_and_externally() {
    let Some(([a, b], _turn)) = groups() else { return };
    let mut watch = watch(Hook::Btf);
    let _spinning = (a.spin(2), b.spin(1));
    let (cell, elapsed) = counted(&mut watch, &a);
    let whole = cell.run + cell.waited();
    assert!((90.0..=101.0).contains(&percent(whole, elapsed * 2)), "{cell:?} in {elapsed:?}");
    assert!((10.0..=35.0).contains(&percent(cell.internal, whole)), "{cell:?}");
    assert!((35.0..=70.0).contains(&percent(cell.external, whole)), "{cell:?}");
}

#[test]
fn cpu_time_that_many_tasks_wait_for_at_a_time_is_lost_once() {
    let Some(([a, b], _turn)) = groups() else { return };
    let mut watch = watch(Hook::Btf);
    let _spinning = (a.spin(8), b.spin(1));
    let (cell, elapsed) = counted(&mut watch, &a);
    assert!(cell.external > cell.external_cpu * 3, "{cell:?}");
    // What it did not run, others held; one of eight waits at each moment.
    assert!((80.0..=101.0).contains(&percent(cell.run + cell.external_cpu, elapsed)), "{cell:?} in {elapsed:?}");
    let (cell, _) = counted(&mut watch, &b);
    assert!(percent(cell.external_cpu, cell.external) > 90.0, "one task loses what it waits for: {cell:?}");
}

/// Counts while the quota is on, and until the last wait that it made is over.
fn limited(a: &Group) -> (Cell, Duration) {
    let mut watch = watch(Hook::Btf);
    watch.attach().unwrap();
    let (before, cell_before) = (a.throttled(), cell(&watch, a));
    a.limit(Some(QUOTA_PERCENT));
    until("it was throttled for long enough", || a.throttled() - before > ENOUGH);
    a.limit(None);
    let waits = cell(&watch, a).waits;
    until("it runs again", || cell(&watch, a).waits > waits + 1);
    (cell(&watch, a).since(&cell_before), a.throttled() - before)
}

#[test]
fn throttled_time_is_what_the_kernel_says() {
    let Some(([a], _turn)) = groups() else { return };
    let _spinning = a.spin(1);
    let (cell, told) = limited(&a);
    assert!((99.0..=100.0).contains(&percent(cell.throttled_cpu, cell.throttled)), "{cell:?}");
    assert!((99.0..=101.0).contains(&percent(cell.throttled, told)), "{cell:?}, cpu.stat: {told:?}");
    assert!(percent(cell.internal, cell.throttled) < 1.0, "{cell:?}");
}

#[test]
fn throttled_time_is_no_external_waiting_though_another_holds_the_cpu() {
    let Some(([a, b], _turn)) = groups() else { return };
    let _spinning = (a.spin(1), b.spin(1));
    let (cell, told) = limited(&a);
    assert!((99.0..=101.0).contains(&percent(cell.throttled, told)), "{cell:?}, cpu.stat: {told:?}");
    assert!(cell.external > Duration::ZERO && cell.external < cell.throttled, "{cell:?}");
}

#[test]
fn nothing_is_counted_while_detached_and_counting_begins_at_zero() {
    let Some(([a, b], _turn)) = groups() else { return };
    let mut watch = watch(Hook::Btf);
    let _spinning = (a.spin(1), b.spin(1));
    assert_eq!(links(), 0);
    counted(&mut watch, &a);
    assert_eq!(links(), 4);
    watch.detach().unwrap();
    assert_eq!((watch.is_attached(), links()), (false, 0));
    let counters = watch.read().unwrap();
    assert!(counters.pairs.is_empty() && counters.cells.values().all(|cell| *cell == Cell::default()), "{counters:?}");
    let (cell, elapsed) = counted(&mut watch, &a);
    assert!((90.0..=101.0).contains(&percent(cell.run + cell.waited(), elapsed)), "{cell:?} in {elapsed:?}");
}

/// Links of the whole kernel by which programs of this process hang somewhere.
fn links() -> usize {
    let descriptors = fs::read_dir("/proc/self/fdinfo").unwrap().flatten();
    let own: Vec<u32> = descriptors
        .filter_map(|entry| fs::read_to_string(entry.path()).ok())
        .filter(|info| info.contains("prog_type:"))
        .filter_map(|info| info.lines().find_map(|line| line.strip_prefix("prog_id:")?.trim().parse().ok()))
        .collect();
    assert!(!own.is_empty());
    aya::programs::loaded_links().flatten().filter(|link| own.contains(&link.program_id())).count()
}
