//! Three replicas in processes of their own on one Redis: what they let pass together stays below the stated bound, while
//! the clock of one jumps and another is stopped past its lease and woken.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use galen_limits::{Keeper, LIFETIME, PERIOD, Redis, Shared, Table, Target, Verdict};
use rustix::{
    process::{Pid, Signal, kill_process, set_parent_process_death_signal},
    time::{ClockId, clock_gettime},
};

const CAPACITY: f64 = 600.0;
const REPLICAS: u32 = 3;
/// Where a replica finds Redis. Set: the process is one.
const URL: &str = "GALEN_TEST_REDIS";
const JUMPS: &str = "GALEN_TEST_CLOCK_JUMPS";
/// What a replica says: in which time, in nanoseconds, how many passed.
const PASSED: &str = "passed ";
const PATIENCE: Duration = Duration::from_secs(120);

/// The same in all processes.
fn monotonic() -> Duration {
    let now = clock_gettime(ClockId::Monotonic);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// Not a test by itself: what the other one starts three times.
#[test]
fn a_replica_lets_pass_what_it_may() {
    let Ok(url) = env::var(URL) else { return };
    // It may be stopped when the other ends.
    set_parent_process_death_signal(Some(Signal::KILL)).unwrap();
    let ahead = Arc::new(AtomicBool::new(false));
    let jumped = Arc::clone(&ahead);
    let clock =
        move || monotonic() + if jumped.load(Ordering::Relaxed) { Duration::from_secs(3600) } else { Duration::ZERO };
    let shared = Shared::with_clock(Table::new(CAPACITY, REPLICAS), Arc::new(clock));
    let redis = Redis::new(Target::at(url), "test", std::process::id().to_string()).unwrap();
    let mut keeper = Keeper::new(shared.clone(), Some(redis));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _keeping = runtime.spawn(async move { keeper.run().await });
    let jumps = env::var_os(JUMPS).is_some();
    for number in 0.. {
        if jumps {
            // An hour ahead, and back again, every second or so.
            ahead.store(number % 1000 > 500, Ordering::Relaxed);
        }
        let before = monotonic();
        let now = shared.now();
        let asks = (0..20).map(|_| shared.lock().ask(now, "cpuidle", "shop", "web-1"));
        let passed = asks.filter(|verdict| *verdict == Verdict::Pass).count();
        if passed > 0 {
            println!("{PASSED}{} {} {passed}", before.as_nanos(), monotonic().as_nanos());
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// So many passed, none before and none after.
#[derive(Clone, Copy)]
struct Passed {
    before: u64,
    after: u64,
    count: u64,
}

/// A replica, and all that it let pass.
struct Replica {
    child: Child,
    passed: Arc<Mutex<Vec<Passed>>>,
}

impl Replica {
    fn start(url: &str, jumps: bool) -> Self {
        let mut command = Command::new(env::current_exe().unwrap());
        command.args(["--exact", "a_replica_lets_pass_what_it_may", "--nocapture"]).env(URL, url);
        if jumps {
            command.env(JUMPS, "1");
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let passed = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&passed);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let Some(numbers) = line.strip_prefix(PASSED) else { continue };
                let numbers: Vec<u64> = numbers.split(' ').map(|number| number.parse().unwrap()).collect();
                let [before, after, count] = numbers[..] else { panic!("{line}") };
                told.lock().unwrap().push(Passed { before, after, count });
            }
        });
        Self { child, passed }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    fn total(&self) -> u64 {
        self.passed.lock().unwrap().iter().map(|passed| passed.count).sum()
    }

    fn passes(&self, more: u64) {
        let (enough, deadline) = (self.total() + more, Instant::now() + PATIENCE);
        while self.total() < enough {
            assert!(Instant::now() < deadline, "{} of {enough}", self.total());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn three_replicas_stay_below_the_stated_bound_when_one_clock_jumps_and_one_is_paused() {
    if env::var_os(URL).is_some() {
        return;
    }
    let server = galen_services::redis();
    let url = format!("redis://{}", server.address());
    let replicas = [false, true, false].map(|jumps| Replica::start(&url, jumps));
    replicas.iter().for_each(|replica| replica.passes(200));
    let paused = &replicas[2];
    paused.signal(Signal::STOP);
    let stopped = Instant::now();
    // Others go on, and its lease ends.
    while stopped.elapsed() < 3 * LIFETIME {
        replicas[0].passes(10);
    }
    paused.signal(Signal::CONT);
    replicas.iter().for_each(|replica| replica.passes(300));
    for replica in &replicas {
        replica.signal(Signal::STOP);
    }

    let all: Vec<Passed> = replicas.iter().flat_map(|replica| replica.passed.lock().unwrap().clone()).collect();
    let total: u64 = all.iter().map(|passed| passed.count).sum();
    let bound = 3.0 * CAPACITY * PERIOD.as_secs_f64() + f64::from(REPLICAS);
    let worst = most_over(&all);
    println!("{total} events passed, at most {worst:.0} over the capacity, of a bound of {bound:.0}");
    assert!(worst <= bound, "{worst} over the capacity, bound {bound}");
}

/// Over all times, from a question to an answer: what passed within it, less what the capacity is for it.
fn most_over(all: &[Passed]) -> f64 {
    let mut by_end = all.to_vec();
    by_end.sort_unstable_by_key(|passed| passed.after);
    let over = all.iter().flat_map(|first| {
        let mut sum = 0;
        by_end.iter().filter(|passed| passed.before >= first.before).map(move |passed| {
            sum += passed.count;
            sum as f64 - (passed.after - first.before) as f64 / 1e9 * CAPACITY
        })
    });
    over.fold(f64::NEG_INFINITY, f64::max)
}
